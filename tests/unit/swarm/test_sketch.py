"""Durations as Prometheus's histograms have them."""

from __future__ import annotations

import pytest

from chimera.swarm import sketch


def test_counts_are_cumulated_over_all_parts():
    one, two = sketch.Sketch(), sketch.Sketch()
    one.add(0.0)
    one.add(0.02, 3)
    two.add(0.5, 2)
    two.add(100.0)
    counts, total = sketch.cumulated([one.to_bytes(), two.to_bytes()], (0.01, 0.1, 1.0))
    assert counts == [1, 4, 6, 7]
    assert total == pytest.approx(101.06, rel=0.02)


def test_of_nothing_there_is_nothing():
    assert sketch.cumulated([], (0.1,)) == ([0, 0], 0.0)


def test_what_is_merged_counts_as_much_as_its_parts():
    one, two = sketch.Sketch(), sketch.Sketch()
    one.add(0.02, 3)
    two.add(0.5, 2)
    two.add(0.0)
    parts = [one.to_bytes(), two.to_bytes()]
    assert sketch.cumulated([sketch.merged(parts)], (0.01, 0.1)) == sketch.cumulated(
        parts, (0.01, 0.1)
    )
    assert sketch.quantiles([sketch.merged([])], (0.5,)) is None
