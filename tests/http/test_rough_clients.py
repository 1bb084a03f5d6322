"""Clients that are slow, huge, broken or gone: clear answers, bounded memory, others are served."""

from __future__ import annotations

import json
import re
import select
import threading
import time
from contextlib import ExitStack

import pytest

from tests.http.kit import NDJSON, bulk, edge_memory, lines, problem

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

#: how long a client does not read, seconds
DEAF_S = 10.0
MIB = 1024 * 1024
HEAD = "POST {} HTTP/1.1\r\nhost: x\r\ncontent-type: {}\r\n"


class Watched:
    """How much the edge's memory grew while something was done to it."""

    def __enter__(self):
        self.before = self.most = edge_memory()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self):
        while not self._ended.wait(0.1):
            self.most = max(self.most, edge_memory())

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    @property
    def grown(self):
        return self.most - self.before


def is_served(api) -> bool:
    """Whether somebody else's request is answered meanwhile."""
    return api.submit(1).json()["result"] == 1


def test_half_open_connections_and_slow_heads_keep_nobody_out(api):
    with Watched() as memory, ExitStack() as stack:
        for number in range(200):
            line = stack.enter_context(api.connect())
            if number % 2:
                line.sendall(b"POST /v1/tasks HTTP/1.1\r\nhost: x\r\ncontent-")
        assert is_served(api)
    assert memory.grown < 64 * MIB


def test_a_slow_body_is_given_up_and_others_are_served(api):
    with api.connect() as slow:
        head = HEAD.format("/v1/tasks", "application/json") + "content-length: 100\r\n\r\n{"
        slow.sendall(head.encode())
        assert is_served(api)
        answer = b""  # nothing more is sent
        while b"too slowly" not in answer and (piece := slow.recv(4096)):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"too slowly" in answer


def test_a_client_that_goes_away_amid_its_bulk_leaves_the_tasks_that_it_was_told_of(api):
    tasks = ({"type": "client.echo", "payload": n, "delay_s": 3600} for n in range(5000))
    body = lines(*tasks)
    with api.connect() as gone:
        head = HEAD.format("/v1/tasks:batch", NDJSON) + f"chimera-tenant: {api.tenant}\r\n"
        gone.sendall(f"{head}content-length: {len(body) + 9}\r\n\r\n".encode() + body)
        answer = b""  # of what was gathered; the rest waits for a line's end that does not come
        while not (told := set(re.findall(rb'"id":"([0-9a-f-]{36})"', answer))):
            answer += gone.recv(4096)
    assert is_served(api)
    cursor, found = "", []
    while cursor is not None:
        more = f"&cursor={cursor}" if cursor else ""
        page = api("GET", f"/v1/tasks?limit=1000&state=scheduled{more}").json()
        found += [task["id"] for task in page["tasks"]]
        cursor = page["cursor"]
    assert {id_.decode() for id_ in told} <= set(found)
    assert len(set(found)) == len(found) <= 5000


def test_ten_thousand_lines_are_all_accepted_once(api):
    body = lines(*({"type": "client.echo", "payload": n, "idempotency_key": f"i{n}"}
                   for n in range(10_000)))  # fmt: skip
    told, last = bulk(api, body)
    assert (last["accepted"], last["refused"]) == (10_000, 0)
    again, last = bulk(api, body)
    assert last["duplicates"] == 10_000
    assert {n: one["id"] for n, one in again.items()} == {n: one["id"] for n, one in told.items()}


def test_a_hundred_megabytes_pass_in_bounded_memory(api):
    line = lines({"type": "client.echo", "payload": "x" * 10_000, "delay_s": 3600})
    with Watched() as memory:
        told, last = bulk(api, (line for _ in range(10_000)))
        assert is_served(api)
    assert (last["accepted"], len(told)) == (10_000, 10_000)
    # Serve's Python proxy keeps up to three copies of a body
    assert memory.grown < 400 * MIB


def test_a_body_without_end_is_cut_off(api):
    piece = b"%x\r\n%b\r\n" % (MIB, b"x" * MIB)
    with Watched() as memory, api.connect() as endless:
        head = HEAD.format("/v1/tasks", "application/json") + "transfer-encoding: chunked\r\n\r\n"
        endless.sendall(head.encode())
        pieces = (piece for _ in range(500))
        while not select.select([endless], [], [], 0.0)[0]:
            endless.sendall(next(pieces))
        assert endless.recv(100).startswith(b"HTTP/1.1 413 ")
        assert is_served(api)
    assert memory.grown < 200 * MIB


def test_a_line_without_end_ends_its_bulk_and_keeps_what_came_before(api):
    good = lines({"type": "client.echo", "payload": 1})
    told, last = bulk(api, iter([good, b'{"type": "client.echo", "payload": "', b"x" * (18 * MIB)]))
    assert told[1]["id"]
    assert (last["done"], last["accepted"]) == (False, 1)
    assert last["error"]["code"] == "payload_too_large"


def test_broken_lines_and_wrong_encodings_are_told_by_number(api):
    good = {"type": "client.echo", "payload": "ü"}
    body = b"\n".join([
        json.dumps(good).encode(), b"[", b"\xff", json.dumps(good).encode("utf-16"), b'"x"', b"",
        b'{"type": 1}', json.dumps(good, ensure_ascii=False).encode(),
    ])  # fmt: skip
    told, last = bulk(api, body)
    # in UTF-16 the line's end is no byte of its own: what is left of it is a line more
    bad = {number for number, one in told.items() if "error" in one}
    assert {2, 3, 4, 5, 7} <= bad
    assert last["accepted"] == 2
    assert "not UTF-8" in told[3]["error"]["detail"]
    assert told[7]["error"]["errors"][0]["pointer"] == "/type"


def test_a_flood_of_headers_is_refused(api):
    with api.connect() as line:
        flood = b"".join(b"x-%d: y\r\n" % number for number in range(5000))
        line.sendall(b"GET /v1/tasks HTTP/1.1\r\nhost: x\r\n" + flood + b"\r\n")
        assert line.recv(20)[9:12] in (b"431", b"400")
    assert is_served(api)


def test_who_does_not_read_does_not_fill_the_memory(api):
    """Answers of a bulk wait in bounded memory, and its lines are taken no further than that."""
    body = b'{"type":"no"}\n' * 400_000
    with Watched() as memory, api.connect() as deaf:
        head = HEAD.format("/v1/tasks:batch", NDJSON) + f"content-length: {len(body)}\r\n\r\n"
        deaf.sendall(head.encode())
        sender = threading.Thread(target=_send, args=(deaf, body))
        sender.start()
        end = time.monotonic() + DEAF_S
        while sender.is_alive() and time.monotonic() < end:
            assert is_served(api)
    sender.join()
    assert memory.grown < 300 * MIB


def _send(line, body):
    try:
        line.sendall(body)
    except OSError:
        pass  # the connection was closed: it is what the test ends with


def test_a_large_result_comes_in_pieces_as_it_is(api):
    size = 12 * MIB
    done = api.submit(size, type="http.large")
    assert done.json()["result"] is None
    with Watched() as memory:
        for _ in range(3):
            answer = api("GET", done.json()["result_url"])
            assert (answer.status_code, len(answer.content)) == (200, size + 2)
    assert answer.json() == "x" * size
    assert memory.grown < 150 * MIB
    problem(api("GET", done.json()["result_url"].replace("/result", "x/result")), 422,
            "invalid_request")  # fmt: skip
