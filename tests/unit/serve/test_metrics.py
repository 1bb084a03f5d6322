"""Metrics of a swarm that is made up: names that others alert on, and labels that are bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from chimera.serve.metrics import rendered
from chimera.swarm import merge
from chimera.swarm.budget import Counts, evaluated
from chimera.swarm.reports import Exemplar
from chimera.swarm.sketch import Sketch
from chimera.swarm.slo import SloSpec
from tests.unit.serve.test_checks import LEADER, REGION, STATUS

#: those of the conventions
NAMES = {
    *(f"chimera_tasks_{what}" for what in (
        "submitted", "started", "succeeded", "failed", "retried", "cancelled", "deadlettered",
        "duplicate_rejected",
    )),
    "chimera_queue_depth", "chimera_queue_oldest_age_seconds", "chimera_queue_to_start_seconds",
    "chimera_task_duration_seconds", "chimera_worker_slots", "chimera_leader_epoch",
    "chimera_takeover_seconds", "chimera_fenced_writes", "chimera_config_generation",
    "chimera_config_version_info",
    "chimera_event_loop_lag_seconds", "chimera_build_info", "chimera_tier_up",
    "chimera_slo_budget_remaining_ratio",
}  # fmt: skip


def sketch(*seconds):
    made = Sketch()
    for one in seconds:
        made.add(one)
    return made.to_bytes()


def samples(leader, *slos):
    region = replace(REGION, leaders=(leader,), tally=merge.join([merge.read(leader)]))
    text, _ = rendered(replace(STATUS, regions={"local": region}, slos=slos), "")
    families = list(text_string_to_metric_families(text.decode()))
    found = {}
    for family in families:
        for one in family.samples:
            found[one.name, tuple(sorted(one.labels.items()))] = one.value
    return {family.name for family in families}, found


FULL = replace(
    LEADER,
    counters={
        "accepted": 9, "accepted@critical/mail": 6, "started": 8, "started/mail": 7,
        "started@critical/mail": 4, "started@normal/mail": 3,
        "failed": 2, "failed/mail": 2, "failed@normal/mail": 2, "duplicates": 3,
    },
    latency={
        "takeover": sketch(0.2, 0.3), "run/mail": sketch(0.1), "queue/critical": sketch(0.1),
        "queue/normal": sketch(0.1, 3.0),
    },
    oldest_s=12.5,
    slots={"starting": 0, "idle": 1, "busy": 2, "leaving": 0},
)  # fmt: skip
WHERE = (("leader", "leader/local/0"), ("region", "local"))


def test_the_names_of_the_conventions_are_there():
    names, _ = samples(FULL)
    assert names >= NAMES


def test_what_leaders_count_is_told():
    _, found = samples(FULL)
    started = {
        (dict(labels)["class"], dict(labels)["type"]): value
        for (name, labels), value in found.items()
        if name == "chimera_tasks_started_total"
    }
    assert started == {("critical", "mail"): 4, ("normal", "mail"): 3, ("", ""): 1}
    urgent = (("class", "critical"), *WHERE, ("type", "mail"))
    assert found["chimera_tasks_submitted_total", urgent] == 6
    mail = (("class", "normal"), *WHERE, ("type", "mail"))
    assert found["chimera_tasks_deadlettered_total", mail] == 2
    assert found["chimera_tasks_duplicate_rejected_total", WHERE[1:]] == 3
    assert found["chimera_queue_oldest_age_seconds", WHERE] == 12.5
    assert found["chimera_worker_slots", (*WHERE, ("state", "busy"))] == 2
    assert found["chimera_takeover_seconds_count", WHERE[1:]] == 2
    assert found["chimera_takeover_seconds_bucket", (("le", "0.25"), *WHERE[1:])] == 1


def test_how_long_tasks_wait_is_told_by_class():
    _, found = samples(FULL)
    counts = {
        dict(labels)["class"]: value
        for (name, labels), value in found.items()
        if name == "chimera_queue_to_start_seconds_count"
    }
    assert counts == {"critical": 1, "normal": 2, "batch": 0}


def test_a_traced_task_is_the_exemplar_of_its_bucket():
    told = {"queue/normal": Exemplar("ab" * 16, 2.5, 1_700_000_000_500)}
    leader = replace(FULL, exemplars=told)
    region = replace(REGION, leaders=(leader,), tally=merge.join([merge.read(leader)]))
    accept = "application/openmetrics-text; version=1.0.0"
    text, _ = rendered(replace(STATUS, regions={"local": region}), accept)
    found = [
        (one.labels["class"], one.labels["le"], one.exemplar)
        for family in openmetrics.text_string_to_metric_families(text.decode())
        for one in family.samples
        if one.exemplar
    ]
    [(of_class, le, exemplar)] = found
    assert (of_class, float(le)) == ("normal", 2.5)
    assert exemplar.labels == {"trace_id": "ab" * 16}
    assert (exemplar.value, float(exemplar.timestamp)) == (2.5, 1_700_000_000.5)


def test_a_tier_is_up_while_all_of_its_checks_are_well():
    _, found = samples(FULL)
    assert found["chimera_tier_up", (("tier", "worker"),)] == 1
    _, found = samples(replace(FULL, workers=()))
    assert found["chimera_tier_up", (("tier", "worker"),)] == 0
    assert found["chimera_tier_up", (("tier", "coordinator"),)] == 1


def test_objectives_are_told_and_without_data_only_what_is_asked_for():
    slo = SloSpec(name="ends-well", indicator="success", objective=0.9)
    window, recent = Counts(95, 100), Counts(9, 10)
    _, found = samples(FULL, evaluated(slo, window, recent, 60.0))
    mine = (("slo", "ends-well"),)
    assert found["chimera_slo_objective_ratio", mine] == 0.9
    assert found["chimera_slo_current_ratio", mine] == 0.95
    assert found["chimera_slo_budget_remaining_ratio", mine] == pytest.approx(0.5)
    assert found["chimera_slo_burn_rate", mine] == pytest.approx(1.0)
    _, found = samples(FULL, evaluated(slo, Counts(0, 0), Counts(0, 0), 60.0))
    assert [name for name, _ in found if "_slo_" in name] == ["chimera_slo_objective_ratio"]
