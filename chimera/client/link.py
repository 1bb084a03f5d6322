"""The link to a swarm's leaders over Ray: the only module of the client that knows Ray.

Every wait has a deadline. Who has which shard is asked of the coordinators, else of the
orchestrator, else of the leaders themselves, and asked again when an answer shows that it changed.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextvars import Context
from typing import Any, TypeVar

import ray
from ray.exceptions import (
    ActorUnavailableError,
    GetTimeoutError,
    RayActorError,
    RayError,
    RayTaskError,
)

from chimera import names
from chimera.client.address import Where
from chimera.client.parcels import Accepted
from chimera.client.ports import Gone, NoOwner, Pending, Promise, Settings, Silent, failed
from chimera.errors import (
    ChimeraError,
    NotFound,
    NotReady,
    OutcomeUnknown,
    causes,
)
from chimera.swarm import merge
from chimera.swarm.reports import Placement

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: seconds that one source of the placement may take to answer
ASK_S = 1.5
#: seconds that a look-up of a name may take
NAME_S = 2.0
#: seconds until an address that does not answer is given up
PROBE_S = 3.0
#: return values of `outcomes`: the reply and eight frames
OUTCOME_SLOTS = 9


def _translate(fault: BaseException) -> BaseException:
    """What Ray raised, in the client's words."""
    if isinstance(fault, RayTaskError):
        cause = fault.cause
        if isinstance(cause, OutcomeUnknown):  # a gate could not reach its region
            return Silent(cause.message)
        if isinstance(cause, ChimeraError):
            return cause
        return ChimeraError(f"{type(cause).__name__}: {cause}")
    if isinstance(fault, GetTimeoutError):
        return Silent("no answer in time")
    if isinstance(fault, ActorUnavailableError):
        return Silent(str(fault))
    if isinstance(fault, RayActorError):
        return Gone("the actor is dead")
    if isinstance(fault, RayError):
        return Silent(f"{type(fault).__name__}: {fault}")
    return fault


class _Answer:
    """A Ray call on its way; `refs` is its ref, or the list of them if it returns several."""

    __slots__ = ("_refs",)

    def __init__(self, refs: Any) -> None:
        self._refs = refs

    def get(self, timeout_s: float) -> Any:
        try:
            return ray.get(self._refs, timeout=timeout_s)
        except RayError as fault:
            raise _translate(fault) from fault

    def future(self) -> Future[Any]:
        first = self._refs[0] if isinstance(self._refs, list) else self._refs
        future: Future[Any] = first.future()
        return future


