"""Publish new schemas: `python -m tests.contract.publish` after writing `EVENT.vN.avsc`.

Gives each new file an id and notes its hash, and keeps one record of it that must be readable for
ever. A file that was published before is never touched.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import msgspec

from chimera.contracts import Codec, OwnSchemas, schemas
from tests.contract.samples import BY_NAME

HOME = Path(schemas.__file__).parent
GOLDEN = Path(__file__).parent / "golden"


def digest(path: Path) -> str:
    """The hash by which a published file is known."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def golden(event: str) -> str:
    """A record of an event's newest schema, in hex, and what is to be read in it."""
    sample = BY_NAME[event]
    told = {
        "record": Codec(OwnSchemas()).encode_value(sample).hex(),
        "event": msgspec.to_builtins(sample),  # bytes in base 64
    }
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Publish what is new; the exit code says whether anything was."""
    known = {name: dict(entry) for name, entry in schemas.manifest().items()}
    new = sorted(path.name for path in HOME.glob("*.avsc") if path.name not in known)
    for name in new:
        top = max(entry["id"] for entry in known.values())
        known[name] = {"id": top + 1, "sha256": digest(HOME / name)}
    rows = (f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in known.items())
    (HOME / schemas.MANIFEST).write_text("{\n" + ",\n".join(rows) + "\n}\n")
    schemas.manifest.cache_clear()
    schemas.published.cache_clear()
    for event, versions in schemas.published().items():
        path = GOLDEN / f"{event}.v{versions[-1].version}.json"
        if not path.exists():
            path.write_text(golden(event))
    print("published: " + (", ".join(new) or "nothing new"))
    return 0 if new else 1


if __name__ == "__main__":
    sys.exit(main())
