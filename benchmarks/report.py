"""Writes RESULTS.md: what was measured beside what was promised, and on which machine."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.budgets import BUDGETS
from benchmarks.common import Document, Finding, Series, number

HEAD = """# Results

Written by `python -m benchmarks report` from the files in `results/`; do not edit. How to read it:
[README.md](README.md). Every ratio is a median of pairs that were measured seconds apart.
"""
QUICK = """
**These are runs with `--quick`: they show that the benchmarks work. Judge nothing by them.**
"""
#: written by hand, and put into the report as it is
ANALYSIS = "analysis.md"


def write(documents: list[Document], out: Path, plot: Path) -> None:
    """Write the report; `plot` is the picture that it shows."""
    parts = [HEAD]
    if any(one.settings.quick for one in documents):
        parts.append(QUICK)
    parts.append(_budgets(documents))
    parts.append(_machine(documents))
    picture = os.path.relpath(plot, out.parent)
    parts.append(f"\n![Ratios, latencies and failovers]({picture})\n")
    analysis = Path(__file__).parent / ANALYSIS
    if analysis.exists():
        parts.append("\n" + analysis.read_text())
    parts += [_details(one) for one in documents]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(parts))


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _budgets(documents: list[Document]) -> str:
    """Each promise with each finding about it, in the order of the promises."""
    found: dict[str, list[Finding]] = {name: [] for name in BUDGETS}
    for document in documents:
        for finding in document.findings:
            found[finding.budget].append(finding)
    rows = []
    for name, budget in BUDGETS.items():
        for one in found[name] or [None]:
            if one is None:
                rows.append([budget.what, budget.text(), "–", "not measured", ""])
                continue
            verdict = "met" if one.met else "**not met**"
            measured = f"{number(one.measured)} {budget.unit}".strip()
            rows.append(
                [f"{budget.what} ({one.case})", budget.text(), measured, verdict, one.detail]
            )
    columns = ["what", "budget", "measured", "", "in detail"]
    return f"\n## Budgets\n\n{_table(columns, rows)}"


def _machine(documents: list[Document]) -> str:
    names = {key: None for one in documents for key in one.machine}
    rows = []
    for name in names:
        values = {str(one.machine.get(name, "")): None for one in documents}
        rows.append([name.replace("_gib", ", GiB"), ", ".join(values)])
    runs = [
        [f"`{one.command}`", one.started, f"{one.took_s:.0f} s", _loads(one.load_before),
         _loads(one.load_after)]
        for one in documents
    ]  # fmt: skip
    columns = ["command", "started", "took", "load before", "load after"]
    return f"\n## Machine\n\n{_table(['', ''], rows)}\n{_table(columns, runs)}"


def _loads(averages: list[float]) -> str:
    return " ".join(f"{one:.1f}" for one in averages)


def _row(one: Series) -> list[str]:
    # of fewer than 100 values the 99th percentile is the largest one, which the spread shows
    tail = number(one.p99) if one.n >= 100 else ""
    spread = f"{number(one.low)} – {number(one.high)}" if one.n > 1 else ""
    return [one.name, number(one.p50), one.unit, spread, tail, str(one.n)]


def _details(document: Document) -> str:
    title = ": ".join((document.benchmark.capitalize(), *document.settings.only))
    parts = [f"\n## {title}\n\n"]
    if document.series:
        columns = ["", "median", "", "lowest – highest", "p99", "n"]
        parts.append(_table(columns, [_row(one) for one in document.series]))
    for table in document.tables:
        rows = [[f"`{row[0]}`", *row[1:]] for row in table.rows]
        parts.append(f"\n{table.title}:\n\n{_table(table.columns, rows)}")
    parts += [f"\n{note}\n" for note in document.notes]
    return "".join(parts)
