"""Specs as people write them: what is accepted, and what a mistake is told like."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera import config
from chimera.api import task
from chimera.config import environment, models, settings
from chimera.errors import InvalidRequest, SpecError
from chimera.swarm import spec as specs
from chimera.swarm.policy import TaskPolicy
from chimera.swarm.slo import SloSpec

ROOT = Path(__file__).parents[2]
VARIABLES = ("ADDRESS", "SWARM", "TENANT", "DATA_DIR")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(f"CHIMERA_{name}", raising=False)
    environment.cache_clear()
    yield
    environment.cache_clear()


# -- what is accepted --------------------------------------------------------------------------


def test_a_module_of_handlers_is_enough(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    spec = config.parse_spec("handlers: [app.tasks]")
    assert spec == specs.Spec(
        handlers=("app.tasks",),
        data_dir="/home/ada/.chimera/local",
        objects="file:///home/ada/.chimera/local/objects",
    )


def test_every_setting_can_be_written():
    spec = config.parse_spec(
        """
        name: shop
        handlers: [app.tasks, app.more]
        data_dir: /data/my shop
        durability: fsync
        shards: 64
        regions: [{name: eu, leaders: 3, workers: 2}, {name: us}]
        policy:
          types:
            charge: {max_attempts: 2, priority: critical, no_retry: [ValueError], rate_per_s: null}
          tenants: {acme: {weight: 3}}
        queue_bound: 1_000
        retention: {outcomes_s: 3600, idempotency_s: 600.5, resend_s: 60}
        objects: s3://bucket/prefix
        worker_lease_s: 10
        accept_lost_tail: true
        payload_max_bytes: 1024
        slos:
        - {name: prompt, indicator: queue, within_s: 0.5, objective: 0.99, window_s: 600}
        - {name: charged, indicator: success, objective: 0.999, type: charge}
        http: {host: 127.0.0.2, port: 8080, replicas: 2}
        """
    )
    charge = {"max_attempts": 2, "priority": "critical", "no_retry": ["ValueError"]}
    assert spec.policy.types == {"charge": {**charge, "rate_per_s": None}}
    assert spec.policy.tenants == {"acme": specs.TenantSpec(weight=3)}
    assert [region.name for region in spec.regions] == ["eu", "us"]
    assert (spec.data_dir, spec.objects) == ("/data/my shop", "s3://bucket/prefix")
    assert spec.retention.idempotency_s == 600.5
    assert spec.slos == (
        SloSpec(name="prompt", indicator="queue", within_s=0.5, objective=0.99, window_s=600.0),
        SloSpec(name="charged", indicator="success", objective=0.999, type="charge"),
    )
    assert config.from_dict(config.to_dict(spec)) == spec


def test_a_directory_with_blanks_is_a_url_that_can_be_read_back():
    spec = config.make_spec({"handlers": ["a"], "data_dir": "/my data"})
    assert spec.objects == "file:///my%20data/objects"


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_the_configurations_we_ship_are_specs(path):
    spec = config.load_spec(path)
    assert spec.name == path.stem
    assert spec.durability == ("fsync" if path.stem == "durable" else "os")


# -- what a mistake is told like ---------------------------------------------------------------

SLO = "handlers: [a]\nslos: [{name: a, indicator"
MISTAKES = [
    ("handlers: [a]\nshard: 4", 2, "shard", "no such setting; did you mean `shards`?"),
    ("handlers: [a]\nregions:\n- workrs: 1", 3, "regions[0].workrs", "did you mean `workers`?"),
    ("handlers: [a]\npolicy:\n  types:\n    t:\n      tries: 1", 5, "policy.types.t.tries",
     "no such setting: max_attempts,"),
    ("shards: 4", 1, "handlers", "must be set"),
    ("handlers: []", 1, "handlers", "at least one module"),
    ("handlers:\n- a\n- b.py", 3, "handlers[1]", "leave the .py off"),
    ("handlers: a", 1, "handlers", "must be a list"),
    ("handlers: [a]\nbus: http://broker", 2, "bus", "a bus is one of amqp,"),
    ("handlers: [a]\nbus: kafka://:secret@broker", 2, "bus", "a password for the bus, but no user"),
    ("handlers: [a]\nname: no", 2, "name", "must be a text (in quotes"),
    ("handlers: [a]\nname: Shop", 2, "name", "'Shop' is not a name"),
    ("handlers: [a]\nname:", 2, "name", "not nothing"),
    ("handlers: [a]\nshards: '8'", 2, "shards", "must be a whole number, not '8'"),
    ("handlers: [a]\nshards: 0", 2, "shards", "must be at least 1, not 0"),
    ("handlers: [a]\nshards: 2000", 2, "shards", "must be at most 1024, not 2000"),
    ("handlers: [a]\nworker_lease_s: .nan", 2, "worker_lease_s", "finite"),
    ("handlers: [a]\naccept_lost_tail: 1", 2, "accept_lost_tail", "true or false"),
    ("handlers: [a]\ndurability: disk", 2, "durability", "must be 'os' or 'fsync', not 'disk'"),
    ("handlers: [a]\nobjects: bucket", 2, "objects", "must be a URL"),
    ("handlers: [a]\nretention:\n  outcomes_s: 60", 2, "retention", "must not be over outcomes_s"),
    ("handlers: [a]\nregions: []", 2, "regions", "at least one"),
    ("handlers: [a]\nregions: [{}, {}]", 2, "regions", "'local' is there twice"),
    ("handlers: [a]\nshards: 1\nregions: [{name: a}, {name: b}]", 2, "shards", "2 regions need"),
    ("handlers: [a]\npolicy: {types: {a b: {}}}", 2, "policy.types.a b", "not a task type"),
    ("handlers: [a]\n\nhandlers: [b]", 3, "handlers", "is on line 1 already"),
    ("handlers: [a]\nregions:\n- leaders: 1\n  leaders: 2", 4, "regions[0].leaders", "on line 3"),
    (f"{SLO}: queue, objective: 0.9}}]", 2, "slos[0]", "within_s must be set for"),
    (f"{SLO}: success, objective: 0.9, within_s: 1}}]", 2, "slos[0]", "within_s is not for"),
    (f"{SLO}: total, objective: 0.9, within_s: 1, type: t}}]", 2, "slos[0]", "type cannot be set"),
    (f"{SLO}: success, objective: 1}}]", 2, "slos[0].objective", "must be at most 0.999999, not 1"),
    (f"{SLO}: success}}]", 2, "slos[0].objective", "must be set"),
    (f"{SLO}: p99, objective: 0.9}}]", 2, "slos[0].indicator", "must be 'success', 'queue',"),
    (f"{SLO}: success, objective: 0.9, type: a b}}]", 2, "slos[0].type", "not a task type"),
    (f"{SLO}: run, objective: 0.9, within: 1}}]", 2, "slos[0].within", "did you mean `within_s`?"),
    (f"{SLO}: success, objective: 0.9}}, {{name: a, indicator: success, objective: 0.8}}]", 2,
     "slos", "'a' is there twice"),
    ("", 1, "", "is empty"),
    ("# only a comment", 1, "", "is empty"),
    ("- handlers", 1, "", "must be a mapping"),
    ("handlers: [a\nname: x", 2, "", "is not YAML"),
    ("handlers: [a]\n---\nname: x", 2, "", "is not YAML"),
    ("handlers: [a]\nname: !!python/object:os.system x", 2, "", "is not YAML"),
    ("handlers: [a]\nd: 2020-99-99", 0, "", "month must be in"),
    ("handlers: [a]\nname: \x07", 2, "", "YAML forbids: '\\x07'"),
    ("handlers: &a [*a]", 0, "", "nested too deeply"),
    ("[" * 5000, 0, "", "nested too deeply"),
    ("a: " + "x" * 2**20, 0, "", "is this the right file?"),
    (b"handlers: [a]\nname: \xff", 2, "", "is not UTF-8: byte 0xff"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "key", "message"), MISTAKES)
def test_a_mistake_names_file_line_and_key(text, line, key, message):
    with pytest.raises(SpecError) as caught:
        config.parse_spec(text, "shop.yaml")
    assert message in caught.value.message
    assert caught.value.message.startswith(f"shop.yaml:{line}: " if line else "shop.yaml: ")
    assert caught.value.details == {"source": "shop.yaml", "line": line, "key": key}


def test_several_mistakes_are_told_together_in_their_order():
    with pytest.raises(SpecError) as caught:
        config.parse_spec("name: X\nshards: 0\nhandlers: [a]\nqueue_bound: -1", "f")
    lines = [row.split(" ")[0] for row in caught.value.message.splitlines()]
    assert lines == ["f:1:", "f:2:", "f:4:"]


def test_hundreds_of_mistakes_are_not_told_in_full():
    text = "handlers: [a]\n" + "\n".join(f"k{n}: 1" for n in range(300))
    with pytest.raises(SpecError, match="and 290 more"):
        config.parse_spec(text)


def test_aliases_cannot_multiply_without_end():
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(SpecError, match="has over 100000 values"):
        config.parse_spec("\n".join(["l0: &l0 x", *levels]))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"none.yaml: cannot be read: No such file"):
        config.load_spec(tmp_path / "none.yaml")


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_whatever_is_written_is_a_spec_or_a_spec_error(text):
    with contextlib.suppress(SpecError):
        assert config.parse_spec(text).handlers


# -- defaults ----------------------------------------------------------------------------------


def test_the_page_of_defaults_is_made_from_the_table():
    assert (ROOT / "docs" / "defaults.md").read_text(encoding="utf-8") == config.defaults_table()


def leaves(model, prefix=""):
    """(key, model, field name) of each setting that a model has, deep."""
    nested = {
        "regions": ("regions[].", models.RegionModel),
        "retention": ("retention.", models.RetentionModel),
        "slos": ("slos[].", models.SloModel),
        "http": ("http.", models.HttpModel),
        "policy": ("policy.", models.PolicyModel),
        "tenants": ("policy.tenants.TENANT.", models.TenantModel),
        "types": ("policy.types.TYPE.", models.TypeModel),
    }
    for name in model.model_fields:
        if name in nested:
            below, inner = nested[name]
            yield from leaves(inner, below)
        else:
            yield prefix + name


def test_every_setting_has_a_row_and_every_row_a_setting():
    written = {*leaves(models.SpecModel), *(f"CHIMERA_{name}" for name in VARIABLES)}
    assert written == settings.SETTINGS.keys()


def test_models_and_structs_have_the_same_fields():
    pairs = [
        (models.SpecModel, specs.Spec),
        (models.RegionModel, specs.RegionSpec),
        (models.RetentionModel, specs.Retention),
        (models.HttpModel, specs.HttpSpec),
        (models.SloModel, SloSpec),
        (models.PolicyModel, specs.PolicySpec),
        (models.TenantModel, specs.TenantSpec),
    ]
    for model, struct in pairs:
        # what operators order is no setting: no file can say it
        assert set(model.model_fields) == set(struct.__struct_fields__) - {"operations"}
    of_code = {"type", "keyed_state", "is_async", "contract", "contract_language"}
    assert set(models.TypeModel.model_fields) == set(TaskPolicy.__struct_fields__) - of_code


def test_defaults_are_within_their_bounds():
    for row in settings.SETTINGS.values():
        if isinstance(row.default, (int, float)) and row.low is not None:
            assert row.low <= row.default <= row.high, row.key


def test_the_decorator_and_the_spec_agree_on_what_is_allowed():
    for name, least in task._LEAST.items():
        assert settings.SETTINGS[f"policy.types.TYPE.{name}"].low == least
    assert models.TASK_TYPE == task._TYPE
    assert set(models.TypeModel.model_fields) == task._OPTIONS


# -- environment -------------------------------------------------------------------------------


def test_without_variables_clients_mean_the_local_swarm():
    found = environment()
    assert (found.address, found.swarm, found.tenant, found.data_dir) == (
        "",
        "local",
        "default",
        "",
    )


def test_variables_are_read_once(monkeypatch):
    monkeypatch.setenv("CHIMERA_SWARM", "shop")
    monkeypatch.setenv("CHIMERA_DATA_DIR", "/data")
    assert environment().swarm == "shop"
    assert config.make_spec({"name": "shop", "handlers": ["a"]}).data_dir == "/data/shop"
    monkeypatch.setenv("CHIMERA_SWARM", "other")
    assert environment().swarm == "shop"


def test_a_wrong_variable_is_named(monkeypatch):
    monkeypatch.setenv("CHIMERA_TENANT", "Not A Name")
    with pytest.raises(InvalidRequest, match=r"CHIMERA_TENANT: .*not a name"):
        environment()
