"""What every journal does: the contract of `chimera.store.protocol.Journal`, run against each."""

from __future__ import annotations

import threading

import pytest

from chimera import errors
from chimera.frames import command, outcome
from chimera.store.protocol import Filter, Settlement, SourcePosition
from tests.conformance.journal_kit import (
    BOUND,
    CANCELLED,
    DAY,
    EXPIRED,
    FAILED,
    FAILURE,
    ME,
    NOW,
    OK,
    OPEN,
    OTHER,
    Bench,
    accept,
    accepted,
    ended,
    fates,
    frame,
    opened,
    refusal,
    resealed,
    settle,
    single,
    states,
    task_id,
)


class OwnershipSuite:
    """Epochs (P1, P2)."""

    def test_a_new_journal_has_epoch_0_and_no_owner(self, bench: Bench):
        journal = bench.open()
        assert journal.owner() == (0, None)
        assert journal.epoch == 0
        assert not journal.lost_tail
        assert journal.shard == 3

    def test_taking_raises_the_epoch_by_compare_and_swap(self, bench: Bench):
        journal = bench.open()
        assert journal.take(0, ME) == journal.epoch == 1
        assert journal.owner() == (1, ME)
        other = bench.open()
        with pytest.raises(errors.StaleEpoch) as refused:
            other.take(0, OTHER)
        assert refused.value.details["epoch"] == 1
        assert other.take(1, OTHER) == 2
        assert journal.owner() == (2, OTHER)

    def test_before_it_is_taken_a_journal_accepts_nothing(self, bench: Bench):
        with pytest.raises(errors.StaleEpoch):
            bench.open().append([frame()], NOW, BOUND)

    @pytest.mark.parametrize("taken", [False, True], ids=["never took", "was superseded"])
    def test_who_is_not_the_owner_writes_nothing(self, bench: Bench, taken: bool):
        owner = bench.owned()
        accept(owner, frame())
        zombie = owner if taken else bench.open()
        if taken:
            bench.open().take(1, OTHER)
        dead_end = Settlement(singles=(single(0),))
        writes = [
            lambda: zombie.append([frame(10)], NOW, BOUND),
            lambda: zombie.append([frame()], NOW, BOUND),  # a duplicate too: it may be undone
            lambda: zombie.settle(dead_end, NOW),
            lambda: zombie.settle(Settlement(frames=(ended(0, [OK] * 3),)), NOW),
            lambda: zombie.cancel(0, "", NOW),
            lambda: zombie.memoise(0, "step", b"1"),
            lambda: zombie.replay(0, NOW),
            lambda: zombie.sweep(NOW, 100),
            lambda: zombie.quarantine(0, NOW),
        ]
        for write in writes:
            with pytest.raises(errors.StaleEpoch):
                write()
        assert opened(bench.open()) == [(0, ((0, 3),))]

    def test_a_closed_journal_can_be_taken_and_holds_all(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame())
        settle(journal, ended(0, [OK, OPEN, OPEN]))
        journal.close()
        with pytest.raises(errors.ChimeraError):
            journal.append([frame(10)], NOW, BOUND)
        assert bench.open().owner() == (1, None), "whoever takes it next ends nobody"
        after = bench.owned()
        assert after.epoch == 2
        assert after.next_position == 3
        assert opened(after) == [(0, ((1, 3),))]

    def test_a_former_owner_that_closes_leaves_the_new_owners_name(self, bench: Bench):
        journal = bench.owned()
        bench.open().take(1, OTHER)
        journal.close()
        assert bench.open().owner() == (2, OTHER)


