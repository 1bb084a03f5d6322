"""Draws how the load of each tier, and what fails, depend on a swarm's size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.common import Document
from benchmarks.scale import COORDINATOR, LEADER, ORCHESTRATOR, of

mpl.use("Agg")

from matplotlib import pyplot as plt

COLOURS = {ORCHESTRATOR: "#c0392b", COORDINATOR: "#1f6fb4", LEADER: "#8a8f98"}
FAILURES = {"leader killed": "#1f6fb4", "leader stopped": "#e08e0b", "region lost": "#c0392b"}


def _parts(size: str) -> tuple[int, int, int]:
    regions, leaders, workers = map(int, size.split(" × "))
    return regions, leaders, workers


def _grown(document: Document) -> list[str]:
    """The sizes at which only workers grow, and at which failures were measured."""
    sizes = list(of(document, "region lost"))
    return [size for size in sizes if _parts(size)[:2] == _parts(sizes[0])[:2]]


def _regions(document: Document) -> list[str]:
    """The sizes of which only the load was: regions grow."""
    failed = of(document, "region lost")
    return [size for size in of(document, f"messages of {ORCHESTRATOR}") if size not in failed]


def _lines(axes: Any, document: Document, what: str, sizes: list[str], by: int) -> None:
    for who, colour in COLOURS.items():
        found = of(document, f"{what} of {who}")
        across = [_parts(size)[by] for size in sizes]
        axes.plot(across, [found[size] for size in sizes], "o-", color=colour, label=who)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(across, [f"{one:,}" for one in across])
    axes.minorticks_off()
    axes.legend(fontsize=8)


def _load(axes: Any, document: Document, what: str) -> None:
    sizes = _grown(document)
    _lines(axes, document, what, sizes, 2)
    regions, leaders, _ = _parts(sizes[0])
    axes.set_xlabel(f"workers of each leader ({regions} regions × {leaders} leaders)")


def _failures(axes: Any, document: Document) -> None:
    sizes = _grown(document)
    across = [_parts(size)[2] for size in sizes]
    for what, colour in FAILURES.items():
        found = of(document, what)
        axes.plot(across, [found[size] for size in sizes], "o-", color=colour, label=what)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(across, [f"{one:,}" for one in across])
    axes.minorticks_off()
    axes.margins(y=0.3)
    axes.legend(fontsize=8, loc="upper right", ncols=3)
    axes.set_xlabel("workers of each leader")
    axes.set_ylabel("virtual s")
    axes.set_title("Until all its shards are served again")


def draw(document: Document, path: Path) -> None:
    """Write a picture of four panels; the ending says of what kind."""
    figure, panels = plt.subplots(2, 2, figsize=(11, 8))
    _load(panels[0, 0], document, "messages")
    panels[0, 0].set_title("Messages a second, in and out, as workers grow")
    _load(panels[0, 1], document, "bytes")
    panels[0, 1].set_title("Bytes a second, in and out, as workers grow")
    sizes = _regions(document)
    _lines(panels[1, 0], document, "messages", sizes, 0)
    _, leaders, workers = _parts(sizes[0])
    panels[1, 0].set_xlabel(f"regions (of {leaders} leaders × {workers} workers)")
    panels[1, 0].set_title("Messages a second, in and out, as regions grow")
    _failures(panels[1, 1], document)
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, linewidth=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80, metadata={})
    plt.close(figure)
