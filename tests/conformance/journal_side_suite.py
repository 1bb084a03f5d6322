"""What every journal does with tasks that deviate: delays, cancels, keys, replays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chimera import errors
from chimera.frames import command, outcome
from chimera.store.protocol import Filter, Park, Scheduled
from tests.conformance.journal_kit import (
    CANCELLED,
    DAY,
    FAILED,
    NOW,
    OK,
    OPEN,
    SHARD,
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


class ScheduleSuite:
    """Parked tasks (P16)."""

    def test_a_task_with_a_delay_is_parked_when_it_comes_in(self, bench: Bench):
        journal = bench.owned()
        columns = {"not_before": [0, NOW + 500, NOW, NOW + 200], "keys": ["a", "b", "c", None]}
        (receipt,) = accept(journal, frame(0, 4, **columns))
        assert receipt.parked == (1, 3)
        assert opened(journal) == [(0, ((0, 1), (2, 3)))]
        assert journal.recover().open_tasks == 4
        assert journal.recover().holding == ()
        assert journal.due(0, NOW + 1000, 10) == [
            Scheduled(3, NOW + 200, 1, False, None, "t", "default", 1),
            Scheduled(1, NOW + 500, 1, False, "b", "t", "default", 1),
        ]
        assert journal.due(NOW + 201, NOW + 500, 10)[0].position == 1
        assert journal.due(NOW + 200, NOW + 200, 10)[0].position == 3
        assert len(journal.due(0, NOW + 1000, 1)) == 1
        assert journal.due(0, NOW + 199, 10) == []

    def test_a_parked_task_keeps_its_own_bytes(self, bench: Bench):
        journal = bench.owned()
        sent = frame(
            20, 3, not_before=[NOW + 9] * 3, keys=["a", "b", "c"], tags=[["x"], [], ["y"]],
            deadline=[1, 2, 3], claims=[1],
        )  # fmt: skip
        accept(journal, sent)
        start, one = journal.read(1, parked=True)
        of = command.verify(one)
        assert (start, of.count, of.session, of.first, of.shard) == (1, 1, 7, 21, SHARD)
        assert command.head(one) == command.head(sent)
        assert command.payloads(one) == [b'{"n": 21}']
        assert command.columns(one) == command.Columns(
            keys=["b"], not_before=[NOW + 9], tags=[[]], deadline=[2], claims=[0]
        )
        assert journal.read(1) == (0, sent)
        settle(journal, singles=(single(1),))
        with pytest.raises(errors.NotFound):
            journal.read(1, parked=True)

    def test_a_retry_waits_in_the_schedule_and_may_hold_its_key(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 3, keys=["a", "b", "c"]))
        parks = (Park(1, NOW + 50, 2, True, b"{}"), Park(2, NOW + 20, 2, False))
        assert settle(journal, ended(0, [OK, OPEN, OPEN]), parks=parks) == (1, 0)
        assert opened(journal) == [(0, ())]
        found = journal.recover()
        assert found.holding == (Scheduled(1, NOW + 50, 2, True, "b", "t", "default", 1),)
        assert found.open_tasks == 2
        record = journal.find("default", 7, 1)
        assert (record.state, record.attempts, record.due) == ("scheduled", 1, NOW + 50)
        settle(journal, parks=(Park(1, NOW + 900, 3, True),))
        assert [(s.position, s.due, s.attempt) for s in journal.due(0, NOW + 999, 9)] == [
            (2, NOW + 20, 2),
            (1, NOW + 900, 3),
        ]
        assert journal.stats()["schedule"] == 2
        assert [(s.position, s.attempt) for s in journal.parked([2, 0, 1, 7])] == [(2, 2), (1, 3)]

    def test_an_outcome_ends_the_wait(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 3, not_before=[NOW + 5] * 3))
        settle(journal, ended(0, [OK, OPEN, OK]))
        assert [found.position for found in journal.due(0, NOW + 9, 9)] == [1]
        settle(journal, ended(1, [OK]))
        assert journal.due(0, NOW + 9, 9) == []
        assert journal.stats()["schedule"] == journal.stats()["open"] == 0

    def test_a_task_that_has_its_outcome_is_not_parked_any_more(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 2))
        parks = (Park(0, NOW + 5, 2, True), Park(1, NOW + 5, 2, True))
        settle(journal, ended(0, [FAILED, OPEN]), parks=parks)
        assert [found.position for found in journal.due(0, NOW + 9, 9)] == [1]


class CancelSuite:
    """Intents to cancel (P9)."""

    def test_an_intent_is_kept_until_the_outcome(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 4))
        assert journal.cancel(1, "no need", NOW) == OPEN
        assert journal.cancel(1, "again", NOW) == OPEN
        assert journal.cancel(3, "", NOW) == OPEN
        found = bench.owned().recover()
        assert found.cancelling == (1, 3)
        assert found.open[0].open == ((0, 1), (2, 3))
        assert found.open_tasks == 4
        heir = bench.owned()
        settle(heir, singles=(single(1, CANCELLED),))
        settle(heir, ended(0, [OK, OPEN, OK, OK]))
        assert heir.recover().cancelling == ()
        assert heir.cancel(1, "", NOW) == CANCELLED
        assert heir.cancel(3, "", NOW) == OK
        asked = [heir.find("default", 7, at).cancel_requested for at in range(4)]
        assert asked == [False, True, False, True]

    def test_an_outcome_of_others_leaves_the_intent(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 3))
        journal.cancel(1, "", NOW)
        settle(journal, ended(0, [OK, OPEN, OK]))
        assert journal.recover().cancelling == (1,)

    def test_there_must_be_a_task(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 2, idempotency=["a", "a"]))
        for position in (1, 2):
            with pytest.raises(errors.NotFound):
                journal.cancel(position, "", NOW)


class IdempotencySuite:
    """The second task with a key is the first one (P14)."""

    def test_a_repeated_key_is_an_alias(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 2, payloads=[b"1", b"2"], idempotency=["a", None]))
        sent = frame(2, 3, payloads=[b"3", b"1", b"4"], idempotency=["b", "a", None])
        (receipt,) = accept(journal, sent)
        (skip,) = receipt.skipped
        assert (skip.index, skip.task_id, skip.error) == (1, task_id(0), None)
        assert opened(journal)[1] == (2, ((0, 1), (2, 3)))
        assert journal.stats()["open"] == journal.recover().open_tasks == 4
        assert journal.find("default", 7, 3) == journal.find("default", 7, 0)
        assert settle(journal, ended(2, [OK] * 3)) == (2, 1)
        assert states(journal, 0, 5) == [OPEN, OPEN, OK, OPEN, OK]
        assert opened(journal) == [(0, ((0, 2),))]

    def test_another_payload_is_refused_and_stays_refused(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 1, payloads=[b"1"], idempotency=["a"]))
        sent = frame(1, 2, payloads=[b"2", b"3"], idempotency=["a", None])
        for attempt in range(2):
            (receipt,) = accept(journal, sent)
            assert receipt.duplicate == bool(attempt)
            (skip,) = receipt.skipped
            assert isinstance(skip.error, errors.IdempotencyConflict)
            assert skip.error.details["task_id"] == task_id(0)
        with pytest.raises(errors.IdempotencyConflict):
            journal.find("default", 7, 1)
        assert journal.find("default", 7, 2).payload == b"3"

    def test_of_submitters_at_once_one_is_first(self, bench: Bench):
        journal = bench.owned()
        columns = {"payloads": [b"1", b"2"], "idempotency": ["a", "b"]}
        frames = [frame(0, 2, session=session, **columns) for session in range(12)]
        with ThreadPoolExecutor(len(frames)) as pool:
            receipts = [receipt for (receipt,) in pool.map(lambda f: accept(journal, f), frames)]
        first = [r for r in receipts if not r.skipped]
        assert len(first) == 1
        winner = receipts.index(first[0])
        ids = [task_id(0, winner), task_id(1, winner)]
        for receipt in receipts:
            assert [skip.task_id for skip in receipt.skipped] in ([], ids)
        assert journal.stats()["open"] == 2

    def test_an_alias_is_not_parked(self, bench: Bench):
        journal = bench.owned()
        columns = {"idempotency": ["a", "a"], "not_before": [NOW + 5, NOW + 5]}
        (receipt,) = accept(journal, frame(0, 2, payloads=[b"1", b"1"], **columns))
        assert receipt.parked == (0,)
        assert [found.position for found in journal.due(0, NOW + 9, 9)] == [0]

    def test_within_one_frame_the_first_wins(self, bench: Bench):
        journal = bench.owned()
        payloads = [b"1", b"1", b"2"]
        (receipt,) = accept(journal, frame(5, 3, payloads=payloads, idempotency=["a"] * 3))
        assert [(skip.index, skip.task_id) for skip in receipt.skipped] == [
            (1, task_id(5)),
            (2, None),
        ]
        assert journal.stats()["tasks"] == 1

    def test_a_frame_of_nothing_but_aliases_leaves_nothing_to_do(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 1, idempotency=["a"], payloads=[b"1"]))
        accept(journal, frame(1, 2, idempotency=["a", "a"], payloads=[b"1", b"1"]))
        assert opened(journal) == [(0, ((0, 1),))]
        assert settle(journal, ended(1, [OK, OK])) == (0, 2)

    def test_scope_is_tenant_type_ordering_key_and_key(self, bench: Bench):
        journal = bench.owned()
        heads = [command.Head(t, tenant, at=NOW) for t in "tu" for tenant in ("a", "b")]
        for first, head in enumerate(heads):
            accept(journal, frame(first * 3, 3, head=head, payloads=[b"1"] * 3,
                                  idempotency=["x"] * 3, keys=[None, "", "x"]))  # fmt: skip
        assert journal.stats()["tasks"] == 12

    def test_the_key_leads_to_the_task_while_that_is_open(self, bench: Bench):
        options = {"outcome_retention_s": 60, "idempotency_retention_s": 60}
        journal = bench.owned(**options)
        sent = {"payloads": [b"1"], "idempotency": ["a"]}
        accept(journal, frame(0, 1, **sent))
        later = NOW + DAY // 3
        assert journal.sweep(later, 100).idempotency_keys == 0
        assert accept(journal, frame(1, 1, **sent), now=later)[0].skipped
        settle(journal, singles=(single(0),), now=later)
        assert journal.sweep(later + 59_000, 100).idempotency_keys == 1
        assert not accept(journal, frame(2, 1, **sent), now=later + 59_000)[0].skipped


class KeptSuite:
    """Memos and snapshots (P18)."""

    def test_the_first_memo_of_a_step_stays(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 2))
        assert journal.memo(0, "pay") is None
        assert journal.memoise(0, "pay", b"1") == b"1"
        assert journal.memoise(0, "pay", b"2") == b"1"
        assert journal.memoise(1, "pay", b"") == b""
        assert journal.memo(1, "pay") == b""
        assert bench.owned().memo(0, "pay") == b"1"
        with pytest.raises(errors.NotFound):
            bench.owned().memoise(7, "pay", b"1")

    def test_a_snapshot_comes_with_the_outcome_that_is_recorded(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 4, keys=["a", "b", None, "a"]))
        columns = outcome.Columns(snapshots={0: b"a0", 1: b"b1", 2: b"-", 3: b"a3"})
        settle(journal, singles=(single(1),))
        settle(journal, ended(0, [OK, OK, OK, OPEN], columns=columns))
        assert journal.snapshot("default", "t", "a") == b"a0"
        assert journal.snapshot("default", "t", "b") is None
        assert journal.snapshot("acme", "t", "a") is None
        settle(journal, ended(3, [OK], columns=outcome.Columns(snapshots={0: b"a3"})))
        assert bench.owned().snapshot("default", "t", "a") == b"a3"


class ReplaySuite:
    """Dead letters run again as new tasks (P17)."""

    def test_a_replay_is_a_new_task_at_the_end(self, bench: Bench):
        journal = bench.owned()
        columns = {"keys": ["a", "b"], "tags": [[], ["x"]], "deadline": [0, NOW + 9]}
        accept(journal, frame(0, 2, **columns))
        settle(journal, ended(0, [OK, FAILED]))
        new_id, receipt, blob = journal.replay(1, NOW + 100)
        assert (receipt.position, receipt.count, receipt.duplicate) == (2, 1, False)
        assert command.payloads(blob) == [b'{"n": 1}']
        assert command.columns(blob) == command.Columns(keys=["b"], tags=[["x"]])
        assert command.head(blob).replay_of == task_id(1)
        assert command.head(blob).at == NOW + 100
        assert opened(journal) == [(2, ((0, 1),))]
        again = bench.owned().replay(1, NOW + 200)
        assert (again[0], again[1].duplicate, again[1].position) == (new_id, True, 2)
        assert again[2] == blob
        old, new = journal.list(Filter(tag="x"), None, 9)[::-1]
        assert (old.task_id, old.state, old.replayed_as) == (task_id(1), "failed", new_id)
        assert (new.task_id, new.state, new.replay_of) == (new_id, "queued", task_id(1))

    def test_a_dead_letter_that_was_given_up_cannot_be_replayed(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 2))
        settle(journal, ended(0, [OK, FAILED]))
        with pytest.raises(errors.NotFound):
            journal.discard(0)
        journal.discard(1)
        for verb in (journal.discard, lambda position: journal.replay(position, NOW)):
            with pytest.raises(errors.NotFound):
                verb(1)
        assert states(journal, 0, 2) == [OK, FAILED]
        assert journal.stats()["dead"] == 0

    def test_what_was_given_up_is_failed_and_no_dead_letter(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 4, tags=[["x"]] * 4))
        settle(journal, ended(0, [FAILED, OK, FAILED, FAILED]))
        new_id, _, _ = journal.replay(0, NOW)
        journal.discard(2)

        def found(**where: Any) -> list[int]:
            return [record.position for record in journal.list(Filter(**where), None, 9)]

        for where in ({}, {"tag": "x"}, {"type": "t"}, {"state": "failed"}):
            assert found(**where, dead_letters=True) == [3, 0], where
        assert found(state="failed") == found(state="failed", tag="x") == [3, 2, 0]
        told = [journal.find("default", 7, at) for at in range(4)]
        assert [one.dead_letter for one in told] == [True, False, False, True]
        assert [one.replayed_as for one in told] == [new_id, None, None, None]

    def test_what_ended_is_told_in_the_order_of_recording(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 3))
        newest, nothing = journal.happened(-1, 10)
        assert not nothing
        settle(journal, ended(0, [OPEN, OK, OPEN]))
        first, told = journal.happened(newest, 10)
        assert [record.task_id for _, record in told] == [task_id(1)]
        settle(journal, ended(0, [FAILED, OPEN, OPEN]))
        last, told = journal.happened(first, 10)
        assert [(seq, record.state) for seq, record in told] == [(last, "failed")]
        assert journal.happened(last, 10) == (last, [])

    def test_a_journal_that_can_write_says_so_and_a_former_owner_cannot(self, bench: Bench):
        former = bench.owned()
        former.probe()
        bench.owned().probe()
        with pytest.raises(errors.StaleEpoch):
            former.probe()

    def test_only_dead_letters_are_replayed(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 3))
        settle(journal, ended(0, [OK, OPEN, CANCELLED]))
        for position in (0, 1, 2, 3):
            with pytest.raises(errors.NotFound):
                journal.replay(position, NOW)

    def test_the_idempotency_key_follows_and_a_replay_can_fail_too(self, bench: Bench):
        journal = bench.owned()
        sent = {"payloads": [b"1"], "idempotency": ["a"]}
        accept(journal, frame(0, 1, **sent))
        settle(journal, ended(0, [FAILED]))
        new_id, receipt, _ = journal.replay(0, NOW)
        assert accept(journal, frame(1, 1, **sent))[0].skipped[0].task_id == new_id
        settle(journal, ended(receipt.position, [FAILED]))
        second, third, _ = journal.replay(receipt.position, NOW)
        assert second != new_id
        assert third.position == 3
