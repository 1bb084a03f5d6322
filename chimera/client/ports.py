"""What the client needs of a swarm: answers that may be waited for, and a link to its leaders.

Everything above this port is plain Python: `link.py` implements it over Ray, the tests in memory.
"""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from chimera.errors import ChimeraError, Unavailable

if TYPE_CHECKING:
    from chimera.client.parcels import Accepted

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Gone(Unavailable):
    """Whoever was asked is dead; whether the call took effect is not known."""

    code = "gone"


class Silent(Unavailable):
    """No answer in time; the call may still take effect."""

    code = "silent"


class NoOwner(Unavailable):
    """Nobody has the shard just now: nothing was sent."""

    code = "no_owner"


class Pending(Protocol[T_co]):
    """An answer on its way. It raises what the other side raised, Gone or Silent."""

    def get(self, timeout_s: float) -> T_co:
        """Wait for it. Raises Silent after `timeout_s`."""
        ...

    def future(self) -> Future[Any]:
        """Done when `get` would answer at once: for callbacks and coroutines."""
        ...


class Promise(Generic[T]):
    """A pending answer of our own making."""

    __slots__ = ("_future",)

    def __init__(self, future: Future[T] | None = None) -> None:
        self._future: Future[T] = Future() if future is None else future

    def get(self, timeout_s: float) -> T:
        try:
            return self._future.result(timeout_s)
        except FutureTimeout as error:
            if isinstance(error, ChimeraError):  # the answer itself: a task's wait that ended
                raise
            raise Silent(f"no answer in {timeout_s:g} s") from None

    def future(self) -> Future[T]:
        return self._future

    def keep(self, value: T) -> None:
        """Answer, unless there is an answer already."""
        if not self._future.done():
            self._future.set_result(value)

    def fail(self, fault: BaseException) -> None:
        """Answer with an error, unless there is an answer already."""
        if not self._future.done():
            self._future.set_exception(fault)


def failed(fault: BaseException) -> Promise[Any]:
    """An answer that is an error from the start."""
    promise: Promise[Any] = Promise()
    promise.fail(fault)
    return promise


@dataclass(frozen=True, slots=True)
class Settings:
    """What a swarm tells its clients."""

    ring: int  #: shards of the swarm, owned or not: keys are hashed by it
    objects_url: str  #: where payloads and results over the inline limit are kept
    payload_max_bytes: int
    bus: str = ""  #: URL of the broker through which tasks come in; empty: there is none
    registry: str = ""  #: URL of the schema registry; empty: the swarm's own


class LeaderLink(Protocol):
    """The leaders of one swarm, found by shard."""

    @property
    def settings(self) -> Settings: ...

    def ask(self, shard: int, verb: str, *args: Any) -> Pending[Any]:
        """Call a method of the shard's owner; the answer is NoOwner if nobody has it."""
        ...

    def ask_any(self, verb: str, *args: Any) -> Pending[Any]:
        """Call a method of some leader."""
        ...

    def owners(self) -> dict[int, str]:
        """Shard → leader, as far as known; free of charge."""
        ...

    def look(self) -> Pending[None]:
        """Find the owners anew; one search at a time, however many ask. Never fails."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...

    def result(self, task_id: str, tenant: str) -> Any:
        """An ObjectRef of the task's result, owned by the caller (P21)."""
        ...

    def results(self, accepted: Accepted, tenant: str) -> Any:
        """An ObjectRef of the list of results of consecutive tasks, owned by the caller."""
        ...
