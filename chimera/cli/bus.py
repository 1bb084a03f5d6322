"""`chimera bus`: the broker of a swarm: its topics made, and what is wrong with them told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from chimera.bus.connect import connect
from chimera.bus.protocol import Bus
from chimera.cli.output import Output, command
from chimera.cli.up import read_spec, spec_option
from chimera.errors import InvalidRequest
from chimera.swarm.spec import Spec
from chimera.traffic.topics import GROUP, Topics, topics

#: for a broker to answer, seconds
TIMEOUT_S = 30.0


@click.group()
def bus() -> None:
    """The broker of a swarm: its topics, and how much waits in them."""


def replicas_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--replicas`."""
    text = "Copies of each record on a broker of several nodes. [default: 3, or as many as nodes]"
    return click.option("--replicas", type=click.IntRange(0, 7), default=0, help=text)(function)


def opened(path: Path | None, replicas: int) -> tuple[Spec, Bus, Topics]:
    """A spec with its bus and topics. Raises InvalidRequest if it has none."""
    spec = read_spec(path)
    if not spec.bus:
        raise InvalidRequest(f"swarm {spec.name} has no broker: `bus` is not set in its spec")
    return spec, connect(spec.bus), topics(spec.name, spec.shards, spec.readers, replicas)


@command(of_a_swarm=False)
@spec_option
@replicas_option
def provision(out: Output, path: Path | None, replicas: int) -> None:
    """Make the topics that a swarm needs, before its first `chimera up`.

    What is there already is left as it is; to do it again changes nothing.

    \b
    Examples:
      chimera bus provision -f swarm.yaml --replicas 3
    """
    _, client, wanted = opened(path, replicas)
    try:
        made = client.provision(tuple(wanted), TIMEOUT_S)
    finally:
        client.close(TIMEOUT_S)

    def show() -> None:
        for line in made:
            out.console.print(line, markup=False)
        if not made:
            out.note("everything was there")

    out.result({"made": made}, show)


@command(of_a_swarm=False)
@spec_option
def lag(out: Output, path: Path | None) -> None:
    """Show how many records of commands wait in each shard's partition.

    \b
    Examples:
      chimera bus lag -f swarm.yaml
    """
    _, client, wanted = opened(path, 0)
    try:
        found = client.lag(wanted.commands, GROUP, TIMEOUT_S)
    finally:
        client.close(TIMEOUT_S)

    def show() -> None:
        for shard, waiting in sorted(found.items()):
            out.console.print(f"shard {shard}: {waiting}")

    out.result({"lag": {str(shard): waiting for shard, waiting in found.items()}}, show)


bus.add_command(provision)
bus.add_command(lag)
