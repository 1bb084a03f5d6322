"""What an incarnation starts with: its spec, and whether the store is its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chimera import names
from chimera.errors import StoreMismatch
from chimera.swarm import spec as specs
from chimera.swarm.spec import Spec


@dataclass(frozen=True, slots=True)
class Declared:
    """What an incarnation starts with."""

    spec: Spec
    generation: int
    new: bool  #: not stored yet


def declare(stored: tuple[int, Spec] | None, ordered: Spec, carried_out: bool) -> Declared:
    """The spec to begin with: the stored one, unless a new order says otherwise.

    A restart gets the arguments of its first incarnation: `carried_out` tells that the order in
    them is an old one. Raises SpecError if the store's swarm cannot become what is ordered.
    """
    if stored is None:
        return Declared(ordered, 1, new=True)
    generation, spec = stored
    ordered = specs.carried_over(spec, ordered)
    if carried_out or spec == ordered:
        return Declared(spec, generation, new=False)
    specs.check_change(spec, ordered)
    return Declared(ordered, generation + 1, new=True)


def check_store(swarm: str, owner: str | None, alive: Iterable[str], data_dir: str) -> None:
    """Raise StoreMismatch if the store is not that of the swarm whose actors live (P19).

    `owner` is the swarm that the store says it belongs to, None if it is empty; `alive` are the
    names of the swarm's actors.
    """
    if owner is not None and owner != swarm:
        raise StoreMismatch(f"the store in {data_dir} belongs to swarm {owner!r}, not {swarm!r}")
    tiers = ("coordinator", "leader", "worker")
    living = sorted(name for name in alive if names.tier(name) in tiers)
    if owner is None and living:
        raise StoreMismatch(
            f"the store in {data_dir} is empty, but actors of swarm {swarm!r} live"
            f" ({', '.join(living[:5])}): bring its store back, or end them with `chimera down`"
        )
