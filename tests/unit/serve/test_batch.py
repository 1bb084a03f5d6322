"""One bulk, without a swarm: what came before a fault counts, and unread answers are bounded."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

from chimera.serve import batch
from chimera.serve.batch import Bulk
from chimera.serve.gateway import Limits


class FakeSwarm:
    """Accepts whatever it is given."""

    def __init__(self):
        self.payloads = []

    async def contract(self, type):
        return None

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
