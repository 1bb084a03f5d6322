"""Durations as a mergeable sketch: quantiles within 1 %, in constant space, whoever measured them.

DDSketch (Masson, Rim and Lee, VLDB 2019), by Datadog's library; its protobuf form is what travels.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from ddsketch import DDSketch, LogCollapsingLowestDenseDDSketch
from ddsketch.mapping import LogarithmicMapping
from ddsketch.pb.ddsketch_pb2 import DDSketch as Message
from ddsketch.pb.proto import DDSketchProto

_Proto: Any = DDSketchProto  #: the library annotates it in part
_Mapping: Any = LogarithmicMapping

#: relative error of a quantile
ACCURACY = 0.01
_MAPPING = _Mapping(ACCURACY)
#: buckets of one sketch: at this accuracy 1 µs to a month; past that the shortest share one
BUCKETS = 2048


class Sketch:
    """Durations seen by one process."""

    def __init__(self) -> None:
        self._sketch = LogCollapsingLowestDenseDDSketch(ACCURACY, BUCKETS)

    def add(self, seconds: float, count: int = 1) -> None:
        """`count` things took `seconds` each."""
        self._sketch.add(max(seconds, 0.0), count)

    def to_bytes(self) -> bytes:
        """All that was added so far."""
        return bytes(_Proto.to_proto(self._sketch).SerializeToString())


def merged(parts: Iterable[bytes]) -> bytes:
    """All that the sketches saw, as one."""
    return bytes(_Proto.to_proto(_whole(parts)).SerializeToString())


def quantiles(parts: Iterable[bytes], shares: Sequence[float]) -> tuple[float, ...] | None:
    """Quantiles, in seconds, of everything that the sketches saw; None: nothing.

    `shares` are between 0 and 1. Each part is counted as often as it is given: whoever merges
    reports sees to it that none is given twice (chimera.swarm.merge).
    """
    whole = _whole(parts)
    if not whole.count:
        return None
    return tuple(whole.get_quantile_value(share) or 0.0 for share in shares)


def _whole(parts: Iterable[bytes]) -> DDSketch:
    whole = DDSketch(ACCURACY)
    for part in parts:
        message = Message()
        message.ParseFromString(part)
        whole.merge(_Proto.from_proto(message))
    return whole


def cumulated(parts: Iterable[bytes], bounds: Sequence[float]) -> tuple[list[int], float]:
    """How many took up to each bound, and all; and the sum of seconds.

    As a Prometheus histogram has it. The sum, too, is within `ACCURACY`.
    """
    counts = [0] * (len(bounds) + 1)
    total = 0.0
    for part in parts:
        message = Message()
        message.ParseFromString(part)
        counts[bisect_left(bounds, 0.0)] += round(message.zeroCount)
        store = message.positiveValues
        for place, count in enumerate(store.contiguousBinCounts, store.contiguousBinIndexOffset):
            if count:
                value = _MAPPING.value(place)
                total += value * count
                counts[bisect_left(bounds, value)] += round(count)
    return list(accumulate(counts)), total
