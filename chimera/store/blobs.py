"""Payloads and results too large for a frame: in an object store, a claim check in their place.

A claim check is JSON: `{"key": …, "size": …, "sha256": …}`. The key follows from the content, so
that storing something again changes nothing; it is relative to the store, so that a store can be
moved and a claim can never lead anywhere else. What is read is verified.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import obstore
import stamina
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    JoinError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, from_url

from chimera.errors import CorruptFrame, InvalidRequest, NotFound, Unavailable

T = TypeVar("T")

#: bytes of a large object that are read at once
PIECE = 256 * 1024
#: tries of one operation, on top of what a remote store's client does for itself
ATTEMPTS = 4
#: all tries of one operation together, seconds
TIMEOUT_S = 20.0

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class Claim(msgspec.Struct, frozen=True):
    """A claim check."""

    key: str  #: within the store
    size: int  #: bytes
    sha256: str  #: of the content, as hex


_decode = msgspec.json.Decoder(Claim).decode
_encode = msgspec.json.Encoder().encode


def _said(error: Exception) -> str:
    """Without what a library adds for its own developers."""
    return str(error).partition("\n\nDebug source")[0]


class Blobs:
    """An object store. Safe to use from several threads."""

    def __init__(self, url: str) -> None:
        """`url` is file:///…, s3://…, gs://…, az://… or memory:///; a bare path is a directory.

        Raises InvalidRequest for a URL that is none of these.
        """
        self.url = url if "://" in url else Path(url).absolute().as_uri()
        try:
            local = self.url.startswith("file:")
            # the client's type knows each store's options, but not which store an URL means
            self._store: Any = from_url(self.url, mkdir=True) if local else from_url(self.url)
        except (BaseError, ValueError, OSError) as error:
            raise InvalidRequest(
                f"object store {self.url!r}: {_said(error)}", url=self.url
            ) from error

    @property
    def shown(self) -> str:
        """The URL without what may be a secret in it."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def put(self, body: bytes) -> bytes:
        """Store `body` durably; returns its claim check. Raises Unavailable."""
        digest = sha256(body).hexdigest()
        claim = Claim(_key(digest), len(body), digest)
        self.write(claim.key, body)
        return _encode(claim)

    def get(self, claim_check: bytes) -> bytes:
        """What a claim check stands for.

        Raises InvalidRequest for what is no claim check, NotFound, CorruptFrame if the content is
        not what was stored, Unavailable.
        """
        claim = parse(claim_check)
        body = self.read(claim.key)
        if len(body) != claim.size or sha256(body).hexdigest() != claim.sha256:
            raise CorruptFrame(f"object {claim.key} in {self.shown} is not what was stored")
        return body

    def pieces(self, claim_check: bytes) -> tuple[int, Iterator[bytes]]:
        """What a claim check stands for: its size in bytes, and its content as it is read.

        The last piece comes when the content was verified. Raises as `get`, CorruptFrame and
        Unavailable while reading.
        """
        claim = parse(claim_check)
        found = self._try("read", claim.key, lambda: obstore.get(self._store, claim.key))
        return claim.size, self._verified(claim, found)

    def _verified(self, claim: Claim, found: Any) -> Iterator[bytes]:
        digest, got, last = sha256(), 0, b""
        try:
            for piece in found.stream(min_chunk_size=PIECE):
                if last:
                    yield last
                last = bytes(piece)
                digest.update(last)
                got += len(last)
        except (BaseError, OSError) as error:
            raise Unavailable(
                f"cannot read on in {claim.key} in {self.shown}: {_said(error)}"
            ) from error
        if got != claim.size or digest.hexdigest() != claim.sha256:
            raise CorruptFrame(f"object {claim.key} in {self.shown} is not what was stored")
        yield last

    def delete(self, claim_check: bytes) -> None:
        """Remove it, also for every other claim check of the same content. Raises Unavailable."""
        self.remove([parse(claim_check).key])

    # objects by name

    def write(self, name: str, body: bytes) -> None:
        """Store durably what goes by a name, in place of what did so before. Raises Unavailable."""
        try:
            self._try("store", name, lambda: self._put(name, body))
        except NotFound as fault:
            raise Unavailable(f"cannot store in {self.shown}: there is no such bucket") from fault

    def create(self, name: str, body: bytes) -> bytes:
        """Store it unless there is one of that name; what there is then. Raises Unavailable."""
        try:
            self._try("store", name, lambda: obstore.put(self._store, name, body, mode="create"))
        except AlreadyExistsError:
            return self.read(name)
        return body

    def read(self, name: str) -> bytes:
        """Raises NotFound, Unavailable."""
        return self._try("read", name, lambda: bytes(obstore.get(self._store, name).bytes()))

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Names below a prefix, and when each was stored last, Unix ms. Raises Unavailable."""

        def listed() -> Any:
            return obstore.list(self._store, prefix or None).collect()

        for one in self._try("list", prefix, listed):
            yield one["path"], round(one["last_modified"].timestamp() * 1000)

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects; one that is gone already is no fault. Raises Unavailable."""
        for name in names:
            with contextlib.suppress(NotFound):
                self._try("delete", name, partial(obstore.delete, self._store, name))

    def _put(self, name: str, body: bytes) -> None:
        obstore.put(self._store, name, body)
        if isinstance(self._store, LocalStore) and self._store.prefix is not None:
            # the store renames a finished file into place; only this outlives a power loss
            top = Path(self._store.prefix)
            path = top / name
            while path != top.parent:
                _fsync(path)
                path = path.parent

    def _try(self, verb: str, name: str, work: Callable[[], T]) -> T:
        try:
            for attempt in stamina.retry_context(
                on=_is_transient, attempts=ATTEMPTS, timeout=TIMEOUT_S, wait_max=2.0
            ):
                with attempt:
                    return work()
            raise AssertionError("unreachable")
        except AlreadyExistsError:
            raise
        except (NotFoundError, FileNotFoundError) as error:
            raise NotFound(f"there is no object {name} in {self.shown}", url=self.shown) from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise Unavailable(
                f"{self.shown} refuses to {verb} {name}: see that the credentials are right and"
                f" allow it: {_said(error)}",
                url=self.shown,
            ) from error
        except (BaseError, OSError) as error:
            raise Unavailable(
                f"cannot {verb} object {name} in {self.shown}: {_said(error)}", url=self.shown
            ) from error


def parse(claim_check: bytes) -> Claim:
    """A claim check's parts. Raises InvalidRequest unless it is one of ours."""
    try:
        claim = _decode(claim_check)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"not a claim check: {error}") from error
    if not _SHA256.match(claim.sha256) or claim.key != _key(claim.sha256):
        raise InvalidRequest(f"not a claim check of ours: {claim.key!r}")
    return claim


def _key(digest: str) -> str:
    return f"{digest[:2]}/{digest}"


def _is_transient(error: Exception) -> bool:
    """Whether another try may help: stores report timeouts and refusals as `GenericError`."""
    return isinstance(error, (GenericError, JoinError)) or (
        isinstance(error, OSError) and not isinstance(error, (FileNotFoundError, PermissionError))
    )


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
