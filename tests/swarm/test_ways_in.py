"""The examples of the commands' help, and bad input, on one real swarm, through Ray and HTTP."""

from __future__ import annotations

import json
import os
import shlex

import pytest
from click.testing import CliRunner

import chimera
from chimera import errors
from chimera.actors import boot
from chimera.cli import reference
from chimera.cli.main import main
from chimera.config import make_spec
from chimera.serve import deployment
from tests.servers.processes import free_ports

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

#: the machine that runs this may be busy
DEADLINE_S = 120.0
SWARM = "ways-in"
#: groups whose examples are run here; the others need a machine, a broker or a region of their own
RUN = ("status", "top", "submit", "result", "tasks", "dlq", "purge", "events", "logs", "config",
       "context", "completion", "pause", "resume")  # fmt: skip
#: those that talk to the cluster itself
IN_CLUSTER = ("logs", "pause", "resume")
LINES = [
    (line, typed.split()[1])
    for typed, command in reference.commands()
    if typed.split()[1] in RUN
    for line in reference.examples(command)
]


@pytest.fixture(scope="module")
def url(ray_cluster, http_port, tmp_path_factory):
    spec = make_spec(
        {
            "name": SWARM, "handlers": ["tests.swarm.ways_in_handlers"], "shards": 2,
            "data_dir": str(tmp_path_factory.mktemp("ways")), "http": {"port": http_port},
        }
    )  # fmt: skip
    boot.up(spec, timeout_s=DEADLINE_S)
    assert spec.http is not None
    try:
        yield deployment.up(SWARM, spec.http)
    finally:
        deployment.down(SWARM)
        boot.down(SWARM)


@pytest.fixture
def here(url, ray_cluster, tmp_path, monkeypatch):
    """A directory with what the examples name, and the environment that they assume."""
    monkeypatch.chdir(tmp_path)
    for name in ("CHIMERA_ADDRESS", "CHIMERA_URL", "CHIMERA_TENANT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CHIMERA_SWARM", SWARM)
    monkeypatch.setenv("CHIMERA_CONFIG", str(tmp_path / "config.json"))
    mail = {"to": "ada@example.org"}
    (tmp_path / "mail.json").write_text(json.dumps(mail))
    (tmp_path / "mails.ndjson").write_text((json.dumps(mail) + "\n") * 3)
    (tmp_path / "config.json").write_text('{"contexts": {"local": {}, "shop": {}}}')
    return tmp_path


@pytest.fixture
def ids(url):
    """A task that succeeded and one that is a dead letter."""
    with chimera.Client(url) as client:
        done = client.submit("mail.send", {"to": "ada@example.org"})
        dead = client.submit("mail.send", {"to": "nobody"}, tags=["import"])
        assert (done.wait(DEADLINE_S), dead.wait(DEADLINE_S)) == ("succeeded", "failed")
        return {"ID": done.id, "DEAD": dead.id}


def run(line: str, *more: str):
    """Run a line as a shell would: with variables, a pipe into it, or a file after it."""
    stdin, _, line = line.rpartition(" | ")
    line, _, _ = os.path.expandvars(line).partition(" > ")
    given = shlex.split(stdin)[1] if stdin else None
    return CliRunner().invoke(main, [*shlex.split(line)[1:], *more], input=given)


@pytest.mark.parametrize(("line", "name"), LINES, ids=[line for line, _ in LINES])
def test_the_examples_of_the_help_run(line, name, here, ids, url, ray_cluster, monkeypatch):
    for variable, value in ids.items():
        monkeypatch.setenv(variable, value)
    if name in IN_CLUSTER or len(line) % 2:  # half of the others go over HTTP
        monkeypatch.setenv("CHIMERA_ADDRESS", ray_cluster.address)
    else:
        monkeypatch.setenv("CHIMERA_URL", url)
    if name == "resume":
        run(line.replace("resume", "pause").replace(" --wait", ""))
    done = run(line)
    assert done.exit_code == 0, f"{done.output}{done.stderr}"
    if name == "pause":
        run(line.replace("pause", "resume"))


