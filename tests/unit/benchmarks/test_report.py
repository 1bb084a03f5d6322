"""Figures beside promises: judged, written and drawn without a new measurement."""

from __future__ import annotations

import pytest

from benchmarks import report
from benchmarks.budgets import BUDGETS, judge
from benchmarks.common import Document, Settings


def document(benchmark="throughput", quick=False):
    return Document(
        benchmark=benchmark,
        command=f"python -m benchmarks {benchmark}",
        started="2026-01-01T00:00:00+00:00",
        settings=Settings(pairs=3, seconds=1.0, fsyncs=(False,), quick=quick),
        machine={"cpu": "one", "cores": 2},
        load_before=[0.1, 0.2, 0.3],
        load_after=[0.4, 0.5, 0.6],
    )


@pytest.mark.parametrize(
    ("budget", "measured", "met"),
    [("single", 4.0, True), ("single", 4.1, False), ("noop", 1.0, True), ("noop", 0.99, False),
     ("rerun", 0, True), ("rerun", 1, False)],
)  # fmt: skip
def test_a_limit_that_is_just_reached_is_kept(budget, measured, met):
    assert judge(document(), budget, "a case", measured, "").met is met


def test_every_budget_is_in_the_report_measured_or_not(tmp_path):
    kept, broken = document(), document("latency")
    judge(kept, "noop", "no fsync", 1.5, "300 k/s")
    judge(broken, "single", "no fsync", 9.0, "p50 9 ms")
    out = tmp_path / "RESULTS.md"
    report.write([kept, broken], out, tmp_path / "results.png")
    rows = [row for row in out.read_text().splitlines() if row.startswith("|")]
    for budget in BUDGETS.values():
        assert any(budget.what in row for row in rows)
    assert any("1.50 ×" in row and "| met |" in row for row in rows)
    assert any("9.00 ×" in row and "**not met**" in row for row in rows)
    assert sum("not measured" in row for row in rows) == len(BUDGETS) - 2


def test_a_report_has_machine_commands_series_tables_and_notes(tmp_path):
    made = document()
    made.add("rate", "/s", [1000.0, 2000.0, 3000.0])
    made.table("who is busy", ["who", "µs"], [["client", "1.5"]])
    made.note("as it is")
    out = tmp_path / "RESULTS.md"
    report.write([made], out, tmp_path / "pictures" / "results.png")
    text = out.read_text()
    for part in (
        "| cpu | one |", "`python -m benchmarks throughput`", "0.4 0.5 0.6",
        "| rate | 2,000 | /s | 1,000 – 3,000 |  | 3 |", "who is busy", "| `client` | 1.5 |",
        "as it is", "(pictures/results.png)",
    ):  # fmt: skip
        assert part in text
    assert "--quick" not in text


def test_a_quick_run_is_not_taken_for_more(tmp_path):
    out = tmp_path / "RESULTS.md"
    report.write([document(quick=True)], out, tmp_path / "results.png")
    assert "Judge nothing by them" in out.read_text()


def test_pictures_are_drawn_of_what_there_is(tmp_path):
    plot = pytest.importorskip("benchmarks.plot")
    made, failover = document(), document("failover")
    made.add("no-op: × plain Ray tasks", "×", [200.0, 300.0])
    failover.add("leader killed: until all of its shards are served", "s", [0.3, 0.4])
    path = tmp_path / "results.png"
    plot.plot([made, failover], path)
    assert path.read_bytes().startswith(b"\x89PNG")
