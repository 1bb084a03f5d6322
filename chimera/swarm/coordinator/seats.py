"""Shards: who has them, who shall take them, and how they move. Only leaders raise an epoch."""

from __future__ import annotations

from chimera import names
from chimera.swarm import placement
from chimera.swarm.coordinator.effects import Release, Survey, Take
from chimera.swarm.coordinator.events import ReleaseRefused, TakeAnswered
from chimera.swarm.coordinator.state import Child, LeaderState, SeatState, Shard, State
from chimera.swarm.reports import LeaderReport, ShardInfo, TakeOrder, WorkerInfo

#: reports without a shard that its leader agreed to take, before the order counts as failed
MISSED_MAX = 3


def absorb(state: State, child: Child, report: LeaderReport, now: float) -> None:
    """Learn from what a leader says it has, and from what it no longer says."""
    named = set()
    for info in report.shards:
        shard = state.shards.get(info.shard)
        if shard is None:  # another region's by the plan: it is to be let go
            shard = state.shards[info.shard] = Shard(info.shard)
        named.add(info.shard)
        if info.state == "taking":
            _taking(state, child, shard, now)
        else:
            _having(state, child, shard, info, now)
    for shard in state.owned(child.name):
        if shard.number not in named:
            _missing(state, child, shard, now)


def ask_of_unknown(state: State, report: LeaderReport) -> None:
    """A leader that an earlier coordinator watched may have given up a shard since: what its
    workers hold of one that nobody reports must be asked for (P6)."""
    for shard in state.shards.values():
        if not shard.known:
            shard.ask.update({worker.name: worker for worker in report.workers})


def _taking(state: State, child: Child, shard: Shard, now: float) -> None:
    if shard.owner == child.name:
        shard.answered, shard.missed, shard.info = True, 0, "taking"
    elif shard.state is SeatState.FREE and child.name not in shard.avoid:
        # a former incarnation ordered it; one that takes too long is in `avoid`
        shard.known = True
        state.seat(shard, SeatState.ORDERED, child.name, now, "found taking")
        shard.answered = True


def _having(state: State, child: Child, shard: Shard, info: ShardInfo, now: float) -> None:
    mine = shard.owner == child.name
    if info.epoch < shard.epoch or (info.epoch == shard.epoch and not mine and shard.owner):
        return  # a former owner that does not know it yet: its writes are refused (P1)
    if shard.state is SeatState.ORDERED and info.epoch == shard.epoch and not shard.answered:
        return  # it had the shard before, and says so until the order reaches it
    state.changes += info.epoch != shard.epoch
    shard.epoch, shard.info, shard.open, shard.known = info.epoch, info.state, info.open, True
    wanted = SeatState.RELEASING if info.state == "draining" else SeatState.HELD
    if mine and shard.state is SeatState.RELEASING:
        return  # its report may be older than the order to release
    if not mine or shard.state is not wanted:
        state.seat(shard, wanted, child.name, now, f"reported {info.state}")
        shard.bound_for = ""
        shard.avoid.clear()
        shard.tries = 0


def _missing(state: State, child: Child, shard: Shard, now: float) -> None:
    if shard.state is SeatState.ORDERED:
        shard.missed += shard.answered
        if shard.missed >= MISSED_MAX:
            failed(state, shard, "dropped before it was taken", now)
    elif shard.state is SeatState.RELEASING:
        free(state, shard, "released", now, keep_bound=True)
    else:
        failed(state, shard, f"dropped by {child.name}", now)


def free(state: State, shard: Shard, why: str, now: float, *, keep_bound: bool = False) -> None:
    """Nobody has it any more; whoever takes it asks the workers of those who had."""
    child = state.leaders.get(shard.owner)
    if child is not None and child.report is not None:
        shard.ask.update({worker.name: worker for worker in child.report.workers})
    if not keep_bound:
        shard.bound_for = ""
    state.seat(shard, SeatState.FREE, "", now, why)


def failed(state: State, shard: Shard, why: str, now: float) -> None:
    """Its leader could not take or keep it: another one first, and not in a tight circle."""
    shard.avoid.add(shard.owner)
    shard.tries += 1
    free(state, shard, why, now)
    wait = state.patience.retry_s * 2.0 ** min(shard.tries - 1, 16)
    shard.not_before = now + min(wait, state.patience.retry_max_s)


