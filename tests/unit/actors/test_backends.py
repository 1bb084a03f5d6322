"""Servers that do not take us when a swarm is brought up: refused at once, or waited for."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from chimera.actors import backends
from chimera.errors import BusUnauthorized, BusUnavailable, ChimeraError, WaitTimeout
from chimera.swarm.spec import Spec


def spec(bus: str) -> Spec:
    return Spec(name="t", handlers=("h",), data_dir="/x", objects="file:///x", bus=bus)


class Broker:
    """Answers with one fault after the other, then well."""

    def __init__(self, *faults: ChimeraError) -> None:
        self.faults = list(faults)
        self.closed = 0

    def check(self, *_: object) -> list[object]:
        if self.faults:
            raise self.faults.pop(0)
        return []

    def close(self, _: float) -> None:
        self.closed += 1


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Broker]:
    def made(*faults: ChimeraError) -> Broker:
        found = Broker(*faults)
        monkeypatch.setattr(backends, "connect", lambda _: found)
        monkeypatch.setattr(backends, "AGAIN_S", 0.0)
        return found

    return made


def test_a_broker_that_is_away_keeps_nobody_from_coming_up(broker: Callable[..., Broker]) -> None:
    told: list[str] = []
    found = broker(BusUnavailable("no answer"))
    backends.check(spec("kafka://b"), told.append)
    assert told == ["not there yet: no answer"]
    assert found.closed == 1


def test_a_broker_that_refuses_us_is_told_before_anything_is_made(
    broker: Callable[..., Broker],
) -> None:
    broker(BusUnauthorized("who are you?"))
    with pytest.raises(BusUnauthorized, match="who are you"):
        backends.check(spec("kafka://b"), pytest.fail)


def test_a_swarm_is_up_when_its_broker_is(broker: Callable[..., Broker]) -> None:
    told: list[str] = []
    found = broker(*[BusUnavailable("no answer")] * 3)
    backends.wait(spec("kafka://b"), time.monotonic() + 60.0, told.append)
    assert told == ["waiting for the broker: no answer"], "the same is said once"
    assert found.closed == 4


def test_a_broker_that_stays_away_is_why_the_swarm_is_not_up(broker: Callable[..., Broker]) -> None:
    broker(BusUnavailable("no answer"))
    with pytest.raises(WaitTimeout, match="its broker is not: no answer"):
        backends.wait(spec("kafka://b"), 0.0, lambda _: None)


def test_without_servers_there_is_nothing_to_wait_for() -> None:
    backends.check(spec(""), pytest.fail)
    backends.wait(spec(""), 0.0, pytest.fail)
