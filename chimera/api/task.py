"""The `task` decorator: how a function or class says which task type it handles, and how.

The decorated object is left as it is; it only gains `chimera_task`, its TaskDefinition.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import msgspec

from chimera.api import convert
from chimera.api.context import Context
from chimera.swarm.policy import CLASSES, TaskPolicy

F = TypeVar("F", bound=Callable[..., Any])

ATTRIBUTE = "chimera_task"
#: tasks of an async handler that one worker runs at once, unless `concurrency` says otherwise
ASYNC_CONCURRENCY = 32

_TYPE = re.compile(r"[\w.:/-]{1,200}\Z")
#: the least that an option may be
_LEAST: dict[str, float] = {
    "max_attempts": 1,
    "attempt_timeout_s": 0.001,
    "heartbeat_timeout_s": 0.1,  # the leader looks about every 100 ms
    "concurrency": 1,
    "rate_per_s": 1e-6,
    "rate_burst": 1,
    "max_running": 1,
    "backoff_initial_s": 0,
    "backoff_factor": 1,
    "backoff_cap_s": 0,
}
#: options that are contracts → the language that they are in
_CONTRACTS = {"json_schema": "JSON", "avro_schema": "AVRO"}
_OPTIONS = {"no_retry", "priority", *_LEAST}
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Handler:
    """A definition made ready to be called."""

    #: called with (context, payload) if `takes_ctx`, else with (payload)
    call: Callable[..., Any]
    takes_ctx: bool
    decode: convert.Decode
    #: exceptions that another attempt cannot help
    no_retry: tuple[type[BaseException], ...] = ()
    #: the class's instance, if it keeps a state for each key
    keeper: Any = None


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """A task type as its handler declares it."""

    policy: TaskPolicy
    target: Any  #: the function or class
    no_retry: tuple[type[BaseException], ...] = ()

    @property
    def type(self) -> str:
        return self.policy.type

    def check(self) -> None:
        """Raise TypeError or NameError if its annotations cannot be used."""
        self._decoder(_parameters(self.target))

    def declared(self) -> TaskPolicy:
        """Its policy, with the contract that its payload's annotation makes if none was given."""
        if self.policy.contract is not None:
            return self.policy
        parameter = _annotated(_parameters(self.target))
        if parameter is None:
            return self.policy
        contract = convert.schema(_resolved(self.target, parameter))
        return msgspec.structs.replace(self.policy, contract=contract)

    def handler(self) -> Handler:
        """Make it callable: constructs a class's instance. Raises what its constructor raises."""
        parameters = _parameters(self.target)
        decode = self._decoder(parameters)
        call, keeper = self.target, None
        if inspect.isclass(self.target):
            instance: Any = self.target()
            call = instance.run
            keeper = instance if self.policy.keyed_state else None
        order = tuple("ctx" if is_ctx else "payload" for _, is_ctx in parameters)
        return Handler(_arranged(call, order), "ctx" in order, decode, self.no_retry, keeper)

    def _decoder(self, parameters: list[tuple[inspect.Parameter, bool]]) -> convert.Decode:
        parameter = _annotated(parameters)
        return convert.decoder(Any if parameter is None else _resolved(self.target, parameter))


def _annotated(parameters: list[tuple[inspect.Parameter, bool]]) -> inspect.Parameter | None:
    """The payload's parameter, if it is annotated."""
    for parameter, is_ctx in parameters:
        if not is_ctx and parameter.annotation is not inspect.Parameter.empty:
            return parameter
    return None


def _arranged(call: Callable[..., Any], order: tuple[str, ...]) -> Callable[..., Any]:
    """`call` as a function of (payload), or of (ctx, payload) if it takes a context."""
    if order == ("payload", "ctx"):
        return lambda ctx, payload: call(payload, ctx)
    if order == ("ctx",):
        return lambda ctx, payload: call(ctx)
    if order == ():
        return lambda payload: call()
    return call


def _function(target: Any) -> Any:
    return getattr(target, "run", None) if inspect.isclass(target) else target


def _parameters(target: Any) -> list[tuple[inspect.Parameter, bool]]:
    """What the handler is called with, in order, and whether that is its context.

    Raises TypeError for a signature that is none of (), (payload), (ctx), (ctx, payload).
    """
    found = list(inspect.signature(_function(target)).parameters.values())
    if inspect.isclass(target):
        found = found[1:]
    needed = [p for p in found if p.kind in _POSITIONAL and p.default is inspect.Parameter.empty]
    stray = [p for p in found if p not in needed and p.kind is inspect.Parameter.KEYWORD_ONLY]
    marked = [(p, p.name == "ctx" or _names_context(p.annotation)) for p in needed]
    payloads = [p for p, is_ctx in marked if not is_ctx]
    must = [p.name for p in stray if p.default is inspect.Parameter.empty]
    if must or len(payloads) > 1 or len(marked) - len(payloads) > 1:
        raise TypeError(
            f"{_name(target)}{inspect.signature(_function(target))}: a handler takes (payload) or "
            "(ctx, payload)"
        )
    return marked


def _names_context(annotation: Any) -> bool:
    if isinstance(annotation, str):  # not evaluated: it may be imported for type checkers only
        return annotation.rpartition(".")[2] == "Context"
    return annotation is Context


def _resolved(target: Any, parameter: inspect.Parameter) -> Any:
    """The annotation of a parameter, evaluated."""
    annotation = parameter.annotation
    if not isinstance(annotation, str):
        return annotation
    function = inspect.unwrap(_function(target))
    try:
        return eval(annotation, getattr(function, "__globals__", {}))
    except NameError as error:
        raise NameError(
            f"{_name(target)}: {error} in the annotation of {parameter.name!r}: it must be "
            "imported where the handler is defined, and not only for type checkers"
        ) from None


