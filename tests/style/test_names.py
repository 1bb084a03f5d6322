"""One word for one thing (docs/glossary.md): synonyms of our words name nothing of ours."""

from __future__ import annotations

import ast
import re

import pytest

from tests.style.sources import files, tree

#: synonym → the word to use
SYNONYMS = {
    "job": "task",
    "jobs": "tasks",
    "master": "leader or coordinator",
    "supervisor": "leader, coordinator or orchestrator",
    "manager": "leader, coordinator or orchestrator",
    "slave": "worker",
    "whitelist": "allowed",
    "blacklist": "banned",
}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def defined(path: str) -> set[tuple[int, str]]:
    """(line, name) of what a file defines: classes, functions, arguments, variables."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            found.add((node.lineno, node.name))
        elif isinstance(node, ast.arg):
            found.add((node.lineno, node.arg))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add((node.lineno, node.id))
    return found


@pytest.mark.parametrize("path", files("chimera", "actors", "serve"))
def test_our_words_have_no_synonyms(path):
    wrong = {
        f"{name} (line {line})": f"say {SYNONYMS[word.lower()]}"
        for line, name in defined(path)
        for word in _WORD.findall(name)
        if word.lower() in SYNONYMS
    }
    assert not wrong


@pytest.mark.parametrize("path", files())
def test_the_first_line_says_what_the_module_is_for(path):
    said = ast.get_docstring(tree(path))
    assert said
    assert said.splitlines()[0].strip()
