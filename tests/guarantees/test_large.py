"""Payloads and results over 64 KiB go to the object store and travel as a claim check."""

from __future__ import annotations

import json

import pytest

from benchmarks.ledger import journals
from tests.guarantees.kit import notes

pytestmark = pytest.mark.cluster

MIB = 1 << 20


def _stored(swarm) -> int:
    objects = swarm.data_dir / "objects"
    return sum(path.stat().st_size for path in objects.rglob("*") if path.is_file())


def test_large_payloads_and_results_stay_out_of_the_journals(swarm):
    before = _stored(swarm)
    journal_bytes = sum(path.stat().st_size for path in journals(swarm.data_dir))
    text = swarm.client.tenant * (3 * MIB // len(swarm.client.tenant))
    assert swarm.client.call("echo", text, timeout_s=60) == text  # one object: content has a name
    assert _stored(swarm) - before == len(text) + 2
    task = swarm.client.submit("large", {"bytes": 2 * MIB}, key="k")
    assert len(task.result(timeout_s=60)) == 2 * MIB
    assert task.status(payload=True).body_is_claim
    grown = sum(path.stat().st_size for path in journals(swarm.data_dir)) - journal_bytes
    assert grown < MIB


def test_large_and_small_ones_share_a_bulk(swarm):
    sizes = [10, 70_000, 65_000, 300_000, 20, 66_000]
    texts = [chr(ord("a") + n) * size for n, size in enumerate(sizes * 3)]
    bulk = swarm.client.submit_many("large", [{"text": text} for text in texts])
    assert list(bulk.results(timeout_s=60)) == [
        [len(text), text[:10], text[-10:]] for text in texts
    ]
    echoed = swarm.client.submit_many("echo", texts, key=[str(n % 2) for n in range(len(texts))])
    assert list(echoed.results(timeout_s=60)) == texts


def test_a_lost_object_fails_its_task_alone(swarm):
    log = swarm.dir / "log"
    odd = {"text": "lost" * 50_000, "log": str(log)}
    held = swarm.client.submit("large", odd, delay_s=3600)
    body = held.status(payload=True).payload
    key = json.loads(body)["key"]
    (swarm.data_dir / "objects" / key).unlink()
    assert held.cancel() == "cancelled"
    bulk = swarm.client.submit_many("large", [{"text": "a"}, {"bytes": 5}])
    assert list(bulk.results(timeout_s=60)) == [[1, "a", "a"], "xxxxx"]
    assert not notes(log)
