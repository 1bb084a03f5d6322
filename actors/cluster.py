"""Every Ray call of the shells, each with a deadline: names to handles, calls to values.

What Ray raises is translated here, so that the rest tells three cases apart: the other side
answered with an error (raised as it was), it is dead (`ActorGone`), or nobody knows (`Silent`).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

import ray
from ray.exceptions import (
    ActorAlreadyExistsError,
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    ObjectLostError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from chimera.errors import ChimeraError, Unavailable

T = TypeVar("T")

#: wait between two tries to create an actor whose name its dead namesake still holds, seconds
_BURIAL_POLL_S = 0.02

#: Ray colours its messages for a terminal
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class ActorGone(Unavailable):
    """The actor is dead. `details` has `reason`, and `init_failed` if it never came to life."""

    code = "actor_gone"


class Silent(Unavailable):
    """No answer in time: the actor may be dead, paused, busy or out of reach."""

    code = "silent"


class NameTaken(ChimeraError):
    """A living actor has this name."""

    code = "name_taken"
    status = 409


class CallFailed(ChimeraError):
    """The actor raised something that is no error of Chimera. `details`: `type`, `traceback`."""

    code = "call_failed"


def _plain(fault: BaseException) -> str:
    return _COLOURS.sub("", str(fault))


def translate(fault: BaseException) -> BaseException:
    """What Ray raised, in our words: a ChimeraError, or `fault` itself if it is not Ray's."""
    if isinstance(fault, RayTaskError):
        cause = fault.cause
        if isinstance(cause, ChimeraError):
            return cause
        return CallFailed(
            f"{type(cause).__name__}: {cause}",
            type=type(cause).__name__,
            traceback=_plain(fault),
        )
    if isinstance(fault, ActorUnavailableError):
        return Silent(_plain(fault))
    if isinstance(fault, RayActorError):
        failed = isinstance(fault, ActorDiedError) and fault.actor_init_failed
        reason = _plain(fault)
        # Ray says what it was at the end
        last = reason.strip().rsplit("\n", 1)[-1].strip()
        return ActorGone(f"the actor is dead: {last[:200]}", reason=reason, init_failed=failed)
    if isinstance(fault, (ObjectLostError, WorkerCrashedError)):
        return ActorGone("the process that held the answer is dead", reason=_plain(fault))
    if isinstance(fault, (GetTimeoutError, TimeoutError)) and not isinstance(fault, ChimeraError):
        return Silent("no answer in time")
    if isinstance(fault, RayError):
        return Silent(f"{type(fault).__name__}: {fault}")
    return fault


def bounded(work: Callable[[], T], deadline_s: float, what: str) -> T:
    """Run a call that has no deadline of its own in a thread. Raises Silent after `deadline_s`.

    The GCS keeps some calls waiting for 60 s when it is down; such a thread is left to end by
    itself, since nothing can stop it.
    """
    answer: list[T] = []
    fault: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            answer.append(work())
        except BaseException as error:
            fault.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name=f"bounded-{what}", daemon=True).start()
    if not done.wait(deadline_s):
        raise Silent(f"{what}: no answer in {deadline_s:g} s")
    if fault:
        raise fault[0]
    return answer[0]


def node_id() -> str:
    """The Ray node of this process; empty outside Ray."""
    return ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""


def myself() -> Any:
    """The handle of the actor that calls this."""
    return ray.get_runtime_context().current_actor


def on_this_node() -> dict[str, Any]:
    """Options of an actor that must run on this process's Ray node."""
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id(), soft=False)}


def own_name() -> str:
    """The name of the actor that calls this. Raises RuntimeError if it has none."""
    name = ray.get_runtime_context().get_actor_name()
    if not name:
        raise RuntimeError("this actor has no name")
    return str(name)


class Reply:
    """An answer on its way that does not come from Ray; it stands where Ray's refs do."""

    __slots__ = ("_future",)

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def future(self) -> Future[Any]:
        """Done when the answer is there; it fails with a ChimeraError."""
        return self._future