def _name(target: Any) -> str:
    return f"{target.__module__}.{target.__qualname__}"


@overload
def task(target: F, /) -> F: ...


@overload
def task(
    type: str | None = None,
    /,
    *,
    max_attempts: int = ...,
    no_retry: Iterable[type[BaseException] | str] = ...,
    attempt_timeout_s: float = ...,
    heartbeat_timeout_s: float | None = ...,
    concurrency: int | None = ...,
    priority: str = ...,
    rate_per_s: float | None = ...,
    rate_burst: int | None = ...,
    max_running: int | None = ...,
    backoff_initial_s: float = ...,
    backoff_factor: float = ...,
    backoff_cap_s: float = ...,
    json_schema: Mapping[str, Any] | str | None = ...,
    avro_schema: Any = ...,
) -> Callable[[F], F]: ...


def task(target: Any = None, /, **options: Any) -> Any:
    """Register a function, coroutine function or class as the handler of a task type.

    Use it bare (`@task`: the type is the function's name) or with the type and rules:
    `@task("audit.file", max_attempts=3)`. A function takes `(payload)` or `(ctx, payload)`; a class
    is made once a worker, and its `run` takes the same. A class with `snapshot(self, key)` and
    `restore(self, key, state)` keeps a state for each ordering key.

    - max_attempts: attempts of a task, the first included, before it is a dead letter (5)
    - no_retry: exceptions, or their names, after which there is no other attempt
    - attempt_timeout_s: seconds an attempt may run (60)
    - heartbeat_timeout_s: seconds it may run without `ctx.heartbeat()` (None: any)
    - concurrency: tasks that one worker runs at once (1; async: 32); in threads unless async
    - priority: "critical", "normal" or "batch", unless the submitter says otherwise
    - rate_per_s, rate_burst, max_running: limits in the whole swarm (None: none)
    - backoff_initial_s, backoff_factor, backoff_cap_s: waits between attempts (0.2, 2, 30)
    - json_schema: JSON Schema of its payloads, as a mapping or text, checked when a task is
      submitted; without it, the annotation of the payload makes one
    - avro_schema: the same in Avro, as JSON-like data or text; unions are untagged, bytes are text

    Raises TypeError for a handler or option that cannot be, ValueError for a value out of range.
    """
    if target is None or isinstance(target, str):
        return lambda decorated: _define(decorated, target, options)
    return _define(target, None, options)


def _define(target: Any, name: str | None, options: dict[str, Any]) -> Any:
    function = _function(target)
    if not callable(function):
        raise TypeError(f"{target!r} is neither a function nor a class with a method `run`")
    _parameters(target)
    name = target.__name__ if name is None else name
    if not _TYPE.match(name):
        raise ValueError(f"{name!r} is no task type: 1 to 200 letters, digits and any of _.:/-")
    policy = _policy(name, inspect.iscoroutinefunction(function), _keeps_state(target), options)
    no_retry = tuple(e for e in options.get("no_retry", ()) if isinstance(e, type))
    setattr(target, ATTRIBUTE, TaskDefinition(policy, target, no_retry))
    return target


def _keeps_state(target: Any) -> bool:
    if not inspect.isclass(target):
        return False
    has = [hasattr(target, name) for name in ("snapshot", "restore")]
    if any(has) and not all(has):
        raise TypeError(f"{_name(target)} must have both `snapshot` and `restore`, or neither")
    return all(has)


def _policy(name: str, is_async: bool, keyed_state: bool, options: dict[str, Any]) -> TaskPolicy:
    given = {key: value for key, value in options.items() if value is not None}
    strays = given.keys() - _OPTIONS - _CONTRACTS.keys()
    if strays:
        raise TypeError(f"task {name!r}: no such option: {', '.join(sorted(strays))}")
    if "priority" in given:
        if given["priority"] not in CLASSES:
            raise ValueError(f"task {name!r}: priority is one of {', '.join(CLASSES)}")
        given["priority"] = CLASSES.index(given["priority"])
    contracts = [name for name in _CONTRACTS if name in given]
    if len(contracts) > 1:
        raise TypeError(f"task {name!r}: give one contract, not {' and '.join(contracts)}")
    for one in contracts:
        given["contract_language"] = _CONTRACTS[one]
        given["contract"] = _contract(f"task {name!r}: {one}", _CONTRACTS[one], given.pop(one))
    given["no_retry"] = tuple(map(_error_name, given.get("no_retry", ())))
    if is_async:
        given.setdefault("concurrency", ASYNC_CONCURRENCY)
    policy = TaskPolicy(type=name, keyed_state=keyed_state, is_async=is_async, **given)
    for field, low in _LEAST.items():
        value = getattr(policy, field)
        if value is not None and not value >= low:
            raise ValueError(f"task {name!r}: {field} is at least {low:g}, not {value!r}")
    return policy


def _contract(what: str, language: str, schema: Any) -> str:
    """A schema as text. Raises ValueError for what is none."""
    from chimera.contracts import languages  # here: most types have no contract

    try:
        text = schema if isinstance(schema, str) else msgspec.json.encode(schema).decode()
        languages.parse(language, text, {})
    except (ValueError, TypeError) as fault:
        raise ValueError(f"{what}: {fault}") from fault
    return text


def _error_name(error: Any) -> str:
    if isinstance(error, str):
        return error
    if isinstance(error, type) and issubclass(error, BaseException):
        return qualified(error)
    raise TypeError(f"no_retry takes exceptions or their names, not {error!r}")


def qualified(error: type[BaseException]) -> str:
    """The name by which outcomes and policies know an exception, e.g. `builtins.ValueError`."""
    return f"{error.__module__}.{error.__qualname__}"
