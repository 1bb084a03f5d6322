"""What a task may bear besides its payload, whatever way it comes in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chimera.errors import InvalidRequest

#: bytes of an ordering or idempotency key, at most
KEY_BYTES_MAX = 1024
TAGS_MAX = 16
TAG_BYTES_MAX = 128


def check_key(name: str, key: Any) -> str:
    """Return the key if it may be one; `name` says which. Raises InvalidRequest."""
    if not isinstance(key, str) or not key:
        raise InvalidRequest(f"{name} is a text that is not empty, not {key!r}")
    if len(key) > KEY_BYTES_MAX or (not key.isascii() and len(key.encode()) > KEY_BYTES_MAX):
        raise InvalidRequest(f"{name} has at most {KEY_BYTES_MAX} bytes")
    return key


def check_tags(given: Sequence[Any]) -> tuple[str, ...]:
    """The tags as a tuple, if they may be some. Raises InvalidRequest."""
    if isinstance(given, str):
        raise InvalidRequest(f"tags are a list of texts, not the text {given!r}")
    tags = tuple(given)
    if len(tags) > TAGS_MAX:
        raise InvalidRequest(f"{len(tags)} tags: a task has at most {TAGS_MAX}")
    for tag in tags:
        if not isinstance(tag, str) or not tag or len(tag.encode()) > TAG_BYTES_MAX:
            raise InvalidRequest(f"{tag!r} is no tag: a text of 1 to {TAG_BYTES_MAX} bytes")
    return tags