class Cluster:
    """The actors of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def create(
        self,
        cls: Any,
        name: str,
        *args: Any,
        max_restarts: int = 0,
        deadline_s: float = 30.0,
        **options: Any,
    ) -> Any:
        """Create a named, detached actor; returns its handle once the name is ours.

        `cls` is a class or one that `ray.remote` made; `options` are Ray's. The constructor may
        still run: `ready` waits for it. Never `get_if_exists` (P20): it hands out the dead handle
        for some ms after a kill. Raises NameTaken when another actor keeps the name to the
        deadline, Silent when the GCS does not answer.
        """
        settings = {"num_cpus": 0, **options, "max_restarts": max_restarts}
        made = (cls if hasattr(cls, "remote") else ray.remote(cls)).options(
            name=name, namespace=self.namespace, lifetime="detached", **settings
        )
        until = time.monotonic() + deadline_s
        while True:
            left = max(until - time.monotonic(), 0.001)
            try:
                return bounded(lambda: made.remote(*args), left, f"create {name}")
            except ActorAlreadyExistsError:
                if time.monotonic() + _BURIAL_POLL_S >= until:
                    raise NameTaken(f"an actor named {name} lives", name=name) from None
                time.sleep(_BURIAL_POLL_S)
            except RayError as fault:
                raise translate(fault) from fault

    def ready(self, handle: Any, deadline_s: float) -> None:
        """Wait for the constructor. Raises ActorGone (`init_failed`) or Silent."""
        self.call(handle.__ray_ready__.remote(), deadline_s)

    def find(self, name: str, deadline_s: float = 5.0) -> Any | None:
        """The handle of a named actor, or None; for some ms after a death still the dead one's.

        Raises Silent when the GCS does not answer.
        """

        def get() -> Any | None:
            try:
                return ray.get_actor(name, namespace=self.namespace)
            except ValueError:
                return None

        return self._translated(lambda: bounded(get, deadline_s, f"find {name}"))

    def names(self, deadline_s: float = 5.0) -> list[str]:
        """The names of all living actors of the namespace. Raises Silent."""

        def get() -> list[str]:
            found = ray.util.list_named_actors(all_namespaces=True)
            return sorted(one["name"] for one in found if one["namespace"] == self.namespace)

        return self._translated(lambda: bounded(get, deadline_s, "list actors"))

    def kill(self, handle: Any, deadline_s: float = 5.0, *, for_good: bool = True) -> None:
        """End an actor; returns when it is ordered, not when it is done.

        If not `for_good`, Ray makes it again as often as its `max_restarts` allows.
        A stopped process dies only 5 s later: end it through `processes.end` first.
        """
        self._translated(
            lambda: bounded(lambda: ray.kill(handle, no_restart=for_good), deadline_s, "kill")
        )

    def call(self, ref: Any, deadline_s: float) -> Any:
        """The value of a call's ref, or values of a list of refs.

        Raises the ChimeraError that the actor raised, CallFailed for any other of its errors,
        ActorGone, or Silent at the deadline (the call may still run).
        """
        if isinstance(ref, Reply):
            try:
                return ref.future().result(deadline_s)
            except FutureTimeout:
                raise Silent("no answer in time") from None
        return self._translated(lambda: ray.get(ref, timeout=deadline_s))

    def on_done(self, ref: Any, callback: Callable[[Any], None]) -> None:
        """Call `callback` with the value, or with the exception that `call` would raise.

        It runs in a thread of Ray's and must only hand the value on. It has no deadline: whoever
        needs one keeps time, and ends the actor.
        """

        def done(future: Any) -> None:
            fault = future.exception()
            callback(future.result() if fault is None else translate(fault))

        ref.future().add_done_callback(done)

    def call_all(self, refs: Iterable[Any], deadline_s: float) -> list[Any | BaseException]:
        """The value or exception of each ref, all within one deadline."""
        until = time.monotonic() + deadline_s
        answers: list[Any | BaseException] = []
        for ref in refs:
            try:
                answers.append(self.call(ref, max(until - time.monotonic(), 0.0)))
            except ChimeraError as fault:
                answers.append(fault)
        return answers

    @staticmethod
    def _translated(work: Callable[[], T]) -> T:
        try:
            return work()
        except RayError as fault:
            raise translate(fault) from fault


def incarnation(handle: Any) -> str:
    """What tells a leader from a later one of the same name."""
    actor_id = getattr(handle, "_actor_id", None)
    return actor_id.hex() if actor_id is not None else repr(handle)
