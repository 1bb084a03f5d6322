"""The decorator: what a handler declares, and what it refuses to be."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import chimera
from chimera.api.context import Context
from chimera.api.task import ASYNC_CONCURRENCY, TaskDefinition
from chimera.swarm.policy import TaskPolicy


@dataclass
class Point:
    x: int


class Mine(Exception):
    pass


def definition(decorated) -> TaskDefinition:
    return decorated.chimera_task


def call(decorated, payload: bytes = b"1"):
    handler = definition(decorated).handler()
    value = handler.decode(payload)
    return handler.call("ctx", value) if handler.takes_ctx else handler.call(value)


def test_bare_the_type_is_the_functions_name():
    @chimera.task
    def greet(payload):
        return payload

    assert definition(greet).policy == TaskPolicy(type="greet")
    assert greet(5) == 5, "the function itself is left as it is"


def test_every_option_goes_into_the_policy():
    options = {
        "max_attempts": 3, "attempt_timeout_s": 5.0, "heartbeat_timeout_s": 1.0, "concurrency": 4,
        "rate_per_s": 10.0, "rate_burst": 5, "max_running": 2, "backoff_initial_s": 1.0,
        "backoff_factor": 3.0, "backoff_cap_s": 9.0,
    }  # fmt: skip

    @chimera.task("audit.file", priority="batch", no_retry=(ValueError, Mine, "x.Y"), **options)
    def audit(payload): ...

    names = ("builtins.ValueError", f"{__name__}.Mine", "x.Y")
    assert definition(audit).policy == TaskPolicy(
        type="audit.file", priority=2, no_retry=names, **options
    )
    assert definition(audit).no_retry == (ValueError, Mine)


def test_coroutines_run_side_by_side_unless_said_otherwise():
    @chimera.task
    async def many(payload): ...

    @chimera.task(concurrency=2)
    async def two(payload): ...

    assert definition(many).policy.is_async
    assert definition(many).policy.concurrency == ASYNC_CONCURRENCY
    assert definition(two).policy.concurrency == 2


def test_all_forms_of_arguments():
    @chimera.task
    def plain(payload):
        return payload

    @chimera.task
    def named(ctx, anything):
        return ctx, anything

    @chimera.task
    def annotated(payload, context: Context):
        return context, payload

    @chimera.task
    def only_ctx(ctx):
        return ctx

    @chimera.task
    def none():
        return "none"

    @chimera.task
    def defaults(payload, retries=3, *args, flag=False, **kwargs):
        return payload, retries, args, flag, kwargs

    @chimera.task
    def text(payload: Point, other: chimera.Context):
        return other, payload

    assert call(plain) == 1
    assert call(named) == call(annotated) == ("ctx", 1)
    assert call(only_ctx) == "ctx"
    assert call(none) == "none"
    assert call(defaults) == (1, 3, (), False, {})
    assert call(text, b'{"x": 2}') == ("ctx", Point(2))


def test_a_class_is_made_once_for_each_handler():
    @chimera.task("cls")
    class Cls:
        made = 0

        def __init__(self):
            Cls.made += 1

        def run(self, ctx, payload: Point):
            return self, payload

    handler = definition(Cls).handler()
    assert handler.call("ctx", Point(1))[1] == Point(1)
    assert Cls.made == 1
    assert handler.keeper is None


def test_a_class_with_snapshot_and_restore_keeps_state():
    @chimera.task("keeper")
    class Keeper:
        async def run(self, payload): ...

        def snapshot(self, key): ...

        def restore(self, key, state): ...

    assert definition(Keeper).policy.keyed_state
    assert definition(Keeper).policy.is_async
    assert isinstance(definition(Keeper).handler().keeper, Keeper)


def test_a_class_with_only_one_of_them_is_refused():
    with pytest.raises(TypeError, match="both `snapshot` and `restore`"):

        @chimera.task("half")
        class Half:
            def run(self, payload): ...

            def snapshot(self, key): ...


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"max_attempts": 0}, ValueError, "max_attempts is at least 1"),
        ({"concurrency": 0}, ValueError, "concurrency is at least 1"),
        ({"attempt_timeout_s": float("nan")}, ValueError, "attempt_timeout_s"),
        ({"priority": "urgent"}, ValueError, "critical, normal, batch"),
        ({"retries": 3}, TypeError, "no such option: retries"),
        ({"no_retry": (3,)}, TypeError, "exceptions or their names"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(options, error, says):
    with pytest.raises(error, match=says):
        chimera.task("t", **options)(lambda payload: payload)


@pytest.mark.parametrize("name", ["", "a b", "x" * 201, "a\n"])
def test_a_type_is_a_short_word(name):
    with pytest.raises(ValueError, match="is no task type"):
        chimera.task(name)(lambda payload: payload)


def test_what_cannot_be_called_with_a_payload_is_refused():
    with pytest.raises(TypeError, match="takes \\(payload\\)"):
        chimera.task("t")(lambda one, two: None)
    with pytest.raises(TypeError, match="takes \\(payload\\)"):

        @chimera.task
        def needs(payload, *, flag): ...

    with pytest.raises(TypeError, match="neither a function nor a class"):

        @chimera.task("t")
        class NoRun: ...

    with pytest.raises(TypeError, match="neither a function"):
        chimera.task("t")(3)


def test_an_annotation_that_cannot_be_resolved_is_a_clear_error():
    @chimera.task
    def lost(payload: NotHere):  # noqa: F821
        ...

    with pytest.raises(NameError, match=r"'payload'.*not only for type checkers"):
        definition(lost).check()