class AppendSuite:
    """Accepting frames (P11, P12, G7)."""

    def test_positions_are_dense_from_0(self, bench: Bench):
        journal = bench.owned()
        receipts = accept(journal, frame(0, 3), frame(3, 1), frame(4, 5))
        assert [(r.position, r.count) for r in receipts] == [(0, 3), (3, 1), (4, 5)]
        assert not any(r.duplicate or r.skipped or r.parked for r in receipts)
        assert journal.next_position == 9

    def test_a_frame_is_kept_byte_for_byte(self, bench: Bench):
        journal = bench.owned()
        sent = frame(0, 3, keys=["a", None, "b"])
        accept(journal, frame(9, 2), sent)
        assert journal.read(3) == (2, sent)
        assert journal.read(2) == (2, sent)
        for position in (5, -1):
            with pytest.raises(errors.NotFound):
                journal.read(position)

    def test_a_frame_sent_again_is_recognised(self, bench: Bench):
        journal = bench.owned()
        columns = {"idempotency": ["a", "a", None], "not_before": [0, 0, NOW + 5]}
        columns["payloads"] = [b"1"] * 3
        (first,) = accept(journal, frame(0, 3, **columns))
        accept(journal, frame(3, 2))
        (again,) = accept(bench.owned(), frame(0, 3, **columns), now=NOW + 10)
        assert again.duplicate
        assert (again.position, again.count) == (0, 3)
        assert again.skipped == first.skipped
        assert again.parked == first.parked == (2,)
        assert bench.owned().next_position == 5

    def test_the_same_ids_with_other_content_are_a_conflict(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(10, 5))
        for clash in (
            frame(10, 5, payloads=[b"0"] * 5),
            frame(10, 4),
            frame(10, 6),
            frame(8, 3),
            frame(14, 1),
            frame(11, 2),
            frame(8, 20),
        ):
            assert isinstance(refusal(journal, clash), errors.IdConflict)
        accept(journal, frame(8, 2), frame(15, 2))
        assert journal.stats()["open"] == 9

    def test_sessions_are_scoped_by_tenant_and_have_64_bits(self, bench: Bench):
        journal = bench.owned()
        other = command.Head("t", "acme", at=NOW)
        sessions = [0, 7, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
        accept(journal, *(frame(0, 1, session=session) for session in sessions))
        accept(journal, *(frame(0, 1, session=session, head=other) for session in sessions))
        assert journal.stats()["open"] == 10
        assert journal.find("acme", 1 << 63, 0).position == 8
        assert journal.find("default", (1 << 64) - 1, 0).position == 4

    def test_an_old_frame_is_of_unknown_fate_unless_it_is_known(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 1))
        later = NOW + DAY // 2
        accept(journal, frame(1, 1), now=later)
        assert isinstance(refusal(journal, frame(2, 1), now=later + 1), errors.OutcomeUnknown)
        assert accept(journal, frame(0, 1), now=later + 1)[0].duplicate
        ahead = refusal(journal, frame(3, 1), now=NOW - DAY // 2 - 1)
        assert isinstance(ahead, errors.InvalidRequest)

    def test_a_full_queue_refuses_what_is_new(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 6), bound=10)
        answers = journal.append([frame(6, 5), frame(11, 4), frame(0, 6)], NOW, 10)
        assert isinstance(answers[0], errors.Overloaded)
        assert answers[0].retry_after > 0
        assert answers[1].position == 6
        assert answers[2].duplicate
        assert isinstance(refusal(journal, frame(6, 5), bound=10), errors.Overloaded)
        settle(journal, ended(0, [OK] * 5 + [OPEN]))
        accept(journal, frame(6, 5), bound=10)

    def test_what_cannot_be_is_refused_with_its_reason(self, bench: Bench):
        journal = bench.owned()
        good = frame()
        flipped = good[:-1] + bytes([good[-1] ^ 1])
        for bad, reason in (
            (flipped, errors.CorruptFrame),
            (good[:20], errors.CorruptFrame),
            (b"", errors.CorruptFrame),
            (frame(shard=4), errors.InvalidRequest),
            (frame((1 << 46) - 1, 2), errors.InvalidRequest),
            (frame(payloads=[b"x" * 65_000] * 2), errors.PayloadTooLarge),
            (frame(0, 3, tags=[["a"]]), errors.CorruptFrame),
            (frame(0, 3, idempotency=["a"] * 4), errors.CorruptFrame),
            (frame(0, 3, keys=["a"] * 2), errors.CorruptFrame),
            (resealed(good + b"x"), errors.CorruptFrame),
            (resealed(good[:-1]), errors.CorruptFrame),
            (resealed(good[:44]), errors.CorruptFrame),
            (frame(0, 3, claims=[3]), errors.CorruptFrame),
            (frame(0, 3, not_before=[1 << 63, 0, 0]), errors.InvalidRequest),
            (frame(head=command.Head("t", priority=3, at=NOW)), errors.InvalidRequest),
        ):
            assert type(refusal(journal, bad)) is reason
        assert journal.next_position == 0

    def test_text_that_not_every_database_keeps_is_refused(self, bench: Bench):
        journal = bench.owned()
        for bad in (
            frame(0, 1, head=command.Head("t\0", at=NOW)),
            frame(0, 1, head=command.Head("t", "acme\0", at=NOW)),
            frame(0, 2, keys=[None, "a\0b"]),
            frame(0, 2, tags=[["x"], ["y", "\0"]]),
        ):
            assert isinstance(refusal(journal, bad), errors.InvalidRequest)
        accept(journal, frame(0, 1))
        said = outcome.encode_failure(outcome.Failure("ValueError", "embedded \0 byte"))
        settle(journal, ended(0, [FAILED], bodies=[said]))
        assert journal.find("default", 7, 0).body == said

    def test_nothing_keyed_overtakes_a_refused_frame_of_its_producer(self, bench: Bench):
        journal = bench.owned()
        keyed = {"keys": ["k"]}
        accept(journal, frame(0, 1, **keyed))
        answers = journal.append(
            [
                frame(0, 1, **keyed, payloads=[b"other"]),
                frame(1, 1, **keyed),
                frame(2, 1),
                frame(0, 1, session=8, **keyed),
                frame(0, 1, **keyed),
            ],
            NOW,
            BOUND,
        )
        assert isinstance(answers[0], errors.IdConflict)
        assert type(answers[1]) is errors.Unavailable
        assert [answer.position for answer in answers[2:]] == [1, 2, 0]
        corrupt = journal.append([b"?", frame(1, 1, **keyed), frame(3, 1)], NOW, BOUND)
        assert [type(answer) for answer in corrupt[:2]] == [
            errors.CorruptFrame,
            errors.Unavailable,
        ]
        assert corrupt[2].position == 3

    def test_how_far_a_source_was_read_is_kept_with_what_was_read(self, bench: Bench):
        journal = bench.owned()
        assert journal.source_position("orders-3") is None
        first = [frame(0), frame(3)]
        assert len(accepted(journal.append(first, NOW, BOUND, SourcePosition("orders-3", 2)))) == 2
        journal.append([], NOW, BOUND, SourcePosition("orders-4", 9))
        journal.append(first, NOW, BOUND, SourcePosition("orders-3", 1))
        assert (journal.source_position("orders-3"), journal.source_position("orders-4")) == (2, 9)
        journal.close()
        again = bench.owned()
        assert (again.source_position("orders-3"), again.next_position) == (2, 6)

    def test_what_a_source_has_kept_for_long_is_accepted(self, bench: Bench):
        journal = bench.owned(resend_window_s=60)
        old = frame(0, 2, head=command.Head("t", at=NOW - 3 * DAY))
        (refused,) = journal.append([old], NOW, BOUND)
        assert isinstance(refused, errors.OutcomeUnknown)
        accepted(journal.append([old], NOW, BOUND, SourcePosition("orders", 1)))

    def test_a_source_stays_where_it_was_while_a_frame_of_it_is_refused(self, bench: Bench):
        journal = bench.owned()
        frames, source = [frame(0, 5), frame(5, 6)], SourcePosition("orders", 2)
        journal.append(frames, NOW, 10, source)
        assert (journal.source_position("orders"), journal.next_position) == (None, 5)
        answers = accepted(journal.append(frames, NOW, 11, source))
        assert [answer.duplicate for answer in answers] == [True, False]
        assert journal.source_position("orders") == 2

    def test_many_threads_append_and_settle_at_once(self, bench: Bench):
        journal = bench.owned()
        lost: list[BaseException] = []

        def produce(session: int) -> None:
            try:
                for turn in range(15):
                    (receipt,) = accept(journal, frame(turn * 4, 4, session=session))
                    assert settle(journal, ended(receipt.position, [OK] * 4)) == (4, 0)
            except BaseException as error:
                lost.append(error)

        threads = [threading.Thread(target=produce, args=(session,)) for session in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not lost
        assert states(journal, 0, 480) == [OK] * 480
        assert journal.stats()["open"] == 0


class SettleSuite:
    """One outcome a task (P8, G2)."""

    def test_a_frame_of_outcomes_settles_its_tasks(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 3), frame(3, 3))
        assert settle(journal, ended(3, [OK, FAILED, CANCELLED])) == (3, 0)
        assert opened(journal) == [(0, ((0, 3),))]
        assert [journal.find("default", 7, at).state for at in range(2, 6)] == [
            "queued", "succeeded", "failed", "cancelled",
        ]  # fmt: skip

    def test_the_first_outcome_wins_whoever_comes_later(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 4))
        assert settle(journal, ended(0, [OK, OPEN, OPEN, FAILED])) == (2, 0)
        assert settle(journal, ended(0, [FAILED, OK, OPEN, OK], bodies=[b"x"] * 4)) == (1, 2)
        assert settle(journal, singles=(single(1, FAILED), single(2, CANCELLED))) == (1, 1)
        assert settle(journal, ended(0, [EXPIRED] * 4)) == (0, 4)
        assert states(journal, 0, 4) == [OK, OK, CANCELLED, FAILED]
        assert opened(journal) == []
        assert journal.stats()["open"] == 0

    def test_a_frame_over_several_command_frames_settles_each(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 3), frame(3, 1), frame(4, 4))
        assert settle(journal, ended(1, [OK, FAILED, OK, OK, OPEN, CANCELLED])) == (5, 0)
        assert states(journal, 0, 8) == [OPEN, OK, FAILED, OK, OK, OPEN, CANCELLED, OPEN]
        assert opened(journal) == [(0, ((0, 1),)), (4, ((1, 2), (3, 4)))]
        assert settle(journal, ended(0, [OK] * 8)) == (3, 5)
        assert states(journal, 0, 8) == [OK, OK, FAILED, OK, OK, OK, CANCELLED, OK]

    def test_one_settlement_counts_a_task_once(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 3))
        done = settle(
            journal,
            ended(0, [OK, OPEN, OPEN]),
            ended(0, [OK, OK, OPEN]),
            ended(0, [FAILED] * 3),
            singles=(single(2), single(1)),
        )
        assert done == (3, 5)
        assert states(journal, 0, 3) == [OK, OK, FAILED]

    def test_outcomes_of_tasks_that_are_not_there_change_nothing(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 2))
        assert settle(journal, ended(1, [OK, OK, OK]), singles=(single(9),)) == (1, 3)
        assert states(journal, 0, 10) == [OPEN, OK] + [OPEN] * 8

    def test_what_is_no_outcome_is_not_recorded(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 2))
        blob = ended(0, [OK, OK])
        with pytest.raises(errors.CorruptFrame):
            settle(journal, blob[:-1] + b"?")
        with pytest.raises(ValueError, match="never stored"):
            settle(journal, ended(0, [OK, 5]))
        with pytest.raises(ValueError, match="no outcome"):
            settle(journal, singles=(single(0, OPEN),))
        assert states(journal, 0, 2) == [OPEN, OPEN]

    def test_outcomes_come_in_order_and_in_bounded_pieces(self, bench: Bench):
        journal = bench.owned()
        accept(journal, *(frame(at * 2, 2) for at in range(4)))
        settle(journal, ended(4, [OK, OK]), ended(0, [OK, OK]))
        settle(journal, ended(6, [OK, OPEN]), singles=(single(2), single(3)))
        reply = journal.outcomes([(0, 4), (4, 8)], 1 << 20)
        assert [outcome.header(f).position for f in reply.frames] == [0, 4, 6]
        assert [one.position for one in reply.singles] == [2, 3]
        size = len(reply.frames[0])
        part = journal.outcomes([(0, 8)], size + 1)
        assert (len(part.frames), len(part.singles)) == (1, 1)
        least = journal.outcomes([(0, 8)], 1)
        assert (least.frames, least.singles) == (reply.frames[:1], ())
        assert set(fates(journal, 1, 3)) == {1, 2}
        assert journal.outcomes([(7, 9)], 1 << 20).singles == ()

    def test_dead_letters_are_counted_and_listed(self, bench: Bench):
        journal = bench.owned()
        accept(journal, frame(0, 3))
        settle(journal, ended(0, [FAILED, OK, OPEN]), singles=(single(2, FAILED, 5),))
        assert journal.stats()["dead"] == 2
        record = journal.find("default", 7, 2)
        assert (record.state, record.attempts, record.settled_at) == ("failed", 5, NOW)
        assert b"no such file" in record.body
        assert record.task_id == task_id(2)
        listed = journal.list(Filter(dead_letters=True), None, 10)
        assert [(one.position, one.body, one.payload) for one in listed] == [
            (2, record.body, None), (0, FAILURE, None),
        ]  # fmt: skip
        assert {one.body for one in journal.list(Filter(state="failed"), None, 10)} == {None}
