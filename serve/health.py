"""Health: each check by name, with what it saw and since when; never true by default."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from chimera.errors import ChimeraError
from chimera.serve.checks import Check, Health, Tier, swarm_checks
from chimera.serve.gateway import Gateway, GatewayDep
from chimera.serve.replies import PLAIN, PROBLEMS
from chimera.serve.versions import own_version

router = APIRouter(tags=["health"], responses=PROBLEMS)

#: for the orchestrator to answer: a probe that has 3 s must still hear what is wrong, seconds
ANSWER_S = 2.0


def gateway_checks(gateway: Gateway) -> Iterator[Check]:
    """What the replica knows of itself."""
    if gateway.draining:
        yield Check(name="gateway", tier="gateway", ok=False, saw="it is draining")
    elif not gateway.is_open:
        yield Check(name="gateway", tier="gateway", ok=False, saw="it is starting")
    else:
        yield Check(name="gateway", tier="gateway", ok=True, saw="it serves")


async def looked(gateway: Gateway, tier: Tier | None = None) -> Health:
    """All checks, or those of a tier, made now."""
    checks = list(gateway_checks(gateway))
    try:
        checks += swarm_checks(await gateway.status(ANSWER_S))
    except ChimeraError as fault:
        checks.append(
            Check(name="orchestrator", tier="orchestrator", ok=False, saw=f"{fault.code}: {fault}")
        )
    checks = gateway.health.dated(checks)
    if tier is not None:
        checks = [check for check in checks if check.tier == tier]
    return Health(ok=bool(checks) and all(check.ok for check in checks), checks=checks)


class Version(BaseModel):
    """What runs here."""

    version: str
    python: str
    ray: str


Exclude = Annotated[
    list[str],
    Query(
        default_factory=list, description="Names of checks that are not looked at.", max_length=100,
        examples=[["store/leader/local/0"]],
    ),
]  # fmt: skip
Verbose = Annotated[
    str | None, Query(description="Tell each check, also of what is well.", max_length=10)
]
_NOT: dict[int | str, dict[str, Any]] = {
    503: {
        "model": Health,
        "description": "Not so: the checks say why; as plain text: the proxy's queue is full.",
        "content": PLAIN,
    }
}


@router.get("/livez", summary="Whether this replica answers")
async def livez() -> Health:
    """It answers, so it is alive: what it depends on is not looked at."""
    return Health(
        ok=True, checks=[Check(name="gateway", tier="gateway", ok=True, saw="it answers")]
    )


@router.get("/version", summary="What runs here")
async def version() -> Version:
    """Versions of what serves."""
    return Version(
        version=own_version(), python=platform.python_version(), ray=metadata.version("ray")
    )


@router.get("/readyz", summary="Whether tasks can be submitted and run", responses=_NOT)
@router.get("/ready", summary="As /readyz", responses=_NOT)
@router.get("/healthz", summary="As /readyz", responses=_NOT)
@router.get("/health", summary="As /readyz", responses=_NOT)
async def readyz(
    response: Response, gateway: GatewayDep, exclude: Exclude, verbose: Verbose = None
) -> Health:
    """503 while draining, while a shard has no owner, while a store cannot be written, …"""
    health = await looked(gateway)
    checks = [check for check in health.checks if check.name not in exclude]
    health = Health(ok=bool(checks) and all(check.ok for check in checks), checks=checks)
    return _told(response, health, verbose is not None)


@router.get("/health/{tier}", summary="The checks of one tier", responses=_NOT)
async def of_tier(tier: Tier, response: Response, gateway: GatewayDep) -> Health:
    """503 if one of them fails."""
    return _told(response, await looked(gateway, tier), verbose=True)


def _told(response: Response, health: Health, verbose: bool) -> Health:
    response.headers["Cache-Control"] = "no-store"
    if not health.ok:
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    if verbose:
        return health
    return Health(ok=health.ok, checks=[check for check in health.checks if not check.ok])
