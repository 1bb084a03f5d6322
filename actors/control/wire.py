"""What clients ask of leaders, as bytes between Ray clusters: typed both ways, never pickled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from chimera.actors.waiters import OutcomesReply
from chimera.errors import ChimeraError, from_wire
from chimera.store.protocol import Filter, Receipt, TaskRecord
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.reports import Placement, RegionReport
from chimera.swarm.rosters import Known
from chimera.traffic.receipts import Told

T = TypeVar("T")


class Either(msgspec.Struct, Generic[T], omit_defaults=True):
    """A value, or an error as plain data."""

    value: T | None = None
    error: dict[str, Any] | None = None


class Asked(msgspec.Struct):
    """`Told`, as it travels."""

    answers: list[Either[Receipt] | None]
    stalled: dict[str, Any] | None


#: verb → types of its arguments, and of its answer; the verbs are methods of a leader
VERBS: dict[str, tuple[Any, Any]] = {
    "append": (tuple[int, list[bytes]], list[Either[Receipt]]),
    "call": (tuple[int, float, bytes], tuple[Either[Receipt], int | None, bytes | None, bool]),
    "cancel": (tuple[str, int, int, int, str], str),
    "cancel_waiting": (tuple[str, int, int, int, str], str),
    "discard": (tuple[str, int, int, int], None),
    "get": (tuple[str, list[tuple[int, int, int]], bool], list[Either[TaskRecord]]),
    "happened": (tuple[int, str, int, int], tuple[int, list[tuple[int, TaskRecord]]]),
    "list_tasks": (tuple[int, Filter, int | None, int], list[TaskRecord]),
    "outcomes": (
        tuple[int, list[tuple[int, int]], float, int],
        tuple[OutcomesReply, list[bytes | None]],
    ),
    "progress_of": (tuple[int, int], Any),
    "replay": (tuple[str, int, int, int], str),
    "receipts": (tuple[int, float, list[tuple[str, int, int]]], Asked),
    "types": (tuple[()], list[TaskPolicy]),
}


def _plain(value: Any) -> Any:
    if isinstance(value, ChimeraError):
        return value.to_wire()
    if type(value).__name__ == "ActorHandle":
        return None  # of no use in another Ray cluster
    raise TypeError(f"{type(value).__name__} does not travel between clusters")


def _object(kind: type, value: Any) -> Any:
    if kind is ChimeraError:
        return from_wire(value)
    raise TypeError(f"{kind} does not travel between clusters")


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_plain)
_JSON = msgspec.json.Encoder(enc_hook=_plain)
_ARGUMENTS = {
    verb: msgspec.msgpack.Decoder(kind, dec_hook=_object) for verb, (kind, _) in VERBS.items()
}
_ANSWERS = {
    verb: msgspec.msgpack.Decoder(kind, dec_hook=_object) for verb, (_, kind) in VERBS.items()
}
_REPORT = msgspec.json.Decoder(RegionReport)
_KNOWN = msgspec.json.Decoder(Known)
_PLACEMENT = msgspec.json.Decoder(Placement)


def pack_arguments(verb: str, args: Sequence[Any]) -> bytes:
    """The arguments of a leader's method."""
    if verb == "append":
        args = (args[0], args[1:])
    return _ENCODER.encode(args)


def unpack_arguments(verb: str, data: bytes) -> tuple[Any, ...]:
    """What `pack_arguments` packed. Raises KeyError, msgspec.DecodeError."""
    found: tuple[Any, ...] = _ARGUMENTS[verb].decode(data)
    return (found[0], *found[1]) if verb == "append" else found


def pack_answer(verb: str, answer: Any) -> bytes:
    """What a leader answered."""
    if verb in ("append", "get"):
        answer = [_either(one) for one in answer]
    elif verb == "call":
        answer = (_either(answer[0]), *answer[1:])
    elif verb == "receipts":
        answer = Asked([one and _either(one) for one in answer.answers], answer.stalled)
    elif verb == "outcomes":
        answer = (answer[0], answer[1:])
    return _ENCODER.encode(answer)


def unpack_answer(verb: str, data: bytes) -> Any:
    """What `pack_answer` packed. Raises msgspec.DecodeError."""
    found = _ANSWERS[verb].decode(data)
    if verb in ("append", "get"):
        return [_neither(one) for one in found]
    if verb == "call":
        return (_neither(found[0]), *found[1:])
    if verb == "receipts":
        return Told([one and _neither(one) for one in found.answers], found.stalled)
    if verb == "outcomes":
        return (found[0], *found[1])
    return found


def pack_json(value: RegionReport | Placement | Known) -> bytes:
    return _JSON.encode(value)


def unpack_report(data: bytes) -> RegionReport:
    return _REPORT.decode(data)


def unpack_known(data: bytes) -> Known:
    """Rosters; none of an asker that does not know of them, and wants reports in full."""
    return _KNOWN.decode(data) if data else {}


def unpack_placement(data: bytes) -> Placement:
    return _PLACEMENT.decode(data)


def _either(one: Any) -> Either[Any]:
    return Either(error=one) if isinstance(one, dict) else Either(value=one)


def _neither(one: Either[Any]) -> Any:
    return one.value if one.error is None else one.error
