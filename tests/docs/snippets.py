"""The snippets of a document: what each is, and whether it is to be run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

#: a fenced block, with the comment before it that says why it is not run
_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>[^\n]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
#: a first line that names the file that the block is
_NAME = re.compile(r"# ([\w.]+\.(?:py|yaml))\n")
#: what a line of Python prints, by its comment
_PRINTS = re.compile(r"^\s*print\(.*\)  # (.+)$", re.MULTILINE)
#: no program, or one that runs elsewhere → where
NOT_HERE = {
    "text": "an illustration",
    "mermaid": "an illustration",
    "promql": "tests/http/test_prometheus.py",
    "sql": "tests/unit/store/test_archive.py",
}


@dataclass(frozen=True)
class Snippet:
    """One fenced block of a document."""

    language: str
    text: str
    why_not: str | None  #: why it is not run, if it is not

    @property
    def file(self) -> str | None:
        """The file that it is, if it is one."""
        found = _NAME.match(self.text)
        return found[1] if found else None

    @property
    def prints(self) -> list[str]:
        """The lines that it prints, as its comments say."""
        return _PRINTS.findall(self.text)


def snippets(document: str) -> Iterator[Snippet]:
    """Every fenced block, in order."""
    for found in _BLOCK.finditer(document):
        yield Snippet(found["language"], found["text"], found["why"])
