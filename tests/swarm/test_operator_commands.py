"""The examples of the commands that make, change and end a swarm, in an operator's order."""

from __future__ import annotations

import json
import shlex

import pytest
import requests
import yaml
from click.testing import CliRunner

from chimera.cli import reference
from chimera.cli.main import main
from tests.swarm.test_ways_in import LINES

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(400)]

SPEC = {
    "name": "shop",
    "handlers": ["tests.swarm.ways_in_handlers"],
    "shards": 2,
    "regions": [{"name": "local"}, {"name": "eu", "leaders": 1}],
}
OPERATED = (
    "chimera doctor",
    "chimera up -f swarm.yaml",
    "chimera doctor -f swarm.yaml -o json",
    "chimera apply -f swarm.yaml --dry-run",
    "chimera scale local --leaders 4 --wait",
    "chimera scale local --workers 1 --workers-max 8",
    "chimera apply -f swarm.yaml --wait",
    "chimera drain leader/local/0 --wait",
    "chimera drain leader/local/0 --undo",
    "chimera drain worker/local/1/5f3a90c1-2",
    "chimera drain coordinator/eu --wait",
    "chimera serve --port 8000",
    "chimera registry register orders-value order.avsc",
    "chimera registry check orders-value order.avsc",
    "chimera registry list",
    "chimera registry list --prefix io.chimera.",
    "chimera registry show io.chimera.task.Command",
    "chimera registry show orders-value --version 2",
    "chimera registry register orders-value order.schema.json",
    "chimera serve --stop",
    "chimera down --swarm shop",
)
PROVISIONED = (
    "chimera bus provision -f swarm.yaml --replicas 3",
    "chimera bus lag -f swarm.yaml",
)
SIMULATED = ("chimera sim --seeds 20", "chimera sim --replay 7 --trace")
#: tests/swarm/test_command_line.py
INTERRUPTED = ("chimera dev -f swarm.yaml",)
SCHEMA = {"type": "record", "name": "Order", "fields": [{"name": "item", "type": "string"}]}
WIDER = {"name": "count", "type": "int", "default": 1}
#: the worker and the port that the help names, which nobody has here
WORKER, PORT = "worker/local/1/5f3a90c1-2", "8000"


def test_every_example_of_the_help_is_run_by_a_test():
    told = {line for _, command in reference.commands() for line in reference.examples(command)}
    ran = {*(line for line, _ in LINES), *OPERATED, *PROVISIONED, *SIMULATED, *INTERRUPTED}
    assert ran == told


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An operator's directory, with the files that the examples name."""
    monkeypatch.chdir(tmp_path)
    for name in ("CHIMERA_URL", "CHIMERA_TENANT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CHIMERA_SWARM", "shop")
    monkeypatch.setenv("CHIMERA_CONFIG", str(tmp_path / "config.json"))
    (tmp_path / "order.avsc").write_text(json.dumps(SCHEMA))
    (tmp_path / "order.schema.json").write_text('{"type": "object"}')
    return tmp_path


def run(line: str) -> str:
    """Give a command, which must succeed; returns what it printed."""
    done = CliRunner().invoke(main, shlex.split(line)[1:])
    assert done.exit_code == 0, f"{line}\n{done.output}{done.stderr}"
    return done.stdout


def _worker() -> str:
    """The name of a worker of the leader that the example names."""
    # it says by its exit code that what was ordered before is not yet so
    told = json.loads(CliRunner().invoke(main, ["status", "-o", "json"]).stdout)
    for leader in told["regions"]["local"]["leaders"]:
        if leader["leader"] == WORKER.replace("worker", "leader").rpartition("/")[0]:
            return str(leader["workers"][0]["process"]["name"])
    raise AssertionError(told)


def _prepare(line: str, gateway: str) -> str:
    """Make it so that a line finds what it names; returns the line for here."""
    orders = f"{gateway}/registry/subjects/orders-value"
    if line.endswith("--version 2"):
        wider = json.dumps({**SCHEMA, "fields": [*SCHEMA["fields"], WIDER]})
        requests.post(f"{orders}/versions", json={"schema": wider}, timeout=60).raise_for_status()
    if line.endswith("order.schema.json"):
        requests.delete(orders, timeout=60).raise_for_status()
        requests.delete(f"{orders}?permanent=true", timeout=60).raise_for_status()
    if WORKER in line:
        line = line.replace(WORKER, _worker())
    return line.replace(PORT, gateway.rpartition(":")[2])


def test_the_examples_of_an_operator_run(ray_cluster, http_port, here, monkeypatch):
    gateway = f"http://127.0.0.1:{http_port}"
    monkeypatch.setenv("CHIMERA_ADDRESS", ray_cluster.address)
    monkeypatch.setenv("CHIMERA_REGISTRY", f"{gateway}/registry")
    (here / "swarm.yaml").write_text(yaml.safe_dump({**SPEC, "data_dir": str(here / "data")}))
    try:
        for line in OPERATED:
            run(_prepare(line, gateway))
    finally:
        CliRunner().invoke(main, ["down", "--swarm", "shop"])


def test_the_examples_about_a_broker_run(rabbitmq, here):
    (here / "swarm.yaml").write_text(yaml.safe_dump({**SPEC, "bus": rabbitmq.url}))
    for line in PROVISIONED:
        run(line)


def test_the_examples_of_the_simulator_run(here):
    for line in SIMULATED:
        run(line)
