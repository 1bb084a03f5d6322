"""The Python files that the style tests look at: each once, by its real path."""

from __future__ import annotations

import ast
import functools
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


@functools.cache
def files(*under: str) -> tuple[str, ...]:
    """Paths of tracked Python files below the given directories, or of all; links aside."""
    listing = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--", *under], capture_output=True, check=True
    )
    names = listing.stdout.decode().split("\0")
    return tuple(
        name
        for name in names
        if name.endswith(".py")
        and not name.endswith(("_pb2.py", "_pb2_grpc.py"))  # made by protoc
        and (ROOT / name).is_file()
        and not (ROOT / name).is_symlink()
    )


@functools.cache
def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@functools.cache
def tree(path: str) -> ast.Module:
    return ast.parse(text(path), path)


def imports(path: str) -> list[tuple[int, str]]:
    """(line, full module name) of each import, wherever it stands in the file."""
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            if module == "chimera":  # `from chimera import names` imports chimera.names
                found += [(node.lineno, f"chimera.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, module))
    return found


def is_below(module: str, *packages: str) -> bool:
    """Whether `module` is one of the packages or in one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)
