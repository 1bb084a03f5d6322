"""The client over HTTP needs the base dependencies only; what is missing for more is said."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

#: what `pip install chimera` does not bring
SWARM = ("ray", "sqlalchemy", "fastapi", "starlette", "pydantic", "pydantic_settings", "grpc",
         "fastavro", "obstore", "alembic", "psutil", "structlog", "prometheus_client",
         "jsonschema_rs", "stamina", "textual", "opentelemetry", "lightkube")  # fmt: skip
BLOCK = f"""
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {SWARM!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Block())
"""


def without_swarm(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    text = BLOCK + textwrap.dedent(code)
    command = [sys.executable, "-c", text, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_the_clients_need_no_ray():
    done = without_swarm(
        """
        import chimera
        made = chimera.Client("http://127.0.0.1:1")
        chimera.AsyncClient("http://127.0.0.1:1")
        try:
            made.submit("echo")
        except chimera.errors.NotReady as fault:
            print(fault)
        """
    )
    assert "no gateway answers" in done.stdout, done.stderr


def test_connecting_through_ray_says_which_extra_to_install():
    done = without_swarm(
        """
        import chimera
        chimera.task("echo")(lambda payload: payload)  # modules of handlers can be imported
        try:
            chimera.connect()
        except ModuleNotFoundError as fault:
            print(fault.name, fault)
        """
    )
    assert done.stdout.startswith("ray ray is not installed: pip install 'chimera[swarm]'")
    assert "chimera.Client(url)" in done.stdout


def test_a_command_that_goes_over_http_as_well_says_so():
    code = "from chimera.cli.main import main; main()"
    done = without_swarm(code, "submit", "echo", "-o", "json")
    assert (done.returncode, done.stdout) == (1, "")
    told = json.loads(done.stderr)["error"]["message"]
    assert "pip install 'chimera[swarm]'" in told
    assert "--url" in told


@pytest.mark.parametrize("arguments", [["--help"], ["config", "view"], ["completion", "zsh"]])
def test_commands_without_a_swarm_need_no_ray(arguments):
    done = without_swarm("from chimera.cli.main import main; main()", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize(
    "arguments", [["status", "--address", "127.0.0.1:1"], ["up", "-f", "pyproject.toml"]]
)
def test_a_command_that_needs_the_swarm_says_which_extra_to_install(arguments):
    done = without_swarm("from chimera.cli.main import main; main()", *arguments)
    assert done.returncode == 1, done.stderr
    assert "pip install 'chimera[swarm]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["submit", "echo"], ["status"], ["top", "--once"], ["tasks", "list"], ["dlq", "list"]],
)
def test_commands_over_http_need_no_ray(arguments):
    code = "from chimera.cli.main import main; main()"
    done = without_swarm(code, *arguments, "--url", "http://127.0.0.1:1")
    assert done.returncode == 3
    assert "no gateway answers" in done.stderr
