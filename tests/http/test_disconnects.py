"""Who goes away amid a request holds up nobody else."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(200)]

ROUNDS = 20


def test_streams_that_are_cut_off_hold_up_no_submit(api):
    for n in range(ROUNDS):
        with api("GET", "/v1/events", stream=True) as answer:
            lines = answer.iter_lines()
            next(lines)  # it is under way
            for k in range(8):  # of all shards
                body = {"type": "client.echo", "payload": 1}
                told = api("POST", "/v1/tasks", json=body, headers={"Idempotency-Key": f"{n}-{k}"})
                assert told.status_code == 202, told.text
            while not next(lines).startswith(b"data"):  # cut off while leaders are asked for more
                pass
