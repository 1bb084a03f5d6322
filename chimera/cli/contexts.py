"""Contexts: named swarms that the commands may mean, in a file of the user's."""

from __future__ import annotations

import os
from pathlib import Path

import click
import msgspec

from chimera.errors import InvalidRequest, NotFound

#: settings of a context, and of no more
FIELDS = ("address", "url", "swarm", "tenant")


class Context(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Where a swarm is, and for whom; None: what holds without a context."""

    address: str | None = None
    url: str | None = None
    swarm: str | None = None
    tenant: str | None = None

    def given(self) -> dict[str, str]:
        """What it says."""
        found = {name: getattr(self, name) for name in FIELDS}
        return {name: value for name, value in found.items() if value is not None}


class Contexts(msgspec.Struct, forbid_unknown_fields=True):
    """All of them, and which is used."""

    current: str | None = None
    contexts: dict[str, Context] = {}

    def used(self) -> Context:
        """The one that is used; an empty one without."""
        return self.contexts.get(self.current or "", Context())

    def find(self, name: str) -> Context:
        """The one with a name. Raises NotFound."""
        if name not in self.contexts:
            known = ", ".join(sorted(self.contexts)) or "none"
            raise NotFound(f"there is no context {name!r}; there are: {known}")
        return self.contexts[name]


def path() -> Path:
    """The file: CHIMERA_CONFIG, else `chimera/config.json` where the user's settings are."""
    given = os.environ.get("CHIMERA_CONFIG")
    return Path(given) if given else Path(click.get_app_dir("chimera")) / "config.json"


def load() -> Contexts:
    """What is in the file; nothing if there is none. Raises InvalidRequest if it is damaged."""
    try:
        return msgspec.json.decode(path().read_bytes(), type=Contexts)
    except FileNotFoundError:
        return Contexts()
    except (OSError, msgspec.MsgspecError) as fault:
        raise InvalidRequest(f"{path()} cannot be read: {fault}") from fault


def save(contexts: Contexts) -> None:
    """Write the file, whole or not at all."""
    file = path()
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(contexts)) + b"\n")
    fresh.replace(file)
