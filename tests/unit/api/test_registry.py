"""Loading handlers: what is found, and which module is at fault for what is not."""

from __future__ import annotations

import sys
import textwrap

import pytest

from chimera.api import registry
from chimera.errors import HandlerLoadError, UnknownTaskType


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes modules that can be imported; they are forgotten after the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write(name: str, text: str) -> str:
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return name

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


GOOD = """
    import chimera

    @chimera.task("a")
    def first(payload): ...

    @chimera.task("b")
    class Second:
        def run(self, ctx, payload): ...
    """


def test_handlers_are_found_by_type(module):
    found = registry.load([module("good_one", GOOD)])
    assert sorted(one.type for one in found) == ["a", "b"]
    assert [policy.type for policy in found.policies()] == ["a", "b"]
    assert found.get("a").target.__name__ == "first"
    assert "a" in found
    assert len(found) == 2
    with pytest.raises(UnknownTaskType, match="'c'"):
        found.get("c")


def test_a_package_may_gather_what_its_modules_have(module):
    module("gathered.part", GOOD)
    module("gathered.__init__", "from gathered.part import first, Second as Other\nalso = Other\n")
    assert len(registry.load(["gathered", "gathered.part"])) == 2


def test_a_subclass_is_no_handler_of_its_own(module):
    module("base_class", GOOD)
    name = module(
        "sub_class", "from base_class import Second\nclass Third(Second): ...\ndel Second"
    )
    with pytest.raises(HandlerLoadError, match="no handlers in it"):
        registry.load([name])


def fault_of(*names) -> HandlerLoadError:
    with pytest.raises(HandlerLoadError) as caught:
        registry.load(names)
    assert caught.value.details["module"] in names
    assert caught.value.details["fault"] in caught.value.message
    assert repr(caught.value.details["module"]) in caught.value.message
    return caught.value


def test_a_missing_module(module):
    module("there.__init__", "")
    assert "no module 'nowhere_at_all'" in fault_of("nowhere_at_all.tasks").message
    assert "no module 'there.tasks'" in fault_of("there.tasks").message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import not_installed", ["line 2", "`import not_installed`", "ModuleNotFoundError"]),
        ("x = 1\n1 / 0", ["line 3", "`1 / 0`", "ZeroDivisionError: division by zero"]),
        ("def f(:", ["line 2", "`def f(:`", "SyntaxError"]),
        ("raise SystemExit(2)", ["line 2", "SystemExit: 2"]),
        ("x = 1", ["no handlers in it"]),
        (
            "import chimera\n@chimera.task('t', max_attempts=0)\ndef f(p): ...",
            ["line 3", "max_attempts is at least 1"],
        ),
        (
            "import chimera\n@chimera.task\ndef f(p: 'Gone'): ...",
            ["broken_one.f", "'Gone'", "not only for type checkers"],
        ),
    ],
)
def test_a_broken_module_is_told_with_its_line(module, text, says):
    fault = fault_of(module("broken_one", f"# broken\n{text}\n"))
    for word in says:
        assert word in fault.message


def test_the_line_is_where_it_broke_not_where_it_was_imported(module):
    module("deep_down", "import chimera\n\nboom = {}['key']\n")
    fault = fault_of(module("top_one", "import deep_down\n"))
    assert "deep_down.py, line 3: `boom = {}['key']`" in fault.message


def test_a_type_that_is_handled_twice_names_both(module):
    first, second = module("twice_a", GOOD), module("twice_b", GOOD)
    fault = fault_of(first, second)
    for word in ("'a' is handled twice", "twice_a.first", "twice_b.first"):
        assert word in fault.message


def test_the_same_module_twice_is_the_same(module):
    name = module("same_one", GOOD)
    assert len(registry.load([name, name])) == 2
