"""Tasks as answers show them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chimera.serve.models import view
from chimera.store.protocol import TaskRecord

RECORD = TaskRecord(
    task_id="4a57e9c5-2fe0-8fd5-b400-000000000000", position=0, type="t", tenant="default",
    priority=0, state="queued", attempts=0, accepted_at=1, settled_at=None, due=None, key=None,
    tags=(), cancel_requested=False, replay_of=None, replayed_as=None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "shown"),
    [(b'{"n":1}', {"n": 1}), (b'{"n":1e999}', '{"n":1e999}'), (b'"\xff"', '"\ufffd"')],
)
def test_a_payload_that_cannot_be_read_is_shown_as_it_came(payload, shown):
    """A record of a broker may have any bytes, and must not be in the way of looking at it."""
    assert view(replace(RECORD, payload=payload)).payload == shown
