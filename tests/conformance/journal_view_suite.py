"""What every journal tells of its tasks, and how long it keeps them."""

from __future__ import annotations

from typing import Any

import pytest

from chimera import errors
from chimera.frames import command, outcome
from chimera.store.opened import keys_of_ended
from chimera.store.protocol import Filter
from tests.conformance.journal_kit import (
    BOUND,
    CANCELLED,
    DAY,
    EXPIRED,
    FAILED,
    FAILURE,
    NOW,
    OK,
    OPEN,
    Bench,
    accept,
    ended,
    frame,
    opened,
    settle,
    single,
    states,
    task_id,
)


class ListSuite:
    """Lists and single tasks, as a user sees them."""

    def test_a_list_goes_backwards_page_by_page(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 3), frame(3, 4))
        pages = []
        cursor = None
        while page := journal.list(Filter(), cursor, 3):
            pages.append([record.position for record in page])
            cursor = pages[-1][-1]
        assert pages == [[6, 5, 4], [3, 2, 1], [0]]
        assert all(record.payload is None for record in journal.list(Filter(), None, 9))

    def test_a_task_is_told_by_the_frame_that_settled_it(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 3))
        settle(journal, ended(0, [OK, OPEN, OPEN], attempt=1))
        settle(journal, ended(0, [OK, FAILED, OPEN], attempt=2), now=NOW + 5)
        settle(journal, ended(1, [OK, OK], attempt=3), now=NOW + 9)
        records = [journal.find("default", 7, at) for at in range(3)]
        assert [(r.state, r.attempts, r.settled_at) for r in records] == [
            ("succeeded", 1, NOW),
            ("failed", 2, NOW + 5),
            ("succeeded", 3, NOW + 9),
        ]
        assert [r.body for r in records] == [b"0", FAILURE, b"2"]

    def test_keys_are_told_of_the_tasks_that_have_an_outcome(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 4, keys=["a", "b", None, "d"]), frame(4, 1))
        settle(journal, ended(0, [OK, OPEN, OK, OPEN]), singles=(single(3, CANCELLED), single(4)))
        told = keys_of_ended(journal, range(9))
        assert told == ((0, "default", "a"), (3, "default", "d"))

    def test_filters_hold_together(self, bench: Bench):
        journal = bench.owned()
        acme = command.Head("u", "acme", 0, NOW)
        accept(
            journal,
            frame(0, 4, tags=[["x"], ["x", "y"], [], []], keys=["k", None, None, None]),
            frame(4, 3, head=acme, tags=[["x"], [], []], not_before=[0, 0, NOW + 5]),
            frame(7, 2, head=acme),
        )
        settle(journal, ended(0, [OK, FAILED, OPEN, CANCELLED]), singles=(single(7, FAILED),))

        def found(**where: str) -> list[int]:
            return [record.position for record in journal.list(Filter(**where), None, 99)]

        assert found(type="u") == found(tenant="acme") == [8, 7, 6, 5, 4]
        assert found(state="failed") == [7, 1]
        assert found(state="failed", type="t") == [1]
        assert found(state="queued") == [8, 5, 4, 2]
        assert found(state="scheduled") == [6]
        assert found(state="succeeded") == [0]
        assert found(state="cancelled") == [3]
        assert found(state="expired") == found(type="t", tenant="acme") == []
        assert found(tag="x") == [4, 1, 0]
        assert found(tag="x", tenant="default", state="succeeded") == [0]
        (record,) = journal.list(Filter(tag="y"), None, 9)
        assert (record.tags, record.key, record.priority) == (("x", "y"), None, 1)
        assert journal.list(Filter(), 1, 9)[0].key == "k"

    def test_what_is_rare_is_found_among_many_frames(self, bench: Bench):
        journal = bench.owned()
        names = [f"k{at}" for at in range(300)]
        accept(journal, *(frame(at, 1, keys=[names[at]], tags=[["x"]]) for at in range(300)))
        for at in (0, 7, 150, 299):
            settle(journal, singles=(single(at, CANCELLED),))
        first = journal.list(Filter(state="cancelled"), None, 3)
        assert [record.position for record in first] == [299, 150, 7]
        assert [record.key for record in first] == ["k299", "k150", "k7"]
        assert [r.position for r in journal.list(Filter(state="cancelled"), 7, 3)] == [0]
        queued = journal.list(Filter(state="queued", tag="x"), None, 500)
        assert [r.position for r in queued] == sorted({*range(300)} - {0, 7, 150, 299})[::-1]
        assert [r.key for r in queued] == [f"k{r.position}" for r in queued]

    def test_what_ended_in_pieces_is_told_once_and_in_order(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 3), frame(3, 6, tags=[["x"]] * 6), frame(9, 2))
        settle(journal, ended(4, [FAILED, OPEN, FAILED]))
        settle(journal, ended(3, [FAILED, OPEN, OPEN, OPEN, OPEN, FAILED]))
        settle(journal, ended(0, [FAILED, OK, FAILED]), singles=(single(7, FAILED), single(10)))
        settle(journal, ended(9, [CANCELLED]), singles=(single(5, CANCELLED),))

        def found(cursor: int | None = None, limit: int = 99, **where: str) -> list[int]:
            told = journal.list(Filter(**where), cursor, limit)
            return [record.position for record in told]

        assert found(state="failed") == [8, 7, 6, 4, 3, 2, 0]
        assert found(state="failed", cursor=7, limit=3) == [6, 4, 3]
        assert found(state="failed", cursor=3) == [2, 0]
        assert found(state="failed", tag="x") == [8, 7, 6, 4, 3]
        assert found(state="cancelled") == [9, 5]
        assert found(state="succeeded") == [10, 1]

    def test_tags_and_dead_letters_are_found_by_all_that_is_asked_besides(self, bench: Bench):
        journal = bench.owned()
        acme = command.Head("u", "acme", 0, NOW)
        columns = {"tags": [["x"]] * 6, "not_before": [0, 0, 0, 0, NOW + DAY, NOW + DAY]}
        accept(journal, frame(0, 6, **columns), frame(6, 6, head=acme, **columns))
        ends = [OK, FAILED, CANCELLED, OPEN, OPEN, OPEN]
        settle(journal, ended(0, ends), ended(6, ends))
        settle(journal, singles=(single(3, FAILED), single(9, EXPIRED)))
        journal.cancel(5, "", NOW)

        def found(**where: Any) -> list[int]:
            return [record.position for record in journal.list(Filter(**where), None, 99)]

        assert found(tag="x", state="succeeded") == [6, 0]
        assert found(tag="x", state="failed") == [7, 3, 1]
        assert found(tag="x", state="cancelled") == [8, 2]
        assert found(tag="x", state="expired") == [9]
        assert found(tag="x", state="queued") == []
        assert found(tag="x", state="scheduled") == [11, 10, 4]
        assert found(tag="x", state="cancelling") == [5]
        assert found(tag="x", state="scheduled", tenant="acme") == [11, 10]
        assert found(tag="x", type="u") == [11, 10, 9, 8, 7, 6]
        assert found(dead_letters=True) == found(dead_letters=True, state="failed") == [7, 3, 1]
        assert found(dead_letters=True, type="u") == [7]
        assert found(dead_letters=True, tenant="default", tag="x") == [3, 1]
        assert found(dead_letters=True, state="queued") == found(dead_letters=True, tag="y") == []
        assert found(dead_letters=True, tenant="acme", type="t") == []
        accept(journal, frame(12, 2, tags=[["x"], ["x"]]))
        settle(journal, singles=(single(12),))
        assert found(tag="x", state="queued") == [13]
        assert found(tag="x", state="succeeded") == [12, 6, 0]

    def test_times_are_those_of_acceptance_whatever_the_order(self, bench: Bench):
        journal = bench.owned()
        ahead = command.Head("t", at=NOW + 70)  # the clock of who submits says nothing
        columns = {"tags": [["x"], []], "not_before": [0, NOW + DAY]}
        accept(journal, frame(0, 2, **columns), now=NOW + 50)
        accept(journal, frame(2, 2, head=ahead, **columns), now=NOW + 10)  # a slower clock's
        accept(journal, frame(4, 2, **columns), now=NOW + 60)
        settle(journal, singles=[single(at, FAILED) for at in (0, 2, 4)], now=NOW + 99)

        def found(since: int | None, until: int | None, **where: Any) -> list[int]:
            bounds = [None if one is None else NOW + one for one in (since, until)]
            told = journal.list(Filter(**where, since=bounds[0], until=bounds[1]), None, 99)
            return [record.position for record in told]

        assert found(None, None) == [5, 4, 3, 2, 1, 0]
        assert found(50, None) == [5, 4, 1, 0]
        assert found(51, None) == [5, 4]
        assert found(None, 50) == [3, 2]
        assert found(10, 51) == [3, 2, 1, 0]
        assert found(61, None) == found(None, 10) == found(40, 30) == []
        for where in ({"tag": "x"}, {"state": "failed"}, {"dead_letters": True}):
            assert found(50, None, **where) == [4, 0], where
            assert found(None, 60, **where) == [2, 0], where
        assert found(50, None, state="scheduled") == [5, 1]
        newest = journal.list(Filter(since=NOW + 50), 4, 1)
        assert [record.position for record in newest] == [1]
        accept(journal, frame(6, 1), now=NOW + 20)
        accept(journal, frame(7, 1), now=NOW + 50)
        assert found(50, None, state="queued") == [7]
        assert found(None, 50, state="queued") == [6]

    def test_a_list_of_some_positions_holds_no_others(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 4), frame(4, 4), frame(8, 1))
        settle(journal, singles=(single(2), single(5)))

        def found(cursor: int | None, limit: int, **where: str) -> list[int]:
            among = [(4, 7), (0, 1), (2, 4), (50, 60)]
            told = journal.list(Filter(**where), cursor, limit, among)
            return [record.position for record in told]

        assert found(None, 99) == [6, 5, 4, 3, 2, 0]
        assert found(None, 4) == [6, 5, 4, 3]
        assert found(3, 4) == [2, 0]
        assert found(6, 99, state="queued") == [4, 3, 0]
        assert journal.list(Filter(), None, 9, []) == []

    def test_what_is_cancelled_and_goes_on_is_neither_queued_nor_scheduled(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 5, not_before=[0, 0, 0, NOW + 9, NOW + 9], tags=[["x"]] * 5))
        for position in (0, 1, 3):
            journal.cancel(position, "", NOW)
        settle(journal, singles=(single(1, CANCELLED),))

        def found(**where: str) -> list[int]:
            return [record.position for record in journal.list(Filter(**where), None, 9)]

        assert found(state="cancelling") == found(state="cancelling", tag="x") == [3, 0]
        assert (found(state="queued"), found(state="scheduled")) == ([2], [4])
        told = [journal.find("default", 7, at).state for at in range(5)]
        assert told == ["cancelling", "cancelled", "queued", "cancelling", "scheduled"]

    def test_one_task_is_found_by_its_id_and_tenant(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(10, 3, keys=["a", "b", "c"], tags=[[], ["x"], []]), now=NOW + 1)
        claimed = outcome.Columns(claims=[0])
        settle(journal, ended(1, [OK], attempt=4, columns=claimed), now=NOW + 7)
        record = journal.find("default", 7, 11)
        assert record.task_id == task_id(11)
        assert (record.position, record.type, record.tenant) == (1, "t", "default")
        assert (record.state, record.attempts) == ("succeeded", 4)
        assert (record.accepted_at, record.settled_at) == (NOW + 1, NOW + 7)
        assert (record.key, record.tags, record.payload) == ("b", ("x",), b'{"n": 11}')
        assert (record.body, record.body_is_claim) == (b"1", True)
        for tenant, session, counter in (("acme", 7, 11), ("default", 8, 11), ("default", 7, 13)):
            with pytest.raises(errors.NotFound):
                journal.find(tenant, session, counter)


