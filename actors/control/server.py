"""The region's end of the link: a `grpc.aio` server in its coordinator's process.

It has neither encryption nor authentication yet, and so listens on loopback only: between machines
it takes a tunnel that has both.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, Protocol

import grpc
import msgspec

from chimera import names
from chimera.actors.cluster import translate
from chimera.actors.control import wire
from chimera.actors.control.v1 import control_pb2 as pb
from chimera.actors.control.v1 import control_pb2_grpc as stubs
from chimera.errors import ChimeraError, Fenced, InvalidRequest, Unavailable
from chimera.swarm.reports import Placement, RegionReport
from chimera.swarm.rosters import Known

#: trailer with the error of a refusal, as JSON
ERROR = "chimera-error-bin"
#: returned values of a leader's `outcomes`
OUTCOME_SLOTS = 9
#: for the port to be bound, seconds
BIND_S = 10.0
#: channel options of both ends: a dead way is noticed within about 2 s; frames have up to 16 MiB
OPTIONS = (
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_timeout_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
    ("grpc.max_send_message_length", 32 * 1024 * 1024),
)


class Region(Protocol):
    """What the link serves: a coordinator's own methods. They may block."""

    def watch(self, orchestrator: str, term: int, hold_s: float, known: Known) -> RegionReport: ...

    def configure(self, term: int, spec: dict[str, Any], generation: int) -> None: ...

    def retire(self, term: int) -> None: ...

    def placement(self) -> Placement: ...


class LinkServer:
    """Serves a region at `endpoint` until the process ends.

    Raises InvalidRequest for an endpoint that is not on loopback, Unavailable if it is in use.
    `retired` is called when the answer to Retire is on its way.
    """

    def __init__(self, region: Region, endpoint: str, retired: Callable[[], None]) -> None:
        try:
            host, port = names.loopback(endpoint)
        except ValueError as fault:
            raise InvalidRequest(f"the region link: {fault}") from fault
        self._servicer = _Servicer(region, retired)
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._bound = threading.Event()
        self._fault = ""
        threading.Thread(target=self._run, name="region-link", daemon=True).start()
        self._bound.wait(BIND_S)
        if self._fault or not self._bound.is_set():
            raise Unavailable(f"the region link cannot listen at {endpoint}: {self._fault}")

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        options = (
            *OPTIONS,
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 500),
            ("grpc.http2.max_ping_strikes", 0),
        )
        server = grpc.aio.server(options=options)
        stubs.add_RegionServicer_to_server(self._servicer, server)
        try:
            server.add_insecure_port(self._address)
            await server.start()
        except RuntimeError as fault:
            self._fault = str(fault)
            return
        finally:
            self._bound.set()
        await server.wait_for_termination()


class _Servicer(stubs.RegionServicer):
    def __init__(self, region: Region, retired: Callable[[], None]) -> None:
        self._region = region
        self._retired = retired

    async def Watch(self, request: Any, context: Any) -> Any:
        report = await _answer(
            context,
            asyncio.to_thread(self._watch, request),
        )
        return pb.WatchReply(report_json=wire.pack_json(report))

    def _watch(self, request: Any) -> RegionReport:
        known = wire.unpack_known(request.known_json)
        return self._region.watch(request.orchestrator, request.term, request.hold_s, known)

    async def Configure(self, request: Any, context: Any) -> Any:
        spec = msgspec.json.decode(request.spec_json)
        done = asyncio.to_thread(self._region.configure, request.term, spec, request.generation)
        await _answer(context, done)
        return pb.ConfigureReply()

    async def Retire(self, request: Any, context: Any) -> Any:
        await _answer(context, asyncio.to_thread(self._region.retire, request.term))
        asyncio.get_running_loop().call_later(0.5, self._retired)
        return pb.RetireReply()

    async def Placement(self, request: Any, context: Any) -> Any:
        found = await _answer(context, asyncio.to_thread(self._region.placement))
        return pb.PlacementReply(placement_json=wire.pack_json(found))

    async def Ask(self, request: Any, context: Any) -> Any:
        answer = await _answer(context, self._ask(request))
        return pb.AskReply(msgpack=answer)

    async def _ask(self, request: Any) -> bytes:
        verb = request.verb
        try:
            args = wire.unpack_arguments(verb, request.msgpack)
        except (KeyError, msgspec.DecodeError) as fault:
            raise InvalidRequest(f"{verb}: {fault}") from fault
        found = await asyncio.to_thread(self._region.placement)
        shard = request.shard if request.HasField("shard") else next(iter(found.shards), -1)
        handle = found.handles.get(found.shards.get(shard, ""))
        if handle is None:
            raise Unavailable(f"no leader of the region has shard {shard} just now")
        method = getattr(handle, verb)
        if verb == "outcomes":
            refs = method.options(num_returns=OUTCOME_SLOTS).remote(*args)
            answer = await asyncio.gather(*(asyncio.wrap_future(ref.future()) for ref in refs))
        else:
            answer = await asyncio.wrap_future(method.remote(*args).future())
        return wire.pack_answer(verb, answer)


async def _answer(context: Any, work: Awaitable[Any]) -> Any:
    """The result of some work, or the refusal that it raises as a gRPC status."""
    try:
        return await work
    except Exception as error:
        fault = translate(error)
        if not isinstance(fault, ChimeraError):
            fault = ChimeraError(f"{type(fault).__name__}: {fault}")
        await _refuse(context, fault)


async def _refuse(context: Any, fault: ChimeraError) -> NoReturn:
    status = grpc.StatusCode.INTERNAL
    if isinstance(fault, InvalidRequest):
        status = grpc.StatusCode.INVALID_ARGUMENT
    elif isinstance(fault, Fenced):
        status = grpc.StatusCode.FAILED_PRECONDITION
    elif isinstance(fault, Unavailable):
        status = grpc.StatusCode.UNAVAILABLE
    told = msgspec.json.encode(fault.to_wire(), enc_hook=str)
    await context.abort(status, fault.message, ((ERROR, told),))
    raise AssertionError("abort raises")
