"""What commands print, and how they end: text or JSON, colours only for people, exit codes."""

from __future__ import annotations

import atexit
import functools
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
import msgspec
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table

from chimera import names
from chimera.errors import (
    BadRecord,
    ChimeraError,
    HandlerLoadError,
    IdempotencyConflict,
    InvalidRequest,
    SpecError,
    TaskError,
    Unreachable,
    WaitTimeout,
)

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

OK, ERROR, USAGE, NOT_FOUND, CONFLICT, TIMEOUT = 0, 1, 2, 3, 4, 124
#: what a shell reports for Ctrl-C
INTERRUPTED = 130
#: and for who writes what nobody reads any more
UNREAD = 141


#: status of an error that says: the request is wrong, and will stay so
_WRONG = (400, 413, 422)
FORMATS = ("table", "wide", "json", "yaml", "name")
#: what a terminal may obey; a newline and a tab are harmless
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
#: columns of what is not to be cut: tables, and all where no terminal says how many there are
WIDTH_PIPED = 1000


class Output:
    """Where a command's words go: results to stdout, everything else to stderr."""

    def __init__(self, style: str = "table", debug: bool = False) -> None:
        self.format = style
        self.debug = debug
        self._stdout = sys.stdout
        self.console = _console(sys.stdout)
        self.notes = _console(sys.stderr)
        self._is_below_bars = False

    @property
    def json(self) -> bool:
        """Whether JSON is printed."""
        return self.format == "json"

    @property
    def is_structured(self) -> bool:
        """Whether a program reads it."""
        return self.format in ("json", "yaml")

    @property
    def is_live(self) -> bool:
        """Whether a person watches: then bars and moving text are welcome."""
        return (
            self.format in ("table", "wide")
            and self.notes.is_terminal
            and not os.environ.get("NO_COLOR")
        )

    @property
    def has_screen(self) -> bool:
        """Whether a person sits at both ends: what takes the whole screen reads stdin as well,
        and draws on stderr."""
        return all(one.isatty() for one in (sys.stdin, self._stdout, sys.stderr))

    def result(self, value: Any, show: Callable[[], object] | None = None) -> None:
        """The command's result: as data, as names, or as `show` prints it (default: as it is).

        What has no names is shown although only names are asked for.
        """
        names_of = list(_names(value)) if self.format == "name" else []
        if self.json:
            self.line(dump(value))
        elif self.format == "yaml":
            self.line(as_yaml(value).rstrip())
        elif names_of or (self.format == "name" and value == []):
            self.lines(names_of)
        elif show is not None:
            show()
        else:
            self.line(str(value))

    def line(self, text: str) -> None:
        """A line of the result, without markup."""
        if self._is_below_bars:
            self.notes.print(text, markup=False, emoji=False)
        else:
            click.echo(visible(text), file=self._stdout)

    def lines(self, texts: Iterable[str]) -> None:
        """Lines of the result."""
        for text in texts:
            self.line(text)

    def table(
        self,
        rows: list[dict[str, Any]],
        columns: Sequence[str],
        wide: Sequence[str] = (),
        shown: list[dict[str, Any]] | None = None,
    ) -> None:
        """A list: as data whole, as a table with these columns, or with more for `-o wide`."""

        def show() -> None:
            named = wide if wide and self.format == "wide" else columns
            made = Table(box=None, pad_edge=False, header_style="bold")
            for name in named:
                made.add_column(name.upper().replace("_", " "), no_wrap=True)
            for one in shown or rows:
                made.add_row(*(_cell(one.get(name)) for name in named))
            # a narrow terminal breaks lines, rather than cut ids that somebody would copy
            _console(self._stdout, WIDTH_PIPED).print(made)

        self.result(rows, show)

    def note(self, text: str) -> None:
        """A step on the way; for people only."""
        if not self.is_structured:
            self.notes.print(text, markup=False)

    @contextmanager
    def step(self, text: str) -> Iterator[Callable[[str], None]]:
        """A step that takes a while; yields what changes its text, where somebody watches."""
        if self.is_live:
            with self.notes.status(text) as status:
                yield status.update
        else:
            yield lambda _: None

    @contextmanager
    def hushed(self) -> Iterator[None]:
        """Where somebody watches, what libraries print is dropped: Ray has a paragraph for each
        process that ends, of which the command tells in a word."""
        if self.is_live:
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
                yield
            atexit.register(_drop_stdout)  # Ray keeps some of it until it ends itself
        else:
            yield

    @contextmanager
    def bars(self, *columns: ProgressColumn) -> Iterator[Progress]:
        """Bars of how far something is, where somebody watches.

        Lines of the result that go to the same terminal meanwhile are put above them.
        """
        from rich.progress import Progress  # here: most commands have none

        with Progress(*columns, console=self.notes, disable=not self.is_live) as bars:
            self._is_below_bars = self.is_live and self._stdout.isatty()
            try:
                yield bars
            finally:
                self._is_below_bars = False

    def error(self, fault: BaseException) -> int:
        """Say what went wrong in one line; returns the exit code."""
        if self.debug:
            click.echo(visible("".join(traceback.format_exception(fault))), nl=False, err=True)
        if isinstance(fault, ModuleNotFoundError):
            fault = missing(fault)
        if isinstance(fault, ChimeraError):
            # a spec may have several faults, each on a line of its own
            lines = fault.message.splitlines() if isinstance(fault, SpecError) else [fault.message]
            text = "\n".join(" ".join(line.split()) for line in lines)
            wire = {"code": fault.code, "message": text, "details": fault.details}
            if isinstance(fault, TaskError) and "id" in fault.details:
                text = f"task {fault.details['id']}: {text}"
        else:
            text = " ".join(f"{type(fault).__name__}: {fault}".split())
            wire = {"code": "error", "message": text, "details": {}}
        if self.json:
            click.echo(visible(dump({"error": wire})), err=True)
        elif self.format == "yaml":
            click.echo(as_yaml({"error": wire}).rstrip(), err=True)
        else:
            self.notes.print("[red]error:[/red]", end=" ")
            self.notes.print(text, markup=False)
        return exit_code(fault)


