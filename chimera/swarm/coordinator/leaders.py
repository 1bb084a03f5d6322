"""Leaders: made, watched, suspected, condemned, made again; none is assumed to have stopped."""

from __future__ import annotations

from dataclasses import replace

from chimera.swarm import merge
from chimera.swarm.coordinator import rollout, seats
from chimera.swarm.coordinator.effects import (
    Attach,
    Configure,
    End,
    Look,
    Make,
    Reap,
    Retire,
    Survey,
)
from chimera.swarm.coordinator.events import (
    ConfigureRefused,
    Looked,
    Lost,
    MakeFailed,
    Pulse,
    Reaped,
    Surveyed,
)
from chimera.swarm.coordinator.state import Child, LeaderState, Orphan, SeatState, State
from chimera.swarm.health import Scrutiny
from chimera.swarm.reports import LeaderConfig
from chimera.swarm.restart import next_restart

_UNHEARD = (LeaderState.MAKING, LeaderState.FOUND)


def on_surveyed(state: State, event: Surveyed, now: float) -> None:
    """Learn who lives: at the start all that there is to go by, later a net for what slipped."""
    first, state.surveyed = not state.surveyed, True
    state.asking_until = 0.0
    state.survey_at = now + state.patience.survey_s
    if first:
        for name in state.plan.leader_names():
            state.leaders.setdefault(name, Child(name, since=now, retry_at=now))
        if not event.leaders:
            state.gather_until = now + state.patience.gather_s
    for name in event.leaders:
        known = state.leaders.setdefault(name, Child(name, since=now))
        # one that died lately may still be listed: its name is found taken when it is made again
        if known.state is LeaderState.MISSING and (first or not state.is_planned(name)):
            _attach(state, known, now, "found alive")
    listed = state.listed()
    for worker in event.workers:
        if worker.name not in listed:
            _orphan(state, worker.name, Orphan(worker, now, _reap_at(state, now)))


def on_pulse(state: State, event: Pulse, now: float) -> None:
    child = _current(state, event.leader, event.serial)
    if child is None or child.state in (LeaderState.MISSING, LeaderState.RETIRING):
        return
    found = child.state is LeaderState.FOUND
    state.changes += child.hear(event.report)
    state.tally = merge.renewed(state.tally, merge.read(event.report))
    if child.state in _UNHEARD:
        state.health.expect(child.name, now)
        child.fault, child.failures = "", 0
        state.become(child, LeaderState.UP, now, "spoke")
    else:
        state.health.pulse(child.name, now)
        if child.state is LeaderState.CONDEMNED:
            state.audit("leader_returned", child.name)
        if child.state is not LeaderState.UP:
            state.become(child, LeaderState.UP, now, "spoke again")
    for worker in event.report.workers if state.orphans else ():
        state.orphans.pop(worker.name, None)
    seats.absorb(state, child, event.report, now)
    if found:
        seats.ask_of_unknown(state, event.report)


def on_lost(state: State, event: Lost, now: float) -> None:
    child = _current(state, event.leader, event.serial)
    if child is None or child.state is LeaderState.MISSING:
        return
    if not event.dead:  # nobody hears it any more: it must be made again to be watched
        if child.state in (LeaderState.FOUND, LeaderState.UP, LeaderState.SUSPECT):
            condemn(state, child, now, event.reason)
        child.end_at = now
        if child.state is not LeaderState.MAKING:
            return
        _end(state, child, event.reason)
    if child.state is LeaderState.MAKING:
        _fail_to_make(state, child, now, event.reason)
        return
    if child.state is not LeaderState.RETIRING:
        _take_from(state, child, now, f"{child.name} is dead")
        state.audit("leader_lost", child.name, reason=event.reason)
    _bury(state, child, now, event.reason)


def on_make_failed(state: State, event: MakeFailed, now: float) -> None:
    child = _current(state, event.leader, event.serial)
    if child is None or child.state not in _UNHEARD:
        return
    if event.taken:  # found after all, or being buried: the watch will tell
        _attach(state, child, now, "its name is taken")
    else:
        _fail_to_make(state, child, now, event.reason)


def on_looked(state: State, event: Looked, now: float) -> None:
    child = _current(state, event.leader, event.serial)
    if child is None or child.state is not LeaderState.SUSPECT or child.scrutiny is None:
        return
    if not event.here:
        condemn(state, child, now, "silent, and its process cannot be seen from here")
    elif child.scrutiny.condemns(event.state, event.cpu_ticks, now):
        silent = state.health.silence(child.name, now)
        condemn(state, child, now, f"silent for {silent:.2f} s, process {event.state or 'gone'}")


def on_configure_refused(state: State, event: ConfigureRefused, now: float) -> None:
    child = _current(state, event.leader, event.serial)
    if child is not None:
        child.sent, child.blocked_until = None, now + state.patience.configure_s


