"""What a replica takes: how much at once, how large, and what it need not send again."""

from __future__ import annotations

import asyncio
from itertools import islice

import pytest

from chimera.errors import Overloaded
from chimera.serve.gateway import MIB, Limits
from chimera.serve.places import Placed, Places
from chimera.serve.replies import etagged


def test_places_are_taken_and_given_back():
    places = Places(2, "bulks")
    with places.one(), places.one():
        with pytest.raises(Overloaded, match="2 bulks at once") as refused, places.one():
            pass
    assert refused.value.retry_after > 0
    with places.one(), places.one():
        pass


def test_a_place_is_given_back_by_one_who_fails():
    places = Places(1, "bulks")
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), places.one():
            raise ZeroDivisionError


async def _together(places, count):
    """Begin so many streams at once, end them together; returns what became of each."""
    ended = asyncio.Event()

    async def stream():
        yield b"begun"
        await ended.wait()

    async def receive():
        await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        pass

    async def one():
        await Placed(places, stream())({"type": "http"}, receive, send)

    tasks = [asyncio.create_task(one()) for _ in range(count)]
    for refused in islice(asyncio.as_completed(tasks), count - 3):
        with pytest.raises(Overloaded):
            await refused
    ended.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_streams_that_begin_together_are_counted_too():
    async def twice():
        places = Places(3, "streams")
        return [await _together(places, 10) for _ in range(2)]

    for found in asyncio.run(twice()):
        assert [type(one) for one in found] == [type(None)] * 3 + [Overloaded] * 7


def test_bodies_may_be_as_large_as_payloads():
    assert Limits().with_payloads_of(1024) == Limits()
    large = Limits().with_payloads_of(512 * MIB)
    assert large.body_bytes == large.line_bytes == large.batch_bytes == 513 * MIB
    assert Limits().with_payloads_of(64 * MIB).batch_bytes == 256 * MIB


@pytest.mark.parametrize(
    ("known", "status"),
    [(None, 200), ("", 200), ('"x"', 200), ('"x", W/{}', 304), ("{}", 304), ("*", 304)],
)
def test_who_has_it_is_not_sent_it_again(known, status):
    first = etagged(None, b"{}")
    tag = first.headers["etag"]
    again = etagged(known and known.replace("{}", tag), b"{}")
    assert (again.status_code, again.headers["etag"]) == (status, tag)
    assert bool(again.body) == (status == 200)
