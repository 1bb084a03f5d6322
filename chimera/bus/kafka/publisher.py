"""Publishing to Kafka: an idempotent producer, made anew when it failed for good."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from chimera.bus.kafka.client import BATCH_MAX_BYTES, Health, configuration, translate
from chimera.bus.limits import Budget
from chimera.bus.protocol import Record, too_large
from chimera.bus.settings import BusSettings
from chimera.errors import BusUnavailable, ChimeraError

logger = logging.getLogger(__name__)

#: a record that the broker did not take is given up, whatever its caller's deadline was
DELIVERY_S = 30.0
#: a refusal (wrong password) is noticed within so long
_SLICE_S = 0.1


class _Call:
    """One `publish` in progress: its answers come from the polling thread."""

    def __init__(self, count: int) -> None:
        self.answers: list[ChimeraError | None] = [None] * count
        self._open = set(range(count))
        self._changed = threading.Condition()

    def answer(self, index: int, error: ChimeraError | None) -> None:
        with self._changed:
            if index in self._open:
                self.answers[index] = error
                self._open.discard(index)
                if not self._open:
                    self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, max(0.0, timeout))

    def give_up(self, error: ChimeraError) -> None:
        """Answer what has no answer."""
        with self._changed:
            for index in self._open:
                self.answers[index] = error
            self._open.clear()


class _Session:
    """One producer, from its birth to its end or to an error that it does not survive."""

    def __init__(self, config: dict[str, Any], health: Health) -> None:
        self._health = health
        self.fatal: KafkaError | None = None
        self.producer = Producer({**config, "error_cb": self.note})

    def note(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._FATAL:
            self.fatal = error
        self._health.note(error)


class Publisher:
    """A producer and the thread that hears its answers; both are made at the first publish."""

    def __init__(self, settings: BusSettings, health: Health, publish_bytes: int) -> None:
        self._config = {
            **configuration(settings, health),
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 0,  # what is produced while a request is under way shares the next one
            "message.max.bytes": BATCH_MAX_BYTES,
            "message.timeout.ms": int(DELIVERY_S * 1000),
            "queue.buffering.max.messages": 0,  # ours is the bound: bytes
            "queue.buffering.max.kbytes": 2_097_151,
        }
        self._health = health
        self._budget = Budget(publish_bytes)
        self._lock = threading.Lock()
        self._session: _Session | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def publish(self, records: Sequence[Record], timeout: float) -> list[ChimeraError | None]:
        began = time.monotonic()
        end = began + timeout
        call = _Call(len(records))
        stopped: ChimeraError | None = None
        for index, record in enumerate(records):
            if refused := too_large(record):
                call.answer(index, refused)
            elif stopped:  # nothing overtakes a record that was not sent
                call.answer(index, stopped)
            else:
                stopped = self._send(call, index, record, end)
        while not call.wait(min(_SLICE_S, end - time.monotonic())):
            if refusal := self._health.refusal(began):
                call.give_up(refusal)
            elif time.monotonic() >= end or self._closed:
                call.give_up(self._health.fault())
        return call.answers

    def _send(self, call: _Call, index: int, record: Record, end: float) -> ChimeraError | None:
        """Queue one record; says so if later ones must not be queued either."""
        size = record.size
        if not self._budget.take(size, end - time.monotonic()):
            error = self._health.fault()
            call.answer(index, error)
            return error
        try:
            self._queue(record, partial(self._answered, call, index, record))
        except (KafkaException, BufferError, ChimeraError) as fault:
            self._budget.give_back(size)
            answer = _explain(fault, record.topic)
            call.answer(index, answer)
            return answer if isinstance(answer, BusUnavailable) else None
        return None

    def _queue(self, record: Record, answered: Callable[..., None]) -> None:
        session = self._current()
        try:
            session.producer.produce(
                record.topic,
                record.value,
                record.key,
                record.partition,
                on_delivery=answered,
                timestamp=record.timestamp or 0,
                headers=list(record.headers),
            )
        except KafkaException as fault:
            if fault.args[0].fatal() or fault.args[0].code() == KafkaError._FATAL:
                session.fatal = fault.args[0]
            raise

    def _answered(
        self, call: _Call, index: int, record: Record, error: KafkaError | None, _: Message
    ) -> None:
        self._budget.give_back(record.size)
        if error is None:
            self._health.works()
            call.answer(index, None)
        elif error.code() in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            call.answer(index, self._health.fault())
        else:
            call.answer(index, translate(error, record.topic))

    def _current(self) -> _Session:
        """The session that takes records; a new one in place of one that has failed for good."""
        with self._lock:
            if self._closed:
                raise BusUnavailable("this bus is closed")
            if self._session is None:
                self._session = _Session(self._config, self._health)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._poll, name="bus-kafka-publisher", daemon=True
                )
                self._thread.start()
            return self._session

    def _poll(self) -> None:
        """Hear answers; drop a session that has failed for good."""
        while not self._closed:
            session = self._session
            if session is None:
                time.sleep(_SLICE_S)  # between a failed session and the next publish
                continue
            session.producer.poll(_SLICE_S)
            if session.fatal is not None:
                logger.warning("the producer failed (%s): it is made anew", session.fatal)
                with self._lock:
                    self._session = None
                session.producer.purge()
                session.producer.flush(1)  # the purged records get their answers

    def close(self, timeout: float) -> None:
        """Let what is under way finish, for `timeout` at most; then nothing is sent any more."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            bounded(partial(_finish, session.producer, timeout), timeout + 1)
        self._closed = True


def _explain(fault: Exception, topic: str) -> ChimeraError:
    if isinstance(fault, ChimeraError):
        return fault
    if isinstance(fault, BufferError):
        return BusUnavailable("the producer's queue is full")
    return translate(fault.args[0], topic)


def _finish(producer: Producer, timeout: float) -> None:
    producer.flush(timeout)
    producer.purge()
    producer.flush(1)


def bounded(work: Callable[[], Any], timeout: float) -> bool:
    """Run in a thread, wait for `timeout` seconds; librdkafka's own waits may be longer."""
    thread = threading.Thread(target=work, name="bus-kafka-closing", daemon=True)
    thread.start()
    thread.join(timeout)
    return not thread.is_alive()
