"""The HTTP application: its routers, its layers, and the document that describes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp, Receive, Scope, Send

from chimera.serve import (
    admin,
    batch,
    dead_letters,
    docs,
    events,
    health,
    metrics,
    problems,
    registry,
    tasks,
    types,
)
from chimera.serve.direct import Direct
from chimera.serve.edge import Edge
from chimera.serve.gateway import Gateway
from chimera.serve.problems import Fault, Problem
from chimera.serve.query import checked
from chimera.serve.versions import own_version

_DESCRIPTION = """\
Submit tasks to a swarm, follow them, and look after it.

Errors are problem documents (RFC 9457) with a `code` and a `trace_id`; 429 and 503 say in
`Retry-After` when to try again. A submit that got no answer may be repeated without harm if it has
an `Idempotency-Key`.
"""


class _App(FastAPI):
    """The framework, with our own layers in front of all of its own."""

    front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.front if scope["type"] == "http" else self.behind)(scope, receive, send)

    async def behind(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What the framework answers."""
        await super().__call__(scope, receive, send)


def build(gateway: Gateway) -> FastAPI:
    """The application in front of a swarm."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await gateway.open()
        yield
        await gateway.close()

    app = _App(
        title="Chimera", version=own_version(), description=_DESCRIPTION, lifespan=lifespan,
        docs_url=None, redoc_url=None, redirect_slashes=False, dependencies=[Depends(checked)],
    )  # fmt: skip
    app.state.gateway = gateway
    problems.install(app)
    for part in (tasks, batch, dead_letters, events, types, admin, health, metrics, docs):
        app.include_router(part.router)
    app.mount("/registry", registry.build(gateway.registry))
    app.front = Edge(Direct(app.behind, gateway), gateway)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]  # FastAPI's own way
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: FastAPI's, with our problems in the place of its own errors."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = found["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        told = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        told.pop("$defs", None)
        schemas["Problem"] = told
        schemas["Fault"] = Fault.model_json_schema()
        app.openapi_schema = found
    return app.openapi_schema
