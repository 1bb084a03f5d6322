"""The OpenAPI document: its examples work, its promises hold, and others make clients of it."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import schemathesis

from tests.http.kit import Api, problem

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).parent.parent.parent
TOOLS = Path(sys.executable).parent
#: how the cases are made, and which are not
CASES = Path(__file__).parent / "schemathesis.toml"


@pytest.fixture
def document(api):
    return api("GET", "/openapi.json").json()


def _examples(document):
    """Every example of a request body: method, path, media type, example."""
    for path, operations in document["paths"].items():
        for method, one in operations.items():
            for media, content in one.get("requestBody", {}).get("content", {}).items():
                schema = content["schema"]
                if "$ref" in schema:
                    schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
                for example in [content["example"]] if "example" in content else schema["examples"]:
                    yield method, path, media, example


def test_every_example_of_a_request_is_accepted(api, document):
    tried = 0
    for method, path, media, example in _examples(document):
        body = example if isinstance(example, str) else json.dumps(example)
        where = path.replace("{name}", "local")
        answer = api(method.upper(), where, data=body, headers={"content-type": media})
        assert answer.status_code < 300, f"{method} {path}: {answer.text}"
        if path == "/v1/tasks:batch":
            assert json.loads(answer.text.splitlines()[-1])["accepted"] == body.count("\n")
        tried += 1
    assert tried >= 9


def test_every_example_of_an_answer_is_what_its_schema_says(document):
    tried = 0
    for name, schema in document["components"]["schemas"].items():
        rooted = {**schema, "components": document["components"]}
        for example in schema.get("examples", ()):
            jsonschema.validate(example, rooted, cls=jsonschema.Draft202012Validator)
            tried += 1
        for property_ in schema.get("properties", {}).values():
            for example in property_.get("examples", ()):
                told = {**property_, "components": document["components"]}
                jsonschema.validate(example, told, cls=jsonschema.Draft202012Validator)
                tried += 1
        assert name
    assert tried >= 8


def test_the_document_holds_for_cases_that_are_made_up(api, tmp_path):
    """What schemathesis makes of it: no 5xx, nothing undocumented, bad data refused.

    The same cases each time; CHIMERA_TEST_SEED tries others.
    """
    assert schemathesis.__version__ >= "4"
    seed = os.environ.get("CHIMERA_TEST_SEED")
    command = [
        TOOLS / "schemathesis", "--no-color", "--config-file", CASES,
        "run", api.url + "/openapi.json", "--max-time", "45",
        "--phases", "examples,coverage,fuzzing", "--header", f"Chimera-Tenant:{api.tenant}",
        *(["--seed", seed] if seed else []),
    ]  # fmt: skip
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.http.cases", "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-1000:]
    assert int(re.search(r"(\d+) generated", done.stdout)[1]) > 1000, done.stdout[-800:]
    tried = dict(re.findall(r"(\w+) \(in [\d.]+s\)\s+\S+ (\d+) passed", done.stdout))
    selected, of_all = re.search(r"Selected: (\d+)/(\d+)", done.stdout).groups()
    assert tried["Coverage"] == selected == of_all, "made-up ones go on for the rest of the time"


@pytest.mark.parametrize("path", ["/admin/v1/leaders/{}/drain", "/admin/v1/regions/{}/scale"])
@pytest.mark.parametrize("name", ["none", "worker/local/0", "%00", "leader/local/77"])
def test_orders_to_what_is_not_there_are_refused(api, path, name):
    answer = api("POST", path.format(name), json={"workers": 1})
    problem(answer, 404, "not_found")


def test_a_client_that_others_generate_submits_and_reads(api, document, tmp_path, monkeypatch):
    source = tmp_path / "openapi.json"
    source.write_text(json.dumps(document))
    tool = TOOLS / "openapi-python-client"
    assert shutil.which(tool), "pip install 'chimera[dev]' brings it"
    command = [tool, "generate", "--path", source, "--output-path", tmp_path / "foreign",
               "--meta", "none"]  # fmt: skip
    subprocess.run(command, capture_output=True, timeout=100, check=True)
    monkeypatch.syspath_prepend(tmp_path)
    tasks, models = (importlib.import_module(f"foreign.{one}") for one in ("api.tasks", "models"))
    submit = importlib.import_module(tasks.__name__ + ".submit_v1_tasks_post")
    show = importlib.import_module(tasks.__name__ + ".show_v1_tasks_task_id_get")
    of_tenant = {"chimera_tenant": api.tenant}
    with importlib.import_module("foreign").Client(base_url=api.url, timeout=120) as client:
        body = models.TaskRequest(type_="client.echo", payload={"n": [1]})
        given = submit.sync(client=client, body=body, **of_tenant)
        assert given.state == "queued"
        found = show.sync(given.id, client=client, wait=60, **of_tenant)
        assert (found.state, found.result) == ("succeeded", {"n": [1]})
        wrong = submit.sync(
            client=client, body=models.TaskRequest(type_="client.nope"), **of_tenant
        )
        assert isinstance(wrong, models.Problem)
        assert wrong.code == "unknown_task_type"


def test_the_page_loads_nothing_from_elsewhere(api: Api):
    answer = api("GET", "/docs")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"(src|href)=.?(https?:)?//", answer.text)
