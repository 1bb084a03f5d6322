"""What both kinds of frame promise: damage is noticed, foreign versions are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.errors import CorruptFrame
from chimera.frames import command, outcome
from chimera.frames.layout import Bodies, Layout, check_range, pack_ends

COMMAND = command.pack(7, 3, 40, command.Head("t"), [b'{"a":1}', b"2", b"null"])
OUTCOME = outcome.pack(3, 5, 40, b"\x01\x02\x01", [b"1", b"{}", b'"x"'])
FRAMES = pytest.mark.parametrize(
    ("kind", "frame"), [(command, COMMAND), (outcome, OUTCOME)], ids=["command", "outcome"]
)


@FRAMES
def test_a_frame_as_written_verifies(kind, frame):
    assert kind.verify(frame) == kind.header(frame)


@FRAMES
def test_every_flipped_bit_is_noticed(kind, frame):
    for index in range(len(frame)):
        for bit in range(8):
            damaged = bytearray(frame)
            damaged[index] ^= 1 << bit
            with pytest.raises(CorruptFrame):
                kind.verify(bytes(damaged))


@FRAMES
def test_every_cut_off_tail_is_noticed(kind, frame):
    for length in range(len(frame)):
        with pytest.raises(CorruptFrame):
            kind.verify(frame[:length])


@FRAMES
def test_an_appended_byte_is_noticed(kind, frame):
    with pytest.raises(CorruptFrame):
        kind.verify(frame + b"\0")


@FRAMES
def test_another_version_is_refused_before_anything_is_read(kind, frame):
    newer = frame[:2] + bytes([kind.VERSION + 1]) + frame[3:]
    with pytest.raises(CorruptFrame, match=f"of version {kind.VERSION}"):
        kind.header(newer)


def test_one_kind_is_not_taken_for_the_other():
    with pytest.raises(CorruptFrame, match="not a command frame"):
        command.header(OUTCOME)
    with pytest.raises(CorruptFrame, match="not an outcome frame"):
        outcome.header(COMMAND)


def test_both_headers_have_forty_bytes():
    # journals hold them: a header that changes its size is another version
    assert (command.HEADER_BYTES, outcome.HEADER_BYTES) == (40, 40)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=30))
def test_bodies_come_back_by_any_road(bodies):
    layout = Layout("a frame", b"XF", 1, "H")
    frame = layout.seal((len(bodies),), pack_ends(bodies), *bodies)
    found = Bodies(frame, layout.header_bytes, len(bodies), 0)
    assert found.all() == bodies
    assert [found.one(index) for index in range(len(bodies))] == bodies
    assert layout.fixed(frame) == (len(bodies),)
    assert layout.is_whole(frame)


@pytest.mark.parametrize("start_stop", [(-1, 2), (2, 2), (3, 2), (0, 4)])
def test_a_range_outside_the_frame_is_refused(start_stop):
    with pytest.raises(ValueError, match="cannot cut"):
        check_range(*start_stop, 3)
