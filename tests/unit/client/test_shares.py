"""Bulks are dealt out evenly: no leader idles while another has all the slow tasks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chimera.client.many import Shares, shares
from chimera.client.parcels import FRAMES_MAX
from chimera.frames.command import COUNT_MAX


def calls(tasks: int, dealt: Shares) -> list[int]:
    """Tasks of each call, as they are cut."""
    size = dealt.frame_tasks * dealt.call_frames
    return [min(size, tasks - start) for start in range(0, tasks, size)]


@given(st.integers(1, 200_000), st.integers(2, 12))
def test_every_leader_gets_about_as_much(tasks: int, leaders: int) -> None:
    dealt = shares(tasks, leaders)
    assert dealt.frame_tasks <= COUNT_MAX
    assert dealt.call_frames <= FRAMES_MAX
    of_leader = [0] * leaders
    for turn, size in enumerate(calls(tasks, dealt)):
        of_leader[turn % leaders] += size
    slack = len(calls(tasks, dealt)) * FRAMES_MAX + leaders
    assert max(of_leader) - min(of_leader) <= dealt.frame_tasks * dealt.call_frames
    assert max(of_leader) <= tasks / leaders + slack


def test_small_bulks_go_to_every_leader() -> None:
    assert calls(100, shares(100, 2)) == [50, 50]
    assert calls(1, shares(1, 2)) == [1]


def test_one_leader_or_an_unknown_length_means_full_calls() -> None:
    assert shares(100, 1) == shares(None, 4) == Shares()