class SweepSuite:
    """Retention (P10, P12, P14)."""

    def test_what_is_settled_and_old_goes_and_what_is_open_stays(self, bench: Bench):
        journal = bench.owned(outcome_retention_s=60)
        accept(journal, *(frame(at * 2, 2, tags=[["x"], []]) for at in range(4)))
        settle(journal, ended(0, [OK, FAILED]), ended(2, [OK, OPEN]))
        settle(journal, ended(4, [OK, OK]), now=NOW + 30_000)
        assert journal.sweep(NOW + 60_000, 100).frames == 1
        assert [r.position for r in journal.list(Filter(), None, 9)] == [7, 6, 5, 4, 3, 2]
        assert [r.position for r in journal.list(Filter(tag="x"), None, 9)] == [6, 4, 2]
        with pytest.raises(errors.NotFound):
            journal.read(0)
        with pytest.raises(errors.NotFound):
            journal.replay(1, NOW)
        assert states(journal, 0, 4) == [OPEN, OPEN, OK, OPEN]
        assert journal.stats()["dead"] == 0
        assert journal.sweep(NOW + 2 * DAY, 100).frames == 1
        assert opened(journal) == [(2, ((1, 2),)), (6, ((0, 2),))]

    def test_what_a_consumer_has_not_read_stays(self, bench: Bench):
        journal = bench.owned(outcome_retention_s=60)
        for at in range(3):
            accept(journal, frame(at, 1))
            settle(journal, ended(at, [OK]))
        assert [entry.seq for entry in journal.outbox(0, 2)] == [1, 2]
        journal.publish("archive", 2, NOW + 30_000)
        journal.publish("archive", 1, NOW + 30_000)
        assert (journal.published("archive"), journal.published("else")) == (2, 0)
        assert journal.sweep(NOW + 70_000, 9).frames == 2
        assert [entry.seq for entry in journal.outbox(0, 9)] == [3]
        journal.forget("archive")
        assert journal.sweep(NOW + 70_000, 9).frames == 1

    def test_what_is_archived_has_everything_of_a_task(self, bench: Bench):
        journal = bench.owned()
        acme = command.Head("t", "acme", at=NOW)
        accept(
            journal,
            frame(0, 3, head=acme, keys=["k", None, None], tags=[["x"], [], []], claims=[2]),
        )
        settle(journal, ended(0, [OK, FAILED, OPEN]), now=NOW + 1)
        settle(journal, singles=(single(2, body=b"3"),), now=NOW + 2)
        last = journal.happened(-1, 0)[0]
        first, second, third = journal.export(0, last, 99)
        assert (first.task_id, first.tenant, first.type, first.key) == (
            task_id(0), "acme", "t", "k",
        )  # fmt: skip
        assert (first.tags, first.state, first.accepted_at) == (("x",), "succeeded", NOW)
        assert (first.settled_at, first.payload, first.body) == (NOW + 1, b'{"n": 0}', b"0")
        assert (second.state, second.body, second.attempts) == ("failed", FAILURE, 1)
        assert (third.settled_at, third.body, third.payload_is_claim) == (NOW + 2, b"3", True)
        assert (first.payload_is_claim, first.body_is_claim) == (False, False)
        assert journal.export(last - 1, last, 99) == [third]
        assert journal.export(0, last - 1, 99) == [first, second]

    def test_claim_checks_that_are_still_in_use_are_told(self, bench: Bench):
        journal = bench.owned(outcome_retention_s=60)
        payloads = [b"1", b"claim of a payload"]
        accept(journal, frame(0, 2, payloads=payloads, claims=[1]), frame(2, 1))
        settle(
            journal,
            ended(2, [OK], bodies=[b"of a result"], columns=outcome.Columns([0])),
            now=NOW + 5,
        )
        assert sorted(journal.claims(NOW + 5)) == [b"claim of a payload", b"of a result"]
        assert list(journal.claims(NOW + 4)) == [b"claim of a payload"]
        assert list(journal.claims(NOW - 1)) == []
        settle(journal, ended(0, [OK, OK]), now=NOW + 5)
        journal.sweep(NOW + 70_000, 9)
        assert list(journal.claims(NOW + 70_000)) == []

    def test_ids_outlive_their_frame(self, bench: Bench):
        journal = bench.owned(outcome_retention_s=60, resend_window_s=1000)
        (first,) = accept(journal, frame(0, 2))
        settle(journal, ended(0, [OK, OK]))
        assert journal.sweep(NOW + 60_000, 9).frames == 1
        for bodies in (True, False):
            with pytest.raises(errors.NotFound):
                journal.find("default", 7, 0, bodies)
        (again,) = accept(journal, frame(0, 2), now=NOW + 60_000)
        assert (again.duplicate, again.position) == (True, first.position)
        journal.sweep(NOW + 1_059_999, 9)
        assert accept(journal, frame(0, 2), now=NOW + 1_059_999)[0].duplicate
        journal.sweep(NOW + 1_060_000, 9)
        (late,) = journal.append([frame(0, 2)], NOW + 1_060_000, BOUND)
        assert isinstance(late, errors.OutcomeUnknown)

    def test_an_outcome_lives_as_long_as_a_key_that_leads_to_it(self, bench: Bench):
        journal = bench.owned(outcome_retention_s=60, idempotency_retention_s=600)
        accept(journal, frame(0, 1, idempotency=["a"]), frame(1, 1))
        settle(journal, ended(0, [OK, OK]))
        swept = journal.sweep(NOW + 60_000, 9)
        assert (swept.frames, swept.idempotency_keys) == (1, 0)
        assert journal.find("default", 7, 0).state == "succeeded"
        swept = journal.sweep(NOW + 600_000, 9)
        assert (swept.frames, swept.idempotency_keys) == (1, 1)
