"""The work of the audit: read one Python file and measure it. Runs on the workers."""

from __future__ import annotations

import ast
import importlib.util
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chimera

#: complex functions that a file reports, at most
WORST = 5

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DOCUMENTED = (*_FUNCTIONS, ast.ClassDef)
_BRANCHES = (
    ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert,
)  # fmt: skip


@chimera.task("audit.file", attempt_timeout_s=60)
def audit_file(payload: dict[str, str]) -> dict[str, Any]:
    """Measure the file at `path`; one that is no valid Python is beyond any retry."""
    data = Path(payload["path"]).read_bytes()
    try:
        source = importlib.util.decode_source(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's escape sequences
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise chimera.PermanentError(_reason(error)) from error
    return {"module": payload["module"], **measure(tree, source)}


def _reason(error: BaseException) -> str:
    """Why a file cannot be read, without the name of a path or machine."""
    if isinstance(error, SyntaxError):
        where = f" (line {error.lineno})" if error.lineno else ""
        return f"{type(error).__name__}: {error.msg}{where}"
    return f"{type(error).__name__}: {error}"


@dataclass
class _Found:
    """What one walk over a tree collects."""

    #: (complexity, qualified name, line) of each function
    functions: list[tuple[int, str, int]] = field(default_factory=list)
    classes: int = 0
    documentable: int = 0
    documented: int = 0
    imports: set[str] = field(default_factory=set)
    #: line numbers inside strings of several lines: a `#` there begins no comment
    quoted: set[int] = field(default_factory=set)


def measure(tree: ast.Module, source: str) -> dict[str, Any]:
    """Size, complexity, documentation and imports of one module."""
    found = _Found()
    _walk(tree, found)
    lines = source.splitlines()
    blank = sum(not line or line.isspace() for line in lines)
    comments = sum(
        line.lstrip().startswith("#") and number not in found.quoted
        for number, line in enumerate(lines, 1)
    )
    worst = sorted(found.functions, key=lambda one: (-one[0], one[2]))[:WORST]
    return {
        "lines": len(lines),
        "code": len(lines) - blank - comments,
        "comments": comments,
        "blank": blank,
        "functions": len(found.functions),
        "classes": found.classes,
        "complexities": sorted(complexity for complexity, _, _ in found.functions),
        "worst": [{"complexity": c, "name": name, "line": line} for c, name, line in worst],
        "documentable": found.documentable,
        "documented": found.documented,
        "imports": sorted(found.imports),
    }


def _walk(tree: ast.Module, found: _Found) -> None:
    """Visit each node once; without recursion, since generated code nests deeper than Python."""
    # (node, qualified prefix, index of the function it belongs to)
    waiting: list[tuple[ast.AST, str, int]] = [(tree, "", -1)]
    complexity: list[int] = []
    named: list[tuple[str, int]] = []
    _document(tree, found)
    while waiting:
        node, prefix, owner = waiting.pop()
        if isinstance(node, _DOCUMENTED):
            _document(node, found)
            prefix = f"{prefix}.{node.name}" if prefix else node.name
            if isinstance(node, _FUNCTIONS):
                owner = len(complexity)
                complexity.append(1)
                named.append((prefix, node.lineno))
            else:
                found.classes += 1
        elif owner >= 0:
            complexity[owner] += _branches(node)
        _collect(node, found)
        waiting += [(child, prefix, owner) for child in ast.iter_child_nodes(node)]
    found.functions = [(c, *name) for c, name in zip(complexity, named, strict=True)]


def _branches(node: ast.AST) -> int:
    """How many more ways through a function this node opens (McCabe)."""
    if isinstance(node, _BRANCHES):
        return 1
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    if isinstance(node, ast.Match):
        return sum(not _matches_all(case) for case in node.cases)
    return 0


def _matches_all(case: ast.match_case) -> bool:
    return isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None and not case.guard


def _document(node: ast.Module | ast.ClassDef | Any, found: _Found) -> None:
    """Count a public name, and whether it says what it is for."""
    if not getattr(node, "name", "").startswith("_"):
        found.documentable += 1
        found.documented += ast.get_docstring(node, clean=False) is not None


def _collect(node: ast.AST, found: _Found) -> None:
    if isinstance(node, ast.Import):
        found.imports.update(alias.name.split(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        if node.module and not node.level:
            found.imports.add(node.module.split(".")[0])
    elif isinstance(node, (ast.Constant, ast.JoinedStr)):
        last = node.end_lineno or node.lineno
        if last > node.lineno:
            found.quoted.update(range(node.lineno + 1, last + 1))
