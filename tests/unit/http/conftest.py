"""Both clients over HTTP, with a gateway that answers as the test says."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

import chimera
from tests.unit.http.blocking import Blocking
from tests.unit.http.kit import URL


@pytest.fixture(params=["blocks", "is asynchronous"])
def client(request):
    """Makes a client whose gateway answers so in turn, or always `by` one; and what it got."""
    loop = asyncio.new_event_loop()

    def make(*answers, by=None, tenant: str = "default"):
        sent: list[httpx2.Request] = []
        left = iter(answers)

        def answer(request: httpx2.Request) -> httpx2.Response:
            request.read()
            sent.append(request)
            one = by or next(left)
            if isinstance(one, Exception):
                raise one
            return one(request) if callable(one) else one

        transport = httpx2.MockTransport(answer)
        if request.param == "blocks":
            return chimera.Client(URL, tenant=tenant, transport=transport), sent
        made = chimera.AsyncClient(URL, tenant=tenant, transport=transport)
        return Blocking(made, loop), sent

    yield make
    loop.close()
