"""The wire format of records, Confluent's: a zero byte, the schema's id (int32, big-endian), Avro.

Read, but not written: the newer form, byte 1 and the schema's GUID (16 bytes).
https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/#wire-format
"""

from __future__ import annotations

import struct
from uuid import UUID

from chimera.errors import BadRecord

_HEADER = struct.Struct(">bI")
_GUID_END = 17


def header(id: int) -> bytes:
    """What comes before the Avro bytes that are written by the schema of this id."""
    return _HEADER.pack(0, id)


def split(record: bytes) -> tuple[int | UUID, memoryview]:
    """The schema's id or GUID, and the Avro bytes. Raises BadRecord."""
    view = memoryview(record)
    if len(view) >= _HEADER.size and view[0] == 0:
        return _HEADER.unpack_from(view)[1], view[_HEADER.size :]
    if len(view) >= _GUID_END and view[0] == 1:
        return UUID(bytes=bytes(view[1:_GUID_END])), view[_GUID_END:]
    began = bytes(view[:5]).hex(" ") or "nothing"
    raise BadRecord(
        f"a record of {len(view)} bytes that begins with {began}: "
        "expected 00, a schema's id of 4 bytes, and Avro"
    )
