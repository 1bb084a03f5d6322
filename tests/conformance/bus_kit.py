"""Where buses are tested: a place with a broker that can die, and what tests do with it."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from chimera.bus.limits import Limits
from chimera.bus.protocol import Bus, Kind, Received, Record, Subscription, Topic
from chimera.errors import ChimeraError

GROUP = "leaders"
OTHER = "auditors"
#: a wait for something that comes; a machine under load is no reason to fail
SOON_S = 60.0
#: a wait for something that does not come
SHORT_S = 0.3

_serial = itertools.count()


class Place:
    """A broker, and the buses that a test opened on it."""

    #: whether the bus seeks
    seeks = True
    #: of an outage under load, seconds, beside what a start takes
    away_s = 1.0

    def __init__(self) -> None:
        self._opened: list[Bus] = []

    def make(self, limits: Limits) -> Bus:
        raise NotImplementedError

    def down(self) -> None:
        """The broker dies at once, as by kill -9 or loss of power to its process."""
        raise NotImplementedError

    def up(self) -> None:
        """It is started again on what it had written."""
        raise NotImplementedError

    def bus(self, **limits: Any) -> Bus:
        """A connection of its own, closed at the end."""
        made = self.make(Limits(**limits))
        self._opened.append(made)
        return made

    def topic(
        self,
        partitions: int = 1,
        kind: Kind = Kind.COMMANDS,
        groups: tuple[str, ...] = (GROUP,),
        provision: bool = True,
    ) -> Topic:
        """A topic of this test's own."""
        name = f"chimera.t{next(_serial)}-{secrets.token_hex(3)}.{kind.value}"
        topic = Topic(name, partitions, kind, groups)
        if provision:
            self.bus().provision([topic], SOON_S)
        return topic

    def end(self) -> None:
        for bus in self._opened:
            bus.close(5)
        self._opened.clear()


def records(
    topic: Topic, texts: Iterable[str | int], partition: int = 0, size: int = 0
) -> list[Record]:
    """One record a text; `size` pads them."""
    return [Record(topic.name, partition, str(text).encode().ljust(size)) for text in texts]


def publish(bus: Bus, published: Sequence[Record]) -> None:
    """All of them, and all are durable."""
    answers = bus.publish(published, SOON_S)
    assert answers == [None] * len(published)


def insist(
    bus: Bus, published: Sequence[Record], tries_s: float = 2.0, within_s: float = 2 * SOON_S
) -> None:
    """Publish until it is answered, as a client does that must not lose anything."""
    left = list(published)
    end = time.monotonic() + within_s  # an outage, and a start on a busy machine
    while left:
        answers = bus.publish(left, tries_s)
        failed = next((i for i, answer in enumerate(answers) if answer is not None), len(left))
        left = left[failed:]  # what follows a failure is sent again too, so that order holds
        assert time.monotonic() < end, answers


def take(subscription: Subscription, count: int, timeout: float = SOON_S) -> list[Received]:
    """So many records, whatever faults come between; none of them is acknowledged."""
    found: list[Received] = []
    end = time.monotonic() + timeout
    while len(found) < count:
        try:
            found += subscription.fetch(count - len(found), 2**30, 1.0)
        except ChimeraError:
            pass
        assert time.monotonic() < end, f"{len(found)} of {count} records came"
    return found


def drain(subscription: Subscription, wanted: set[str], timeout: float = SOON_S) -> list[str]:
    """Fetch and acknowledge until all that is wanted was seen; returns all that was seen."""
    seen: list[str] = []
    left = set(wanted)
    end = time.monotonic() + timeout
    while left:
        try:
            found = subscription.fetch(100, 2**30, 1.0)
        except ChimeraError:
            found = []
        seen += texts(found)
        left.difference_update(texts(found))
        subscription.ack(found)
        assert time.monotonic() < end, f"{len(left)} records are missing, e.g. {sorted(left)[:3]}"
    return seen


def nothing(subscription: Subscription, timeout: float = SHORT_S) -> bool:
    """Whether nothing comes."""
    return subscription.fetch(100, 2**30, timeout) == []


def becomes(look: Callable[[], Any], wanted: Any) -> None:
    """Look until it is so; fails with what was seen last."""
    end = time.monotonic() + SOON_S
    while (seen := look()) != wanted:
        assert time.monotonic() < end, f"{seen} has not become {wanted}"
        time.sleep(0.05)


def texts(received: Iterable[Received]) -> list[str]:
    return [one.value.decode().rstrip() for one in received]


def first_seen(seen: Iterable[str]) -> list[str]:
    """Without what was seen before."""
    return list(dict.fromkeys(seen))


def fault(call: Callable[[], Any]) -> ChimeraError | None:
    """The error that a call raises."""
    try:
        call()
    except ChimeraError as error:
        return error
    return None


def together(calls: Sequence[Callable[[], None]]) -> None:
    """Run in threads of their own; the first error is raised here."""
    errors: list[BaseException] = []

    def run(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * SOON_S)
        assert not thread.is_alive()
    if errors:
        raise errors[0]
