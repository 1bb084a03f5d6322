"""A figure counts only if every result came back, and the right one."""

from __future__ import annotations

import pytest

from benchmarks import clients
from benchmarks.clients import Span, Work

WORK = Work("bench.noop", [{"id": 0}, {"id": 1}, {"id": 2}])


def test_payloads_repeat_in_order():
    assert [one["id"] for one in WORK.batch(5)] == [0, 1, 2, 0, 1]


def test_all_results_in_their_places_are_right():
    clients.check(WORK, iter(WORK.batch(7)), WORK.batch(7))


@pytest.mark.parametrize("ids", [[0, 1], [0, 2, 1], [0, 1, 2, 0]])
def test_a_missing_wrong_or_surplus_result_voids_the_measurement(ids):
    with pytest.raises(clients.WrongResult):
        clients.check(WORK, iter([{"id": id} for id in ids]), WORK.batch(3))


@pytest.mark.parametrize("count", [2, 4])
def test_results_that_are_no_echo_are_counted(count):
    sized = Work("bench.size", ["xx"], echoes=False)
    clients.check(sized, iter([2, 2, 2]), sized.batch(3))
    with pytest.raises(clients.WrongResult):
        clients.check(sized, iter([2] * count), sized.batch(3))


def test_clients_side_by_side_count_from_the_first_to_the_last():
    both = clients.together([Span(10, 1.0, 3.0), Span(30, 2.0, 5.0)])
    assert (both.count, both.rate) == (40, 10.0)
