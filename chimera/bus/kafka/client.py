"""How every client of Kafka is set up, and what its errors mean."""

from __future__ import annotations

import threading
import time
from typing import Any

from confluent_kafka import KafkaError

from chimera.bus.protocol import RECORD_MAX_BYTES, missing
from chimera.bus.settings import BusSettings
from chimera.errors import (
    BusUnauthorized,
    BusUnavailable,
    ChimeraError,
    RecordTooLarge,
)

#: what surrounds a record of full size in a batch on the wire
ENVELOPE_BYTES = 64 * 1024
BATCH_MAX_BYTES = RECORD_MAX_BYTES + ENVELOPE_BYTES
_REFUSED = frozenset({
    KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError.ILLEGAL_SASL_STATE,
})  # fmt: skip
_MISSING = frozenset({
    KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION,
})  # fmt: skip
_TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})


def configuration(settings: BusSettings, health: Health) -> dict[str, Any]:
    """What producers, consumers and administrators have in common."""
    config: dict[str, Any] = {
        "bootstrap.servers": ",".join(settings.hosts),
        "client.id": "chimera",
        "error_cb": health.note,
        "log_level": 2,  # else a line for each reconnect; what matters comes as an error
        "allow.auto.create.topics": False,
        "socket.keepalive.enable": True,
        "socket.timeout.ms": 10_000,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1_000,
        # how long a topic may be unknown before a record for it is refused
        "topic.metadata.propagation.max.ms": 5_000,
        "security.protocol": ("SASL_" if settings.user else "")
        + ("SSL" if settings.tls else "PLAINTEXT"),
    }
    if settings.user:
        config["sasl.mechanism"] = settings.mechanism
        config["sasl.username"] = settings.user
        config["sasl.password"] = settings.password
    files = {
        "ssl.ca.location": settings.ca,
        "ssl.certificate.location": settings.cert,
        "ssl.key.location": settings.key,
    }
    config.update({key: path for key, path in files.items() if path})
    return config


def translate(error: KafkaError, topic: str = "") -> ChimeraError:
    """One of Kafka's errors as one of ours."""
    code, said = error.code(), f"Kafka says: {error.str()}"
    if code in _REFUSED:
        return BusUnauthorized(said)
    if code in _MISSING:
        return missing(topic) if topic else BusUnavailable(said)
    if code in _TOO_LARGE:
        return RecordTooLarge(f"a record for topic {topic}: {said}")
    return BusUnavailable(said)


#: a broker that has just started may refuse users that it has not read yet
_REFUSAL_S = 1.0
#: a refusal is repeated with each reconnect; one this old says nothing of the present
_STALE_S = 5.0


class Health:
    """The newest error of a client's connections, until something works again.

    Kafka's clients report a wrong password or certificate nowhere else: requests just time out.
    """

    def __init__(self, shown: str) -> None:
        self.shown = shown  #: where we connect, for messages
        self._lock = threading.Lock()
        self._error: ChimeraError | None = None
        self._first = 0.0  #: when this kind of error came first, on the monotonic clock
        self._last = 0.0

    def note(self, error: KafkaError) -> None:
        """librdkafka's error callback; what is fatal for a producer is dealt with there."""
        found = translate(error)
        now = time.monotonic()
        with self._lock:
            recent = self._error is not None and now - self._last < _STALE_S
            if recent and isinstance(self._error, BusUnauthorized):
                if not isinstance(found, BusUnauthorized):
                    return  # "all brokers are down" follows each refusal and says less
            elif not recent or isinstance(found, BusUnauthorized):
                self._first = now
            self._error = type(found)(f"{self.shown}: {found.message}")
            self._last = now

    def works(self) -> None:
        """A broker did what was asked."""
        if self._error is not None:
            with self._lock:
                self._error = None

    def refusal(self, since: float) -> ChimeraError | None:
        """Whether the broker has refused us for a while, and after `since` (monotonic clock)."""
        with self._lock:
            refused = isinstance(self._error, BusUnauthorized) and self._last >= since
            return self._error if refused and self._last - self._first >= _REFUSAL_S else None

    def fault(self) -> ChimeraError:
        """Why nothing came in time, as far as it is known."""
        with self._lock:
            return self._error or BusUnavailable(f"{self.shown}: no answer in time")

    def broken(self) -> ChimeraError | None:
        """The newest error, if nothing has worked since."""
        with self._lock:
            return self._error