def on_take_answered(state: State, event: TakeAnswered, now: float) -> None:
    shard = state.shards.get(event.shard)
    child = state.leaders.get(event.leader)
    if (
        shard is None
        or child is None
        or child.serial != event.serial
        or shard.state is not SeatState.ORDERED
        or (shard.owner, shard.epoch) != (event.leader, event.epoch)
    ):
        return  # about an order that is no longer the last one
    if not event.refusal:
        shard.answered = True
    elif event.actual is None:
        failed(state, shard, f"refused: {event.refusal}", now)
        state.audit("take_refused", f"shard {shard.number}", reason=event.refusal)
    else:
        free(state, shard, f"the journal is at {event.actual}", now)
        shard.epoch = event.actual
        if not event.raised_by or names.region(event.raised_by) == state.plan.region:
            # whoever raised it may live and be well: hear all leaders before anyone is ended (P2);
            # one of another region is no leader of ours, and not to be heard
            shard.not_before = now + state.patience.truth_s


def on_release_refused(state: State, event: ReleaseRefused, now: float) -> None:
    shard = state.shards.get(event.shard)
    child = state.leaders.get(event.leader)
    if shard is None or child is None or child.serial != event.serial:
        return
    if shard.state is SeatState.RELEASING and shard.owner == event.leader:
        shard.bound_for = ""
        state.seat(shard, SeatState.HELD, event.leader, now, f"kept: {event.reason}")


def overdue(state: State, now: float) -> None:
    """Orders of which nothing is seen."""
    for shard in state.shards.values():
        unheard = shard.state is SeatState.RELEASING and shard.info != "draining"
        if unheard and now - shard.since >= state.patience.order_s:
            _release(state, shard, now, "said again")
    for shard in state.shards.values():
        if shard.state is SeatState.ORDERED:
            limit = state.patience.taking_s if shard.answered else state.patience.order_s
            if now - shard.since >= limit:
                failed(state, shard, "not taken in time", now)


def ask_for_former(state: State, now: float) -> None:
    """Before a shard that nobody told of is given out: what is left of a leader that died before
    this coordinator began, and whose name was in use again by then, is asked for once (P6)."""
    unknown = any(not shard.known and is_ours(state, shard) for shard in state.shards.values())
    found = any(child.state is LeaderState.FOUND for child in state.leaders.values())
    if state.asked or not unknown or found or now < state.asking_until:
        return
    state.asked = True
    reports = [child.report for child in state.up() if child.name in state.attached]
    brands = {report.leader: report.brand for report in reports if report and report.brand}
    if brands:
        state.asking_until = now + state.patience.asking_s
        state.survey_at = now + state.patience.survey_s
        state.plain.append(Survey(tuple(sorted(brands)), tuple(sorted(brands.values()))))


def order_free(state: State, now: float) -> None:
    """Give each shard that nobody has to a leader, with the workers that it must ask (P6)."""
    elsewhere = _may_be_elsewhere(state, now)
    waiting = [
        shard
        for _, shard in sorted(state.shards.items())
        if shard.state is SeatState.FREE
        and is_ours(state, shard)
        and now >= shard.not_before
        and (shard.known or not elsewhere)
    ]
    if not waiting:
        return
    given: dict[int, str] = {}
    held: dict[str, list[int]] = {}
    for shard in state.shards.values():
        held.setdefault(shard.owner, []).append(shard.number)
    for shard in waiting:
        owned = {name: held.get(name, []) for name in _able(state, shard, now)}
        if shard.bound_for in owned:
            given[shard.number] = shard.bound_for
        else:
            given.update(placement.assign([shard.number], owned))
        if shard.number in given:
            held.setdefault(given[shard.number], []).append(shard.number)
    if given:
        _bequeath(state, given)
    for number, leader in given.items():
        _order(state, state.shards[number], leader, now)


def _may_be_elsewhere(state: State, now: float) -> bool:
    """Whether to wait with shards of which nothing is known: a leader not heard yet may have
    them, its workers are being asked for, or the leaders of a new region are still coming."""
    states = {child.state for child in state.leaders.values() if state.is_planned(child.name)}
    if any(child.state is LeaderState.FOUND for child in state.leaders.values()):
        return True
    if now < state.asking_until:
        return True
    return now < state.gather_until and LeaderState.MAKING in states


