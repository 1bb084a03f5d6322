"""Sending: what drives the verbs' steps, over one pool of kept-alive connections."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import closing
from queue import SimpleQueue
from typing import Any

import httpx2

from chimera.errors import ChimeraError, InvalidRequest
from chimera.http.verbs import CutOff, Steps, T, Unreached
from chimera.http.wire import Answer, Call

#: seconds for a connection to be made
CONNECT_S = 5.0
#: requests of one client at once
CONNECTIONS = 32
LIMITS = httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
#: what never left this machine
_UNREACHED = (httpx2.ConnectError, httpx2.ConnectTimeout)


def built(client: httpx2.Client | httpx2.AsyncClient, call: Call) -> httpx2.Request:
    """A call as a request. Raises ChimeraError after `close`."""
    if client.is_closed:
        raise ChimeraError("the client is closed")
    limit = httpx2.Timeout(max(call.timeout_s, 0.001), connect=min(CONNECT_S, call.timeout_s))
    return client.build_request(
        call.method, call.path, params=dict(call.query) or None, content=call.body,
        headers=dict(call.headers), timeout=limit,
    )  # fmt: skip


def fault_of(error: Exception) -> Exception:
    """What the verbs understand of a failed request."""
    text = str(error) or type(error).__name__
    if isinstance(error, httpx2.PoolTimeout):
        return Unreached(f"all {CONNECTIONS} connections of this client are in use")
    if isinstance(error, (httpx2.UnsupportedProtocol, httpx2.InvalidURL)):
        return InvalidRequest(f"the URL of the gateway: {text}")
    return Unreached(text) if isinstance(error, _UNREACHED) else CutOff(text)


#: what httpx raises where an answer does not come
ERRORS = (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError)


def run(client: httpx2.Client, steps: Steps[T], stopped: threading.Event | None = None) -> T:
    """Do the steps in this thread. Raises _Stopped between two of them."""
    try:
        wanted = next(steps)
        while True:
            try:
                answer = _do(client, wanted, stopped)
            except (Unreached, CutOff, ChimeraError) as fault:
                wanted = steps.throw(fault)
            else:
                wanted = steps.send(answer)
    except StopIteration as end:
        value: T = end.value
        return value


def _do(
    client: httpx2.Client, wanted: Call | float, stopped: threading.Event | None
) -> Answer | None:
    if stopped is not None and stopped.is_set():
        raise _Stopped
    if not isinstance(wanted, Call):
        nap = time.sleep if stopped is None else stopped.wait
        nap(wanted)
        return None
    until = time.monotonic() + wanted.timeout_s
    pieces: list[bytes] = []
    late = False
    try:
        # a time-out of httpx is for each read: this one is for the whole answer
        with closing(client.send(built(client, wanted), stream=True)) as answer:
            for piece in answer.iter_bytes():
                if late:
                    raise CutOff(f"no whole answer in {wanted.timeout_s:g} s")
                pieces.append(piece)
                late = time.monotonic() > until
    except ERRORS as error:
        raise fault_of(error) from error
    return Answer(answer.status_code, answer.headers, b"".join(pieces))


class _Stopped(Exception):
    """Nobody wants to know any more."""


class Threads:
    """Does steps beside the caller, who may leave at any time: what is under way is not waited for.

    Its threads end after the request that they are at, and do not hold up the end of the process.
    """

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client
        self._todo: SimpleQueue[tuple[int, Steps[Any]] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[int, Any, Exception | None]] = SimpleQueue()
        self._stopped = threading.Event()
        self._threads = self._busy = 0

    def begin(self, index: int, steps: Steps[Any]) -> None:
        """Have them done."""
        self._busy += 1
        if self._busy > self._threads:
            self._threads += 1
            threading.Thread(target=self._work, name="chimera-http", daemon=True).start()
        self._todo.put((index, steps))

    def next(self) -> tuple[int, Any]:
        """Wait for steps that were done; what came of them, with their index. Raises what they do.

        Of no use if none were begun.
        """
        index, value, fault = self._done.get()
        self._busy -= 1
        if fault is not None:
            raise fault
        return index, value

    def stop(self) -> None:
        """Do no more."""
        self._stopped.set()
        for _ in range(self._threads):
            self._todo.put(None)

    def _work(self) -> None:
        while (given := self._todo.get()) is not None:
            index, steps = given
            try:
                self._done.put((index, run(self._client, steps, self._stopped), None))
            except Exception as fault:
                self._done.put((index, None, fault))


async def arun(client: httpx2.AsyncClient, steps: Steps[T]) -> T:
    """Do the steps in this coroutine."""
    try:
        wanted = next(steps)
        while True:
            try:
                answer = await _ado(client, wanted)
            except (Unreached, CutOff, ChimeraError) as fault:
                wanted = steps.throw(fault)
            else:
                wanted = steps.send(answer)
    except StopIteration as end:
        value: T = end.value
        return value


async def _ado(client: httpx2.AsyncClient, wanted: Call | float) -> Answer | None:
    if not isinstance(wanted, Call):
        await asyncio.sleep(wanted)
        return None
    try:
        answer = await asyncio.wait_for(client.send(built(client, wanted)), wanted.timeout_s + 1)
    except asyncio.TimeoutError as error:
        raise CutOff(f"no whole answer in {wanted.timeout_s:g} s") from error
    except ERRORS as error:
        raise fault_of(error) from error
    return Answer(answer.status_code, answer.headers, answer.content)
