"""What became of frames that clients sent through a broker: kept in memory until they ask.

A new owner knows nothing of what the former one took in: a client that is told nothing in time
sends the frame again, which the journal recognises (P12).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

from chimera.store.protocol import Receipt

#: answers that are kept
KEPT_MAX = 20_000

#: a receipt, or a refusal as plain data
Answer = Receipt | dict[str, Any]
#: of a frame: tenant, session, counter of its first task
Sender = tuple[str, int, int]


class Told(NamedTuple):
    """What is known of the frames that were asked for."""

    answers: list[Answer | None]  #: None: not taken in yet
    stalled: dict[str, Any] | None  #: why the shard takes nothing in just now


class Receipts:
    """Answers by shard and frame. Safe for threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._kept: OrderedDict[tuple[int, Sender], Answer] = OrderedDict()
        self._stalled: dict[int, dict[str, Any]] = {}

    def keep(self, shard: int, answers: Sequence[tuple[Sender, Answer]]) -> None:
        """These are decided."""
        with self._changed:
            for sender, answer in answers:
                self._kept[shard, sender] = answer
                self._kept.move_to_end((shard, sender))
            while len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
            self._changed.notify_all()

    def stall(self, shard: int, refusal: dict[str, Any] | None) -> None:
        """A shard takes nothing in just now, or does so again (None)."""
        with self._changed:
            if refusal is None:
                self._stalled.pop(shard, None)
            elif self._stalled.get(shard) != refusal:
                self._stalled[shard] = refusal
                self._changed.notify_all()

    def wait(self, shard: int, senders: Sequence[Sender], wait_s: float) -> Told:
        """What became of some frames; waits until all are decided, or the shard is stalled."""
        until = time.monotonic() + wait_s
        with self._changed:
            while True:
                answers = [self._kept.get((shard, sender)) for sender in senders]
                stalled = self._stalled.get(shard)
                left = until - time.monotonic()
                if all(answers) or stalled is not None or left <= 0:
                    return Told(answers, stalled)
                self._changed.wait(left)
