"""Sessions: no id twice, not even in a forked child."""

from __future__ import annotations

import os
import threading

from chimera.client.session import Session


def in_child(work) -> str:
    """What `work` returns in a forked child."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, str(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


def test_ids_are_consecutive_a_shard():
    session = Session()
    assert session.take(0, 10).first == 0
    assert session.take(0, 5).first == 10
    assert session.take(1, 1).first == 0


def test_sessions_differ():
    assert len({Session().bits for _ in range(100)}) == 100


def test_threads_share_no_id():
    session = Session()
    taken: list[int] = []

    def work() -> None:
        taken.extend(session.take(3, 2).first for _ in range(500))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(0, 4000, 2))


def test_a_forked_child_draws_anew():
    session = Session()
    session.take(0, 7)
    said = in_child(lambda: (session.bits, session.take(0, 1)))
    assert str(session.bits) not in said
    assert "first=0" in said
    assert session.take(0, 1).first == 7


def test_a_child_forked_while_another_thread_takes_ids_is_not_stuck():
    session = Session()
    with session._lock:
        assert "first=0" in in_child(lambda: session.take(0, 1))


def test_when_the_counter_is_used_up_the_session_changes():
    session = Session()
    bits = session.bits
    session._next[0] = (1 << 46) - 3
    assert session.take(0, 3).session == bits
    again = session.take(0, 1)
    assert again.session != bits
    assert again.first == 0
