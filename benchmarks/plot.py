"""Draws what was found: ratios to plain Ray, latencies, and how long failovers take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.budgets import BUDGETS
from benchmarks.common import Document, Series, number
from benchmarks.latency import ACTOR, CALL, TWO

mpl.use("Agg")

from matplotlib import pyplot as plt

RATIO = ": × plain Ray tasks"
STRUCK = "leader killed: ", "leader paused: ", "worker killed: "
BLUE, GREY, RED = "#1f6fb4", "#8a8f98", "#c0392b"


def _all_series(documents: list[Document], benchmark: str) -> list[Series]:
    return [one for found in documents if found.benchmark == benchmark for one in found.series]


def _ratios(axes: Any, found: list[Series]) -> bool:
    """How many times as many tasks a second as plain Ray tasks."""
    shown = [one for one in found if RATIO in one.name][::-1]
    for at, one in enumerate(shown):
        axes.barh(at, one.p50, color=BLUE, height=0.6)
        axes.plot([one.low, one.high], [at, at], color="black", linewidth=1)
        axes.annotate(
            f" {number(one.p50)} ×", (max(one.high, one.p50), at), va="center", fontsize=8
        )
    axes.set_yticks(range(len(shown)), [one.name.replace(RATIO, "") for one in shown], fontsize=8)
    axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.axvline(1.0, color=GREY, linewidth=1)
    axes.set_title("Tasks a second, as a multiple of plain Ray tasks (median, line: all pairs)")
    return bool(shown)


def _latencies(axes: Any, found: list[Series]) -> bool:
    """Share of samples up to a time."""
    verbs = (ACTOR, CALL, TWO.split(",")[0])
    shown = [one for one in found if one.unit == "ms" and one.name.partition(",")[0] in verbs]
    for one in shown:
        steps = one.quantiles or sorted(one.values)
        shares = [at / max(len(steps) - 1, 1) for at in range(len(steps))]
        plain = one.name.startswith(ACTOR)
        style = "--" if "fsync" in one.name else "-"
        axes.plot(steps, shares, style, color=GREY if plain else None, label=one.name)
    axes.set_xscale("log")
    axes.set_xlabel("ms")
    axes.axhline(0.99, color=GREY, linewidth=0.5)
    axes.legend(fontsize=8)
    axes.set_title("One after the other: share of samples up to so many ms")
    return bool(shown)


def _dots(axes: Any, shown: list[Series], limits: dict[str, str]) -> None:
    """A line of dots for each series of seconds; `limits` are budgets and their names."""
    for at, one in enumerate(shown):
        axes.plot(one.values, [at] * len(one.values), "o", color=BLUE, alpha=0.5, markersize=4)
    axes.set_yticks(range(len(shown)), [one.name for one in shown], fontsize=8)
    for style, (budget, label) in zip(("-", ":"), limits.items(), strict=False):
        axes.axvline(BUDGETS[budget].limit, color=RED, linewidth=1, linestyle=style, label=label)
    axes.set_xscale("log")
    axes.set_xlabel("s")
    axes.margins(y=0.2)
    axes.legend(fontsize=8)


def _failovers(axes: Any, found: list[Series]) -> bool:
    shown = [one for one in found if one.unit == "s" and one.name.startswith(STRUCK)][::-1]
    _dots(axes, shown, {"leader": "budget of leaders", "worker": "of workers"})
    axes.set_title("Kills and pauses under load: a dot for each")
    return bool(shown)


def _regions(axes: Any, found: list[Series]) -> bool:
    shown = [one for one in found if one.unit == "s"][::-1]
    _dots(axes, shown, {"region": "budget of new work"})
    axes.set_title("A region cut off, and healed: a dot for each time")
    return bool(shown)


def _shared(axes: Any, found: list[Series]) -> bool:
    shown = [one for one in found if one.unit == "s"][::-1]
    _dots(axes, shown, {"shared": "budget of its shards"})
    axes.set_title("A region on shared storage cut off, and healed: a dot for each time")
    return bool(shown)


_PANELS: dict[str, Callable[[Any, list[Series]], bool]] = {
    "throughput": _ratios,
    "latency": _latencies,
    "failover": _failovers,
    "regions": _regions,
    "shared": _shared,
}


def plot(documents: list[Document], path: Path) -> None:
    """Write a picture with a panel for each of those benchmarks; the ending says of what kind."""
    there = [name for name in _PANELS if _all_series(documents, name)]
    figure, panels = plt.subplots(
        max(len(there), 1), 1, figsize=(10, 4 * max(len(there), 1)), squeeze=False
    )
    for name, axes in zip(there, panels[:, 0], strict=False):
        if not _PANELS[name](axes, _all_series(documents, name)):
            axes.set_visible(False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80, metadata={})
    plt.close(figure)
