"""What a leader's machine is told of an accepted frame."""

from __future__ import annotations

import pytest

from chimera.frames import command
from chimera.store.opened import new_frame
from chimera.store.protocol import Receipt

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("traceparent", "trace_id"),
    [(f"00-{TRACE}-b7ad6b7169203331-01", TRACE), (None, None), ("whatever", None), ("-" * 3, None)],
)
def test_the_trace_of_a_frame_is_known(traceparent, trace_id):
    head = command.Head("echo", traceparent=traceparent)
    frame = command.pack(1, 0, 0, head, [b"1", b"2"])
    told = new_frame(frame, head, Receipt(7, 2, False))
    assert (told.position, told.count, told.trace_id) == (7, 2, trace_id)
