"""The orchestrator's end of the link: a coordinator in another Ray cluster, called like an actor.

Each method has `.remote(...)`, as Ray's have, and what that returns has a `future()`, as Ray's
refs have: whoever watches and orders coordinators (chimera.actors.links) need not know which kind
it has.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import grpc
import msgspec

from chimera import names
from chimera.actors.cluster import Reply, Silent
from chimera.actors.control import wire
from chimera.actors.control.server import ERROR, OPTIONS
from chimera.actors.control.v1 import control_pb2 as pb
from chimera.actors.control.v1 import control_pb2_grpc as stubs
from chimera.errors import ChimeraError, InvalidRequest, from_wire
from chimera.swarm.rosters import Known

#: for the way there and back, beside what the other side may take, seconds
WAY_S = 1.5
CONFIGURE_S = 12.0
RETIRE_S = 50.0
PLACEMENT_S = 1.0
#: between two looks at whether an answer is still to be expected, seconds
LOOK_S = 0.25
#: reconnecting never ends; the wait before the next try grows up to the second one
RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 2000),
)


class _Method:
    """A method of the other side."""

    __slots__ = ("remote",)

    def __init__(self, remote: Callable[..., Reply]) -> None:
        self.remote = remote


class RemoteRegion:
    """A region's coordinator behind a link. Raises InvalidRequest unless it is on loopback.

    Its answers fail with what the coordinator raised, or with Silent: also when nobody listens, for
    that says nothing about the region.
    """

    def __init__(self, endpoint: str) -> None:
        try:
            names.loopback(endpoint)
        except ValueError as fault:
            raise InvalidRequest(f"the region link: {fault}") from fault
        self._channel = grpc.insecure_channel(endpoint, options=(*OPTIONS, *RECONNECT))
        self._stub = stubs.RegionStub(self._channel)
        self.watch = _Method(self._watch)
        self.configure = _Method(self._configure)
        self.retire = _Method(self._retire)
        self.placement = _Method(self._placement)

    def close(self) -> None:
        """Give the connection up; calls under way fail."""
        self._channel.close()

    def ask(
        self, verb: str, shard: int | None, args: tuple[Any, ...], deadline_s: float,
        gives_up: Callable[[], bool] = lambda: False,
    ) -> Any:  # fmt: skip
        """What a leader of the region answers. Raises what it raised, or Silent.

        `gives_up` is asked now and then whether to go on waiting is of no use.
        """
        request = pb.AskRequest(verb=verb, shard=shard, msgpack=wire.pack_arguments(verb, args))
        call = self._stub.Ask.future(request, timeout=deadline_s)
        while True:
            try:
                return wire.unpack_answer(verb, call.result(LOOK_S).msgpack)
            except grpc.FutureTimeoutError:
                if gives_up():
                    call.cancel()
                    raise Silent("the region does not answer") from None
            except grpc.FutureCancelledError:
                raise Silent("the call was given up") from None
            except grpc.RpcError as fault:
                raise _translate(fault) from fault

    def _watch(
        self, orchestrator: str, term: int, hold_s: float, known: Known | None = None
    ) -> Reply:
        request = pb.WatchRequest(
            orchestrator=orchestrator, term=term, hold_s=hold_s,
            known_json=wire.pack_json(known or {}),
        )  # fmt: skip
        call = self._stub.Watch.future(request, timeout=hold_s + WAY_S)
        return _reply(call, lambda answer: wire.unpack_report(answer.report_json))

    def _configure(self, term: int, spec: dict[str, Any], generation: int) -> Reply:
        body = msgspec.json.encode(spec)
        request = pb.ConfigureRequest(term=term, spec_json=body, generation=generation)
        return _reply(self._stub.Configure.future(request, timeout=CONFIGURE_S), lambda _: None)

    def _retire(self, term: int) -> Reply:
        request = pb.RetireRequest(term=term)
        return _reply(self._stub.Retire.future(request, timeout=RETIRE_S), lambda _: None)

    def _placement(self) -> Reply:
        call = self._stub.Placement.future(pb.PlacementRequest(), timeout=PLACEMENT_S)
        return _reply(call, lambda answer: wire.unpack_placement(answer.placement_json))


def _reply(call: Any, read: Callable[[Any], Any]) -> Reply:
    """A gRPC call on its way as a Reply."""
    future: Future[Any] = Future()

    def done(ended: Any) -> None:
        try:
            future.set_result(read(ended.result()))
        except grpc.FutureCancelledError:
            future.set_exception(Silent("the call was given up"))
        except grpc.RpcError as fault:
            future.set_exception(_translate(fault))
        except Exception as fault:
            future.set_exception(Silent(f"the answer cannot be read: {fault}"))

    call.add_done_callback(done)
    return Reply(future)


def _translate(fault: Any) -> ChimeraError:
    """What the other side raised; Silent if it was the way that failed."""
    for key, value in fault.trailing_metadata() or ():
        if key == ERROR:
            told = msgspec.json.decode(value)
            if told["code"] in (Silent.code, "actor_gone"):
                return Silent(told["message"])
            return from_wire(told)
    return Silent(f"{fault.code().name.lower()}: {fault.details()}")
