"""The gateway as a Ray Serve application: brought up beside a swarm, and taken away with it."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve

from chimera import names
from chimera.actors import code
from chimera.errors import NotReady, SpecError
from chimera.serve.app import build
from chimera.serve.gateway import Gateway as Behind
from chimera.swarm.spec import HttpSpec

#: requests that a replica answers at once, those that wait for a task's end included
ONGOING_MAX = 1000
#: and that queue up for a replica at its proxy before they are refused
QUEUED_MAX = 2000
#: for requests in hand to end when a replica is replaced, seconds
DRAIN_S = 70.0
#: neither proxy nor replicas write a line a request: it is a tenth of what a small one costs
LOGGING = {"log_level": "WARNING", "enable_access_log": False}
#: a proxy that ended just now may still hold the port, seconds
PORT_S = 3.0
#: whether HAProxy takes requests in; it must be so in the environment of all of Ray
HAPROXY = "RAY_SERVE_ENABLE_HA_PROXY"
#: of replicas behind HAProxy, which get requests over sockets of their own: routes run on Serve's
#: event loop, which none of them blocks. A thread apart would take a sixth of the edge's processor
#: time, most of it in waiting for the other one; behind the Python proxy it takes a bit less.
ENVIRONMENT = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0"}
_POLL_S = 0.1


@serve.ingress(None)
class Gateway:
    """A replica of the gateway."""

    def __init__(self, swarm: str) -> None:
        self._gateway = Behind(swarm, drains=_drains)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build(self._gateway)


def _drains() -> bool:
    """Whether Serve takes this replica away.

    Serve's hook for that, `__del__`, is called only when the requests in hand have ended and none
    is served any more, and asking its controller would be a call each time. Its object beside ours
    in this process knows it from the first moment. That one is private to Serve: where it is not as
    expected a replica that drains looks like any other, which Serve itself still treats rightly.
    """
    try:
        [beside] = ray._private.worker.global_worker.actors.values()
        return beside._replica_impl._shutting_down is True
    except (AttributeError, ValueError):
        return False


def application(swarm: str) -> str:
    """The name of a swarm's Serve application."""
    return f"chimera-{swarm}"


def up(swarm: str, http: HttpSpec, on_progress: Callable[[str], None] | None = None) -> str:
    """Bring the gateway up, or to another number of replicas; returns its URL when it answers.

    Raises SpecError if another program has the port, NotReady if it does not answer in time.
    """
    is_serving = check(http)
    url = f"http://{http.host}:{http.port}"
    if on_progress is not None:
        on_progress(f"starting the gateway at {url}")
    if not is_serving:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": http.host, "port": http.port, "keep_alive_timeout_s": 90},
            logging_config=LOGGING,
        )
    # its stubs take a class for a function
    made: Any = serve.deployment(
        Gateway,
        name="gateway",
        num_replicas=http.replicas,
        max_ongoing_requests=ONGOING_MAX,
        max_queued_requests=QUEUED_MAX,
        graceful_shutdown_timeout_s=DRAIN_S,
        health_check_period_s=5,
        logging_config=LOGGING,
        ray_actor_options=actor_options(),
    )
    # it says at each change that its own options, which stay the same, are not changed
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        serve.run(made.bind(swarm), name=application(swarm), route_prefix="/")
    except RuntimeError as fault:
        raise NotReady(f"the gateway does not come up: {fault}") from fault
    return url


def check(http: HttpSpec) -> bool:
    """Raise SpecError if the gateway cannot listen there; returns whether Serve does already."""
    check_loopback(http.host)
    is_serving = _is_serving(http)
    if not is_serving:
        _check_port(http)
    return is_serving


def actor_options() -> dict[str, Any]:
    """Ray's options for replicas: as Serve would choose them, and what we say of ours."""
    found = code.options()
    if os.environ.get(HAPROXY) != "1":
        return {"num_cpus": 0, **found}
    environment = found.get("runtime_env") or dict(ray.get_runtime_context().runtime_env)
    variables = {**environment.get("env_vars", {}), **ENVIRONMENT}
    return {"num_cpus": 0, "runtime_env": {**environment, "env_vars": variables}}


def is_up(swarm: str) -> bool:
    """Whether the swarm has a gateway."""
    return _runs() and application(swarm) in serve.status().applications


def down(swarm: str) -> None:
    """Take the gateway away, and Serve with it if nobody else uses it."""
    if not is_up(swarm):
        return
    others = set(serve.status().applications) - {application(swarm)}
    if others:
        serve.delete(application(swarm))
    else:
        serve.shutdown()  # type: ignore[no-untyped-call]  # Serve's


def check_loopback(host: str) -> None:
    """Raise SpecError unless it is this machine's own: there is no authentication yet."""
    try:
        names.loopback(f"[{host}]:1" if ":" in host else f"{host}:1")
    except ValueError:
        raise SpecError(
            f"http.host: {host!r} is not on loopback, and the gateway has no authentication yet:"
            " use 127.0.0.1, with a proxy or tunnel that has one in front of it",
            key="http.host",
        ) from None


def _runs() -> bool:
    if not ray.is_initialized():
        return False
    try:
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return False
    return True


def _is_serving(http: HttpSpec) -> bool:
    """Whether Serve runs in this cluster. Raises SpecError if it listens elsewhere."""
    if not _runs():
        return False
    from ray.serve.context import _get_global_client

    client: Any = _get_global_client()
    found = client.http_config
    if (found.host, found.port) != (http.host, http.port):
        raise SpecError(
            f"http: Serve already listens on {found.host}:{found.port} in this Ray cluster, and"
            f" cannot move to {http.host}:{http.port} while it runs: `chimera serve --stop` first",
            key="http.port",
        )
    return True


def _check_port(http: HttpSpec) -> None:
    until = time.monotonic() + PORT_S
    while True:
        family = socket.AF_INET6 if ":" in http.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((http.host, http.port))
                return
            except OSError as fault:
                if time.monotonic() >= until:
                    raise SpecError(
                        f"http: {http.host}:{http.port} cannot be listened on: {fault.strerror}",
                        key="http.port",
                    ) from fault
        time.sleep(_POLL_S)
