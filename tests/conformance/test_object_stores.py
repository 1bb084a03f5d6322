"""Claim checks, lifecycle and archive over real HTTP, and what becomes of them in trouble."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import stamina

from chimera.cli.backends import look_at_objects
from chimera.config import make_spec
from chimera.errors import CorruptFrame, InvalidRequest, NotFound, Unavailable
from chimera.store.archive import Archive, abandon
from chimera.store.blobs import Blobs, parse
from chimera.store.lifecycle import FRESH_MS, Lifecycle
from chimera.store.memory import MemoryJournal
from chimera.store.memory_disk import MemoryDisk
from tests.conformance.journal_kit import FAILED, ME, NOW, OK, SHARD, accept, ended, frame, settle
from tests.servers import s3
from tests.servers.s3 import S3


@pytest.fixture(scope="module")
def moto_server() -> Iterator[S3]:
    with s3.moto() as started:
        yield started


@pytest.fixture(scope="module")
def gateway_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3.gateway(s3.versitygw(), tmp_path_factory.mktemp("s3")) as started:
        yield started


#: the first time on a machine it is built
GATEWAY = pytest.param("gateway_server", marks=pytest.mark.timeout(900))
SERVERS = ["moto_server", *([GATEWAY] if s3.has_versitygw() else [])]


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> S3:
    return request.getfixturevalue(request.param)


@pytest.fixture
def bucket(server: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket's URL."""
    return new_bucket(server, monkeypatch)


def new_bucket(server: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its URL; clients of this process find the server."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return server.bucket(f"b-{uuid.uuid4().hex[:12]}")


@pytest.fixture(autouse=True)
def _few_tries() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2):
        yield


@pytest.mark.parametrize("size", [0, 100, 17 << 20])
def test_what_was_stored_comes_back(bucket: str, size: int):
    body = bytes(size)
    claim = Blobs(bucket).put(body)
    assert json.loads(claim)["size"] == size
    assert Blobs(bucket).get(claim) == body
    assert Blobs(bucket).put(body) == claim
    Blobs(bucket).delete(claim)
    Blobs(bucket).delete(claim)
    with pytest.raises(NotFound):
        Blobs(bucket).get(claim)


def test_a_changed_object_is_told_and_not_given(bucket: str, server: S3):
    claim = Blobs(bucket).put(b"body")
    server.overwrite(bucket.split("/")[2], parse(claim).key, b"bodY")
    with pytest.raises(CorruptFrame, match="not what was stored"):
        Blobs(bucket).get(claim)


def test_a_missing_bucket_and_a_store_that_is_down_are_told(bucket: str, monkeypatch):
    with pytest.raises(Unavailable, match="no such bucket"):
        Blobs("s3://there-is-none").put(b"x")
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(Unavailable, match="cannot store"):
        Blobs(bucket).put(b"x")


