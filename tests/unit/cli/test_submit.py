"""`chimera submit` and `chimera result`: what they send, print and end with."""

from __future__ import annotations

import json
import time

import pytest

from chimera.client import Handle
from chimera.errors import Overloaded
from chimera.frames import command, ids
from tests.unit.cli.kit import chimera, printed


def frames(leaders) -> list[bytes]:
    return [data for call in leaders.appends() for data in call.args[1:]]


def test_the_id_is_printed_when_the_task_is_durable(leaders):
    run = chimera("submit", "echo", '{"a": 1}')
    assert run.exit_code == 0
    key = ids.parse_id(run.stdout.strip())
    assert leaders.payloads(key.shard) == [{"a": 1}]
    assert chimera("result", run.stdout.strip()).stdout == '{"a":1}\n'


def test_wait_prints_the_result(leaders):
    run = chimera("submit", "echo", "[1, 2]", "--wait")
    assert (run.exit_code, run.stdout) == (0, "[1,2]\n")
    run = chimera("submit", "echo", "--wait", "--json")
    assert printed(run)["result"] is None
    assert printed(run)["duplicate"] is False


def test_the_payload_may_come_from_a_file_or_stdin(leaders, tmp_path):
    file = tmp_path / "payload.json"
    file.write_text(' {"from": "file"}\n')
    assert chimera("submit", "echo", f"@{file}", "--wait").stdout == '{"from":"file"}\n'
    assert chimera("submit", "echo", "-", "--wait", stdin=b'"stdin"').stdout == '"stdin"\n'


@pytest.mark.parametrize("payload", ["{", "nope", "@/no/such/file"])
def test_a_payload_that_is_no_json_is_a_usage_error(leaders, payload):
    run = chimera("submit", "echo", payload)
    assert run.exit_code == 2
    assert not leaders.calls


def test_options_travel_with_the_task(leaders):
    run = chimera(
        "submit", "echo", "1", "--key", "k", "--idempotency-key", "i", "--delay", "1m",
        "--deadline", "2h", "--priority", "critical", "--tag", "a", "--tag", "b",
        "--tenant", "acme",
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    (frame,) = frames(leaders)
    columns, head = command.columns(frame), command.head(frame)
    assert (columns.keys, columns.idempotency, columns.tags) == (["k"], ["i"], [["a", "b"]])
    assert abs(columns.not_before[0] / 1000 - time.time() - 60) < 30
    assert abs(columns.deadline[0] / 1000 - time.time() - 7200) < 30
    assert (head.priority, head.tenant) == (0, "acme")


def test_the_environment_names_the_tenant(leaders, monkeypatch):
    monkeypatch.setenv("CHIMERA_TENANT", "acme")
    chimera("submit", "echo")
    assert command.head(frames(leaders)[0]).tenant == "acme"


def test_a_duplicate_says_so(leaders):
    first = printed(chimera("submit", "echo", "1", "--idempotency-key", "i", "--json"))
    second = printed(chimera("submit", "echo", "1", "--idempotency-key", "i", "--json"))
    assert second == {"id": first["id"], "duplicate": True}
    conflict = chimera("submit", "echo", "2", "--idempotency-key", "i")
    assert conflict.exit_code == 4
    assert conflict.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["submit", "nope"], 3, "no handler is registered for 'nope'"),
        (["submit", "echo", '"bad"', "--wait"], 1, "ValueError: bad is bad"),
        (["submit", "echo", "--delay", "soon"], 2, "no duration"),
        (["submit", "echo", "--deadline", "never"], 2, "no moment"),
        (["submit", "echo", "--deadline", "2020-01-01T00:00:00Z"], 2, "has passed"),
        (["submit", "echo", "--key", ""], 2, "key is a text"),
        (["submit", "echo", "1", "--ndjson", "-"], 2, "no PAYLOAD"),
        (["result", ids.format_id(1, 0, 1)], 3, "there is no task"),
        (["result", "x"], 2, "no task id"),
        (["submit", "echo", "--swarm", "Bad Name"], 2, "is not a name"),
    ],
)
def test_errors_are_one_line_with_an_exit_code(leaders, arguments, code, says):
    run = chimera(*arguments)
    assert run.exit_code == code, run.output
    assert says in run.stderr
    assert "Traceback" not in run.stderr
    if not run.stderr.startswith("Usage: "):
        assert run.stderr.count("\n") == 1
        assert run.stderr.startswith("error: ")