def on_reaped(state: State, event: Reaped, now: float) -> None:
    if event.gone:
        state.orphans.pop(event.worker, None)
        state.heirs.pop(event.worker, None)


def condemn(state: State, child: Child, now: float, why: str) -> None:
    """Give its shards away, though it may live: the takers end it, and the fence holds."""
    had = _take_from(state, child, now, f"{child.name} is condemned")
    state.become(child, LeaderState.CONDEMNED, now, why)
    state.audit("leader_condemned", child.name, reason=why)
    others = any(state.is_planned(other.name) for other in state.up())
    if child.report is None:  # found, and perhaps still starting
        child.end_at = now + state.patience.make_s
    else:  # with no shard, or nobody to take one, nobody else will end it
        child.end_at = now + (state.patience.hung_s if had and others else 0.0)


def on_tick(state: State, now: float) -> None:
    """What time alone brings."""
    for name in state.health.tick(now):
        child = state.leaders[name]
        if child.state is LeaderState.UP and child.report is not None:
            state.become(child, LeaderState.SUSPECT, now, "silent")
            # where the observer lags, one that works may as well
            spared = state.patience.scrutiny.patience_s + state.health.slack(now, now)
            child.scrutiny = Scrutiny(now, replace(state.patience.scrutiny, patience_s=spared))
    for child in list(state.leaders.values()):
        _outwait(state, child, now)
    for name, orphan in list(state.orphans.items()):
        if now >= orphan.reap_at:
            orphan.reap_at = now + state.patience.end_again_s
            unowned = round(now - orphan.since, 1)
            state.do(Reap(orphan.info), "reap", name, unowned_s=unowned)
    if state.surveyed and now >= state.survey_at:
        state.survey_at = now + state.patience.survey_s
        state.plain.append(Survey())


def _outwait(state: State, child: Child, now: float) -> None:
    """What a leader's own deadlines bring."""
    waited = now - child.since
    if child.state is LeaderState.SUSPECT and child.report is not None:
        state.plain.append(Look(child.name, child.serial, child.report.process))
    elif child.state is LeaderState.MAKING and waited >= _patience_to_make(state, child):
        _end(state, child, "never spoke")
        _fail_to_make(state, child, now, f"said nothing for {waited:.0f} s")
    elif child.state is LeaderState.FOUND and waited >= state.patience.found_s:
        condemn(state, child, now, "found, but silent")
    if child.state in (LeaderState.CONDEMNED, LeaderState.RETIRING) and now >= child.end_at:
        child.end_at = now + state.patience.end_again_s
        _end(state, child, child.state.value)


def _patience_to_make(state: State, child: Child) -> float:
    """Longer after each failure: on a machine too busy to start it, trying anew makes it worse."""
    doubled = 2.0 ** min(child.failures, state.patience.make_doublings)
    return state.patience.make_s * doubled


def make_missing(state: State, now: float) -> None:
    for name in state.plan.leader_names():
        child = state.leaders.get(name)
        if child is None or child.state is not LeaderState.MISSING or now < child.retry_at:
            continue
        config = _config(state, name)
        child.serial, child.report = state.next_serial(), None
        child.sent, child.sent_at = config, now
        state.become(child, LeaderState.MAKING, now, "made")
        state.do(Make(name, child.serial, config), "make", name, generation=config.generation)


def configure(state: State, now: float) -> None:
    """Tell each leader what it should work by: a new generation one leader at a time."""
    if not short(state):
        state.heirs.clear()  # adopted workers are let go by those who have enough of their own
    planned = [child for child in state.up() if state.is_planned(child.name)]
    rolling = any(_is_rolling(state, child, now) for child in planned)
    replacing = rollout.replacing(state, planned)
    for child in sorted(planned, key=lambda child: child.name):
        config = _config(state, child.name)
        if not rollout.is_turn(state, child, replacing):
            if child.sent is None:
                continue  # what it works by is not known in full
            config = rollout.without_revision(config, child.sent)
        elif child.report is not None and child.report.revision != config.revision:
            replacing = child.name
        behind = _is_behind(state, child)
        if child.sent == config:
            if not behind or now - child.sent_at < state.patience.configure_s:
                continue
        elif now < child.blocked_until or (behind and rolling):
            continue
        if behind and (child.sent is None or child.sent.generation != config.generation):
            child.rolled_at, rolling = now, True
        child.sent, child.sent_at = config, now
        state.do(
            Configure(child.name, child.serial, config), "configure", child.name,
            generation=config.generation, workers=config.workers,
        )  # fmt: skip


def _is_behind(state: State, child: Child) -> bool:
    return child.report is not None and child.report.generation < state.plan.generation


