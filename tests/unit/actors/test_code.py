"""Which directories actors are given to search, and which they have by themselves."""

from __future__ import annotations

import os
import sys
import sysconfig

import pytest
import ray

from chimera.actors import code


@pytest.fixture
def environment(monkeypatch):
    """The runtime environment of this program, as Ray tells it."""
    found = {}

    class Context:
        runtime_env = found

    monkeypatch.setattr(ray, "get_runtime_context", Context)
    return found


@pytest.fixture
def path(monkeypatch, tmp_path):
    """A program in one directory, run in another, that searches both."""
    here, program = tmp_path / "here", tmp_path / "program"
    here.mkdir()
    program.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "argv", [str(program / "main.py")])
    found = [str(program), str(here)]
    monkeypatch.setattr(sys, "path", found)
    return found


def test_what_is_installed_is_no_concern_of_ours(tmp_path):
    paths = sysconfig.get_paths()
    installed = [*paths.values(), os.path.join(paths["stdlib"], "lib-dynload")]
    others = [str(tmp_path / "lib" / "python3" / "dist-packages"), str(tmp_path / "python.zip")]
    os.makedirs(others[0])
    assert code.own_path([*installed, *others]) == []


def test_own_directories_come_once_and_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    found = code.own_path([str(other), "", str(tmp_path), str(other), str(tmp_path / "none")])
    assert found == [str(other), str(tmp_path)]


def test_what_ray_keeps_by_itself_needs_no_environment(environment, path):
    assert code.options() == {}


def test_further_directories_are_handed_on_with_all_the_others(environment, path, tmp_path):
    path.insert(0, str(tmp_path))
    environment["env_vars"] = {"MODE": "x"}
    variables = code.options()["runtime_env"]["env_vars"]
    assert variables["MODE"] == "x"
    assert variables["PYTHONPATH"].split(os.pathsep) == [str(tmp_path), *path[1:]]


@pytest.mark.parametrize("key", ["working_dir", "py_modules", "pip"])
def test_an_environment_that_brings_code_is_left_alone(environment, path, tmp_path, key):
    path.insert(0, str(tmp_path))
    environment[key] = "gcs://package.zip"
    assert code.options() == {}


def test_the_working_directory_is_searched_for_a_while_only(path):
    path.remove(os.getcwd())
    before = list(path)
    with code.as_actors_see():
        assert sys.path == [os.getcwd(), *before]
        with code.as_actors_see():
            assert sys.path == [os.getcwd(), *before]
    assert sys.path == before
