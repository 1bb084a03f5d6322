"""Every planted bug, and what shows one, a script or a seed: runs in processes of its own."""

from __future__ import annotations

from chimera.sim import run
from tests.planted import leader_bugs, other_bugs, store_bugs
from tests.planted.planting import BUGS as BUGS
from tests.planted.scenarios import SCENARIOS

#: modules that register bugs
SOURCES = (store_bugs, leader_bugs, other_bugs)


def search(job: tuple[str, int]) -> tuple[str, dict[str, object] | None]:
    """A bug's name, and its script or the first of so many seeds that catches it; what it said."""
    name, seeds = job
    if name in SCENARIOS:
        shown = SCENARIOS[name].shown(BUGS[name])
        script = SCENARIOS[name].script.__name__
        return name, {"script": script, "said": shown.fault[:160]} if shown else None
    for seed in range(seeds):
        found = BUGS[name].first_caught([seed])
        # one that fails without the bug, too, shows nothing
        if found is not None and not run.run(seed).fault:
            return name, {"seed": found.seed, "said": found.fault[:160]}
    return name, None
