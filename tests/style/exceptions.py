"""What is larger than the house numbers allow, by name. These lists may only shrink."""

from __future__ import annotations

#: lines of a file that may be over 400, by path
FILES: dict[str, int] = {}

#: lines of a function that may be over its limit, by `path::qualified.name`
FUNCTIONS: dict[str, int] = {}
