"""From outcomes to a report: the same files give the same bytes, whatever happened on the way."""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

#: rows of a ranking
TOP = 15
#: packages whose documentation is compared
PACKAGES = 20
#: lower bounds of the bins of the two histograms
COMPLEXITY_BINS = (1, 2, 4, 6, 11, 21, 51)
LENGTH_BINS = (0, 50, 100, 200, 500, 1000, 2000)

Row = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """What became of one file: its measures, or why it has none."""

    module: str
    measures: Row | None
    reason: str = ""


def reduce(outcomes: Iterable[Measured]) -> Row:
    """The report of these outcomes, in whichever order they come."""
    ordered = sorted(outcomes, key=lambda one: one.module)
    read = [one.measures for one in ordered if one.measures is not None]
    complexities = [value for row in read for value in row["complexities"]]
    return {
        "python": platform.python_version(),
        "totals": _totals(len(ordered), read, complexities),
        "biggest": [
            {name: row[name] for name in ("module", "lines", "code", "functions")}
            for row in _top(read, lambda row: row["lines"])
        ],
        "complex": _top(
            [{"module": row["module"], **one} for row in read for one in row["worst"]],
            lambda one: one["complexity"],
        ),
        "packages": _packages(read),
        "complexity_histogram": _histogram(complexities, COMPLEXITY_BINS),
        "length_histogram": _histogram([row["lines"] for row in read], LENGTH_BINS),
        "imports": [
            {"name": name, "modules": count}
            for name, count in _most(Counter(name for row in read for name in row["imports"]))
        ],
        "dead_letters": [
            {"module": one.module, "reason": one.reason} for one in ordered if one.measures is None
        ],
    }


def digest(report: Row) -> str:
    """SHA-256 of the report's content: two runs with the same one found the same."""
    text = json.dumps(report, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _totals(files: int, read: Sequence[Row], complexities: Sequence[int]) -> Row:
    sums = ("lines", "code", "comments", "blank", "functions", "classes")
    return {
        "files": files,
        "read": len(read),
        "dead_letters": files - len(read),
        **{name: sum(row[name] for row in read) for name in sums},
        "documentable": sum(row["documentable"] for row in read),
        "documented": sum(row["documented"] for row in read),
        "complexity_mean": round(sum(complexities) / max(1, len(complexities)), 2),
        "simple": sum(value <= 5 for value in complexities),
        "half_of_the_code": _files_with_half([row["code"] for row in read]),
    }


def _files_with_half(sizes: Sequence[int]) -> int:
    """How few files, the largest first, hold half of it all."""
    half, held = sum(sizes) / 2, 0
    for count, size in enumerate(sorted(sizes, reverse=True), 1):
        held += size
        if held >= half:
            return count
    return 0


def _top(rows: Sequence[Row], size: Any) -> list[Row]:
    """The largest rows; equal ones in the order they came, which is that of their names."""
    return sorted(rows, key=lambda row: -size(row))[:TOP]


def _most(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:TOP]


def _packages(read: Sequence[Row]) -> list[Row]:
    """The largest packages, with how much of their public names is documented."""
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in read:
        origin, _, rest = row["module"].partition("/")
        name = rest.split("/")[0].removesuffix(".py")
        grouped[name if origin == "stdlib" else f"{name} ({origin})"].append(row)
    packages = [
        {
            "package": name,
            "files": len(rows),
            "code": sum(row["code"] for row in rows),
            "documentable": sum(row["documentable"] for row in rows),
            "documented": sum(row["documented"] for row in rows),
        }
        for name, rows in grouped.items()
    ]
    return sorted(packages, key=lambda one: (-one["code"], one["package"]))[:PACKAGES]


def _histogram(values: Sequence[int], bins: Sequence[int]) -> list[Row]:
    """How many values are in each bin; a bin reaches to just below the next one's bound."""
    counts = [0] * len(bins)
    for value in values:
        counts[sum(value >= low for low in bins) - 1] += 1
    labels = [
        f"{low}+" if high is None else str(low) if high == low + 1 else f"{low}–{high - 1}"
        for low, high in zip(bins, [*bins[1:], None], strict=True)
    ]
    return [{"bin": label, "count": count} for label, count in zip(labels, counts, strict=True)]


def percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


def show(report: Row, console: Console) -> None:
    """The report's short form, for a terminal: numbers first, so that names have room."""
    totals = report["totals"]
    names = ("files", "lines", "code", "comments", "functions", "classes")
    console.print("\n[bold]Totals", _numbered((f"{totals[name]:,}", name) for name in names))
    console.print(
        f"{percent(totals['documented'], totals['documentable']):.1f} % of public names are "
        f"documented; a function has {totals['complexity_mean']:.2f} ways through it, on average.",
        soft_wrap=True,
    )
    biggest = ((f"{row['lines']:,}", escape(row["module"])) for row in report["biggest"][:5])
    console.print("\n[bold]Biggest modules, by lines", _numbered(biggest))
    complex_ = (
        (f"{row['complexity']:,}", escape(f"{row['name']}\n{row['module']}:{row['line']}"))
        for row in report["complex"][:5]
    )
    console.print("\n[bold]Most complex functions, by ways through them", _numbered(complex_))
    dead = report["dead_letters"]
    console.print(f"\n[bold]Dead letters: {len(dead)}" + ("" if dead else ", all could be read"))
    for row in dead:
        told = escape(f"  {row['module']}\n    {row['reason']}")
        console.print(told, soft_wrap=True)


def _numbered(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
