"""Handlers by task type, found in the modules that the spec names."""

from __future__ import annotations

import importlib
import linecache
import os
import traceback
from collections.abc import Iterator, Sequence
from types import ModuleType

from chimera.api.task import ATTRIBUTE, TaskDefinition
from chimera.errors import HandlerLoadError, UnknownTaskType
from chimera.swarm.policy import TaskPolicy

#: the decorator's own frames are not where a user looks for the fault
_HERE = os.path.dirname(__file__)


class Registry:
    """The task types that can be run here."""

    def __init__(self, definitions: Sequence[TaskDefinition] = ()) -> None:
        self._by_type = {definition.type: definition for definition in definitions}

    def get(self, type: str) -> TaskDefinition:
        """The definition of a type. Raises UnknownTaskType."""
        try:
            return self._by_type[type]
        except KeyError:
            raise UnknownTaskType(f"no handler for task type {type!r}", type=type) from None

    def policies(self) -> tuple[TaskPolicy, ...]:
        """What each type declares, by type."""
        return tuple(self._by_type[type].declared() for type in sorted(self._by_type))

    def __contains__(self, type: object) -> bool:
        return type in self._by_type

    def __iter__(self) -> Iterator[TaskDefinition]:
        return iter(self._by_type.values())

    def __len__(self) -> int:
        return len(self._by_type)


def load(modules: Sequence[str]) -> Registry:
    """Import the modules and collect the handlers in them, those they import from others too.

    Raises HandlerLoadError, which names the module and its fault: there is no such module, it
    fails (with the line), it has no handlers, a handler cannot be used, or a type is handled twice.
    """
    found: dict[str, tuple[str, TaskDefinition]] = {}
    for name in modules:
        definitions = _definitions(_imported(name))
        if not definitions:
            raise _fault(name, "there are no handlers in it (none is decorated with @chimera.task)")
        for definition in definitions:
            other, known = found.setdefault(definition.type, (name, definition))
            if known is not definition:
                raise _fault(
                    name,
                    f"task type {definition.type!r} is handled twice: by "
                    f"{_place(known)} (module {other!r}) and by {_place(definition)}",
                )
            _check(name, definition)
    return Registry([definition for _, definition in found.values()])


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise _fault(name, f"there is no module {error.name!r} on the path") from error
        raise _broken(name, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _definitions(module: ModuleType) -> list[TaskDefinition]:
    """The module's handlers, each once, in the order of their names' definition."""
    found = [vars(value).get(ATTRIBUTE) for value in vars(module).values() if _has_vars(value)]
    unique = {id(one): one for one in found if isinstance(one, TaskDefinition)}
    return list(unique.values())


def _has_vars(value: object) -> bool:
    # a class's own namespace and a function's: what is inherited belongs to the base class
    return hasattr(value, "__dict__")


def _check(module: str, definition: TaskDefinition) -> None:
    try:
        definition.check()
    except Exception as error:
        raise _fault(module, f"{_place(definition)}: {error}") from error


def _broken(module: str, error: BaseException) -> HandlerLoadError:
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return _fault(
            module, f"{error.filename}, line {error.lineno}: `{(error.text or '').strip()}`: {what}"
        )
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and os.path.dirname(frame.filename) != _HERE
    ]
    if not frames:
        return _fault(module, what)
    last = frames[-1]
    line = last.line or linecache.getline(last.filename, last.lineno or 0).strip()
    return _fault(module, f"{last.filename}, line {last.lineno}: `{line}`: {what}")


def _fault(module: str, fault: str) -> HandlerLoadError:
    return HandlerLoadError(f"handlers module {module!r}: {fault}", module=module, fault=fault)


def _place(definition: TaskDefinition) -> str:
    return f"{definition.target.__module__}.{definition.target.__qualname__}"