def test_wrong_credentials_are_told(bucket: str, server: S3, monkeypatch: pytest.MonkeyPatch):
    if server.server is None:
        return  # moto takes any
    claim = Blobs(bucket).put(b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for act in (lambda: Blobs(bucket).put(b"y"), lambda: Blobs(bucket).get(claim)):
        with pytest.raises(Unavailable, match="credentials") as refused:
            act()
        assert s3.SECRET not in str(refused.value)


def test_what_was_acknowledged_survives_the_servers_crash(bucket: str, server: S3):
    if server.server is None:
        return  # moto keeps objects in memory
    claim = Blobs(bucket).put(b"kept")
    server.server.kill()
    server.server.start()
    assert Blobs(bucket).get(claim) == b"kept"


@pytest.mark.parametrize(
    "url",
    ["gs://bucket/prefix", "az://container/prefix", "abfss://fs@account.dfs.core.windows.net/p"],
)
def test_other_clouds_are_named_by_url(url: str, monkeypatch: pytest.MonkeyPatch):
    """Only that their clients are made: no such cloud is asked for anything."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    assert Blobs(url).url == url


# -- lifecycle

KEPT_MS = 60_000


@pytest.fixture(params=["file", *SERVERS])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    if request.param == "file":
        return Blobs(str(tmp_path / "objects"))
    return Blobs(new_bucket(request.getfixturevalue(request.param), monkeypatch))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_objects_that_nobody_refers_to_go_when_they_are_old(store: Blobs):
    used, unused = store.put(b"used"), store.put(b"unused")
    store.write("somebody/elses", b"file")
    sweeper = Lifecycle(store, "local 1", 2, KEPT_MS)
    later = now_ms() + KEPT_MS + 2 * FRESH_MS + 1000
    assert sweeper.sweep(later) == 0  # a shard has not said what it needs
    sweeper.mark(0, [used, b"no claim check"], later)
    sweeper.mark(1, [], later - FRESH_MS - 1)
    assert sweeper.sweep(later) == 0  # or said so too long ago
    sweeper.mark(1, [], later)
    assert sweeper.sweep(later - 2000) == 0  # or they are too young
    assert sweeper.sweep(later) == 1
    assert store.get(used) == b"used"
    assert store.read("somebody/elses") == b"file"
    with pytest.raises(NotFound):
        store.get(unused)
    sweeper.mark(0, [], later)
    assert sweeper.sweep(later) == 1


def test_a_store_of_two_swarms_is_not_swept(store: Blobs):
    store.put(b"x")
    sweepers = [Lifecycle(store, name, 1, KEPT_MS) for name in ("local 1", "local 2")]
    later = now_ms() + KEPT_MS + 3 * FRESH_MS
    for sweeper in sweepers:
        sweeper.mark(0, [], later)
    assert sweepers[0].sweep(later) == 1
    store.put(b"x")
    with pytest.raises(InvalidRequest, match="swarm 'local 1'"):
        sweepers[1].sweep(later)


# -- archive


def settled_journal(frames: int = 3) -> MemoryJournal:
    journal = MemoryJournal(MemoryDisk(), SHARD, outcome_retention_s=60)
    journal.take(0, ME)
    for at in range(frames):
        accept(journal, frame(at * 3, tags=[["x"], [], []]))
        settle(journal, ended(at * 3, [OK, FAILED, OK]), now=NOW + at)
    return journal


def test_settled_tasks_are_archived_once_and_read_by_others(store: Blobs):
    journal = settled_journal()
    archive = Archive(store.url)
    assert archive.step(journal, NOW) == 9
    assert archive.step(journal, NOW) == 0
    settle(journal, ended(accept(journal, frame(9, 2))[0].position, [OK, OK]), now=NOW + 9)
    assert archive.step(journal, NOW) == 2
    assert len(archive.files()) == 2
    found = pl.concat([pl.from_arrow(table) for table in archive.tables()])
    assert found["task_id"].n_unique() == found.height == 11
    assert found["state"].value_counts(sort=True).rows() == [("succeeded", 8), ("failed", 3)]
    row = found.row(0, named=True)
    assert (row["shard"], row["tags"], row["payload"]) == (SHARD, ["x"], '{"n": 0}')
    assert row["settled_at"].timestamp() * 1000 == NOW
    assert archive.files()[0].startswith(f"outcomes/shard={SHARD:04d}/")


def test_a_file_that_was_begun_is_made_again_the_same(store: Blobs, monkeypatch):
    journal = settled_journal()
    archive = Archive(store.url)
    write = Blobs.write

    def written_and_died(self: Blobs, name: str, body: bytes) -> None:
        write(self, name, body)
        raise Unavailable("the answer was lost")

    with monkeypatch.context() as patched:
        patched.setattr(Blobs, "write", written_and_died)
        with pytest.raises(Unavailable):
            archive.step(journal, NOW)
    settle(journal, ended(accept(journal, frame(9, 2))[0].position, [OK, OK]), now=NOW + 9)
    assert (archive.step(journal, NOW), archive.step(journal, NOW)) == (9, 2)
    ids = [one for table in archive.tables() for one in table["task_id"].to_pylist()]
    assert len(ids) == len(set(ids)) == 11


def test_nothing_is_swept_before_it_is_archived(store: Blobs, monkeypatch: pytest.MonkeyPatch):
    journal = settled_journal()
    archive = Archive(store.url)
    archive.step(journal, NOW)
    settle(journal, ended(accept(journal, frame(9, 2))[0].position, [OK, OK]), now=NOW)
    with monkeypatch.context() as patched:
        patched.setattr(Blobs, "write", lambda *_: raise_unavailable())
        with pytest.raises(Unavailable):
            archive.step(journal, NOW + 50_000)
    assert journal.sweep(NOW + 59_000 + 10_000, 99).frames == 3
    assert archive.step(journal, NOW + 70_000) == 2
    assert journal.sweep(NOW + 70_000, 99).frames == 1
    journal.take(1, ME)
    abandon(journal)
    assert journal.published("archive") == 0


def raise_unavailable() -> None:
    raise Unavailable


def test_a_broken_file_is_told(store: Blobs):
    store.write("outcomes/shard=0000/1-2.parquet", b"PAR1 or not")
    with pytest.raises(CorruptFrame, match="no Parquet file"):
        list(Archive(store.url).tables())


def test_what_is_wrong_with_a_store_is_told_with_what_to_do(
    bucket: str, server: S3, monkeypatch: pytest.MonkeyPatch
):
    def told(url: str) -> tuple[str, str, str]:
        return look_at_objects(make_spec({"handlers": ["a"], "objects": url}))

    assert told(bucket)[0] == "ok"
    assert (
        told("s3://there-is-none/x")[2]
        == "make the bucket there-is-none: aws s3 mb s3://there-is-none"
    )
    if server.server is not None:
        with monkeypatch.context() as wrong:
            wrong.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
            state, _, mend = told(bucket)
        assert (state, mend.split(",")[0]) == (
            "fail",
            "see AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:1")
    state, saw, mend = told(bucket)
    assert (state, mend) == ("fail", "see that the store answers, and AWS_ENDPOINT and AWS_REGION")
    assert "Debug source" not in saw
