"""Where a swarm's Ray cluster is, and whether the recorded head still lives."""

from __future__ import annotations

import os

import msgspec
import pytest

from chimera.client import address
from chimera.client.address import Head
from chimera.errors import ChimeraError


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("CHIMERA_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("CHIMERA_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def record(swarm="local", pid=None, start=None) -> Head:
    pid = os.getpid() if pid is None else pid
    start = address.start_ticks(pid) if start is None else start
    head = Head("127.0.0.1:7777", "2.60.0", "/tmp/x", pid, {pid: start}, {"RAY_AUTH_MODE": "token"})
    path = address.head_file(swarm)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(head))
    return head


def test_the_caller_says_more_than_the_environment(monkeypatch):
    record()
    monkeypatch.setenv("RAY_ADDRESS", "ray:1")
    assert address.resolve("local").address == "ray:1"
    monkeypatch.setenv("CHIMERA_ADDRESS", "chimera:1")
    assert address.resolve("local").source == "CHIMERA_ADDRESS"
    assert address.resolve("local", "given:1").address == "given:1"


def test_else_it_is_the_head_that_up_started():
    head = record()
    where = address.resolve("local")
    assert where.address == head.address
    assert where.environment == {"RAY_AUTH_MODE": "token"}
    assert address.resolve("other") is None


def test_a_dead_head_is_none():
    record(pid=os.getpid(), start=1)  # the pid is somebody else's by now
    assert address.find_head("local") is None
    assert address.read_head("local") is not None


def test_a_damaged_record_is_an_error():
    record()
    address.head_file("local").write_text("{")
    with pytest.raises(ChimeraError, match="cannot be read"):
        address.resolve("local")


def test_the_start_of_a_process():
    assert address.start_ticks(os.getpid()) == address.start_ticks(os.getpid())
    assert address.start_ticks(2**22 + 1) is None


def test_home_is_in_the_users_directory(monkeypatch, tmp_path):
    monkeypatch.delenv("CHIMERA_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert address.home() == tmp_path / ".chimera"