class RayLink:
    """A LeaderLink over Ray. Safe for threads."""

    def __init__(self, swarm: str) -> None:
        self._swarm = swarm
        self._namespace = names.namespace(swarm)
        self._lock = threading.Lock()
        self._looking: Promise[None] | None = None
        self._owners: dict[int, str] = {}
        self._leaders: dict[str, Any] = {}
        self._named: dict[str, Any] = {}  #: handles by name, of those who are no leaders
        self._turn = 0
        self.settings = Settings(ring=0, objects_url="", payload_max_bytes=0)

    def open(self, timeout_s: float) -> None:
        """Find the leaders. Raises NotFound if there is no such swarm, NotReady if it is not up."""
        until = time.monotonic() + timeout_s
        while not self._find():
            if time.monotonic() >= until:
                self._explain()
            time.sleep(0.05)

    def ask(self, shard: int, verb: str, *args: Any) -> Pending[Any]:
        handle = self._leaders.get(self._owners.get(shard, ""))
        if handle is None:
            return failed(NoOwner(f"no leader has shard {shard} just now", shard=shard))
        return self._call(handle, verb, args)

    def ask_any(self, verb: str, *args: Any) -> Pending[Any]:
        leaders = sorted(set(self._owners.values()) & self._leaders.keys())
        if not leaders:
            return failed(NoOwner("the swarm has no leader just now"))
        self._turn += 1
        return self._call(self._leaders[leaders[self._turn % len(leaders)]], verb, args)

    def owners(self) -> dict[int, str]:
        return self._owners

    def look(self) -> Promise[None]:
        with self._lock:
            if self._looking is None:
                self._looking = Promise()
                name = f"chimera-look-{self._swarm}"
                threading.Thread(target=self._look, name=name, daemon=True).start()
            return self._looking

    def result(self, task_id: str, tenant: str) -> Any:
        return self._results_actor().result.remote(task_id, tenant)

    def results(self, accepted: Accepted, tenant: str) -> Any:
        return self._results_actor().results.remote(accepted, tenant)

    def close(self) -> None:
        """Ray's connection is the process's own."""

    @staticmethod
    def _call(handle: Any, verb: str, args: tuple[Any, ...]) -> Pending[Any]:
        method = getattr(handle, verb)
        if verb == "outcomes":
            method = method.options(num_returns=OUTCOME_SLOTS)
        try:
            # in a context of its own: a call made in that of a Ray task is the task's child, and
            # cancelled with it. Serve cancels requests whose clients go away, and a cancelled call
            # holds up the caller's next ones to that actor for half a minute (ray#52476)
            return _Answer(Context().run(method.remote, *args))
        except RayError as fault:
            return failed(_translate(fault))

    def _look(self) -> None:
        try:
            self._find()
        except Exception:
            _log.exception("looking for the leaders of %s failed", self._swarm)
        finally:
            with self._lock:
                looking, self._looking = self._looking, None
            if looking is not None:
                looking.keep(None)

    def _find(self) -> bool:
        """Ask who has which shard; whether anybody knew."""
        for placements in (self._from_coordinators, self._from_orchestrator):
            found = placements()
            if found and any(one.ring for one in found):
                self._adopt(found)
                return True
        return self._from_leaders()

    def _adopt(self, found: list[Placement]) -> None:
        owners = merge.owners(found)
        leaders: dict[str, Any] = {}
        for one in found:
            leaders.update(one.handles)
            if one.ring:
                self.settings = Settings(
                    one.ring, one.objects_url, one.payload_max_bytes, one.bus, one.registry
                )
        # replaced, never changed: readers hold no lock; and only if there is news
        self._leaders = {**self._leaders, **leaders}
        if owners != self._owners:
            self._owners = owners

    def _from_coordinators(self) -> list[Placement]:
        """What coordinators say, and the gates of regions in other Ray clusters."""
        known = [name for name in self._named if names.tier(name) in _REGIONAL]
        found = self._placements(known)
        served = {shard for one in found for shard in one.shards}
        if len(served) < max((one.ring for one in found), default=1):
            others = [n for n in self._list() if names.tier(n) in _REGIONAL and n not in known]
            found += self._placements(others)
        return found

    def _from_orchestrator(self) -> list[Placement]:
        return self._placements([names.ORCHESTRATOR])

    def _placements(self, actors: Iterable[str]) -> list[Placement]:
        """What each of these says, of those that answer in time."""
        asked = []
        for name in actors:
            handle = self._handle(name)
            if handle is not None:
                asked.append((name, handle.placement.remote()))
        found = []
        until = time.monotonic() + ASK_S
        for name, ref in asked:
            try:
                found.append(ray.get(ref, timeout=max(until - time.monotonic(), 0.0)))
            except RayError as fault:
                self._named.pop(name, None)  # it may have a successor of the same name
                _log.debug("%s gives no placement: %s", name, fault)
        return found

    def _from_leaders(self) -> bool:
        """Ask the leaders themselves; the highest epoch wins. Of use once the ring is known."""
        leaders = dict(self._leaders)
        for name in self._list():
            if names.tier(name) == "leader" and name not in leaders:
                handle = self._handle(name)
                if handle is not None:
                    leaders[name] = handle
        asked = [(name, handle.owned.remote()) for name, handle in leaders.items()]
        best: dict[int, tuple[int, str]] = {}
        until = time.monotonic() + ASK_S
        for name, ref in asked:
            try:
                owned = ray.get(ref, timeout=max(until - time.monotonic(), 0.0))
            except RayError:
                leaders.pop(name)
                continue
            for shard, epoch in owned.items():
                best[shard] = max(best.get(shard, (0, "")), (epoch, name))
        self._leaders = leaders
        owners = {shard: name for shard, (_, name) in best.items()}
        if owners != self._owners:
            self._owners = owners
        return bool(self.settings.ring and owners)

    def _list(self) -> list[str]:
        """The names of the swarm's living actors; none if the GCS does not say."""

        def work() -> list[str]:
            found = ray.util.list_named_actors(all_namespaces=True)
            return [one["name"] for one in found if one["namespace"] == self._namespace]

        return bounded(work, NAME_S) or []

    def _handle(self, name: str) -> Any | None:
        """The handle of a named actor; None if there is none, or the GCS does not say."""
        if name not in self._named:
            found = bounded(lambda: _get_actor(name, self._namespace), NAME_S)
            if found is None:
                return None
            self._named[name] = found
        return self._named[name]

    def _results_actor(self) -> Any:
        handle = self._handle(names.RESULTS)
        if handle is None:
            raise NotReady("the swarm has no results actor just now")
        return handle

    def _explain(self) -> None:
        """Nobody said where the shards are: why that may be."""
        if not any(names.tier(name) in _CONTROL for name in self._list()):
            raise NotFound(
                f"there is no swarm {self._swarm!r} in this Ray cluster: start it with `chimera up`"
            )
        raise NotReady(
            f"swarm {self._swarm!r} is not ready: see `chimera status --swarm {self._swarm}`"
        )


