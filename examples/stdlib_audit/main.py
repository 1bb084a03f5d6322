"""Audit the libraries of this Python on a local swarm: what `make run` runs.

With `--chaos` a worker and a leader are killed half way, and the report must be the same, byte for
byte, as that of a run without faults.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from chimera.errors import TaskError
from examples.local import LocalSwarm, local_swarm
from examples.stdlib_audit import page
from examples.stdlib_audit.chaos import strike
from examples.stdlib_audit.report import Measured, Row, digest, reduce, show

HANDLERS = "examples.stdlib_audit.tasks"
OUTPUT = Path("build/stdlib_audit")
#: settings of a spec → what they are for
BACKENDS = {
    "bus": "send the tasks through this broker, e.g. kafka://127.0.0.1:9092",
    "store": "keep journals in this database, e.g. postgresql://chimera@127.0.0.1/chimera",
    "objects": "keep large payloads and results here, e.g. s3://chimera",
}


class Source(NamedTuple):
    """A file to be measured."""

    module: str  #: its name in the report, the same on any machine
    path: Path


class Run(NamedTuple):
    """One audit of all files."""

    report: Row
    seconds: float
    submit_seconds: float

    @property
    def html(self) -> bytes:
        return page.render(self.report).encode()


def find(limit: int | None = None) -> list[Source]:
    """Every Python file of the standard library and of the installed packages, in order."""
    paths = sysconfig.get_paths()
    found = {}
    for origin, key in (("stdlib", "stdlib"), ("site-packages", "purelib")):
        root = Path(paths[key])
        for path in root.rglob("*.py"):
            inner = path.relative_to(root)
            if origin == "stdlib" and inner.parts[0] in ("site-packages", "dist-packages"):
                continue  # another Python's packages, when this one is a virtual environment
            found[f"{origin}/{inner.as_posix()}"] = path
    sources = [Source(module, found[module]) for module in sorted(found)]
    return sources[:: max(1, len(sources) // limit)][:limit] if limit else sources


def inputs(sources: list[Source]) -> str:
    """A digest of which files there are: reports of other files cannot be compared."""
    seen = hashlib.sha256()
    for source in sources:
        stat = source.path.stat()
        seen.update(f"{source.module} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return seen.hexdigest()


def audit(
    swarm: Any, sources: list[Source], console: Console, half_way: Callable[[], None] | None
) -> Run:
    """Submit a task a file, follow them, and make the report of what comes back."""
    payloads = [{"module": source.module, "path": str(source.path)} for source in sources]
    outcomes: list[Measured] = []
    start = time.monotonic()
    columns = (
        TextColumn("[bold]{task.description}"), BarColumn(bar_width=None), TaskProgressColumn(),
        MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("measuring", total=len(payloads))
        bulk = swarm.submit_many("audit.file", payloads)
        submitted = time.monotonic()
        for index, result in bulk.as_completed(return_exceptions=True):
            outcomes.append(_measured(sources[index].module, result))
            progress.update(bar, completed=len(outcomes))
            if half_way is not None and 2 * len(outcomes) >= len(payloads):
                half_way()
                half_way = None
    return Run(reduce(outcomes), time.monotonic() - start, submitted - start)


def _measured(module: str, result: Any) -> Measured:
    if isinstance(result, TaskError):
        reason = result.message.removeprefix(f"{result.details.get('type')}: ")
        return Measured(module, None, reason)
    if isinstance(result, BaseException):
        raise result
    return Measured(module, result)


def tell(run: Run, console: Console) -> None:
    """The report for a terminal, and how fast it was made."""
    show(run.report, console)
    totals = run.report["totals"]
    console.print(
        f"\n{totals['files']:,} tasks in {run.seconds:.1f} s: "
        f"{totals['files'] / run.seconds:,.0f} files/s, "
        f"{totals['lines'] / run.seconds:,.0f} lines/s. "
        f"All were durable {run.submit_seconds:.2f} s after the first was submitted."
    )


def keep(run: Run, output: Path, console: Console) -> None:
    """Write the page, for a person, and the data, for a program."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "report.html").write_bytes(run.html)
    (output / "report.json").write_text(json.dumps(run.report, indent=1) + "\n")
    console.print(f"Report: {output / 'report.html'}")
    console.print(f"Digest: {digest(run.report)}")


def plain(local: LocalSwarm, sources: list[Source], output: Path, console: Console) -> int:
    """An audit without faults."""
    run = audit(local.client, sources, console, None)
    tell(run, console)
    keep(run, output, console)
    _remember(run, sources, output)
    return 0


def chaotic(local: LocalSwarm, sources: list[Source], output: Path, console: Console) -> int:
    """An audit with parts killed half way; 1 if its report differs from that of one without."""
    expected = _remembered(sources, output)
    if expected is None:
        console.print("No report of these files to compare with yet: one without faults first.")
        first = audit(local.client, sources, console, None)
        expected = _remember(first, sources, output)

    def half_way() -> None:
        for victim in strike(local.status()):
            console.print(f"[red]kill -9[/] {victim.tier} {victim.name}, process {victim.pid}")

    run = audit(local.client, sources, console, half_way)
    tell(run, console)
    for name, count in sorted(local.counters().items()):
        if name in ("failovers", "worker_deaths", "retried") and count:
            console.print(f"{name.replace('_', ' ')}: {count}")
    keep(run, output, console)
    if hashlib.sha256(run.html).hexdigest() != expected:
        console.print("[bold red]The report differs from that of the run without faults.")
        return 1
    console.print("[bold green]The report is that of the run without faults, byte for byte.")
    return 0


def _remember(run: Run, sources: list[Source], output: Path) -> str:
    page_digest = hashlib.sha256(run.html).hexdigest()
    output.mkdir(parents=True, exist_ok=True)
    memory = {"inputs": inputs(sources), "page": page_digest}
    (output / "plain.json").write_text(json.dumps(memory) + "\n")
    return page_digest


def _remembered(sources: list[Source], output: Path) -> str | None:
    """Digest of the page that a run without faults made of the same files, if there was one."""
    try:
        memory = json.loads((output / "plain.json").read_text())
    except (OSError, ValueError):
        return None
    return str(memory["page"]) if memory["inputs"] == inputs(sources) else None


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chaos", action="store_true", help="kill parts of the swarm half way")
    parser.add_argument("--limit", type=int, help="measure so many files, taken evenly")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="directory of the report")
    for name, what in BACKENDS.items():
        parser.add_argument(f"--{name}", metavar="URL", help=what)
    args = parser.parse_args(argv)
    backends = {name: getattr(args, name) for name in BACKENDS if getattr(args, name)}
    console = Console(highlight=False)
    sources = find(args.limit)
    console.print(f"{len(sources):,} Python files to measure, one durable task each.")
    with local_swarm([HANDLERS], console, **backends) as local:
        run = chaotic if args.chaos else plain
        return run(local, sources, args.output, console)


if __name__ == "__main__":
    sys.exit(main())
