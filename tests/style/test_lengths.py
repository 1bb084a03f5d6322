"""The tail is where code goes bad: files, functions and lines have a length; it may only shrink."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.style import exceptions
from tests.style.sources import ROOT, files, text, tree

FILE_MAX = 400
FUNCTION_MAX = 60
TEST_FUNCTION_MAX = 40
LINE_MAX = 100


def functions(path: str) -> Iterator[tuple[str, int, int]]:
    """(qualified name, lines, allowed lines) of each function in a file."""

    def below(node: ast.AST, prefix: str) -> Iterator[tuple[str, int, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                name = f"{prefix}{child.name}"
                is_test = path.startswith("tests/") and child.name.startswith("test_")
                lines = (child.end_lineno or child.lineno) - child.lineno + 1
                yield name, lines, TEST_FUNCTION_MAX if is_test else FUNCTION_MAX
                yield from below(child, f"{name}.")
            elif isinstance(child, ast.ClassDef):
                yield from below(child, f"{prefix}{child.name}.")
            else:
                yield from below(child, prefix)

    return below(tree(path), "")


@pytest.mark.parametrize("path", files())
def test_no_file_is_too_long(path):
    assert text(path).count("\n") <= exceptions.FILES.get(path, FILE_MAX)


@pytest.mark.parametrize("path", files())
def test_no_function_is_too_long(path):
    assert not {
        name: f"{lines} lines, {allowed} allowed"
        for name, lines, allowed in functions(path)
        if lines > exceptions.FUNCTIONS.get(f"{path}::{name}", allowed)
    }


@pytest.mark.parametrize("path", files())
def test_no_line_is_too_long(path):
    assert not [
        number
        for number, line in enumerate(text(path).splitlines(), 1)
        if len(line) > LINE_MAX and "http" not in line
    ]


def test_exceptions_only_shrink():
    """An exception that is no longer needed, or larger than its subject, goes."""
    slack = {}
    for path, allowed in exceptions.FILES.items():
        lines = text(path).count("\n") if (ROOT / path).is_file() else 0
        if lines < allowed or lines <= FILE_MAX:
            slack[path] = lines
    for key, allowed in exceptions.FUNCTIONS.items():
        path, name = key.split("::")
        found = {n: (lines, limit) for n, lines, limit in functions(path)}
        lines, limit = found.get(name, (0, 0))
        if lines < allowed or lines <= limit:
            slack[key] = lines
    assert not slack, "lower or remove these in tests/style/exceptions.py"
