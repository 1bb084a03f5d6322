"""How a program comes to a swarm: the Ray it runs on, and what is observed of it."""

from __future__ import annotations

import getpass
import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from chimera import names
from chimera.actors.cluster import Cluster
from chimera.config import environment
from chimera.errors import NotFound, NotReady, Unavailable, WrongVersion
from chimera.swarm.reports import SwarmStatus

#: what Chimera is built and tested on; parts of Ray that it relies on change between versions
RAY_VERSION = "2.60."
#: for one call of the control plane, seconds
CALL_S = 5.0
#: between two looks, seconds
LOOK_S = 0.1

#: is told what is being done, a line at a time
Progress = Callable[[str], None]


def quiet(_: str) -> None:
    """Progress that nobody wants to hear of."""


def check_version() -> None:
    """Raise WrongVersion if the installed Ray is not one that Chimera is built on."""
    if not ray.__version__.startswith(RAY_VERSION):
        raise WrongVersion(
            f"Ray {ray.__version__} is installed, but Chimera needs {RAY_VERSION}x:"
            f" pip install 'ray[default,serve]=={RAY_VERSION}*'"
        )


def connect(address: str = "") -> None:
    """Connect this process to Ray, unless it is connected.

    `address` is as for `ray.init`; empty: that of CHIMERA_ADDRESS, else of this machine's Ray.
    Whoever starts a Ray must say how it authenticates (RAY_AUTH_MODE): its default differs by the
    way it is started.
    Raises WrongVersion, and NotReady if there is no Ray.
    """
    check_version()
    if ray.is_initialized():
        return
    where = address or environment().address or "auto"
    try:
        ray.init(address=where, log_to_driver=False, logging_level=logging.WARNING)
    except ConnectionError as fault:
        raise NotReady(
            f"no Ray at {where!r}: `ray start --head` starts one on this machine ({fault})"
        ) from fault
    except RuntimeError as fault:
        if "ersion mismatch" in str(fault):
            raise WrongVersion(str(fault)) from fault
        raise


def status(swarm: str, *, timeout_s: float = 10.0) -> SwarmStatus:
    """What is observed of a swarm. Raises NotFound if it is not up, and Unavailable."""
    connect()
    cluster = Cluster(names.namespace(swarm))
    until = time.monotonic() + timeout_s
    while True:
        handle = cluster.find(names.ORCHESTRATOR)
        if handle is None:
            raise NotFound(f"swarm {swarm!r} is not up here")
        try:
            found: SwarmStatus = cluster.call(handle.status.remote(), left(until))
            return found
        except Unavailable:
            if time.monotonic() >= until:
                raise
            time.sleep(LOOK_S)


def left(until: float) -> float:
    """Seconds until then, never 0."""
    return max(until - time.monotonic(), 0.001)


def who() -> str:
    """Who asks, for the audit log."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def logs_directory() -> Path:
    """Where the processes of Ray's session on this machine write to; it must have been joined."""
    node: Any = ray._private.worker._global_node
    return Path(node.get_logs_dir_path())
