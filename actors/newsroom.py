"""Tells others through the broker how a region is, and what was done to it."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable

from chimera import names
from chimera.errors import ChimeraError
from chimera.store.control import ControlStore
from chimera.swarm.reports import RegionReport, WorkerInfo
from chimera.traffic import reports
from chimera.traffic.herald import Herald
from chimera.traffic.intake import Broker

_log = logging.getLogger(__name__)

#: between two summaries of a region, and two looks at its workers and at the audit log, seconds
SUMMARY_S = 1.0
#: reports of leaders go out with every so many summaries
LEADERS_EVERY = 5
#: entries of the audit log that are told at a time; of those that are older than this process so
#: many are told again
AUDIT_MAX = 200


class Newsroom:
    """A thread that looks and tells. `look` is none for an orchestrator, which has no region."""

    def __init__(
        self, broker: Broker, name: str, store: ControlStore,
        look: Callable[[], RegionReport] | None = None, leaders: Callable[[], int] = lambda: 0,
    ) -> None:  # fmt: skip
        self._broker = broker
        self._name = name
        self._store = store
        self._look = look
        self._leaders = leaders
        self._herald = Herald(broker)
        self._workers: dict[str, tuple[WorkerInfo, str]] = {}
        self._audited: int | None = None
        self._stopping = threading.Event()
        threading.Thread(target=self._run, name="newsroom", daemon=True).start()

    def stop(self) -> None:
        """Tell what is still to be told, for a moment."""
        self._stopping.set()
        self._herald.close(2.0)
        self._broker.bus.close(1.0)

    def _run(self) -> None:
        for number in itertools.count(1):
            if self._stopping.wait(SUMMARY_S):
                return
            try:
                self._turn(number)
            except ChimeraError as fault:
                _log.warning("%s cannot tell the news: %s", self._name, fault)
            except Exception:
                _log.exception("%s cannot tell the news", self._name)

    def _turn(self, number: int) -> None:
        at, topics = time.time_ns() // 1_000_000, self._broker.topics
        if self._look is not None:
            report = self._look()
            summary = reports.region_summary(report, self._leaders(), number, at)
            self._herald.tell(topics.regions, summary, names.coordinator(report.region))
            for event in reports.lifecycle(self._workers, report, at):
                self._herald.tell(topics.workers, event, event.worker)
            self._workers = reports.workers(report)
            if number % LEADERS_EVERY == 1:
                for leader in report.leaders:
                    told = reports.leader_report(leader, report.region, at)
                    self._herald.tell(topics.leaders, told, leader.leader)
        self._tell_audit()

    def _tell_audit(self) -> None:
        if self._audited is None:
            self._audited = max(0, self._store.audit_head() - AUDIT_MAX)
        entries = self._store.audit_entries(self._audited, AUDIT_MAX)
        for event in reports.audits(entries):
            self._herald.tell(
                self._broker.topics.audit, event, self._name, f"{self._name}/{event.seq}"
            )
            self._audited = event.seq
