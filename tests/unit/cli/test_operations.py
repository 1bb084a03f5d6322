"""`chimera apply`, `scale`, `drain`, `pause`, `resume`: what they order, print and end with."""

from __future__ import annotations

from pathlib import Path

import pytest

from chimera.actors import operate
from chimera.client import address, link
from chimera.errors import InvalidRequest, NotFound, SpecError, WaitTimeout
from chimera.serve import deployment
from chimera.swarm.orders import Drain, Ordered, Pause, Preview, Resume, Scale
from chimera.swarm.spec import Change
from tests.unit.cli.kit import chimera, printed

AT = ("--address", "x:1")
CHANGES = (
    Change("policy.types.mail.max_attempts", None, 9),
    Change("policy.types.old.max_attempts", 3, None),
    Change("regions.local.workers", 1, 4),
)


@pytest.fixture
def asked(monkeypatch, tmp_path, leaders):
    """What was asked of the swarm."""
    found: list[object] = []

    def order(swarm, order):
        found.append((swarm, order))
        return Ordered(7, CHANGES[2:])

    def apply(spec):
        found.append(("apply", spec.name))
        return 7

    monkeypatch.setattr(link, "join_ray", lambda swarm, where: None)
    monkeypatch.setattr(operate, "order", order)
    monkeypatch.setattr(operate, "apply", apply)
    told = Preview(7, CHANGES, ("configure leader/local/0: from generation 6 to 7",))
    monkeypatch.setattr(operate, "preview", lambda spec: told)
    monkeypatch.setattr(operate, "wait", lambda *given: found.append(("wait", *given[:3])))
    (tmp_path / "chimera.yaml").write_text("name: local\nhandlers: [app]\n")
    monkeypatch.chdir(tmp_path)
    return found


@pytest.fixture
def gateway(asked, monkeypatch):
    """The spec's `http` changes, and the gateway with it."""
    told = Preview(7, (Change("http.port", 8000, 8001),), ())
    monkeypatch.setattr(operate, "preview", lambda spec: told)
    monkeypatch.setattr(deployment, "check", lambda http: True)
    monkeypatch.setattr(deployment, "down", lambda swarm: asked.append(("down", swarm)))
    monkeypatch.setattr(
        deployment, "up", lambda swarm, http, say: asked.append(("up", http.port)) or "http://x"
    )


@pytest.mark.parametrize(
    ("typed", "order"),
    [
        (["scale", "local", "--leaders", "3"], Scale("local", leaders=3)),
        (["scale", "eu", "--workers", "1", "--workers-max", "8"], Scale("eu", None, 1, 8)),
        (["drain", "leader/local/0"], Drain("leader/local/0")),
        (["drain", "leader/local/0", "--undo"], Drain("leader/local/0", undo=True)),
        (["pause", "mail", "bill"], Pause(types=("mail", "bill"))),
        (["resume", "--tenant", "acme"], Resume(tenants=("acme",))),
    ],
)
def test_an_order_is_given_and_what_changed_is_printed(asked, typed, order):
    run = chimera(*typed, *AT)
    assert run.exit_code == 0, run.output
    assert asked == [("local", order)]
    assert run.stdout == "~ regions.local.workers: 1 → 4\n"
    assert "declared as generation 7" in run.stderr


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_what_is_paused_or_resumed_must_be_said(asked, verb):
    run = chimera(verb, *AT)
    assert run.exit_code == 2
    assert "say which" in run.stderr
    assert not asked


def test_a_type_without_a_handler_is_paused_with_a_warning(asked):
    run = chimera("pause", "echo", "nope", *AT)
    assert run.exit_code == 0
    assert asked == [("local", Pause(types=("echo", "nope")))]
    warned = [line for line in run.stderr.splitlines() if "no handler" in line]
    assert warned == ["no handler is registered for 'nope'"]


def test_a_pause_is_done_although_no_leader_tells_its_types(asked, leaders):
    leaders.fault = lambda verb, shard: InvalidRequest("no")
    assert chimera("pause", "echo", *AT).exit_code == 0


