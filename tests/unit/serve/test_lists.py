"""Lists of tasks and of dead letters, over HTTP."""

from __future__ import annotations

import time
from datetime import datetime, timezone

import pytest

#: when the tests begin, in whole seconds: owners accept nothing that was made long before
NOW = int(time.time())


@pytest.fixture
def submit(gateway, http):
    """Submits a task that is accepted so many seconds from NOW, by the owner's clock."""

    def submit(at: int, payload=1, **members) -> str:
        gateway.leaders.now_ms = lambda: (NOW + at) * 1000
        answer = http.post("/v1/tasks", json={"type": "echo", "payload": payload, **members})
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    return submit


def listed(http, path: str, **query) -> list[str]:
    """Ids of all pages."""
    found, cursor = [], None
    while True:
        page = http.get(path, params={**query, **({"cursor": cursor} if cursor else {})})
        assert page.status_code == 200, page.text
        found += [one["id"] for one in page.json()["tasks"]]
        cursor = page.json()["cursor"]
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_a_slower_clock_after_a_takeover_hides_nothing_from_a_list(http, submit, limit):
    ids = [submit(at) for at in (0, 60, 120, 30, 90)]

    def found(**query) -> list[str]:
        return listed(http, "/v1/tasks", limit=limit, **query)

    assert found(since=NOW + 60) == [ids[4], ids[2], ids[1]]
    assert found(until=NOW + 60) == [ids[3], ids[0]]
    assert found(since=NOW + 30, until=NOW + 90.001) == [ids[4], ids[3], ids[1]]
    assert found(since=NOW + 121) == []
    moment = datetime.fromtimestamp(NOW + 60, timezone.utc).isoformat()
    assert found(since=moment) == [ids[4], ids[2], ids[1]]


@pytest.mark.parametrize("moment", ["yesterday", "-1", "1e11", "2026-12-01T04:42:00", "nan"])
def test_what_is_no_moment_is_refused(http, moment):
    for bound in ("since", "until"):
        assert http.get("/v1/tasks", params={bound: moment}).status_code == 422


@pytest.mark.parametrize("moment", [-1, 1e11, "2026-12-01", True])
def test_what_is_no_moment_in_a_body_is_refused(http, moment):
    chosen = {"until": moment, "dry_run": True}
    assert http.post("/v1/dead-letters/replay", json=chosen).status_code == 422


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/dead-letters", "/admin/v1/swarm"])
def test_a_parameter_that_is_not_known_is_no_filter_that_is_passed_over(http, path):
    answer = http.get(path, params={"stat": "failed"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/stat"
    assert http.get("/livez", params={"t": "1"}).status_code == 200, "a probe may say what it likes"


class TestDeadLetters:
    @pytest.fixture
    def letters(self, gateway, submit):
        def fail(payload):
            raise ValueError(payload)

        gateway.leaders.handler = fail
        return [submit(at, tags=["import"]) for at in range(5)]

    def test_a_filter_goes_on_past_those_that_were_given_up(self, http, letters):
        def give_up() -> list[str]:
            chosen = {"tag": "import", "limit": 2}
            return http.post("/v1/dead-letters/discard", json=chosen).json()["ids"]

        assert [give_up() for _ in range(4)] == [
            [letters[4], letters[3]], [letters[2], letters[1]], [letters[0]], [],
        ]  # fmt: skip

    def test_what_was_given_up_is_failed_and_no_dead_letter(self, http, letters):
        gone = letters.pop(1)
        assert http.delete(f"/v1/dead-letters/{gone}").status_code == 204
        rest = letters[::-1]
        for query in ({}, {"tag": "import"}, {"type": "echo"}):
            assert listed(http, "/v1/dead-letters", **query) == rest
        for verb in ("discard", "replay"):
            chosen = {"tag": "import", "dry_run": True}
            assert http.post(f"/v1/dead-letters/{verb}", json=chosen).json()["ids"] == rest
            named = http.post(f"/v1/dead-letters/{verb}", json={"ids": [gone], "dry_run": True})
            assert named.status_code == 404
        shown = http.get(f"/v1/dead-letters/{gone}")
        assert (shown.status_code, shown.json()["code"]) == (404, "not_found")
        assert "was given up" in shown.json()["detail"]
        assert http.get(f"/v1/tasks/{gone}").json()["dead_letter"] is False
        assert http.get(f"/v1/dead-letters/{rest[0]}").json()["dead_letter"] is True
        assert gone in listed(http, "/v1/tasks", state="failed")

    @pytest.mark.parametrize("verb", ["discard", "replay"])
    @pytest.mark.parametrize(
        "chosen", [{}, {"dry_run": True}, {"all": True, "type": "echo"}, {"ids": [], "tag": "x"}]
    )
    def test_who_does_not_say_which_changes_nothing(self, http, letters, verb, chosen):
        answer = http.post(f"/v1/dead-letters/{verb}", json=chosen)
        assert answer.status_code == 422
        assert "say which" in answer.json()["detail"]
        assert listed(http, "/v1/dead-letters") == letters[::-1]

    def test_all_of_them_are_given_up_by_a_word_of_their_own(self, http, letters):
        chosen = {"since": NOW + 2, "until": NOW + 3}
        assert http.post("/v1/dead-letters/discard", json=chosen).json()["ids"] == [letters[2]]
        done = http.post("/v1/dead-letters/discard", json={"all": True}).json()["ids"]
        assert done == [letters[at] for at in (4, 3, 1, 0)]

    def test_a_list_says_why_they_failed_and_nothing_of_what_it_does_not_look_up(
        self, http, letters
    ):
        (first, *_) = http.get("/v1/dead-letters").json()["tasks"]
        assert first["failure"]["error"].endswith("ValueError")
        assert first["failure"]["traceback"] is None
        assert not {"payload", "result", "progress"} & first.keys()
        (first, *_) = http.get("/v1/tasks").json()["tasks"]
        assert not {"payload", "result", "progress", "failure"} & first.keys()

    def test_they_are_bounded_by_when_they_were_accepted(self, http, letters):
        found = listed(http, "/v1/dead-letters", since=NOW + 1, until=NOW + 3)
        assert found == [letters[2], letters[1]]


def test_a_cancel_of_what_waits_leaves_alone_what_runs(gateway, http, submit):
    runs, waits = (submit(0) for _ in range(2))
    gateway.leaders.running = {(0, 0)}
    for one, state in ((runs, "running"), (waits, "cancelled")):
        answer = http.delete(f"/v1/tasks/{one}", params={"only_waiting": True})
        assert (answer.status_code, answer.json()["state"]) == (200, state)
        assert not answer.json()["cancel_requested"]
