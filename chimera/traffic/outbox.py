"""Publishing what was recorded: past a mark in the journal, at least once (P10)."""

from __future__ import annotations

import time

from chimera.bus.protocol import Record, first_error
from chimera.store.protocol import Journal
from chimera.traffic.intake import Broker
from chimera.traffic.results import results

#: the consumer's name in the journal
CONSUMER = "broker"
#: rows of one turn, at most: each may be a thousand tasks
ROWS_MAX = 20
#: for the broker to take them, seconds
PUBLISH_S = 10.0


class Outbox:
    """One shard's results on their way out, for as long as it is served here."""

    def __init__(self, journal: Journal, broker: Broker) -> None:
        self._journal = journal
        self._broker = broker
        self._mark = journal.published(CONSUMER)

    def turn(self) -> int:
        """Publish what is next; how many events that were. 0: there was nothing.

        Raises what kept it from being published, and goes on there at the next call.
        """
        entries = self._journal.outbox(self._mark, ROWS_MAX)
        if not entries:
            return 0
        records: list[Record] = []
        for entry in entries:
            for told in results(
                entry, self._journal.shard, self._journal.epoch, self._broker.source,
                self._journal.read,
            ):  # fmt: skip
                shard, topics, write = self._journal.shard, self._broker.topics, self._broker.writer
                by = f"{told.result.type}.{told.result.state}"
                records.append(write.record(topics.results, shard, told.result, told.envelope, by))
                if told.dead_letter is not None:
                    records.append(
                        write.record(
                            topics.dead_letters, shard, told.dead_letter, told.envelope, "failed"
                        )
                    )
        fault = first_error(self._broker.bus.publish(records, PUBLISH_S)) if records else None
        if fault is not None:
            raise fault
        self._journal.publish(CONSUMER, entries[-1].seq, time.time_ns() // 1_000_000)
        self._mark = entries[-1].seq
        return len(records)
