"""One bulk, without a swarm: what came before a fault counts, and unread answers are bounded."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest

from chimera.client.contracts import compile_check
from chimera.serve import batch
from chimera.serve.batch import Bulk
from chimera.serve.gateway import Limits


class FakeSwarm:
    """Accepts whatever it is given, but for what a contract does not allow."""

    tenant = "default"

    def __init__(self, check=None):
        self.payloads = []
        self._check = check

    async def contract(self, type):
        return self._check

    async def submit_many(self, type, payloads, **options):
        segment = SimpleNamespace(key=(1, 0, len(self.payloads)), indices=range(len(payloads)),
                                  skipped=None)  # fmt: skip
        self.payloads += payloads
        return SimpleNamespace(tasks=SimpleNamespace(segments=[segment]))


async def _body(pieces):
    for piece in pieces:
        yield piece


async def _answered(bulk, pieces):
    taking = asyncio.create_task(bulk.run(_body(pieces)))
    found = b"".join([piece async for piece in bulk.answers()])
    await taking
    return [json.loads(line) for line in found.splitlines()]


def test_lines_before_one_that_is_too_long_are_tasks_all_the_same():
    swarm = FakeSwarm()
    bulk = Bulk(swarm, Limits(line_bytes=100))
    *told, last = asyncio.run(_answered(bulk, [b'{"type":"a"}\n{"type":"a"}\n', b"x" * 200]))
    assert [one["line"] for one in told] == [1, 2]
    assert len(swarm.payloads) == 2
    assert (last["done"], last["accepted"]) == (False, 2)
    assert last["error"]["code"] == "payload_too_large"


def test_answers_that_nobody_reads_stop_the_intake(monkeypatch):
    monkeypatch.setattr(batch, "UNREAD_MAX", 1000)
    monkeypatch.setattr(batch, "GATHER", 100)
    swarm = FakeSwarm()

    async def deaf():
        bulk = Bulk(swarm, Limits(idle_s=0.01))
        await bulk.run(_body([b'{"type":"a"}\n' * 10] * 1000))
        return [json.loads(line) async for piece in bulk.answers() for line in piece.splitlines()]

    last = asyncio.run(deaf())[-1]
    assert not last["done"]
    assert "not read" in last["error"]["detail"]
    assert len(swarm.payloads) < 200


LINES = b"".join(b'{"type":"a","payload":%d}\n' % i for i in range(3))


CHECK = compile_check("a", '{"type": ["integer", "object"]}')


@pytest.mark.parametrize(
    ("check", "line", "told"),
    [
        (None, b'{"type":"a","payload":{"n":1e999}}\n', "out of range"),
        (CHECK, b'{"type":"a","payload":{"n":1e999}}\n', "out of range"),
        (None, b'{"type":"a","payload":' + b"[" * 5000 + b"]" * 5000 + b"}\n", "too deeply"),
        (CHECK, b'{"type":"a","payload":' + b"[" * 300 + b"]" * 300 + b"}\n", "too deep"),
    ],
    ids=["too large a number", "and a contract", "no end of nesting", "deeper than contracts go"],
)
def test_a_line_that_cannot_be_read_keeps_no_other_from_being_a_task(check, line, told):
    swarm = FakeSwarm(check)
    *found, last = asyncio.run(_answered(Bulk(swarm, Limits()), [LINES + line + LINES]))
    assert sorted(one["line"] for one in found if "id" in one) == [1, 2, 3, 5, 6, 7]
    (bad,) = [one for one in found if "error" in one]
    assert bad["line"] == 4
    assert told in bad["error"]["detail"]
    assert bad["error"]["status"] in (400, 422)
    assert (last["done"], last["accepted"], last["refused"]) == (True, 6, 1)


def test_a_bulk_that_meets_a_bug_does_not_say_that_it_is_done():
    class Broken(FakeSwarm):
        async def submit_many(self, type, payloads, **options):
            raise ZeroDivisionError

    (last,) = asyncio.run(_answered(Bulk(Broken(), Limits()), [LINES]))
    assert not last["done"]
    assert last["error"]["code"] == "internal"
