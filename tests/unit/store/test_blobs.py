"""Claim checks: what was stored comes back, or a clear error; never anything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import stamina
from obstore.exceptions import GenericError, PermissionDeniedError

from chimera.errors import CorruptFrame, InvalidRequest, NotFound, Unavailable
from chimera.store import blobs
from chimera.store.blobs import Blobs


@pytest.fixture(autouse=True)
def _no_waiting():
    with stamina.set_testing(True, attempts=blobs.ATTEMPTS):
        yield


@pytest.fixture
def store(tmp_path):
    return Blobs(f"file://{tmp_path}/objects")


def file_of(tmp_path: Path, claim: bytes) -> Path:
    return tmp_path / "objects" / json.loads(claim)["key"]


@pytest.mark.parametrize("body", [b"", b"x", bytes(range(256)) * 4000])
def test_what_was_stored_comes_back(store, body):
    claim = store.put(body)
    assert json.loads(claim)["size"] == len(body)
    assert store.get(claim) == body


def test_a_bare_path_is_a_directory_and_another_process_finds_it(tmp_path):
    claim = Blobs(str(tmp_path / "here")).put(b"body")
    assert Blobs(f"file://{tmp_path}/here").get(claim) == b"body"


def test_the_same_content_is_stored_once(store, tmp_path):
    assert store.put(b"same") == store.put(b"same")
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_a_claim_is_relative_so_that_a_store_can_be_moved(store, tmp_path):
    claim = store.put(b"body")
    (tmp_path / "objects").rename(tmp_path / "moved")
    assert Blobs(str(tmp_path / "moved")).get(claim) == b"body"


def test_changed_content_is_corrupt(store, tmp_path):
    claim = store.put(b"body")
    file_of(tmp_path, claim).write_bytes(b"bodY")
    with pytest.raises(CorruptFrame, match="not what was stored"):
        store.get(claim)


def test_a_missing_object_is_named(store, tmp_path):
    claim = store.put(b"body")
    file_of(tmp_path, claim).unlink()
    with pytest.raises(NotFound, match=json.loads(claim)["key"]):
        store.get(claim)


def test_deleting_what_is_gone_is_fine(store):
    claim = store.put(b"body")
    store.delete(claim)
    store.delete(claim)
    with pytest.raises(NotFound):
        store.get(claim)


@pytest.mark.parametrize(
    "claim",
    [
        b"",
        b"\xff\xfe",
        b"[1]",
        b'{"key": "a", "size": 1}',
        b'{"key": "../../etc/passwd", "size": 1, "sha256": "%s"}' % (b"0" * 64),
        b'{"key": "%s", "size": 1, "sha256": "../../x"}' % (b"0" * 64),
    ],
)
def test_a_claim_leads_nowhere_but_to_an_object(store, claim):
    for act in (store.get, store.delete):
        with pytest.raises(InvalidRequest, match="claim check"):
            act(claim)


def test_an_unknown_kind_of_store_is_refused():
    with pytest.raises(InvalidRequest, match="nowhere"):
        Blobs("nowhere://bucket")


def failing(times, fault):
    calls = []

    def put(*_):
        calls.append(fault)
        if len(calls) <= times:
            raise fault

    return calls, put


def test_a_passing_fault_is_survived(monkeypatch):
    store = Blobs("memory:///")
    calls, put = failing(blobs.ATTEMPTS - 1, GenericError("connection reset"))
    monkeypatch.setattr(blobs.obstore, "put", put)
    store.put(b"body")
    assert len(calls) == blobs.ATTEMPTS


def test_a_lasting_fault_ends_in_a_retryable_error_after_a_bounded_number_of_tries(monkeypatch):
    store = Blobs("memory:///")
    calls, put = failing(99, GenericError("connection reset"))
    monkeypatch.setattr(blobs.obstore, "put", put)
    with pytest.raises(Unavailable, match="connection reset"):
        store.put(b"body")
    assert len(calls) == blobs.ATTEMPTS


def test_a_refusal_is_not_tried_again(monkeypatch):
    store = Blobs("memory:///")
    calls, put = failing(99, PermissionDeniedError("no"))
    monkeypatch.setattr(blobs.obstore, "put", put)
    with pytest.raises(Unavailable, match="refuses to store"):
        store.put(b"body")
    assert len(calls) == 1