def _able(state: State, shard: Shard, now: float) -> list[str]:
    """Leaders that may take a shard, by the best of what can be asked of them."""
    up = [child for child in state.up() if state.is_planned(child.name)]
    steady = [child for child in up if state.health.trusted(child.name, now)] or up
    # at a region's start the workers are still loading: journals are opened meanwhile
    ready = [c for c in steady if c.report and c.report.ready] if shard.known else []
    best = ready or steady
    return [child.name for child in best if child.name not in shard.avoid] or [
        child.name for child in best
    ]


def _bequeath(state: State, given: dict[int, str]) -> None:
    """Divide the workers without a leader among those who take the shards they worked on."""
    living = {child.name for child in state.up()}
    wards = {
        name
        for number in given
        for name in _ask(state, state.shards[number])
        if name in state.orphans and state.heirs.get(name) not in living
    }
    state.heirs.update(placement.divide(wards, sorted(set(given.values()))))


def _ask(state: State, shard: Shard) -> dict[str, WorkerInfo]:
    """Workers that may hold something of a shard and live, as far as is known."""
    if not shard.known:  # nobody told who worked on it: all that are left over may have
        shard.ask.update({name: orphan.info for name, orphan in state.orphans.items()})
    listed = state.listed()
    for name in [n for n in shard.ask if n not in listed and n not in state.orphans]:
        del shard.ask[name]
    return shard.ask


def _order(state: State, shard: Shard, leader: str, now: float) -> None:
    adopt = tuple(sorted(name for name, heir in state.heirs.items() if heir == leader))
    adopt = tuple(name for name in adopt if name in state.orphans)
    asked = {**_ask(state, shard), **{name: state.orphans[name].info for name in adopt}}
    order = TakeOrder(
        term=state.term,
        shard=shard.number,
        epoch=shard.epoch,
        former_workers=tuple(asked[name] for name in sorted(asked)),
        adopt=adopt,
        generation=state.plan.generation,
    )
    shard.known = True
    shard.bound_for = ""
    state.seat(shard, SeatState.ORDERED, leader, now, "ordered")
    serial = state.leaders[leader].serial
    state.do(
        Take(leader, serial, order), "take", f"shard {shard.number}",
        leader=leader, epoch=shard.epoch, adopt=list(adopt),
    )  # fmt: skip


def is_ours(state: State, shard: Shard) -> bool:
    """Whether the plan has a shard in this region."""
    return state.plan.has_shard(shard.number)


def let_go(state: State, now: float) -> None:
    """Give up what the plan has in another region; its leaders let what runs of it finish."""
    for shard in [shard for shard in state.shards.values() if not is_ours(state, shard)]:
        if shard.state is SeatState.FREE:
            del state.shards[shard.number]
            state.changes += 1
        elif shard.state is SeatState.HELD and shard.info == "serving":
            shard.bound_for = ""
            _release(state, shard, now, "another region's")


def rebalance(state: State, now: float) -> None:
    """Move one shard towards an even spread, once nothing else has changed for a while."""
    if now - state.changed_at < state.patience.settled_s:
        return
    movable = [s for s in state.shards.values() if s.info != "lost_tail" and is_ours(state, s)]
    if any(s.state is not SeatState.HELD or s.info != "serving" for s in movable):
        return
    targets = [
        child.name
        for child in state.up()
        if state.is_planned(child.name)
        and child.report is not None
        and child.report.ready
        and state.health.trusted(child.name, now)
    ]
    leaving = [child.name for child in state.up() if not state.is_planned(child.name)]
    owned: dict[str, list[int]] = {name: [] for name in (*targets, *leaving)}
    for shard in movable:
        if shard.owner in owned:
            owned[shard.owner].append(shard.number)
    for move in placement.moves(owned, targets)[:1]:
        shard = state.shards[move.shard]
        shard.bound_for = move.taker
        _release(state, shard, now, f"moves to {move.taker}")


def _release(state: State, shard: Shard, now: float, why: str) -> None:
    donor = state.leaders[shard.owner]
    state.seat(shard, SeatState.RELEASING, donor.name, now, why)
    state.do(
        Release(donor.name, donor.serial, state.term, shard.number, not is_ours(state, shard)),
        "release", f"shard {shard.number}", leader=donor.name, taker=shard.bound_for,
    )  # fmt: skip
