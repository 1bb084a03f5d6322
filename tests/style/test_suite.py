"""No test is left out of the suite."""

from __future__ import annotations

from tests.style.sources import ROOT


def test_every_directory_of_tests_is_run(pytestconfig):
    listed = {ROOT / path for path in pytestconfig.getini("testpaths")}
    found = {path.relative_to(ROOT).parts[1] for path in (ROOT / "tests").rglob("test_*.py")}
    assert listed == {ROOT / "tests" / name for name in found}