BAD = [
    ("submit nope 1", 3, "no handler is registered for 'nope'"),
    ("submit mail.send '{\"to\": 1}'", 2, "/payload/to"),
    ("submit mail.send '{'", 2, "no JSON"),
    ("submit mail.send null --deadline 2001-01-01T00:00:00Z", 2, "has passed"),
    ("submit mail.send null --tag ''", 2, "is no tag"),
    ("submit mail.send @big.json", 2, "bytes"),
    ("result 4a57e9c5-2fe0-8fd5-8000-800000000000", 3, "no task"),
    ("result nonsense", 2, "is no task id"),
    ("tasks show $ID --tenant another", 3, "no task"),
    ("dlq show $ID", 3, "is no dead letter"),
    ("dlq replay", 2, "say which"),
    ("pause", 2, "say which"),
    ("resume", 2, "say which"),
    ("purge", 2, "say which: --all, or a filter"),
    ("submit mail.send null --tenant NO!", 2, "not a name"),
]


@pytest.mark.parametrize("way", ["CHIMERA_ADDRESS", "CHIMERA_URL"])
@pytest.mark.parametrize(("line", "code", "says"), BAD, ids=[line for line, _, _ in BAD])
def test_bad_input_is_told(line, code, says, way, here, ids, url, ray_cluster, monkeypatch):
    monkeypatch.setenv("ID", ids["ID"])
    monkeypatch.setenv(way, url if way == "CHIMERA_URL" else ray_cluster.address)
    if "big.json" in line:
        (here / "big.json").write_text(json.dumps({"to": "a" * 18 * 1024 * 1024}))
    done = run("chimera " + line)
    assert (done.exit_code, says in done.stderr) == (code, True), done.stderr


def test_a_filter_passes_over_dead_letters_that_were_given_up(here, ids, url, monkeypatch):
    monkeypatch.setenv("CHIMERA_URL", url)
    assert run(f"chimera dlq discard {ids['DEAD']}").exit_code == 0
    assert run(f"chimera dlq replay {ids['DEAD']}").exit_code == 3
    done = run("chimera dlq replay --type mail.send --yes")
    assert done.exit_code == 0, done.stderr
    assert ids["DEAD"] not in done.stdout


def test_a_gateway_that_is_no_gateway_or_not_there_is_told(here):
    done = run(f"chimera submit mail.send --url http://127.0.0.1:{free_ports(1)[0]}")
    assert (done.exit_code, "no gateway answers" in done.stderr) == (3, True), done.stderr
    done = run("chimera submit mail.send --url nonsense")
    assert (done.exit_code, "is no URL" in done.stderr) == (2, True), done.stderr


def test_the_client_over_http_is_as_the_one_in_the_cluster(url):
    with chimera.Client(url) as client, chimera.connect(SWARM) as swarm:
        mails = [{"to": f"a{n}@example.org"} for n in range(50)]
        bulk = client.submit_many("mail.send", [*mails, {"to": "nobody"}], tags=["both"])
        counts = bulk.wait(DEADLINE_S)
        assert (counts.succeeded, counts.failed) == (50, 1)
        assert list(bulk.results(DEADLINE_S, return_exceptions=True))[:2] == [
            "sent to a0@example.org", "sent to a1@example.org",
        ]  # fmt: skip
        one = bulk[0].id
        assert client.get(one, payload=True).body == swarm.get(one, payload=True).body
        with pytest.raises(errors.TaskFailed) as over_http:
            bulk[50].result(DEADLINE_S)
        with pytest.raises(errors.TaskFailed) as inside:
            swarm.handle(bulk[50].id).result(DEADLINE_S)
        assert str(over_http.value) == str(inside.value)
        found = {task.task_id for task in client.list(tag="both")}
        assert found == {task.task_id for task in swarm.list(tag="both")} == {*bulk.ids()}
        assert client.status().ready
        assert {one.type for one in client.types()} == {one.type for one in swarm.types()}
