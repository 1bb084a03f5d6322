"""The example measures what it says, and its report depends on nothing but the files."""

from __future__ import annotations

import ast
import random
import sys
from xml.etree import ElementTree as ET

import pytest

import chimera
from examples.stdlib_audit import page, report
from examples.stdlib_audit.report import Measured
from examples.stdlib_audit.tasks import audit_file, measure

SOURCE = '''\
"""A module that says what it is for."""
import os.path
from collections import abc
from . import sibling

# a comment
TEXT = """
# no comment: inside a string
"""


class Thing:
    """Documented."""

    def simple(self):
        return 1

    def branchy(self, items):
        """Documented, with ten ways through."""
        if not items and self or None:
            return [i for i in items if i]
        for item in items:
            try:
                assert item
            except ValueError:
                pass
        match items:
            case [1]:
                return 1 if items else 2
            case _:
                return None

    def _private(self):
        def inner():
            while True:
                pass
        return inner
'''


@pytest.fixture
def audit(tmp_path):
    def run(text, module="stdlib/thing.py"):
        path = tmp_path / "thing.py"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return audit_file({"path": str(path), "module": module})

    return run


def test_lines_are_code_comment_or_blank(audit):
    found = audit(SOURCE)
    assert found["lines"] == len(SOURCE.splitlines())
    assert found["comments"] == 1
    assert found["blank"] == SOURCE.splitlines().count("")
    assert found["code"] == found["lines"] - found["comments"] - found["blank"]


def test_functions_classes_and_documentation_are_counted(audit):
    found = audit(SOURCE)
    assert (found["functions"], found["classes"]) == (4, 1)
    # the module, Thing, simple, branchy, inner: public by their own names
    assert (found["documentable"], found["documented"]) == (5, 3)
    assert found["imports"] == ["collections", "os"]


def test_complexity_counts_the_ways_through_one_function_alone(audit):
    found = audit(SOURCE)
    # 1 + if + and + or + comprehension + its if + for + assert + except + case + ternary
    assert found["worst"][0] == {"complexity": 11, "name": "Thing.branchy", "line": 18}
    assert found["complexities"] == [1, 1, 2, 11]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def broken(:\n    pass\n", "SyntaxError: invalid syntax (line 1)"),
        (b"a = 1\nb = 2\nc = '\xff'\n", "UnicodeDecodeError"),
        ("# coding: no-such-thing\n", "SyntaxError: unknown encoding"),
        ("x = 1\0\n", "null bytes"),
    ],
)
def test_a_file_that_is_no_python_is_beyond_any_retry(audit, text, reason):
    with pytest.raises(chimera.PermanentError) as raised:
        audit(text)
    assert reason in str(raised.value)
    assert "thing.py" not in str(raised.value)  # the same report on any machine


def test_code_that_nests_deeper_than_python_recurses_is_measured():
    nested = ast.expr(lineno=1)
    for _ in range(5 * sys.getrecursionlimit()):
        nested = ast.IfExp(nested, ast.expr(lineno=1), ast.expr(lineno=1))
    tree = ast.Module([ast.FunctionDef("deep", None, [ast.Expr(nested)], lineno=1)], [])
    (found,) = measure(tree, "")["complexities"]
    assert found == 5 * sys.getrecursionlimit() + 1


@pytest.fixture
def outcomes(audit):
    read = [
        Measured(f"stdlib/m{n}.py", audit(SOURCE * (n + 1), f"stdlib/m{n}.py")) for n in range(5)
    ]
    lib = "site-packages/lib/a.py"
    return [
        *read,
        Measured(lib, audit("import os\n", lib)),
        Measured("stdlib/<bad>.py", None, "<&>"),
    ]


def test_the_report_does_not_depend_on_the_order_of_outcomes(outcomes):
    expected = report.reduce(outcomes)
    for seed in range(5):
        shuffled = random.Random(seed).sample(outcomes, len(outcomes))
        again = report.reduce(shuffled)
        assert again == expected
        assert report.digest(again) == report.digest(expected)
        assert page.render(again) == page.render(expected)


def test_another_outcome_is_another_digest(outcomes):
    without = report.reduce(outcomes[:-1])
    assert report.digest(without) != report.digest(report.reduce(outcomes))


def test_totals_add_up(outcomes):
    made = report.reduce(outcomes)
    totals = made["totals"]
    assert (totals["files"], totals["read"], totals["dead_letters"]) == (7, 6, 1)
    assert totals["functions"] == sum(row["count"] for row in made["complexity_histogram"])
    assert totals["read"] == sum(row["count"] for row in made["length_histogram"])
    assert made["dead_letters"] == [{"module": "stdlib/<bad>.py", "reason": "<&>"}]
    assert made["imports"][0] == {"name": "os", "modules": 6}
    assert "lib (site-packages)" in {row["package"] for row in made["packages"]}


@pytest.mark.parametrize("some", [0, None])
def test_the_page_is_well_formed_and_needs_nothing_else(outcomes, some):
    html = page.render(report.reduce(outcomes[:some]))
    # void elements aside it is XML, so that an unescaped name would be noticed
    body = html.replace("<!doctype html>", "").replace('utf-8">', 'utf-8"/>')
    root = ET.fromstring(body.replace('initial-scale=1">', 'initial-scale=1"/>'))
    tags = {element.tag for element in root.iter()}
    assert "svg" in tags
    assert not tags & {"script", "link", "img", "iframe"}
    assert "http" not in html


def test_every_chart_has_a_place_for_each_row(outcomes):
    made = report.reduce(outcomes)
    html = page.render(made)
    for row in made["biggest"]:
        assert f"{row['lines']:,}" in html
