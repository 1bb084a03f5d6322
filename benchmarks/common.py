"""Statistics of repeated measurements, and the document that a benchmark leaves behind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

#: past this many values a series keeps its quantiles only
VALUES_MAX = 500
#: quantiles that a long series keeps: 0 %, 1 %, … 100 %
QUANTILES = 101


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed (nearest rank).

    So the 99th percentile of fewer than 100 values is the largest one: nothing is made up.
    Raises ValueError without values, or if `share` is not within 0 and 1.
    """
    if not values or not 0.0 <= share <= 1.0:
        raise ValueError(f"no quantile {share} of {len(values)} values")
    ordered = sorted(values)
    # 0.99 * 200 is a little more than 198: rounding keeps the rank that was meant
    return ordered[max(math.ceil(round(share * len(ordered), 9)), 1) - 1]


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle. Raises ValueError without values."""
    if not values:
        raise ValueError("no median of no values")
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def ratios(measured: Sequence[float], beside: Sequence[float]) -> list[float]:
    """Each value over the one that was measured beside it. Raises ValueError for unequal lengths.

    The median of such ratios tells more than the ratio of medians: what else the machine did in
    those seconds is in both halves of a pair.
    """
    if len(measured) != len(beside):
        raise ValueError(f"{len(measured)} values cannot be paired with {len(beside)}")
    return [one / other for one, other in zip(measured, beside, strict=True)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    pairs: int  #: repetitions of each measurement, or of each kill
    seconds: float  #: about how long one measurement takes
    fsyncs: tuple[bool, ...]  #: with which durabilities
    quick: bool  #: just enough to see that it works
    data_dir: str | None = None  #: where to make the directory of data; None: the temporary one
    only: tuple[str, ...] = ()  #: parts of the benchmark to run; empty: all

    def has(self, part: str) -> bool:
        """Whether a part is to be run."""
        return not self.only or part in self.only

    def pick(self, full: int, quick: int) -> int:
        """How many of something."""
        return quick if self.quick else full


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Repeated measurements of one thing."""

    name: str
    unit: str
    n: int
    p50: float
    low: float
    high: float
    p99: float
    #: in the order measured; empty if there are too many
    values: list[float] = []
    #: 0 %, 1 %, … 100 %; empty if there are few
    quantiles: list[float] = []


def series(name: str, unit: str, values: Sequence[float]) -> Series:
    """Summarise values. Raises ValueError without any."""
    is_long = len(values) > VALUES_MAX
    steps = [quantile(values, at / (QUANTILES - 1)) for at in range(QUANTILES)] if is_long else []
    return Series(
        name=name,
        unit=unit,
        n=len(values),
        p50=_rounded(median(values)),
        low=_rounded(min(values)),
        high=_rounded(max(values)),
        p99=_rounded(quantile(values, 0.99)),
        values=[] if is_long else [_rounded(one) for one in values],
        quantiles=[_rounded(one) for one in steps],
    )


def _rounded(value: float) -> float:
    """To five digits: more would be noise."""
    return float(f"{value:.5g}")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured for a budget, and whether that keeps it."""

    budget: str  #: its name in benchmarks/budgets.py
    case: str  #: under which circumstances, e.g. `fsync`
    measured: float
    met: bool
    detail: str  #: where the number comes from


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of text, for what is no series of numbers."""

    title: str
    columns: list[str]
    rows: list[list[str]]


class Document(msgspec.Struct, kw_only=True):
    """All that one run of a benchmark found out."""

    benchmark: str
    command: str
    started: str  #: ISO 8601, UTC
    took_s: float = 0.0
    settings: Settings
    machine: dict[str, Any]
    load_before: list[float]
    load_after: list[float] = []
    series: list[Series] = []
    findings: list[Finding] = []
    tables: list[Table] = []
    notes: list[str] = []

    def add(self, name: str, unit: str, values: Sequence[float]) -> Series:
        """Summarise values, keep that, and print it."""
        made = series(name, unit, values)
        self.series.append(made)
        print(line(made), flush=True)
        return made

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """Keep a table, and print it."""
        self.tables.append(Table(title=title, columns=columns, rows=rows))
        print(f"\n{title}")
        for row in (columns, *rows):
            print("  " + "  ".join(f"{cell:<16}" for cell in row).rstrip())
        print(flush=True)

    def note(self, text: str) -> None:
        """Keep a remark, and print it."""
        self.notes.append(text)
        print(text, flush=True)


def line(one: Series) -> str:
    """A series in one line of text."""
    spread = f"{number(one.low)} – {number(one.high)}"
    tail = f"  p99 {number(one.p99)}" if one.n >= 100 else ""
    return f"{one.name:<58} {number(one.p50):>8} {one.unit:<6} [{spread}]{tail}  n={one.n}"


def number(value: float) -> str:
    """Three digits, as a person would write them."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    size = math.floor(math.log10(abs(value)))
    if size >= 3:
        return f"{value:,.0f}"
    return f"{value:.{max(2 - size, 0)}f}"


def save(document: Document, path: Path) -> None:
    """Write the document as JSON that a person can read a diff of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")


def load(path: Path) -> Document:
    """The document of a file. Raises msgspec.ValidationError if it is none."""
    return msgspec.json.decode(path.read_bytes(), type=Document)
