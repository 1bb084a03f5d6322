"""Chimera: a durable, supervised swarm of Ray actors.

Handlers are made with `task`, swarms are used through `connect`:

    @chimera.task("greet")
    def greet(payload): ...

    chimera.connect().submit("greet", {"name": "Ada"}).result()

Over HTTP, without Ray: `chimera.Client("http://localhost:8000")`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chimera.api.context import Context as Context
    from chimera.api.signals import Cancelled as Cancelled
    from chimera.api.signals import PermanentError as PermanentError
    from chimera.api.signals import RetryAfter as RetryAfter
    from chimera.api.task import task as task
    from chimera.client import connect as connect
    from chimera.client import connect_async as connect_async
    from chimera.http import AsyncClient as AsyncClient
    from chimera.http import Client as Client

#: public name → the module that has it: imported when first asked for, so that a module of handlers
#: costs neither Ray nor the client
_PUBLIC = {
    "AsyncClient": "chimera.http",
    "Cancelled": "chimera.api.signals",
    "Client": "chimera.http",
    "Context": "chimera.api.context",
    "PermanentError": "chimera.api.signals",
    "RetryAfter": "chimera.api.signals",
    "connect": "chimera.client",
    "connect_async": "chimera.client",
    "task": "chimera.api.task",
}

__all__ = [
    "AsyncClient",
    "Cancelled",
    "Client",
    "Context",
    "PermanentError",
    "RetryAfter",
    "connect",
    "connect_async",
    "task",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'chimera' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
