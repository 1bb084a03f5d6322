"""`chimera submit`: one task from the command line, or many from a file of JSON lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import click
import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from chimera import http
from chimera.cli.joining import AnyClient, Target, target_options
from chimera.cli.output import ERROR, Output, command
from chimera.cli.parse import duration, moment
from chimera.client import Bulk
from chimera.errors import ChimeraError, InvalidPayload, TaskError
from chimera.swarm.policy import CLASSES

#: seconds until a submit that nobody answers is given up
TIMEOUT_S = 30.0


@command()
@target_options
@click.argument("type_", metavar="TYPE")
@click.argument("payload", required=False)
@click.option("--key", help="Tasks with the same key run one at a time, in submit order.")
@click.option(
    "--idempotency-key",
    help="Submitted twice with the same one, type and --key, it is the same task.",
)
@click.option("--delay", callback=duration, help="Start no earlier, e.g. 10s or 5m.")
@click.option(
    "--deadline", callback=moment, help="Start no later: a moment, or a duration from now."
)
@click.option("--priority", type=click.Choice(CLASSES))
@click.option("--tag", "tags", multiple=True, help="May be given several times.")
@click.option("--ndjson", type=click.File("rb"), help="A payload a line; `-` reads stdin.")
@click.option("--wait", is_flag=True, help="Wait for the result and print it.")
@click.option("--timeout", default=TIMEOUT_S, show_default=True, help="Seconds to wait, at most.")
def submit(
    out: Output, target: Target, type_: str, payload: str | None,
    key: str | None, idempotency_key: str | None, delay: float | None, deadline: datetime | None,
    priority: str | None, tags: tuple[str, ...], ndjson: IO[bytes] | None, wait: bool,
    timeout: float,
) -> int:  # fmt: skip
    """Submit a task of TYPE; it is durable when its id is printed.

    PAYLOAD is JSON, `@FILE` reads it from a file, `-` from stdin; without it it is null. With
    --ndjson each line of a file is the payload of a task. --wait prints the result, and ends with
    1 if the task failed and 124 if it takes longer than --timeout seconds.

    \b
    Examples:
      chimera submit mail.send '{"to": "ada@example.org"}'
      chimera submit mail.send @mail.json --key ada --delay 1s --tag import
      chimera submit mail.send --ndjson mails.ndjson --wait
      echo '{"to": "ada@example.org"}' | chimera submit mail.send - --wait
    """
    if ndjson is not None and (payload is not None or idempotency_key is not None):
        raise click.UsageError("--ndjson brings the payloads: no PAYLOAD, no --idempotency-key")
    given: dict[str, Any] = {
        "key": key, "delay_s": delay, "deadline": deadline, "priority": priority,
        "tags": tags, "timeout_s": timeout,
    }  # fmt: skip
    body = None if ndjson is not None else read_payload(payload)
    with target.client(timeout) as connected:
        if ndjson is not None:
            return _submit_lines(out, connected, type_, ndjson, wait, timeout, given)
        began = time.monotonic()
        handle = connected.submit(type_, body, idempotency_key=idempotency_key, **given)
        if not wait:
            said = {"id": handle.id, "duplicate": handle.duplicate}
            out.result(said, lambda: out.console.print(handle.id))
            return 0
        try:
            result = handle.result(max(timeout - (time.monotonic() - began), 0.0))
        except KeyboardInterrupt:
            out.notes.print(f"task {handle.id} goes on: chimera result {handle.id}", markup=False)
            raise
        said = {"id": handle.id, "duplicate": handle.duplicate, "result": result}
        out.result(said, lambda: out.line(msgspec.json.encode(result).decode()))
        return 0


def read_payload(given: str | None) -> msgspec.Raw:
    """A payload from the command line, checked to be JSON. Raises BadParameter."""
    if given is None:
        return msgspec.Raw(b"null")
    if given == "-":
        text = sys.stdin.buffer.read()
    elif given.startswith("@"):
        try:
            text = Path(given[1:]).read_bytes()
        except OSError as error:
            raise click.BadParameter(f"{given[1:]}: {error.strerror}") from error
    else:
        text = given.encode()
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"the payload is no JSON: {error}") from error
    return msgspec.Raw(text.strip())


def lines(file: IO[bytes]) -> Iterator[msgspec.Raw]:
    """The payloads of a file of JSON lines. Raises InvalidPayload, with the line's number."""
    check = msgspec.json.Decoder().decode
    for number, line in enumerate(file, 1):
        text = line.strip()
        if text:
            try:
                check(text)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise InvalidPayload(f"line {number} is no JSON: {error}") from error
            yield msgspec.Raw(text)


def _submit_lines(
    out: Output, swarm: AnyClient, type_: str, file: IO[bytes], wait: bool, timeout: float,
    given: dict[str, Any],
) -> int:  # fmt: skip
    """Submit a task a line; ids or results one a line, in the order of the lines."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with out.bars(*columns) as bars:
        bar = bars.add_task("submitting", total=None)
        bulk = swarm.submit_many(type_, bars.track(lines(file), task_id=bar), **given)
        bars.update(bar, description="submitted", total=len(bulk), completed=len(bulk))
        if not wait:
            refused = 0
            for at in range(len(bulk)):
                try:
                    task_id = bulk[at].id
                except ChimeraError as fault:  # this one was refused, the others were not
                    refused += 1
                    out.note(f"payload {at + 1}: {fault.message}")
                    continue
                out.line(_line({"id": task_id}) if out.is_structured else task_id)
            return ERROR if refused else 0
        return _print_results(out, bars, bulk, timeout)


def _print_results(out: Output, bars: Progress, bulk: Bulk | http.Bulk, timeout: float) -> int:
    bar = bars.add_task("done", total=len(bulk))
    failed = 0
    for at, result in enumerate(bulk.results(timeout, return_exceptions=True)):
        bars.advance(bar)
        if isinstance(result, Exception):
            failed += 1
            code = result.code if isinstance(result, TaskError) else "refused"
            out.line(_line({"id": _id(bulk, at), "error": code, "message": str(result)}))
        else:
            out.line(_line({"id": _id(bulk, at), "result": result}))
    if failed:
        out.note(f"{failed} of {len(bulk)} tasks did not succeed")
    return ERROR if failed else 0


def _id(bulk: Bulk | http.Bulk, at: int) -> str | None:
    try:
        return bulk[at].id
    except ChimeraError:
        return None  # it was refused


def _line(value: Any) -> str:
    return msgspec.json.encode(value).decode()
