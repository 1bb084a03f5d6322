"""`python -m benchmarks NAME`: measure, print, and keep what was found as JSON."""

from __future__ import annotations

import datetime as dt
import importlib
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click

from benchmarks import common, machine
from benchmarks.common import Document, Settings

HERE = Path(__file__).parent
RESULTS = HERE / "results"


class Benchmark(NamedTuple):
    """One module of this package: its `run(document, settings)` measures."""

    summary: str
    pairs: int  #: repetitions unless said otherwise


#: by name, in the order that `all` runs them
BENCHMARKS = {
    "throughput": Benchmark("Tasks a second, in pairs with plain Ray.", 5),
    "latency": Benchmark("One task after the other, beside one actor call after the other.", 20),
    "failover": Benchmark(
        "Kill, and pause, leaders; kill those above and below them; under load.", 100
    ),
    "regions": Benchmark("Cut a region off in a network namespace, and heal it.", 10),
    "shared": Benchmark("Cut a region off whose shards lie on Kafka and PostgreSQL.", 5),
    "backends": Benchmark("Brokers and databases beside the embedded defaults.", 3),
    "http": Benchmark("Tasks over HTTP beside an empty Serve route, with both of its proxies.", 5),
    "memory": Benchmark("A leader with a million queued commands.", 1),
    "scale": Benchmark("Simulated swarms of growing size: load of each tier, and failover.", 1),
    "startup": Benchmark("From nothing to a swarm that serves.", 5),
    "profile": Benchmark("Where the processor's time goes, by process and by function.", 1),
}
NAMES = tuple(BENCHMARKS)
#: options whose values are paths
PATHS = ("--json", "--plot", "--data-dir")
DURABILITIES = {"off": (False,), "on": (True,), "both": (False, True)}


def options(command: Callable[..., None]) -> Callable[..., None]:
    """What every benchmark understands."""
    for option in (
        click.option("--quick", is_flag=True, help="Tiny sizes: shows that it works, no more."),
        click.option("--plot", type=click.Path(path_type=Path), help="Draw the figures into this."),
        click.option("--json", type=click.Path(path_type=Path), help="Keep the figures there."),
        click.option("--data-dir", help="Where journals go; the disk to measure."),
        click.option(
            "--fsync", type=click.Choice(list(DURABILITIES)), default="both", show_default=True,
            help="Durability of the swarm: `off` is `durability: os`.",
        ),
        click.option("--seconds", type=float, help="About how long one measurement takes."),
        click.option("--pairs", type=int, help="Repetitions of each measurement or kill."),
        click.option("--only", multiple=True, help="These parts of it, where it has parts."),
    ):  # fmt: skip
        command = option(command)
    return command


def settings_of(
    name: str,
    pairs: int | None,
    seconds: float | None,
    fsync: str,
    quick: bool,
    data_dir: str | None,
    only: tuple[str, ...],
) -> Settings:
    """Options as a benchmark wants them, with its defaults."""
    return Settings(
        pairs=pairs or (1 if quick else BENCHMARKS[name].pairs),
        seconds=seconds or (0.1 if quick else 1.5),
        fsyncs=DURABILITIES[fsync],
        quick=quick,
        data_dir=data_dir,
        only=only,
    )


def without_paths(words: list[str]) -> list[str]:
    """A command's words but for those that say where this machine keeps its files."""
    kept: list[str] = []
    skip = False
    for word in words:
        option, is_, _ = word.partition("=")
        if not skip and option not in PATHS:
            kept.append(word)
        skip = not skip and option in PATHS and not is_
    return kept


def measure(name: str, settings: Settings, json: Path | None, plot: Path | None) -> None:
    """Run one benchmark and keep what it found."""
    module = importlib.import_module(f"benchmarks.{name}")
    parts = getattr(module, "PARTS", ())
    if unknown := set(settings.only) - set(parts):
        raise click.UsageError(
            f"{name} has no part {min(unknown)!r}: it has {', '.join(parts) or 'none'}"
        )
    document = Document(
        benchmark=name,
        command=shlex.join(["python", "-m", "benchmarks", *without_paths(sys.argv[1:])]),
        started=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        settings=settings,
        machine=machine.describe(settings.data_dir or tempfile.gettempdir()),
        load_before=machine.load(),
    )
    print(f"{name}: load {document.load_before}, {document.machine}", flush=True)
    began = time.monotonic()
    module.run(document, settings)
    document.took_s = round(time.monotonic() - began, 1)
    document.load_after = machine.load()
    if json:
        common.save(document, json)
        print(f"kept in {json}")
    if plot and hasattr(module, "plot"):
        module.plot(document, plot)  # figures of its own kind
    elif plot:
        draw([document], plot)


def draw(documents: list[Document], path: Path) -> None:
    """Draw what was found. Raises ClickException without matplotlib."""
    try:
        from benchmarks.plot import plot
    except ImportError as fault:
        raise click.ClickException(f"{fault}: pip install 'chimera[dev]' brings it") from fault
    plot(documents, path)
    print(f"drawn in {path}")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure Chimera's budgets. How to read the figures: benchmarks/README.md."""


def _add(name: str) -> None:
    @main.command(name, help=BENCHMARKS[name].summary)
    @options
    def command(
        pairs: int | None, seconds: float | None, fsync: str, quick: bool,
        json: Path | None, plot: Path | None, data_dir: str | None, only: tuple[str, ...],
    ) -> None:  # fmt: skip
        settings = settings_of(name, pairs, seconds, fsync, quick, data_dir, only)
        measure(name, settings, json, plot)


for _name in NAMES:
    _add(_name)


@main.command("all")
@click.option(
    "--json", "directory", type=click.Path(path_type=Path), default=RESULTS, show_default=True,
    help="Directory for the figures.",
)  # fmt: skip
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="These instead of all.")
@click.argument("more", nargs=-1, type=click.UNPROCESSED)
def everything(directory: Path, only: tuple[str, ...], more: tuple[str, ...]) -> None:
    """Run all benchmarks, each in a process and a Ray of its own; then `report`.

    What follows `--` is handed on, e.g. `all -- --quick`.
    """
    failed = []
    for name in only or NAMES:
        command = [sys.executable, "-m", "benchmarks", name, *more]
        done = subprocess.run([*command, "--json", str(directory / f"{name}.json")], check=False)
        if done.returncode:
            failed.append(name)
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")


@main.command()
@click.option(
    "--json", "directory", type=click.Path(path_type=Path), default=RESULTS, show_default=True,
    help="Directory with the figures.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=HERE / "RESULTS.md")
@click.option("--plot", type=click.Path(path_type=Path), default=HERE / "results.png")
def report(directory: Path, out: Path, plot: Path) -> None:
    """Write RESULTS.md, the figures beside the budgets, from what `all` kept."""
    from benchmarks.report import write

    # a benchmark that was run part by part has a file a part: failover-leaders.json
    found = [path for name in NAMES for path in sorted(directory.glob(f"{name}*.json"))]
    documents = [common.load(path) for path in found]
    if not documents:
        raise click.ClickException(f"nothing in {directory}: run `python -m benchmarks all` first")
    draw(documents, plot)
    write(documents, out, plot)
    print(f"written: {out}")


if __name__ == "__main__":
    main()
