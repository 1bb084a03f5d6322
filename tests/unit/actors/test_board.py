"""The board: what its worker wrote last, also when that is dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from chimera.actors import board
from chimera.actors.board import Board, BoardWriter


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "deep" / "one.board")


def test_it_is_idle_at_first(path):
    BoardWriter(path)
    assert board.read(path) == Board(0, None, 0)
    assert os.path.getsize(path) == board.BYTES


def test_it_says_what_is_in_hand(path):
    writer = BoardWriter(path)
    writer.begin(2**40)
    assert board.read(path) == Board(2**40, None, 0)
    writer.at(0)
    assert board.read(path) == Board(2**40, 0, 0)
    writer.at(board.UNKNOWN)
    assert board.read(path) == Board(2**40, None, 0)
    writer.at(999)
    writer.end()
    assert board.read(path) == Board(0, None, 0)


def test_heartbeats_change_and_wrap_around(path):
    writer = BoardWriter(path)
    writer.words[board.HEARTBEATS] = 0xFFFFFFFF
    writer.heartbeat()
    assert board.read(path) == Board(0, None, 0)
    writer.heartbeat()
    assert board.read(path) == Board(0, None, 1)


def test_a_former_leaders_dispatch_is_no_number_of_the_new_ones(path):
    writer = BoardWriter(path)
    writer.disown()
    assert board.read(path) == Board(0, None, 0)
    writer.begin(5)
    writer.disown()
    assert board.read(path) == Board(5 | board.FORMER, None, 0)


def test_what_is_not_there_says_nothing(path, tmp_path):
    assert board.read(path) is None
    short = tmp_path / "short"
    short.write_bytes(b"abc")
    assert board.read(str(short)) is None


def test_a_worker_that_cannot_write_one_goes_on_without(tmp_path):
    (tmp_path / "file").write_text("in the way")
    writer = BoardWriter(str(tmp_path / "file" / "one.board"))
    writer.begin(1)
    writer.at(3)
    assert writer.path == ""
    assert BoardWriter("").path == ""


WRITE_AND_DIE = """
import os, signal, sys
from chimera.actors.board import BoardWriter

writer = BoardWriter(sys.argv[1])
writer.begin(7)
writer.at(42)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_outlives_its_writer(path):
    done = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, path], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert board.read(path) == Board(7, 42, 0)
