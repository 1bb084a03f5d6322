"""`chimera registry` against a real registry over HTTP."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from chimera.cli.backends import look_at_registry
from chimera.cli.main import main

OLD = {"type": "record", "name": "O", "fields": [{"name": "a", "type": "int"}]}
NEW = {**OLD, "fields": [*OLD["fields"], {"name": "b", "type": "int", "default": 0}]}
BAD = {**OLD, "fields": [*OLD["fields"], {"name": "c", "type": "int"}]}


@pytest.fixture
def run(served):
    def run(*arguments, code=0):
        done = CliRunner().invoke(main, ["registry", *map(str, arguments), "--url", served.url])
        assert done.exit_code == code, done.output
        return done.output

    return run


@pytest.fixture
def file(tmp_path):
    def write(schema, name="order.avsc"):
        path = tmp_path / name
        path.write_text(json.dumps(schema))
        return path

    return write


def test_a_schema_is_registered_listed_shown_and_checked(run, file):
    assert "orders version 1, id 1000" in run("register", "orders", file(OLD))
    assert "orders version 2, id 1001" in run("register", "orders", file(NEW))
    assert "orders version 1, id 1000" in run("register", "orders", file(OLD)), "is there already"
    subjects = json.loads(run("list", "--json"))["subjects"]
    assert subjects == [
        {"subject": "orders", "version": 2, "id": 1001, "type": "AVRO", "level": "BACKWARD"}
    ]
    assert "orders" not in run("list", "--prefix", "x")
    assert json.loads(run("show", "orders", "--version", "1", "--json"))["id"] == 1000
    assert "compatible" in run("check", "orders", file(NEW))
    assert "has no default" in run("check", "orders", file(BAD), code=4)
    assert "has no default" in run("register", "orders", file(BAD), code=4)
    run("register", "told", file({"type": "object"}, "told.json"))
    assert json.loads(run("show", "told", "--json"))["schemaType"] == "JSON"


def test_faults_are_told_in_one_line(run, file):
    assert "Subject 'none' not found" in run("show", "none", code=3)
    assert "Invalid schema" in run("register", "x", file({"type": "x"}), code=2)


def test_doctor_looks_at_a_registry_elsewhere(served):
    url = served.url.replace("http://", "http://me:secret@")
    (state, saw, _) = next(look_at_registry(url))
    assert state == "ok", saw
    assert "secret" not in saw
    served.registry.register("io.chimera.task.Result", '"string"')
    (state, saw, _) = next(look_at_registry(url))
    assert (state, saw.split(":")[0]) == ("fail", "io.chimera.task.Result")
    (state, saw, mend) = next(look_at_registry("http://127.0.0.1:9"))
    assert (state, "does not answer" in saw, "`registry`" in mend) == ("fail", True, True)


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("http://127.0.0.1:9", 1, "the schema registry does not answer"),
        ("ftp://host", 2, "is no URL of a registry"),
    ],
)
def test_a_registry_that_is_not_there_is_told(url, code, said):
    done = CliRunner().invoke(main, ["registry", "list", "--url", url])
    assert done.exit_code == code
    assert said in done.output
