"""Events over HTTP: each is told once it came whole, whatever the stream was cut in."""

from __future__ import annotations

import itertools
import json

import httpx2
import pytest

from chimera import errors
from tests.unit.http.kit import ID, problem, view


def event(number: int, **members) -> str:
    data = json.dumps(view(number, state="succeeded", **members), ensure_ascii=False)
    return f"id: m{number}\nevent: task.succeeded\ndata: {data}\n\n"


def told(*events: str) -> httpx2.Response:
    return httpx2.Response(200, text="retry: 1\n\n" + "".join(events))


def numbers(records) -> list[int]:
    return [int(one.task_id[-12:], 16) for one in records]


def test_events_go_on_where_they_were_cut_off(client):
    made, sent = client(told(event(1)), httpx2.ReadError("cut"), told(event(2)))
    found = list(itertools.islice(made.events(type="echo"), 2))
    assert [one.task_id for one in found] == [ID.format(1), ID.format(2)]
    assert sent[2].headers["last-event-id"] == "m1"


@pytest.mark.parametrize("end", ["id: m2\n", "\n", '"}\n', '"}\n\n'])
def test_an_event_that_came_in_part_is_told_once_it_came_whole(client, end):
    second = event(2)
    part = second[: second.index(end) + len(end) - 1]
    made, sent = client(told(event(1), part), told(event(2), event(3)))
    assert numbers(itertools.islice(made.events(), 3)) == [1, 2, 3]
    assert sent[1].headers["last-event-id"] == "m1"


def test_a_gateway_that_is_replaced_is_waited_for(client):
    made, sent = client(
        told(event(1)), problem(503, "not_ready"), httpx2.Response(500, text="died"),
        httpx2.ConnectError("refused"), told(event(2)),
    )  # fmt: skip
    assert numbers(itertools.islice(made.events(), 2)) == [1, 2]
    assert sent[-1].headers["last-event-id"] == "m1"


def test_what_no_other_try_would_mend_ends_the_events(client):
    made, _ = client(told(event(1)), problem(422, "invalid_request"))
    found = made.events()
    assert numbers([next(found)]) == [1]
    with pytest.raises(errors.InvalidRequest):
        next(found)


@pytest.mark.parametrize(
    "answer", [lambda _: problem(503, "not_ready"), httpx2.ConnectError("refused")]
)
def test_a_gateway_that_never_told_anything_is_told_at_once(client, answer):
    made, sent = client(answer)
    with pytest.raises(errors.NotReady):
        next(made.events())
    assert len(sent) == 1


@pytest.mark.parametrize("odd", ["\u2028", "\x85", "\u2029"])
def test_what_python_takes_for_the_end_of_a_line_is_none_here(client, odd):
    made, _ = client(told(event(1, result=f"a{odd}b")))
    (found,) = itertools.islice(made.events(), 1)
    assert json.loads(found.body) == f"a{odd}b"
