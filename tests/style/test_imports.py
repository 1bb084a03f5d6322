"""Who may import what: machines are pure, Ray has few doors, nobody looks up."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.style.sources import ROOT, files, imports, is_below, tree

#: what a machine may import: data and algorithms, nothing that differs from run to run
PURE = (
    "__future__", "abc", "array", "bisect", "collections", "contextlib", "copy", "dataclasses",
    "enum", "functools", "hashlib", "heapq", "itertools", "math", "operator", "string", "struct",
    "types", "typing", "zlib",
    "ddsketch", "msgspec",
    "chimera.errors", "chimera.frames", "chimera.names", "chimera.swarm",
)  # fmt: skip
#: builtins that reach the world, or whose value differs from run to run
IMPURE_CALLS = {"open", "print", "input", "eval", "exec", "__import__", "hash", "breakpoint"}
#: where Ray may be imported
RAY_DOORS = (
    "actors/", "serve/", "chimera/client/link.py",
    "chimera/cli/up.py", "chimera/cli/dev.py", "chimera/cli/doctor.py",
)  # fmt: skip
PRODUCT = ("chimera", "actors", "serve")
#: programs around the product start Ray as a user would
PROGRAMS = ("tests/", "examples/", "benchmarks/")


@pytest.mark.parametrize("path", files("chimera/swarm"))
def test_machines_import_nothing_but_data_and_each_other(path):
    impure = [(line, name) for line, name in imports(path) if not is_below(name, *PURE)]
    assert not impure, "take it as an argument or emit an effect"


@pytest.mark.parametrize("path", files("chimera/swarm"))
def test_machines_call_nothing_that_reaches_the_world(path):
    calls = [
        (node.lineno, node.func.id)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in IMPURE_CALLS
    ]
    assert not calls


@pytest.mark.parametrize("path", files("chimera/swarm"))
def test_machines_are_not_coroutines(path):
    kinds = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
    assert not [node.lineno for node in ast.walk(tree(path)) if isinstance(node, kinds)]


def test_ray_is_imported_through_its_doors_only():
    outside = [
        f"{path}:{line} imports {name}"
        for path in files(*PRODUCT)
        if not path.startswith(RAY_DOORS)
        for line, name in imports(path)
        if is_below(name, "ray")
    ]
    assert not outside


def test_actors_and_serve_have_one_name_each():
    bare = [
        f"{path}:{line} imports {name}: say chimera.{name}"
        for path in files()
        for line, name in imports(path)
        if is_below(name, "actors", "serve")
    ]
    assert not bare


def test_imports_are_absolute():
    relative = [
        f"{path}:{line}" for path in files() for line, name in imports(path) if name[0] == "."
    ]
    assert not relative


def test_the_product_imports_none_of_the_programs_around_it():
    around = [
        f"{path}:{line} imports {name}"
        for path in files(*PRODUCT)
        for line, name in imports(path)
        if is_below(name, *(program.strip("/") for program in PROGRAMS))
    ]
    assert not around


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_import_contracts_hold():
    run = lint_imports(ROOT)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of the packages, links kept, to plant faults in."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copy(ROOT / "pyproject.toml", root)
    for name in PRODUCT:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, root / name, symlinks=True, ignore=ignore)
    return root


@pytest.mark.parametrize(
    ("package", "line", "contract"),
    [
        ("chimera/swarm", "import chimera.store", "Edges know actors"),
        ("chimera/swarm", "import time", "have no clock"),
        ("chimera/frames", "import ray", "not even through others"),
        ("chimera/frames", "import chimera.swarm.policy", "Edges know actors"),
        ("chimera/client", "import chimera.actors", "Edges know actors"),
        ("actors", "import chimera.cli", "Edges know actors"),
    ],
)
def test_a_planted_import_the_wrong_way_is_found(copied, package, line, contract):
    planted = copied / package / "planted.py"
    planted.write_text(line + "\n")
    try:
        run = lint_imports(copied)
    finally:
        planted.unlink()
    assert run.returncode == 1, run.stdout + run.stderr
    broken = [row for row in run.stdout.splitlines() if row.endswith("BROKEN")]
    assert any(contract in row for row in broken), run.stdout