#: tiers that know who has the shards of one region
_REGIONAL = {"coordinator", "gate"}
#: tiers that a swarm has while it is up
_CONTROL = {names.ORCHESTRATOR, "coordinator"}


def _get_actor(name: str, namespace: str) -> Any | None:
    try:
        return ray.get_actor(name, namespace=namespace)
    except ValueError:
        return None


def bounded(work: Callable[[], T], deadline_s: float) -> T | None:
    """Do something that has no deadline of its own; None if it fails or takes longer.

    The GCS keeps some calls waiting for 60 s while it is down; the thread then ends by itself.
    """
    answer: list[T] = []
    done = threading.Event()

    def run() -> None:
        try:
            answer.append(work())
        except RayError as fault:
            _log.debug("asking the GCS failed: %s", fault)
        finally:
            done.set()

    threading.Thread(target=run, name="chimera-gcs", daemon=True).start()
    done.wait(deadline_s)
    return answer[0] if answer else None


def join_ray(swarm: str, where: Where | None) -> str:
    """Connect this process to the swarm's Ray cluster, unless it is connected.

    Returns the id of the connection: another one means that actor handles of the former are void.
    Raises NotFound if there is no cluster, ChimeraError if it cannot be joined.
    """
    if ray.is_initialized():
        return _connection()
    if where is None:
        raise NotFound(
            f"no Ray cluster is known for swarm {swarm!r}: start one with `chimera up`, or say "
            "where it is: by CHIMERA_ADDRESS, --address or address="
        )
    _check_address(where)
    _authenticate(where)
    try:
        ray.init(
            address=where.address,
            namespace=names.namespace(swarm),
            ignore_reinit_error=True,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise ChimeraError(_why(where, error), address=where.address) from error
    return _connection()


def _authenticate(where: Where) -> None:
    """Bring what the cluster asks for, unless this process has a mode of its own."""
    if not where.environment or "RAY_AUTH_MODE" in os.environ:
        return
    os.environ.update(where.environment)
    # Ray read its settings when it was imported; its own way to make it read them again
    from ray._raylet import Config  # type: ignore[attr-defined]  # compiled

    Config.initialize("")


def _connection() -> str:
    return str(ray.get_runtime_context().get_job_id())


def _check_address(where: Where) -> None:
    """Refuse early what Ray would only find out after half a minute."""
    where.check()
    address = where.address
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PROBE_S).close()
    except OSError as error:
        raise NotFound(
            f"nothing answers at {address} ({where.source}): {error.strerror or error}",
            address=address,
        ) from error


def _why(where: Where, error: BaseException) -> str:
    # what Ray raises last says least
    text = " ".join(" ".join(str(cause) for cause in causes(error)).split())
    if "ersion mismatch" in text:
        return (
            f"the Ray at {where.address} is of another version than this Python's "
            f"{ray.__version__}: use the same on both sides ({text})"
        )
    if "RAY_AUTH" in text:
        mode = os.environ.get("RAY_AUTH_MODE", "not set")
        return (
            f"the Ray at {where.address} refuses this process: RAY_AUTH_MODE is {mode}, the "
            "cluster's is another, or its token is (RAY_AUTH_TOKEN_PATH)"
        )
    return f"cannot join the Ray at {where.address} ({where.source}): {error}"