def _is_rolling(state: State, child: Child, now: float) -> bool:
    """Whether a leader is being changed to the plan's generation just now."""
    return (
        _is_behind(state, child)
        and child.sent is not None
        and child.sent.generation == state.plan.generation
        and now - child.rolled_at < state.patience.rolling_s
    )


def retire_surplus(state: State, now: float) -> None:
    """Let go of leaders that the plan no longer has, once they have no shards."""
    for child in list(state.up()):
        if state.is_planned(child.name) or state.owned(child.name):
            continue
        if child.report is not None and child.report.workers:
            _empty_pool(state, child, now)
            continue  # they may be at tasks of shards that it handed over: these are not run twice
        state.become(child, LeaderState.RETIRING, now, "not in the plan")
        child.end_at = now + state.patience.retire_s
        state.health.forget(child.name)
        state.do(Retire(child.name, child.serial), "retire", child.name)


def _empty_pool(state: State, child: Child, now: float) -> None:
    """Have a leader that is to go let its workers finish and end."""
    config = replace(state.plan.template, workers=0, workers_max=0)
    heard = child.report is not None and not child.report.worker_target
    if child.sent == config and (heard or now - child.sent_at < state.patience.configure_s):
        return
    child.sent, child.sent_at = config, now
    state.do(
        Configure(child.name, child.serial, config), "configure", child.name,
        generation=config.generation, workers=0,
    )  # fmt: skip


def short(state: State) -> bool:
    """Whether a planned leader is missing, or not ready to run tasks."""
    for name in state.plan.leader_names():
        child = state.leaders.get(name)
        if child is None or child.state is not LeaderState.UP or child.report is None:
            return True
        if not child.report.ready:
            return True
    return False


def _current(state: State, leader: str, serial: int) -> Child | None:
    """The leader, if the news is about its present incarnation."""
    child = state.leaders.get(leader)
    return child if child is not None and child.serial == serial else None


def _config(state: State, leader: str) -> LeaderConfig:
    """A leader's configuration: with what it adopted, as long as another leader is missing."""
    more = 0
    # while it still takes shards it may not have counted those that it adopts with them
    if state.heirs and short(state) and not _is_taking(state, leader):
        report = state.leaders[leader].report
        mine = {worker.name for worker in report.workers} if report else set()
        more = sum(heir == leader and name in mine for name, heir in state.heirs.items())
    return state.plan.config(more)


def _is_taking(state: State, leader: str) -> bool:
    return any(shard.state is SeatState.ORDERED for shard in state.owned(leader))


def _attach(state: State, child: Child, now: float, why: str) -> None:
    child.serial, child.report, child.sent = state.next_serial(), None, None
    state.become(child, LeaderState.FOUND, now, why)
    state.attached.add(child.name)
    state.plain.append(Attach(child.name, child.serial))


def _end(state: State, child: Child, reason: str) -> None:
    process = child.report.process if child.report else None
    state.do(End(child.name, child.serial, process), "end", child.name, reason=reason)


def _take_from(state: State, child: Child, now: float, why: str) -> bool:
    """Free a leader's shards and orphan its workers; returns whether it had shards."""
    lost = state.owned(child.name)
    for shard in lost:
        seats.free(state, shard, why, now)
    state.failovers += bool(lost)
    listed = state.listed(but=child.name)
    for worker in child.report.workers if child.report else ():
        if worker.name not in listed:
            _orphan(state, worker.name, Orphan(worker, now, _reap_at(state, now)))
    if child.state is LeaderState.FOUND:  # what its workers hold must be asked for (P6)
        state.asking_until = now + state.patience.asking_s
        state.plain.append(Survey(makers=(child.name,)))
    return bool(lost)


def _orphan(state: State, name: str, orphan: Orphan) -> None:
    state.orphans.setdefault(name, orphan)


def _reap_at(state: State, now: float) -> float:
    return now + state.plan.template.worker_lease_s + state.patience.reap_s


def _fail_to_make(state: State, child: Child, now: float, reason: str) -> None:
    state.audit("make_failed", child.name, reason=reason)
    child.fault = f"{child.name} cannot be made: {reason}"
    child.failures += 1
    _bury(state, child, now, reason)


def _bury(state: State, child: Child, now: float, reason: str) -> None:
    """It is gone: made again when its time has come, if the plan has it."""
    state.health.forget(child.name)
    state.become(child, LeaderState.MISSING, now, reason)
    if not state.is_planned(child.name):
        del state.leaders[child.name]
        state.story.forget(child.name)
        return
    decision = next_restart(child.recent, now, state.patience.restart)
    child.recent, child.retry_at = decision.recent, decision.at
    if decision.exceeded:
        child.fault = f"{child.name} dies too often, at last of this: {reason}"
