"""`python -m tests.planted`: look for each planted bug, seed by seed, and say when it was caught.

What has a script (scenarios.py) is asked of that alone. `--write` keeps what was found: the seeds
that the suite runs, and the table in the documents.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from tests.planted.planting import Bug
from tests.planted.scenarios import SCENARIOS
from tests.planted.searching import BUGS, search

CAUGHT = Path(__file__).parent / "caught.json"
PAGE = Path(__file__).parents[2] / "docs" / "simulator.md"
BEGIN, END = "<!-- planted: begin -->\n", "<!-- planted: end -->"


def table(caught: dict[str, dict[str, object]]) -> str:
    """What the documents say of it."""
    rows = ["| rule | without it | caught within seeds | it says |", "| --- | --- | --- | --- |"]
    for name, bug in sorted(BUGS.items(), key=lambda item: (item[1].rule, item[0])):
        rows.append(_row(bug, caught.get(name)))
    return "\n".join(rows) + "\n"


def _row(bug: Bug, found: dict[str, object] | None) -> str:
    if found is None:
        return f"| {bug.rule} | {bug.what} | not caught | |"
    said = str(found["said"]).split(" ", 1)[0].rstrip(":")
    within = "by a script" if "script" in found else int(str(found["seed"])) + 1
    return f"| {bug.rule} | {bug.what} | {within} | {said} |"


def documented(page: str, caught: dict[str, dict[str, object]]) -> str:
    """The page with the table as it should be."""
    head, _, rest = page.partition(BEGIN)
    tail = rest.partition(END)[2]
    return f"{head}{BEGIN}{table(caught)}{END}{tail}"


def _wanted(only: Iterable[str]) -> list[str]:
    unknown = set(only) - BUGS.keys()
    if unknown:
        raise click.BadParameter(f"no such bug: {sorted(unknown)}; there are: {sorted(BUGS)}")
    return sorted(only or BUGS)


@click.command()
@click.option("--seeds", default=400, show_default=True, help="Seeds to try for each bug.")
@click.option("--processes", default=2, show_default=True)
@click.option("--write", is_flag=True, help="Keep the seeds and the table.")
@click.argument("only", nargs=-1)
def main(seeds: int, processes: int, write: bool, only: tuple[str, ...]) -> None:
    """Put protocol bugs into the code, one at a time, and have the simulator find them."""
    caught = json.loads(CAUGHT.read_text()) if CAUGHT.exists() else {}
    missed = []
    jobs = [(name, seeds) for name in _wanted(only)]
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=4) as workers:
        for name, found in workers.imap_unordered(search, jobs):
            if found is None:
                missed.append(name)
                caught.pop(name, None)
                where = "its script" if name in SCENARIOS else f"{seeds} seeds"
                click.echo(f"{name}: NOT caught by {where}")
            else:
                caught[name] = found
                by = found.get("script") or f"seed {found['seed']}"
                click.echo(f"{name}: {by}: {found['said']}")
    if write:
        CAUGHT.write_text(json.dumps(dict(sorted(caught.items())), indent=1) + "\n")
        PAGE.write_text(documented(PAGE.read_text(), caught))
    click.echo(f"{len(jobs) - len(missed)} of {len(jobs)} caught")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
