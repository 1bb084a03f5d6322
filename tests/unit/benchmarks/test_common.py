"""The statistics behind every figure, and the document that holds them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import common
from benchmarks.common import Document, Settings

VALUES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=300)


def document(quick=False):
    settings = Settings(pairs=3, seconds=1.0, fsyncs=(False,), quick=quick)
    return Document(
        benchmark="throughput",
        command="python -m benchmarks throughput",
        started="2026-01-01T00:00:00+00:00",
        settings=settings,
        machine={"cpu": "one", "cores": 2},
        load_before=[0.1, 0.2, 0.3],
    )


def test_the_99th_percentile_of_few_values_is_the_largest():
    assert common.quantile([3.0, 1.0, 2.0], 0.99) == 3.0


@pytest.mark.parametrize(
    ("share", "rank"), [(0.0, 1), (0.5, 100), (0.99, 198), (0.995, 199), (1.0, 200)]
)
def test_a_quantile_is_the_value_of_nearest_rank(share, rank):
    assert common.quantile(range(1, 201), share) == rank


@given(VALUES, st.floats(0.0, 1.0))
def test_a_quantile_is_one_of_the_values_and_enough_are_below_it(values, share):
    found = common.quantile(values, share)
    assert found in values
    assert sum(one <= found for one in values) >= share * len(values) - 1e-6


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_there_is_no_quantile_of_nothing_or_beyond_all(values, share):
    with pytest.raises(ValueError, match="no quantile"):
        common.quantile(values, share)


def test_the_median_of_an_even_number_lies_between_two():
    assert common.median([4.0, 1.0, 3.0, 2.0]) == 2.5
    assert common.median([9.0, 1.0, 2.0]) == 2.0
    with pytest.raises(ValueError, match="no values"):
        common.median([])


def test_ratios_are_of_what_was_measured_side_by_side():
    assert common.ratios([10.0, 40.0], [5.0, 10.0]) == [2.0, 4.0]
    with pytest.raises(ValueError, match="cannot be paired"):
        common.ratios([1.0], [1.0, 2.0])


def test_few_values_are_kept_and_many_become_quantiles():
    few = common.series("few", "ms", [2.0, 1.0, 3.0])
    assert (few.values, few.quantiles) == ([2.0, 1.0, 3.0], [])
    many = common.series("many", "ms", [float(i) for i in range(1, 1001)])
    assert not many.values
    assert len(many.quantiles) == common.QUANTILES
    assert (many.quantiles[0], many.quantiles[-1]) == (many.low, many.high) == (1.0, 1000.0)
    assert (many.n, many.p50, many.p99) == (1000, 500.5, 990.0)


@given(VALUES)
def test_a_summary_is_in_order(values):
    found = common.series("any", "s", values)
    assert found.low <= found.p50 <= found.high
    assert found.p50 <= found.p99 <= found.high or found.n == 2
    assert found.n == len(values)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.0123"), (1.5, "1.50"), (42.42, "42.4"), (999, "999"),
     (123456.7, "123,457"), (-3.14159, "-3.14"), (float("nan"), "nan")],
)  # fmt: skip
def test_numbers_are_written_with_three_digits(value, text):
    assert common.number(value) == text


def test_a_document_is_found_again_as_it_was(tmp_path):
    made = document()
    made.add("rate", "/s", [1.0, 2.0])
    made.table("who", ["a", "b"], [["1", "2"]])
    made.note("as it is")
    path = tmp_path / "deep" / "throughput.json"
    common.save(made, path)
    assert common.load(path) == made


def test_another_file_is_no_document(tmp_path):
    path = tmp_path / "other.json"
    path.write_text("{}")
    with pytest.raises(msgspec.ValidationError):
        common.load(path)


def test_quick_settings_pick_the_small_size():
    assert document(quick=True).settings.pick(1000, 10) == 10
    assert document(quick=False).settings.pick(1000, 10) == 1000