def test_with_wait_it_ends_when_it_is_brought_about(asked):
    run = chimera("pause", "mail", "--wait", "--timeout", "9", "--json", *AT)
    assert printed(run) == {
        "generation": 7, "awaited": True,
        "changes": [{"key": "regions.local.workers", "old": 1, "new": 4}],
    }  # fmt: skip
    assert asked[1] == ("wait", "local", 7, 9.0)


@pytest.mark.parametrize(
    ("fault", "code"),
    [(NotFound("no leader/local/9"), 3), (InvalidRequest("the last leader"), 2)],
)
def test_an_order_that_is_refused_says_why(asked, monkeypatch, fault, code):
    def refuse(swarm, order):
        raise fault

    monkeypatch.setattr(operate, "order", refuse)
    run = chimera("drain", "leader/local/9", *AT)
    assert run.exit_code == code
    assert fault.message in run.stderr


def test_a_wait_that_takes_too_long_says_so(asked, monkeypatch):
    def late(*given):
        raise WaitTimeout("not as declared in time")

    monkeypatch.setattr(operate, "wait", late)
    assert chimera("scale", "local", "--leaders", "2", "--wait", *AT).exit_code == 124


class TestApply:
    def test_a_dry_run_shows_what_is_added_removed_and_changed_and_changes_nothing(self, asked):
        run = chimera("apply", "--dry-run", *AT)
        assert run.exit_code == 0, run.output
        assert run.stdout.splitlines() == [
            "+ policy.types.mail.max_attempts: 9",
            "- policy.types.old.max_attempts: 3",
            "~ regions.local.workers: 1 → 4",
            "what would follow:",
            "  configure leader/local/0: from generation 6 to 7",
        ]
        assert asked == []

    def test_a_dry_run_in_json(self, asked):
        told = printed(chimera("apply", "--dry-run", "--json", *AT))
        assert told["dry_run"] is True
        assert told["changes"][0] == {"key": CHANGES[0].key, "old": None, "new": 9}
        assert told["actions"] == ["configure leader/local/0: from generation 6 to 7"]

    def test_it_applies_and_tells_the_generation(self, asked):
        run = chimera("apply", "-f", "chimera.yaml", "--json", *AT)
        assert printed(run)["generation"] == 7
        assert asked == [("apply", "local")]

    def test_what_cannot_be_changed_is_a_fault_of_the_file(self, asked, monkeypatch):
        def refuse(spec):
            raise SpecError("shards is fixed when a swarm is made")

        monkeypatch.setattr(operate, "preview", refuse)
        run = chimera("apply", *AT)
        assert run.exit_code == 2
        assert "shards is fixed" in run.stderr
        assert asked == []

    @pytest.mark.parametrize(
        ("http", "wanted"),
        [("http: {port: 8001}", [("up", 8001)]), ("", [("down", "local")])],
        ids=["changed", "removed"],
    )
    def test_a_gateway_that_is_declared_otherwise_is_brought_about(
        self, asked, gateway, http, wanted
    ):
        Path("chimera.yaml").write_text(f"name: local\nhandlers: [app]\n{http}\n")
        run = chimera("apply", *AT)
        assert run.exit_code == 0, run.output
        assert asked == [("apply", "local"), *wanted]

    def test_a_gateway_that_cannot_be_so_is_refused_before_anything_changes(
        self, asked, gateway, monkeypatch
    ):
        def refuse(http):
            raise SpecError("Serve already listens on 127.0.0.1:8000")

        monkeypatch.setattr(deployment, "check", refuse)
        Path("chimera.yaml").write_text("name: local\nhandlers: [app]\nhttp: {port: 8001}\n")
        for more in ([], ["--dry-run"]):
            assert chimera("apply", *more, *AT).exit_code == 2
        assert asked == []

    def test_a_swarm_that_is_not_up_is_not_found(self, asked, monkeypatch):
        monkeypatch.setattr(address, "find_head", lambda swarm: None)
        run = chimera("apply")
        assert run.exit_code == 3
        assert "`chimera up` starts it" in run.stderr


@pytest.mark.parametrize("name", ["apply", "scale", "drain", "pause", "resume"])
def test_its_help_has_examples(name):
    shown = chimera(name, "--help").stdout
    assert f"  chimera {name} " in shown.partition("Examples:")[2]
