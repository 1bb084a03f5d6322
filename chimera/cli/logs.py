"""`chimera logs`: what the processes of a swarm wrote, on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from chimera import names
from chimera.cli.joining import join_living
from chimera.cli.output import Output, address_option, command
from chimera.cli.parse import duration
from chimera.errors import NotFound
from chimera.swarm.reports import SwarmStatus

#: seconds between two looks at the files, and until new processes are looked for
LOOK_S, PARTS_S = 0.25, 5.0
#: bytes of a file that are read for its last lines, at most
TAIL_BYTES = 1024 * 1024


class _Part(NamedTuple):
    """A process of the swarm."""

    name: str
    pid: int


@command()
@address_option
@click.argument("part", default="", metavar="[PART]")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option(
    "-n",
    "--lines",
    default=20,
    show_default=True,
    type=click.IntRange(0),
    help="Of the past, a process.",
)
@click.option("--for", "for_s", callback=duration, help="End after so long, e.g. 30s.")
def logs(
    out: Output, swarm: str, address: str | None, part: str, follow: bool, lines: int,
    for_s: float | None,
) -> None:  # fmt: skip
    """Show what the processes of a swarm wrote, those of other machines aside.

    PART is a name as `chimera status` shows it, or the beginning of some: `leader`, or
    `worker/local/0`. Without it all are shown.

    \b
    Examples:
      chimera logs
      chimera logs leader -n 5
      chimera logs worker -f --for 1s
    """
    join_living(swarm, address)
    from chimera.actors import access, boot

    directory = access.logs_directory()
    until = None if for_s is None else time.monotonic() + for_s
    read: dict[Path, int] = {}
    looked_at = float("-inf")
    files: dict[Path, str] = {}
    while True:
        if time.monotonic() - looked_at >= PARTS_S:
            parts = _parts(boot.status(swarm), part)
            files = {file: one.name for one in parts for file in _files(directory, one.pid)}
            looked_at = time.monotonic()
        for file, name in files.items():
            for line in _fresh(file, read, lines):
                out.console.print(f"[dim]{name}[/] ", end="")
                out.console.print(line, markup=False)
        if not follow or (until is not None and time.monotonic() >= until):
            return
        time.sleep(LOOK_S)


def _parts(status: SwarmStatus, prefix: str) -> list[_Part]:
    """The processes whose name begins so. Raises NotFound."""
    found = [_Part(names.ORCHESTRATOR, status.process.pid)]
    for region in status.regions.values():
        found.append(_Part(region.coordinator, region.process.pid))
        for leader in region.leaders:
            found.append(_Part(leader.leader, leader.process.pid))
            found += [_Part(one.name, one.process.pid) for one in leader.workers]
    chosen = [one for one in found if one.name.startswith(prefix)]
    if not chosen:
        raise NotFound(f"no part of the swarm is called {prefix!r}; `chimera status` shows them")
    return chosen


def _files(directory: Path, pid: int) -> list[Path]:
    return sorted((*directory.glob(f"worker-*-{pid}.out"), *directory.glob(f"worker-*-{pid}.err")))


def _fresh(file: Path, read: dict[Path, int], lines: int) -> Iterator[str]:
    """The last lines of a file that was not read yet; what is new of one that was."""
    size = file.stat().st_size
    first = file not in read
    start = max(size - TAIL_BYTES, 0) if first else read[file]
    with file.open("rb") as stream:
        stream.seek(start)
        data = stream.read(size - start)
    end = data.rfind(b"\n") + 1
    read[file] = start + end
    found = [one for one in data[:end].decode("utf-8", "replace").splitlines()
             if not one.startswith(":actor_name:") and not one.startswith(":job_id:")]  # fmt: skip
    yield from found[len(found) - lines :] if first and len(found) > lines else found
