"""A registry of ours behind a real HTTP server on loopback, empty for each test."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import uvicorn
from fastapi import FastAPI

from chimera.contracts.registry import MemoryLog, Registry
from chimera.serve import registry as http


@dataclass
class Served:
    """Where it answers, and what it rests on."""

    url: str
    registry: Registry


@pytest.fixture(scope="session")
def server() -> Iterator[Served]:
    served = Served("", Registry(MemoryLog()))

    async def ask(op: str, arguments: dict[str, object]) -> object:
        return await asyncio.to_thread(served.registry.call, op, **arguments)

    app = FastAPI()
    app.mount("/registry", http.build(ask))
    listening = socket.create_server(("127.0.0.1", 0))
    served.url = f"http://127.0.0.1:{listening.getsockname()[1]}/registry"
    uvicorn_server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=uvicorn_server.run, args=([listening],), daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not uvicorn_server.started:
        assert time.monotonic() < until
        time.sleep(0.01)
    yield served
    uvicorn_server.should_exit = True
    thread.join(30)
    listening.close()


@pytest.fixture
def served(server: Served) -> Served:
    server.registry = Registry(MemoryLog())
    return server
