"""Coordinators watch the orchestrator, which has no parent: a silent one is ended (P19).

Ray restarts a dead orchestrator by itself, but never notices a paused one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from chimera.actors import processes
from chimera.actors.cluster import Cluster
from chimera.actors.watch import Watch
from chimera.errors import ChimeraError
from chimera.swarm.health import Health, HealthPolicy
from chimera.swarm.reports import OrchestratorPulse

#: silence after which the first coordinator ends the orchestrator, seconds; the next one, in the
#: order of names, waits as long again, for the first may be dead as well
SILENCE_S = 5.0
#: how long the orchestrator holds the watch, seconds
HOLD_S = 1.0
#: between two looks, seconds
LOOK_S = 0.25
#: for the GCS to find it, seconds
FIND_S = 5.0
#: for it to start, or to be restarted by Ray, until its first word, seconds
START_S = 30.0


class Guard:
    """Watches the orchestrator in a thread of its own.

    `rank` is this coordinator's place among all by name. `audit` is called with the reason before
    the orchestrator is ended, and must not return before that is recorded.
    """

    def __init__(
        self,
        cluster: Cluster,
        me: str,
        orchestrator: str,
        rank: int,
        audit: Callable[[str], None],
    ) -> None:
        self._cluster = cluster
        self._me = me
        self._orchestrator = orchestrator
        self._silence_s = SILENCE_S * (rank + 1)
        self._audit = audit
        self._stopped = threading.Event()
        self._lost = threading.Event()
        self._watch: Watch | None = None
        self._handle: Any = None
        self._pulse: OrchestratorPulse | None = None
        self._heard = threading.Event()
        self._thread = threading.Thread(target=self._run, name="guard", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Watch it no longer."""
        self._stopped.set()
        if self._watch is not None:
            self._watch.stop()

    def _run(self) -> None:
        health = self._expect(START_S)
        while not self._stopped.wait(LOOK_S):
            if self._watch is None or self._lost.is_set():
                self._attach()
                health = self._expect(START_S)
                continue
            now = time.monotonic()
            if self._heard.is_set():
                self._heard.clear()
                if health.policy.suspect_s != self._silence_s:
                    health = self._expect(self._silence_s)
                health.pulse(self._orchestrator, now)
            if health.tick(now):
                self._act(health.silence(self._orchestrator, now))
                self._pulse = None
                health = self._expect(START_S)

    def _expect(self, silence_s: float) -> Health:
        """Begin to count its silence anew."""
        health = Health(HealthPolicy(suspect_s=silence_s, tick_s=LOOK_S, jitter_s=LOOK_S))
        health.expect(self._orchestrator, time.monotonic())
        return health

    def _attach(self) -> None:
        try:
            handle = self._cluster.find(self._orchestrator, FIND_S)
        except ChimeraError:
            return  # the GCS is away: nothing is known of the orchestrator
        if handle is None:
            return
        if self._watch is not None:
            self._watch.stop()
        self._handle = handle
        self._lost.clear()
        self._watch = Watch(
            self._cluster,
            lambda: handle.watch.remote(self._me, HOLD_S),
            self._on_pulse,
            lambda _: self._lost.set(),
        )
        self._watch.start()

    def _on_pulse(self, pulse: OrchestratorPulse) -> None:
        self._pulse = pulse
        self._heard.set()

    def _act(self, silent_s: float) -> None:
        """End it, unless it has died by itself: then Ray is restarting it."""
        pulse, watch = self._pulse, self._watch
        if pulse is not None and processes.alive(pulse.process) is False:
            return
        self._audit(f"silent for {silent_s:.1f} s")
        ended = processes.Ended.ELSEWHERE
        if pulse is not None:
            ended = processes.end(
                pulse.process,
                called_off=lambda: watch is not None and watch.quiet_s() < LOOK_S,
            )
        if ended is processes.Ended.ELSEWHERE:
            try:
                self._cluster.kill(self._handle, for_good=False)
            except ChimeraError:
                return  # the GCS is away, and with it whoever could restart it
