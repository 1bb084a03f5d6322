"""A connection to RabbitMQ that is made anew for ever, and what its errors mean."""

from __future__ import annotations

import asyncio
import itertools
import logging
import ssl

import aiormq
from aiormq import exceptions
from aiormq.abc import AbstractConnection
from yarl import URL

from chimera.bus.protocol import missing
from chimera.bus.settings import BusSettings
from chimera.errors import BusUnauthorized, BusUnavailable, ChimeraError, InvalidRequest, causes

logger = logging.getLogger(__name__)

#: the client logs a traceback for each lost connection; what matters comes as an error
logging.getLogger("aiormq").setLevel(logging.CRITICAL)

CONNECT_S = 5.0
CLOSE_S = 2.0
#: for an answer to one request: a queue whose nodes have just started may swallow one for ever
ANSWER_S = 5.0
#: pauses between attempts to connect, seconds; the last one is repeated
_BACKOFF_S = (0.1, 0.2, 0.5, 1.0)

_REFUSED = (
    exceptions.AuthenticationError,
    exceptions.ProbableAuthenticationError,
    exceptions.ChannelAccessRefused,
    exceptions.ConnectionNotAllowed,
    ssl.SSLError,
)
#: what the client, its transport and the event loop raise when something is wrong out there
FAULTS = (exceptions.AMQPError, exceptions.ChannelInvalidStateError, OSError, asyncio.TimeoutError)


class Link:
    """One connection, shared; its users ask for it each time."""

    def __init__(self, settings: BusSettings) -> None:
        self._settings = settings
        self._hosts = itertools.cycle(settings.hosts)
        self._connection: AbstractConnection | None = None
        self._lock: asyncio.Lock | None = None
        self._failures = 0

    async def connection(self) -> AbstractConnection:
        """The connection, made if there is none. Raises BusUnavailable or BusUnauthorized.

        After a failure the next attempt is put off a little, whoever asks.
        """
        if self._lock is None:
            self._lock = asyncio.Lock()
        async with self._lock:
            if self._connection is not None and not self._connection.is_closed:
                return self._connection
            if self._failures:
                await asyncio.sleep(_BACKOFF_S[min(self._failures, len(_BACKOFF_S)) - 1])
            try:
                self._connection = await asyncio.wait_for(self._connect(), CONNECT_S)
            except FAULTS as error:
                self._failures += 1
                raise self.translate(error) from error
            self._failures = 0
            return self._connection

    async def _connect(self) -> AbstractConnection:
        settings = self._settings
        host, _, port = next(self._hosts).rpartition(":")
        url = URL.build(
            scheme=settings.scheme,
            host=host.strip("[]"),
            port=int(port),
            user=settings.user or "guest",
            password=settings.password or "guest",
            path=settings.path or "/",
            query={"heartbeat": str(settings.heartbeat), "name": "chimera"},
        )
        context = None
        if settings.tls:
            context = await asyncio.to_thread(_tls, settings)
        return await aiormq.connect(url, context=context)

    def translate(
        self, error: BaseException, topic: str = "", partition: int | None = None
    ) -> ChimeraError:
        """An error of the client as one of ours."""
        if isinstance(error, ChimeraError):
            return error
        said = str(error) or type(error).__name__
        if self._settings.password:
            said = said.replace(self._settings.password, "***")
        said = f"{self._settings.shown}: {said}"
        if any(isinstance(cause, _REFUSED) for cause in causes(error)):
            return BusUnauthorized(said)
        if isinstance(error, exceptions.ChannelNotFoundEntity | exceptions.PublishError):
            return missing(topic, partition)
        if isinstance(error, exceptions.ChannelPreconditionFailed):
            return InvalidRequest(f"{said}; delete it, or give the swarm another name")
        return BusUnavailable(said)

    async def close(self) -> None:
        """Leave; whoever asks next gets a new connection."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed:
            try:
                await asyncio.wait_for(connection.close(), CLOSE_S)
            except FAULTS as error:
                logger.info("a connection to %s did not end well: %s", self._settings.shown, error)


def _tls(settings: BusSettings) -> ssl.SSLContext:
    """Whom we trust, and who we are."""
    context = ssl.create_default_context(cafile=settings.ca or None)
    if settings.cert:
        context.load_cert_chain(settings.cert, settings.key or None)
    return context
