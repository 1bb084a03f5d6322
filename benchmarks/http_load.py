"""A light HTTP client for loading an edge: sockets kept alive, no more parsed than is needed."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field

PATIENCE_S = 120.0


class BadAnswer(AssertionError):
    """The edge answered something else than what was to be measured."""


@dataclass(slots=True)
class Load:
    """What one stretch of load came to."""

    seconds: float = 0.0
    requests: int = 0
    lines: int = 0  #: of bulks that were accepted
    refused: int = 0  #: lines, for a full queue
    latencies_ms: list[float] = field(default_factory=list)


def request(method: str, path: str, body: bytes = b"", media: str = "application/json") -> bytes:
    """A request as it goes over the wire."""
    head = f"{method} {path} HTTP/1.1\r\nhost: benchmark\r\n"
    if body:
        head += f"content-type: {media}\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head[9:12])
    if b"transfer-encoding: chunked" in head:
        pieces = []
        while size := int((await reader.readuntil(b"\r\n"))[:-2], 16):
            pieces.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readexactly(2)
        return status, b"".join(pieces)
    _, _, rest = head.partition(b"content-length:")
    length = int(rest.split(b"\r\n", 1)[0]) if rest else 0
    return status, await reader.readexactly(length)


async def _connection(
    port: int, wire: bytes, expected: int, until: float, load: Load, pause_s: float
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        due = time.monotonic() + random.uniform(0.0, pause_s)
        while (now := time.monotonic()) < until:
            if pause_s:
                await asyncio.sleep(due - now)
                due = max(due + pause_s, now)
            began = time.perf_counter()
            writer.write(wire)
            await writer.drain()
            status, body = await asyncio.wait_for(_answer(reader), PATIENCE_S)
            if status != expected:
                raise BadAnswer(f"{status} instead of {expected}: {body[:300]!r}")
            load.latencies_ms.append(1000 * (time.perf_counter() - began))
            load.requests += 1
            if body.endswith(b"\n"):  # a bulk's
                bad = body.count(b'"error":{')
                load.refused += bad
                load.lines += body.count(b"\n") - 1 - bad
    finally:
        writer.close()


def run(
    port: int, wire: bytes, expected: int, connections: int, seconds: float, rate: float = 0.0
) -> Load:
    """Repeat a request over so many connections for so long. Raises BadAnswer.

    `rate`: requests a second, of all connections, at most; 0: as many as are answered.
    """

    async def all_of_them() -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(
            *(
                _connection(port, wire, expected, until, load, connections / rate if rate else 0.0)
                for _ in range(connections)
            )
        )

    load = Load()
    began = time.monotonic()
    asyncio.run(all_of_them())
    load.seconds = time.monotonic() - began
    return load
