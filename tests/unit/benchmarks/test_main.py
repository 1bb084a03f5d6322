"""What of a command is kept with its figures, and which parts of a benchmark may be asked for."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main, without_paths


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["latency"], ["latency"]),
        (["latency", "--json", "/a/b.json", "--pairs", "3"], ["latency", "--pairs", "3"]),
        (["latency", "--plot=/a.png", "--quick", "--data-dir", "/d"], ["latency", "--quick"]),
    ],
)
def test_the_kept_command_names_no_path(words, kept):
    assert without_paths(words) == kept


def test_a_part_that_there_is_not_is_refused_before_anything_is_measured():
    run = CliRunner().invoke(main, ["failover", "--only", "leader"])
    assert run.exit_code == 2
    assert "leaders, workers, control" in run.output
