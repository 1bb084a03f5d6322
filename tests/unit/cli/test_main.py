"""The command line as a whole: help, names, and no second lost on imports."""

from __future__ import annotations

import atexit
import inspect
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from chimera.cli.main import COMMANDS, _from_context, main
from chimera.cli.output import Output, command
from chimera.cli.select import act
from tests.unit.cli.kit import chimera


def leaves() -> list[str]:
    """Commands, and those of groups behind the group's name."""
    found = []
    for name in COMMANDS:
        one = main.get_command(click.Context(main), name)
        below = one.commands if isinstance(one, click.Group) else ("",)
        found += [f"{name} {inner}".strip() for inner in below]
    return found


@pytest.mark.parametrize("typed", leaves())
def test_every_command_has_help_and_the_common_options(typed):
    run = chimera(*typed.split(), "--help")
    assert run.exit_code == 0, run.output
    assert "--json" in run.stdout
    assert "--debug" in run.stdout


@pytest.mark.parametrize("typed", leaves())
def test_no_option_takes_a_command_of_its_name_for_its_default(typed):
    context = click.Context(main)
    context.default_map = _from_context(typed.split()[0])
    for name in typed.split():
        below = context.command.get_command(context, name)
        context = click.Context(below, parent=context, info_name=name)
    given = (context.default_map or {}).values()
    assert all(isinstance(value, str) for value in given)


def test_help_lists_the_commands():
    run = chimera("-h")
    assert all(f"  {name}" in run.stdout for name in COMMANDS)
    assert chimera("--version").stdout.startswith("chimera, version ")


@pytest.mark.parametrize(("typed", "code"), [("", 130), ("n\n", 1)])
def test_who_goes_away_from_a_question_interrupts_and_who_says_no_does_not(typed, code):
    @command(of_a_swarm=False)
    def ask(out):
        click.confirm("sure?", abort=True, err=True)

    run = CliRunner().invoke(ask, [], input=typed)  # its end is told as Ctrl-C is
    assert run.exit_code == code
    assert ("interrupted" in run.stderr) == (code == 130)


def test_an_unknown_command_is_a_usage_error():
    run = chimera("nope")
    assert run.exit_code == 2
    assert "No such command 'nope'" in run.stderr


def test_help_imports_no_ray():
    code = (
        "import sys; from chimera.cli.main import main\n"
        "main(['submit', '--help'], standalone_mode=False); assert 'ray' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_what_a_library_prints_is_no_result():
    @command(of_a_swarm=False)
    def chatty(out: Output) -> None:
        print("a worker died somewhere")
        out.result({"done": True})

    run = CliRunner().invoke(chatty, ["--json"])
    assert json.loads(run.stdout) == {"done": True}
    assert "somewhere" in run.stderr


class Terminal(io.StringIO):
    """What a person looks at."""

    def isatty(self):
        return True


def test_a_narrow_terminal_does_not_cut_a_table(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    Output().table([{"id": "x" * 36, "state": "succeeded"}], ("id", "state"))
    assert "x" * 36 + "  succeeded" in terminal.getvalue()


def test_results_are_put_above_bars_on_the_same_terminal_only(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for stdout, above in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "stderr", stderr := Terminal())
        out = Output()
        with out.bars() as bars:
            bars.add_task("done", total=2)
            out.line('{"id": "[a]"}')
        out.line("after")
        assert ('{"id": "[a]"}\n' in stderr.getvalue()) is above
        assert stdout.getvalue() == ("after\n" if above else '{"id": "[a]"}\nafter\n')


@pytest.mark.parametrize("terminal", [True, False])
def test_what_ray_tells_of_processes_that_end_is_dropped_where_somebody_watches(
    monkeypatch, terminal
):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stderr", stderr := Terminal() if terminal else io.StringIO())
    monkeypatch.setattr(sys, "stdout", stderr)
    monkeypatch.setattr(atexit, "register", (at_the_end := []).append)
    out = Output()
    with out.step("ending"), out.hushed():
        print("(raylet) A worker died")
        out.line("its result")
    assert ("(raylet)" in stderr.getvalue()) is not terminal
    assert "its result" in stderr.getvalue()
    assert len(at_the_end) == terminal


ROWS = [{"id": "a", "state": "queued"}, {"id": "b", "state": "running"}]


@pytest.mark.parametrize(
    ("style", "printed"),
    [
        ("table", "ID  STATE\na   queued\nb   running\n"),
        ("json", '[{"id":"a","state":"queued"},{"id":"b","state":"running"}]\n'),
        ("yaml", "- id: a\n  state: queued\n- id: b\n  state: running\n"),
        ("name", "a\nb\n"),
    ],
)
def test_the_forms_of_a_list(style, printed):
    @command(of_a_swarm=False)
    def listed(out: Output) -> None:
        out.table(ROWS, ("id", "state"))

    run = CliRunner().invoke(listed, ["-o", style])
    assert re.sub(" +\n", "\n", run.stdout) == printed
    assert run.stderr == ""


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ({"name": "east", "url": "u"}, "east\n"),
        ({"swarm": {"swarm": "local"}, "seconds": 1}, "local\n"),
        ([], ""),
        ({"lag": {}}, "shown\n"),
    ],
)
def test_the_name_of_a_result(value, printed):
    @command(of_a_swarm=False)
    def named(out: Output) -> None:
        out.result(value, lambda: out.line("shown"))

    assert CliRunner().invoke(named, ["-o", "name"]).stdout == printed


def test_what_cancels_many_prints_them_as_its_result():
    @command(of_a_swarm=False)
    def cancel(out: Output) -> int:
        return act(out, "cancel", ["a", "b"], False, True, lambda one: "cancelled", True)

    run = CliRunner().invoke(cancel, [])
    assert (run.stdout, run.stderr) == ("a cancelled\nb cancelled\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_result(shell):
    run = chimera("completion", shell)
    assert "_CHIMERA_COMPLETE" in run.stdout
    assert run.stderr == ""


def test_results_pass_by_output():
    """What is printed otherwise goes to stderr, as what libraries print."""
    root = Path(inspect.getfile(Output)).parent
    others = {file for file in root.glob("*.py") if file.name not in ("output.py", "reference.py")}
    assert not [file.name for file in others if "click.echo(" in file.read_text()]


def test_a_reader_that_has_enough_is_no_error():
    read, write = os.pipe()
    os.close(read)
    code = "from chimera.cli.main import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", code, "completion", "bash"],
        stdout=write, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(write)
    assert (run.returncode, run.stderr) == (141, b"")
