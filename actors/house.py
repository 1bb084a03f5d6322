"""Keeps a leader's house: what is past its retention goes, what is to be kept is archived first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from chimera.actors.clock import unix_ms
from chimera.actors.shards import Shards
from chimera.errors import ChimeraError
from chimera.store import archive
from chimera.store.archive import Archive
from chimera.store.blobs import Blobs
from chimera.store.lifecycle import Lifecycle
from chimera.store.protocol import Journal

#: between two sweeps, seconds, and frames that one sweep looks at
SWEEP_S = 5.0
SWEEP_FRAMES = 1000
#: between two files of a shard in the archive, unless there is enough for one, seconds
ARCHIVE_S = 60.0
#: recorded rows that are enough for a file
ARCHIVE_ROWS = 100
#: between two looks at objects, seconds
OBJECTS_S = 600.0
_WRITE = "write"


class House:
    """A thread that looks after every shard that is served here."""

    def __init__(
        self, shards: Shards, fault: Callable[[str, str], None], mend: Callable[[str], None]
    ) -> None:
        """`fault` and `mend` take a key under which a fault is shown until it is mended."""
        self._shards = shards
        self._fault = fault
        self._mend = mend
        self._archive: tuple[str, Archive] | None = None
        self._archived: dict[int, float] = {}
        self._looked_at = time.monotonic()
        self._faults: set[str] = set()
        threading.Thread(target=self._run, name="house", daemon=True).start()

    @staticmethod
    def is_store(key: str) -> bool:
        """Whether the fault that is shown under a key is that a journal cannot be written."""
        return key.startswith(f"{_WRITE}-")

    def unwritable(self, shard: int, fault: ChimeraError) -> None:
        """Show that a shard's journal could not be written, until a sweep can write to it."""
        self._show(_WRITE, "cannot write", shard, fault)

    def _run(self) -> None:
        while True:
            time.sleep(SWEEP_S)
            owned = self._shards.owned()
            for shard in owned:
                self._try("archive", "cannot archive", shard, self._keep)
                self._try(_WRITE, "cannot write", shard, _sweep)
            if time.monotonic() - self._looked_at >= OBJECTS_S:
                self._looked_at = time.monotonic()
                for shard in owned:
                    self._try("objects", "cannot tidy objects", shard, self._tidy)
            for key in [one for one in list(self._faults) if _shard(one) not in owned]:
                self._faults.discard(key)
                self._mend(key)

    def _try(self, part: str, what: str, shard: int, work: Callable[[Journal], None]) -> None:
        try:
            work(self._shards.journal(shard))
        except ChimeraError as fault:
            self._show(part, what, shard, fault)
        else:
            key = f"{part}-{shard}"
            self._faults.discard(key)
            self._mend(key)

    def _show(self, part: str, what: str, shard: int, fault: ChimeraError) -> None:
        key = f"{part}-{shard}"
        self._fault(f"shard {shard} {what}: {fault.message}", key)
        self._faults.add(key)  # after it is shown: the house mends what is in here

    def _keep(self, journal: Journal) -> None:
        """Archive what is settled: now and then, or when there is much of it."""
        url, now = self._shards.config.archive, time.monotonic()
        if not url:
            archive.abandon(journal)
            return
        if self._archive is None or self._archive[0] != url:
            self._archive = (url, Archive(url))
        newest = journal.happened(-1, 0)[0]
        behind = newest - journal.published(archive.DONE)
        if behind < ARCHIVE_ROWS and now - self._archived.get(journal.shard, 0.0) < ARCHIVE_S:
            return
        self._archived[journal.shard] = now
        while self._archive[1].step(journal, unix_ms()):
            if journal.published(archive.DONE) >= newest:
                return

    def _tidy(self, journal: Journal) -> None:
        """Mark the objects that a shard still needs; whoever has the first one sweeps."""
        config, now = self._shards.config, unix_ms()
        retention_ms = round(config.outcome_retention_s * 1000)
        kept_ms = retention_ms + round(config.resend_window_s * 1000)
        name = f"{config.swarm} {journal.stats()['session']}"
        lifecycle = Lifecycle(Blobs(config.objects_url), name, config.shards, kept_ms)
        lifecycle.mark(journal.shard, journal.claims(now - retention_ms), now)
        if journal.shard == 0:
            lifecycle.sweep(now)


def _shard(key: str) -> int:
    return int(key.rpartition("-")[2])


def _sweep(journal: Journal) -> None:
    """Remove what is past its retention, a little at a time."""
    journal.probe()
    journal.sweep(unix_ms(), SWEEP_FRAMES)