def visible(text: str) -> str:
    """Text without power over a terminal: control characters but newline and tab are escaped.

    In the way of JSON, which remains the same to those who read it as such.
    """
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class _Console(Console):
    """What tasks and their handlers say reaches the terminal as text; escapes are only our own."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        for one in super().render(renderable, options):
            yield one if one.control else Segment(visible(one.text), one.style)


def _console(stream: TextIO, width: int | None = None) -> Console:
    """Colours for people, whole lines for programs."""
    return _Console(
        file=stream,
        no_color=bool(os.environ.get("NO_COLOR")),
        highlight=False,
        soft_wrap=True,
        width=width if stream.isatty() else WIDTH_PIPED,
    )


def missing(fault: ModuleNotFoundError) -> ChimeraError:
    """What to install, for a module that is not there, or how to do without it."""
    context = click.get_current_context(silent=True)
    takes_url = context and any(one.name == "url" for one in context.command.params)
    other = "; with --url, to its gateway, the command needs none of it"
    return ChimeraError(
        f"{fault.name} is not installed: pip install 'chimera[swarm]' brings it"
        + (other if takes_url and fault.name == "ray" else "")
    )


def exit_code(fault: BaseException) -> int:
    """The exit code that says the same as an error."""
    if isinstance(fault, WaitTimeout):
        return TIMEOUT
    if isinstance(fault, IdempotencyConflict):
        return CONFLICT
    if isinstance(fault, Unreachable):
        return NOT_FOUND
    if isinstance(fault, (BadRecord, HandlerLoadError)):  # what was found, not said, is wrong
        return ERROR
    if isinstance(fault, InvalidRequest) and fault.status in _WRONG:
        return USAGE
    if isinstance(fault, ChimeraError):
        return {404: NOT_FOUND, 409: CONFLICT}.get(fault.status, ERROR)
    return ERROR


def dump(value: Any) -> str:
    """JSON of our data; what it has no word for is named."""
    return msgspec.json.encode(value, enc_hook=_in_words, order="deterministic").decode()


def _in_words(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", "replace")
    return str(value)


def as_yaml(value: Any) -> str:
    """YAML of our data."""
    import yaml

    plain = msgspec.json.decode(dump(value))
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    return text


def _names(value: Any) -> Iterator[str]:
    """What identifies the things of a result."""
    for one in value if isinstance(value, (list, tuple)) else [value]:
        told = one if isinstance(one, dict) else {"id": one}
        found = next((told[key] for key in ("id", "name", "swarm") if told.get(key)), None)
        if isinstance(found, dict):
            found = found.get("swarm")
        if found is not None:
            yield str(found)


def _cell(value: Any) -> str:
    if value is None or value == []:
        return "-"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return escape(visible(text))  # here too, since columns are measured before they are drawn


def swarm_name(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Check a swarm's name."""
    try:
        return names.check(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def command(
    of_a_swarm: bool = True, name: str | None = None, group: click.Group | None = None
) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of a function `(out, …)`: common options, errors as one line, exit codes."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        @functools.wraps(function)
        def run(json: bool, style: str, debug: bool, **options: Any) -> None:
            out = Output("json" if json else style, debug)
            try:
                # what libraries print is no result: Ray tells of dead workers on stdout
                with redirect_stdout(sys.stderr):
                    code = function(out, **options)
            except (click.ClickException, click.exceptions.Exit):
                raise
            except click.Abort as fault:
                if not fault.__suppress_context__:  # somebody said no, rather than Ctrl-C
                    raise
                out.notes.print("\ninterrupted")  # after the question
                raise click.exceptions.Exit(INTERRUPTED) from None
            except KeyboardInterrupt:
                out.notes.print("interrupted")
                raise click.exceptions.Exit(INTERRUPTED) from None
            except BrokenPipeError:  # whoever reads has enough, as `head` does
                _forget_stdout()
                raise click.exceptions.Exit(UNREAD) from None
            except Exception as fault:
                raise click.exceptions.Exit(out.error(fault)) from fault
            if code:
                raise click.exceptions.Exit(code)

        for option in reversed(_COMMON + (_SWARM if of_a_swarm else [])):
            run = option(run)
        typed = name or function.__name__.rstrip("_")
        made = click.command(name=typed, help=function.__doc__)(run)
        if group is not None:
            group.add_command(made)
        return made

    return decorate


def _drop_stdout() -> None:
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the interpreter ends


def _forget_stdout() -> None:
    """What it has yet to write must not fail once more when the interpreter ends."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_SWARM = [
    click.option(
        "--swarm", default="local", envvar="CHIMERA_SWARM", show_default=True,
        callback=swarm_name, help="Name of the swarm.",
    ),
]  # fmt: skip
_COMMON = [
    click.option("-o", "--output", "style", type=click.Choice(FORMATS), default="table",
                 show_default=True, help="How to print the result."),
    click.option("--json", is_flag=True, help="Short for `-o json`."),
    click.option("--debug", is_flag=True, help="Print the traceback of an error."),
]  # fmt: skip


def address_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--address`; without it CHIMERA_ADDRESS, RAY_ADDRESS, or the head that `up` started."""
    text = "Address of the Ray cluster. [default: CHIMERA_ADDRESS, RAY_ADDRESS, or what `up` began]"
    return click.option("--address", metavar="HOST:PORT", help=text)(function)
