"""Running commands in this process, on a swarm in memory."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result

from chimera.cli.main import main


def chimera(*arguments: str, stdin: bytes | None = None) -> Result:
    """Run the command line; as piped, so that there are neither colours nor bars."""
    return CliRunner().invoke(main, list(arguments), input=stdin)


def printed(result: Result) -> Any:
    """What it printed as JSON."""
    return json.loads(result.stdout)
