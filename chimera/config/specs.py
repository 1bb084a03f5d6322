"""From what a person wrote to a Spec, or to a SpecError that says what to change, and where."""

from __future__ import annotations

import difflib
import os
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from chimera.config import text as texts
from chimera.config.environment import environment
from chimera.config.models import SpecModel
from chimera.errors import SpecError
from chimera.swarm.spec import Spec, from_dict

#: faults told at once
_FAULTS_MAX = 10
#: pydantic's names of faults → what was asked for
_KINDS = {
    "bool_type": "true or false",
    "dict_type": "a mapping of settings",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list, each item on a line of its own after `- `",
    "model_type": "a mapping of settings",
    "string_pattern_mismatch": "a URL",
    "string_type": "a text (in quotes, if it looks like something else)",
}


def load_spec(path: str | os.PathLike[str]) -> Spec:
    """The spec in a YAML file. Raises SpecError."""
    source = os.fspath(path)
    try:
        with open(source, "rb") as file:
            text = file.read(texts.BYTES_MAX + 1)
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise texts.fault(source, 0, "", message) from error
    return _spec(texts.read(text, source))


def parse_spec(text: str | bytes, source: str = "spec") -> Spec:
    """The spec in a YAML text; `source` is what errors call it. Raises SpecError."""
    return _spec(texts.read(text, source))


def make_spec(body: Mapping[str, Any], source: str = "spec") -> Spec:
    """The spec with these settings, as YAML would give them. Raises SpecError."""
    return _spec(texts.Document(source, dict(body), {}))


def _spec(document: texts.Document) -> Spec:
    try:
        model = SpecModel.model_validate(document.body)
    except ValidationError as error:
        raise _told(document, error) from error
    written = model.written()
    data_dir = Path(written["data_dir"] or _home() / model.name).expanduser().absolute()
    written["data_dir"] = str(data_dir)
    written["objects"] = written["objects"] or (data_dir / "objects").as_uri()
    return from_dict(written)


def _home() -> Path:
    return Path(environment().data_dir or "~/.chimera")


def _told(document: texts.Document, error: ValidationError) -> SpecError:
    faults = [_fault(document, dict(one)) for one in error.errors(include_url=False)]
    faults.sort(key=lambda one: one.details["line"])
    told = [one.message for one in faults[:_FAULTS_MAX]]
    if len(faults) > len(told):
        told.append(f"and {len(faults) - len(told)} more")
    return SpecError("\n".join(told), **faults[0].details)


def _fault(document: texts.Document, one: dict[str, Any]) -> SpecError:
    # a mapping's key that is wrong itself is marked so at the end of the path
    path = tuple(part for part in one["loc"] if part != "[key]")
    message = _message(one, path)
    if one["type"] == "value_error" and not path:
        # a rule about several settings names the one that it is about first
        key, _, message = message.partition(": ")
        path = (key,)
    return texts.fault(document.source, document.line(path), texts.dotted(path), message)


def _message(one: dict[str, Any], path: texts.Path) -> str:
    given = one["input"]
    match one["type"]:
        case "extra_forbidden":
            return f"there is no such setting{_meant(path)}"
        case "missing":
            return "must be set"
        case "value_error":
            return str(one["ctx"]["error"])
        case "greater_than_equal":
            return f"must be at least {one['ctx']['ge']:.10g}, not {given:.10g}"
        case "less_than_equal":
            return f"must be at most {one['ctx']['le']:.10g}, not {given:.10g}"
        case "literal_error":
            return f"must be {one['ctx']['expected']}, not {_brief(given)}"
        case kind if kind in _KINDS:
            return f"must be {_KINDS[kind]}, not {_brief(given)}"
        case _:
            return f"{one['msg'][:1].lower()}{one['msg'][1:]}, not {_brief(given)}"


def _brief(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _meant(path: texts.Path) -> str:
    model: Any = SpecModel
    for part in path[:-1]:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[str(part)].annotation
        else:
            model = typing.get_args(model)[-1]
    near = difflib.get_close_matches(str(path[-1]), model.model_fields, 1)
    return f"; did you mean `{near[0]}`?" if near else f": {', '.join(model.model_fields)}"
