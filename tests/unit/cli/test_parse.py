"""Durations and moments as people write them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import click
import pytest

from chimera.cli.parse import duration, moment, seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [("10", 10), ("10s", 10), ("1.5h", 5400), ("250ms", 0.25), ("2d", 172800), (" 5 m ", 300)],
)
def test_durations(text, value):
    assert seconds(text) == pytest.approx(value)
    assert duration(None, None, text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "s", "-5s", "5w", "1:30", "1e3"])
def test_what_is_no_duration(text):
    assert seconds(text) is None
    with pytest.raises(click.BadParameter, match="write 10s"):
        duration(None, None, text)


def test_moments():
    assert moment(None, None, "2026-01-31T12:00:00Z") == datetime(
        2026, 1, 31, 12, tzinfo=timezone.utc
    )
    assert moment(None, None, "2026-01-31T12:00:00+02:00").utcoffset() == timedelta(hours=2)
    assert moment(None, None, "2026-01-31").tzinfo is not None
    now = datetime.now(timezone.utc)
    assert abs(moment(None, None, "+10m") - now - timedelta(minutes=10)) < timedelta(seconds=30)
    assert moment(None, None, None) is None
    with pytest.raises(click.BadParameter, match="no moment"):
        moment(None, None, "tomorrow")