def test_a_deadline_that_has_passed_is_told_as_a_moment(leaders):
    run = chimera("submit", "echo", "--deadline", "2020-01-01T00:00:00Z")
    assert "2020-01-01T00:00:00.000+00:00, has passed" in run.stderr


def test_the_id_of_a_task_that_failed_is_told(leaders):
    run = chimera("submit", "echo", '"bad"', "--wait")
    task_id = run.stderr.removeprefix("error: task ").partition(":")[0]
    assert chimera("dlq", "list", "-o", "name").stdout.split() == [task_id]
    run = chimera("result", task_id, "--json")
    assert json.loads(run.stderr)["error"]["details"]["id"] == task_id


def test_ctrl_c_says_how_to_hear_of_the_task_that_goes_on(leaders, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Handle, "result", interrupted)
    run = chimera("submit", "echo", "--wait")
    assert run.exit_code == 130
    task_id = run.stderr.split()[1]
    assert run.stderr == f"task {task_id} goes on: chimera result {task_id}\ninterrupted\n"
    monkeypatch.undo()


def test_an_error_as_json(leaders):
    run = chimera("submit", "nope", "--json")
    assert run.exit_code == 3
    assert json.loads(run.stderr)["error"]["code"] == "unknown_task_type"
    assert run.stdout == ""


def test_the_traceback_is_there_for_who_asks(leaders):
    run = chimera("submit", "nope", "--debug")
    assert "Traceback" in run.stderr


def test_an_unforeseen_error_is_one_line_too(leaders):
    leaders.fault = lambda verb, shard: Overloaded("not\nnow") if verb == "append" else None
    run = chimera("submit", "echo", "1", "--timeout", "0.2")
    assert run.exit_code == 1
    assert run.stderr.count("\n") == 1


def test_what_takes_too_long_ends_with_124(leaders):
    leaders.handler = None
    run = chimera("submit", "slow", "--wait", "--timeout", "0.1")
    assert run.exit_code == 124
    task_id = chimera("submit", "slow").stdout.strip()
    assert chimera("result", task_id, "--timeout", "0.05").exit_code == 124


class TestLines:
    LINES = b'{"i": 0}\n\n{"i": 1}\n[2]'

    def test_a_task_a_line(self, leaders, tmp_path):
        file = tmp_path / "lines.ndjson"
        file.write_bytes(self.LINES)
        run = chimera("submit", "echo", "--ndjson", str(file))
        found = [ids.parse_id(line) for line in run.stdout.splitlines()]
        assert len(found) == 3
        payloads = [one for shard in range(4) for one in leaders.payloads(shard)]
        assert payloads == [{"i": 0}, {"i": 1}, [2]]

    def test_results_come_in_the_order_of_the_lines(self, leaders):
        run = chimera("submit", "echo", "--ndjson", "-", "--wait", stdin=self.LINES)
        assert run.exit_code == 0
        rows = [json.loads(line) for line in run.stdout.splitlines()]
        assert [row["result"] for row in rows] == [{"i": 0}, {"i": 1}, [2]]

    def test_failures_are_named_and_counted(self, leaders):
        run = chimera("submit", "echo", "--ndjson", "-", "--wait", stdin=b'1\n"bad"\n2\n')
        assert run.exit_code == 1
        rows = [json.loads(line) for line in run.stdout.splitlines()]
        assert [row.get("result") for row in rows] == [1, None, 2]
        assert rows[1]["error"] == "task_failed"
        assert run.stderr == "1 of 3 tasks did not succeed\n"

    def test_a_line_that_is_no_json_is_named(self, leaders):
        run = chimera("submit", "echo", "--ndjson", "-", stdin=b"1\n\n{\n")
        assert run.exit_code == 2
        assert "line 3 is no JSON" in run.stderr

    def test_ids_as_json(self, leaders):
        run = chimera("submit", "echo", "--ndjson", "-", "--json", stdin=b"1\n2\n")
        assert [list(json.loads(line)) for line in run.stdout.splitlines()] == [["id"], ["id"]]
