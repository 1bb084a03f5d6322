"""Durations and moments as people write them, for options."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import click

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*\Z")


def seconds(text: str) -> float | None:
    """`10s`, `5m`, `1.5h`, `2d`, or a number of seconds; None if it is none."""
    found = _DURATION.match(text)
    return float(found[1]) * _UNITS[found[2] or "s"] if found else None


def duration(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    """An option's duration, as seconds."""
    if text is None:
        return None
    found = seconds(text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no duration: write 10s, 5m, 1h or 2d")
    return found


def either(this: str, has_this: bool, that: str, has_that: bool) -> None:
    """Hold a command to just one of two ways to say which tasks. Raises UsageError."""
    if has_this and has_that:
        raise click.UsageError(f"say {this} or {that}, not both")
    if not has_this and not has_that:
        raise click.UsageError(f"say which: {this}, or {that}")


def moment(_: click.Context, __: click.Parameter, text: str | None) -> datetime | None:
    """An option's moment: ISO 8601, or a duration from now."""
    if text is None:
        return None
    from_now = seconds(text.removeprefix("+"))
    if from_now is not None:
        return datetime.now(timezone.utc) + timedelta(seconds=from_now)
    try:
        found = datetime.fromisoformat(re.sub(r"[zZ]\Z", "+00:00", text))  # 3.10 reads no `Z`
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no moment: write 2026-01-31T12:00:00Z, or 10m from now"
        ) from None
    return found if found.tzinfo else found.astimezone()


def past(_: click.Context, __: click.Parameter, text: str | None) -> datetime | None:
    """An option's moment: ISO 8601, or a duration before now."""
    ago = None if text is None else seconds(text)
    if ago is not None:
        return datetime.now(timezone.utc) - timedelta(seconds=ago)
    return moment(_, __, text)
