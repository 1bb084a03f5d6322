"""Handles of submitted tasks, one or many, for callers that block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from chimera.client.bulk import BulkTasks, Counts
from chimera.client.reel import Reel
from chimera.client.steps import run
from chimera.client.task import Task
from chimera.store.protocol import TaskRecord


class Handle:
    """One submitted task. Safe for threads; lost handles are found again by id."""

    __slots__ = ("_task",)

    def __init__(self, task: Task) -> None:
        self._task = task

    def __repr__(self) -> str:
        return f"<Handle of task {self.id}>"

    @property
    def id(self) -> str:
        """The task's id; of the first one, if an idempotency key was used before."""
        return self._task.id

    @property
    def duplicate(self) -> bool:
        """Whether an earlier task had the same idempotency key: this is that task."""
        return self._task.duplicate

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the task's result.

        Raises TaskFailed, TaskCancelled or TaskExpired if it ended otherwise, WaitTimeout after
        `timeout_s` seconds (the task goes on), NotFound past its retention.
        """
        return run(self._task.result(timeout_s))

    def wait(self, timeout_s: float | None = None) -> str:
        """Wait for the task's end: `succeeded`, `failed`, `cancelled` or `expired`.

        Raises WaitTimeout.
        """
        return run(self._task.state(timeout_s))

    def status(self, payload: bool = False) -> TaskRecord:
        """What the swarm knows of the task just now; with `payload`, its payload and body too."""
        return run(self._task.record(payload))

    def progress(self) -> Any:
        """What it said last of how far it is, while it runs; None if it said nothing."""
        return run(self._task.progress())

    def cancel(self, reason: str = "", *, only_waiting: bool = False) -> str:
        """Cancel the task, durably; returns its state, `cancelling` while an attempt runs on.

        `only_waiting`: if it runs it is let be, and its state is `running`.
        """
        return run(self._task.cancel(reason, only_waiting))

    def replay(self) -> Handle:
        """Run a dead letter again, as a new task; asked twice, the same one. Raises NotFound."""
        return Handle(run(self._task.replay()))

    @property
    def ref(self) -> Any:
        """A Ray ObjectRef of the result, owned by this process (P21), for ray.get and ray.wait."""
        task = self._task
        task.core.check()
        return task.core.link.result(task.id, task.tenant)


class Bulk:
    """Many submitted tasks; handles are made when they are looked at."""

    def __init__(self, tasks: BulkTasks) -> None:
        self._tasks = tasks

    def __repr__(self) -> str:
        return f"<Bulk of {len(self)} tasks>"

    def __len__(self) -> int:
        return self._tasks.total

    def __getitem__(self, index: int) -> Handle:
        """The handle of one task. Raises IndexError, or why that task was refused."""
        return Handle(self._tasks.task(index))

    def __iter__(self) -> Iterator[Handle]:
        """Handles in submit order. Raises at a task that was refused."""
        return (self[index] for index in range(len(self)))

    def ids(self) -> Iterator[str]:
        """The ids, frame by frame: in submit order unless keys spread the tasks over shards."""
        return self._tasks.ids()

    def results(
        self, timeout_s: float | None = None, return_exceptions: bool = False
    ) -> Iterator[Any]:
        """The results in submit order, as a stream that holds only a window of them.

        A task that did not succeed raises its error, which ends the stream; with
        `return_exceptions` the error is yielded in its place. Raises WaitTimeout when not all are
        there `timeout_s` seconds after the first was asked for.
        """
        reel = Reel(self._tasks, timeout_s, ordered=True)
        try:
            while (values := run(reel.results(return_exceptions))) is not None:
                yield from values
        finally:
            reel.close()

    def as_completed(
        self, timeout_s: float | None = None, return_exceptions: bool = False
    ) -> Iterator[tuple[int, Any]]:
        """(place among the payloads, result) of each task, as they end; else like `results`."""
        reel = Reel(self._tasks, timeout_s, ordered=False)
        try:
            while (pairs := run(reel.completed(return_exceptions))) is not None:
                yield from pairs
        finally:
            reel.close()

    def wait(self, timeout_s: float | None = None) -> Counts:
        """Wait until all tasks have ended, however. Raises WaitTimeout."""
        reel = Reel(self._tasks, timeout_s, ordered=False)
        try:
            run(reel.drain())
        finally:
            reel.close()
        return self.counts()

    def counts(self) -> Counts:
        """Tasks by state, as far as this handle has heard: `wait` and the streams make it hear."""
        return self._tasks.counts()

    def refs(self) -> Sequence[Any]:
        """Ray ObjectRefs, each of a list of up to 1,000 results, in the order of `ids`.

        In such a list stands an error where a task did not succeed.
        """
        tasks = self._tasks
        tasks.core.check()
        return [
            tasks.core.link.results(segment.accepted, tasks.tenant) for segment in tasks.segments
        ]
