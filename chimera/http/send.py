"""Sending: what drives the verbs' steps, over one pool of kept-alive connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
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
_UNREACHED = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


def built(client: httpx2.Client | httpx2.AsyncClient, call: Call) -> httpx2.Request:
    """A call as a request."""
    limit = httpx2.Timeout(max(call.timeout_s, 0.001), connect=min(CONNECT_S, call.timeout_s))
    return client.build_request(
        call.method, call.path, params=dict(call.query) or None, content=call.body,
        headers=dict(call.headers), timeout=limit,
    )  # fmt: skip


def fault_of(error: Exception) -> Exception:
    """What the verbs understand of a failed request."""
    text = str(error) or type(error).__name__
    if isinstance(error, (httpx2.UnsupportedProtocol, httpx2.InvalidURL)):
        return InvalidRequest(f"the URL of the gateway: {text}")
    return Unreached(text) if isinstance(error, _UNREACHED) else CutOff(text)


#: what httpx raises where an answer does not come
ERRORS = (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError)


def run(client: httpx2.Client, steps: Steps[T]) -> T:
    """Do the steps in this thread."""
    try:
        wanted = next(steps)
        while True:
            try:
                answer = _do(client, wanted)
            except (Unreached, CutOff, ChimeraError) as fault:
                wanted = steps.throw(fault)
            else:
                wanted = steps.send(answer)
    except StopIteration as end:
        value: T = end.value
        return value


def _do(client: httpx2.Client, wanted: Call | float) -> Answer | None:
    if not isinstance(wanted, Call):
        time.sleep(wanted)
        return None
    try:
        answer = client.send(built(client, wanted))
    except ERRORS as error:
        raise fault_of(error) from error
    return Answer(answer.status_code, answer.headers, answer.content)


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
        # a time-out of httpx is for each read: this one is for the whole answer
        answer = await asyncio.wait_for(client.send(built(client, wanted)), wanted.timeout_s + 1)
    except asyncio.TimeoutError as error:
        raise CutOff(f"no answer in {wanted.timeout_s:g} s") from error
    except ERRORS as error:
        raise fault_of(error) from error
    return Answer(answer.status_code, answer.headers, answer.content)


Runner = Callable[[Steps[Any]], Any]
