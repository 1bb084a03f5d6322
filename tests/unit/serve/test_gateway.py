"""What is asked of the orchestrator: once for all who ask at the same time, whatever it answers."""

from __future__ import annotations

import asyncio
import threading

import pytest

from chimera.actors.cluster import Silent
from chimera.errors import NotReady
from chimera.serve import gateway as module
from chimera.serve import health
from chimera.serve.gateway import Gateway
from tests.unit.client.fake import DEADLINE_S
from tests.unit.serve.test_checks import STATUS


class Orchestrator:
    """Answers a call when it is let to."""

    def __init__(self):
        self.calls = 0
        self.answer = STATUS
        self.may_answer = threading.Event()

    def status(self, swarm, *, timeout_s):
        self.calls += 1
        assert self.may_answer.wait(DEADLINE_S)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def orchestrator(monkeypatch):
    found = Orchestrator()
    monkeypatch.setattr(module, "status", found.status)
    yield found
    found.may_answer.set()


async def asked_by_many(gateway, orchestrator):
    asking = [asyncio.ensure_future(gateway.status()) for _ in range(10)]
    await asyncio.sleep(0)  # each has begun
    orchestrator.may_answer.set()
    return await asyncio.gather(*asking, return_exceptions=True)


@pytest.mark.parametrize("answer", [STATUS, NotReady("it opens its store")])
def test_those_who_ask_at_once_share_a_call_and_its_answer_or_fault(orchestrator, answer):
    orchestrator.answer = answer
    found = asyncio.run(asked_by_many(Gateway("asked"), orchestrator))
    assert found == [answer] * 10
    assert orchestrator.calls == 1


@pytest.mark.parametrize("answer", [STATUS, NotReady("it opens its store")])
def test_an_answer_or_fault_holds_for_a_moment_and_not_for_longer(
    orchestrator, answer, monkeypatch
):
    orchestrator.answer = answer
    monkeypatch.setattr(module, "STATUS_S", 3600.0)

    async def ask_twice():
        gateway = Gateway("asked")
        await asked_by_many(gateway, orchestrator)
        await asked_by_many(gateway, orchestrator)
        assert orchestrator.calls == 1
        monkeypatch.setattr(module, "STATUS_S", 0.0)
        await asked_by_many(gateway, orchestrator)
        assert orchestrator.calls == 2

    asyncio.run(ask_twice())


def test_a_probe_hears_that_the_orchestrator_is_silent_while_others_still_wait(
    orchestrator, monkeypatch
):
    monkeypatch.setattr(health, "ANSWER_S", 0.05)

    async def probe():
        gateway = Gateway("asked")
        waiting = asyncio.ensure_future(gateway.status())
        found = [await health.looked(gateway) for _ in range(2)]
        assert not waiting.done()
        orchestrator.may_answer.set()
        assert await waiting == STATUS
        return found

    for found in asyncio.run(probe()):
        [check] = [one for one in found.checks if one.name == "orchestrator"]
        assert not check.ok
        assert check.saw.startswith(Silent.code)
    assert orchestrator.calls == 1
