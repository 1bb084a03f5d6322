"""What a planted bug is, and how it is put into the code and taken out again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from chimera.sim import run


@dataclass(frozen=True)
class Bug:
    """A rule taken out of the code."""

    name: str
    rule: str  #: of the protocol, or the guarantee that it rests on
    what: str  #: what goes wrong without the rule
    plant: Callable[[pytest.MonkeyPatch], None]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The code with the bug in it."""
        with pytest.MonkeyPatch.context() as patch:
            self.plant(patch)
            yield

    def first_caught(self, seeds: Iterable[int]) -> run.Result | None:
        """The first of these seeds that shows the bug."""
        with self.planted():
            for seed in seeds:
                found = run.run(seed)
                if found.fault:
                    return found
        return None


BUGS: dict[str, Bug] = {}


def bug(rule: str, what: str) -> Callable[[Callable[[pytest.MonkeyPatch], None]], Bug]:
    """Register a function that plants a bug; its name is the bug's."""

    def register(plant: Callable[[pytest.MonkeyPatch], None]) -> Bug:
        name = plant.__name__.replace("_", "-")
        assert name not in BUGS, name
        found = BUGS[name] = Bug(name, rule, what, plant)
        return found

    return register


def before(patch: pytest.MonkeyPatch, owner: Any, name: str, do: Callable[..., Any]) -> None:
    """Have `do` called with the arguments of `owner.name` before that."""
    real = getattr(owner, name)

    def changed(*args: Any, **more: Any) -> Any:
        do(*args, **more)
        return real(*args, **more)

    patch.setattr(owner, name, changed)


def after(patch: pytest.MonkeyPatch, owner: Any, name: str, do: Callable[..., Any]) -> None:
    """Have `do` called with the answer of `owner.name` and its arguments; it answers instead."""
    real = getattr(owner, name)

    def changed(*args: Any, **more: Any) -> Any:
        return do(real(*args, **more), *args, **more)

    patch.setattr(owner, name, changed)
