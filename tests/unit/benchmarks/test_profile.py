"""Processes by their role, and py-spy's stacks by function."""

from __future__ import annotations

import pytest

from benchmarks import profile


@pytest.mark.parametrize(
    ("command", "role"),
    [
        (["ray::Leader"], "leaders"),
        (["ray::Leader.append"], "leaders"),
        (["ray::Worker.run"], "workers"),
        (["ray::Coordinator"], "coordinator"),
        (["ray::IDLE"], "rest of Ray"),
        (["/x/ray/raylet/raylet", "--port=1"], "raylet"),
        (["/x/ray/gcs/gcs_server"], "gcs"),
        (["/usr/bin/python", "log_monitor.py"], "rest of Ray"),
        ([], "rest of Ray"),
    ],
)
def test_a_process_has_the_role_that_its_command_says(command, role):
    assert profile.role_of(command) == role
    assert role in profile.ROLES


def test_functions_are_ranked_by_their_own_samples():
    rows = [
        "main (a.py:1);work (a.py:10);json (b.py:5) 6",
        "main (a.py:1);work (a.py:12);json (b.py:7) 1",
        "main (a.py:2);work (a.py:11) 2",
        "main (a.py:3) 1",
        "",
    ]
    found = profile.tops(rows, 2)
    assert found == [("json (b.py)", 0.7, 0.7), ("work (a.py)", 0.2, 0.9)]


def test_a_recursive_function_counts_once_below():
    assert profile.tops(["f (a.py:1);f (a.py:1);f (a.py:2) 4"], 5) == [("f (a.py)", 1.0, 1.0)]
