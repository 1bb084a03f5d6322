"""YAML to data, with the line of each key: a fault is told where the person wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from chimera.errors import SpecError

#: a spec is a few dozen lines; what is larger is another file
BYTES_MAX = 1024 * 1024
#: values in a spec, aliases counted each time: they can multiply a short text without end
VALUES_MAX = 100_000

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML mapping and where it came from."""

    source: str  #: path of the file, or what to call the text
    body: dict[str, Any]
    lines: Mapping[Path, int]  #: of each key or item, from 1

    def line(self, path: Path) -> int:
        """The line of the path, or of the closest part of it that was written; 0: none was."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)


def read(text: str | bytes, source: str) -> Document:
    """Parse a YAML text whose top is a mapping. Raises SpecError."""
    if len(text) > BYTES_MAX:
        raise fault(source, 0, "", f"over {BYTES_MAX} bytes: is this the right file?")
    if isinstance(text, bytes):
        text = _decode(text, source)
    _check_characters(text, source)
    loader = yaml.SafeLoader(text.removeprefix("\ufeff"))
    try:
        node = loader.get_single_node()
        if node is None:
            raise fault(source, 1, "", "is empty: a spec names at least its `handlers`")
        if not isinstance(node, yaml.MappingNode):
            line = node.start_mark.line + 1
            raise fault(source, line, "", "must be a mapping of settings, such as `shards: 8`")
        lines = _Lines(source)
        lines.walk(node, ())
        body = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        raise fault(source, line, "", f"is not YAML: {error.problem}") from error
    except RecursionError:
        raise fault(source, 0, "", "is nested too deeply") from None
    except (ValueError, TypeError) as error:  # e.g. a date that is none, an unhashable key
        raise fault(source, 0, "", f"is not YAML: {error}") from error
    finally:
        loader.dispose()
    return Document(source, body, lines.found)


def fault(source: str, line: int, key: str, message: str) -> SpecError:
    """A SpecError that says where, what and how."""
    where = f"{source}:{line}" if line else source
    text = f"{where}: {key}: {message}" if key else f"{where}: {message}"
    return SpecError(text, source=source, line=line, key=key)


def dotted(path: Path) -> str:
    """The path as a key that a person reads: `regions[0].leaders`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _decode(text: bytes, source: str) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        message = f"is not UTF-8: byte 0x{text[error.start]:02x}"
        raise fault(source, line, "", message) from error


def _check_characters(text: str, source: str) -> None:
    found = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        raise fault(source, line, "", f"has a character that YAML forbids: {found.group()!r}")


class _Lines:
    """Notes the line of every key, and finds keys that are written twice."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.found: dict[Path, int] = {(): 1}
        self._count = 0

    def walk(self, node: yaml.Node, path: Path) -> None:
        self._count += 1
        if self._count > VALUES_MAX:
            raise fault(self.source, 0, "", f"has over {VALUES_MAX} values")
        if isinstance(node, yaml.MappingNode):
            self._mapping(node, path)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                below = (*path, index)
                self.found[below] = item.start_mark.line + 1
                self.walk(item, below)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> None:
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            name = str(key.value)
            below = (*path, name)
            if name in seen:
                raise fault(self.source, line, dotted(below), f"is on line {seen[name]} already")
            self.found[below] = seen[name] = line
            self.walk(value, below)
