"""What may be told to a broker: nothing above a record that is still in flight."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chimera.bus.window import Window


def test_the_watermark_stops_at_the_first_gap():
    window = Window(5)
    for position in (5, 6, 9):  # a log may have holes
        assert window.hand(position, 10)
    assert (window.watermark, window.span, window.bytes) == (5, 3, 30)
    assert window.ack(6)
    assert window.watermark == 5
    assert window.ack(5)
    assert (window.watermark, window.bytes) == (9, 10)
    assert window.ack(9)
    assert (window.watermark, window.span, window.bytes) == (10, 0, 0)
    assert not window.ack(9)


def test_a_rewound_window_hands_out_again_what_was_not_acknowledged():
    window = Window(0)
    for position in range(4):
        window.hand(position, 1)
    window.ack(2)
    window.rewind(1)
    assert (window.next, window.watermark, window.bytes) == (1, 0, 1)
    assert [position for position in (1, 2, 3) if window.hand(position, 1)] == [1, 3]
    for position in (0, 1, 3):
        window.ack(position)
    assert (window.watermark, window.span) == (4, 0)


@given(st.lists(st.tuples(st.sampled_from(["hand", "ack", "rewind"]), st.integers(0, 12))))
def test_below_the_watermark_everything_was_acknowledged(steps):
    window, handed, acked = Window(0), set(), set()
    for what, number in steps:
        if what == "hand":
            position = window.next
            if window.hand(position, 1):
                handed.add(position)
                assert position not in acked, "handed out although it is acknowledged"
        elif what == "ack" and window.ack(number):
            assert number in handed
            acked.add(number)
        elif what == "rewind" and window.holds(number):
            window.rewind(number)
        assert set(range(window.watermark)) <= acked
        assert window.span <= window.next
        assert window.bytes == sum(window.holds(position) for position in range(20))
