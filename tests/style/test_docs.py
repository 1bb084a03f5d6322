"""What the documents say is so: commands, defaults, targets, links and guarantees."""

from __future__ import annotations

import re
import subprocess

import pytest

from chimera import config
from chimera.cli import reference
from tests.style.sources import ROOT

DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
)
COMMANDS = dict(reference.commands())
CLI = (ROOT / "docs/cli.md").read_text()
#: addresses of package registries, and paths that exist on one machine only
FOREIGN = (
    r"pypi\.org|pythonhosted|registry\.npm|npmjs|maven\.org|proxy\.golang|crates\.io/api"
    r"|(^|[^A-Za-z0-9_.])/(work|root)/"
)


def test_the_commands_are_documented_as_they_are():
    assert reference.reference() == CLI, "make docs"


@pytest.mark.parametrize(("typed", "command"), COMMANDS.items(), ids=COMMANDS)
def test_every_command_has_an_example(typed, command):
    assert any(line.startswith(typed) for line in reference.examples(command))


def test_the_table_of_defaults_is_the_one_that_the_code_makes():
    assert (ROOT / "docs/defaults.md").read_text() == config.defaults_table(), (
        "python -c 'from chimera.config import defaults_table as t; print(t(), end=\"\")'"
        " > docs/defaults.md"
    )


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text()
    dead = [
        target
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
        if "://" not in target and not (ROOT / document).parent.joinpath(target).exists()
    ]
    assert not dead


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_files_exist(document):
    text = (ROOT / document).read_text()
    named = re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.(?:py|md|yaml))?)`", text)
    ours = [name for name in named if (ROOT / name.split("/")[0]).is_dir()]
    assert not [name for name in ours if not (ROOT / name).exists()]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_make_targets_exist(document):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = (ROOT / document).read_text()
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE)) <= targets


def test_each_guarantee_is_told_once():
    told = re.findall(r"^## (G\d+) ", (ROOT / "docs/guarantees.md").read_text(), re.MULTILINE)
    assert told == [f"G{number}" for number in range(1, 11)]


def test_nothing_names_a_registry_or_one_machines_paths():
    found = subprocess.run(
        ["git", "-C", ROOT, "grep", "-nIE", FOREIGN, "--", ".", ":!tests/style/test_docs.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1, found.stdout
