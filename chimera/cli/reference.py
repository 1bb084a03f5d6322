"""docs/cli.md, made from the commands: `python -m chimera.cli.reference > docs/cli.md`."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from chimera.cli.main import main

_HEAD = """\
# The command line

Made from the commands by `make docs`; a test holds it equal. What a person should read on the way
goes to stderr, what a program should read to stdout. Without a terminal, or with `NO_COLOR`, there
are no colours and no bars.

Where a command finds its swarm: the option, else the variable (`CHIMERA_ADDRESS`, `CHIMERA_URL`,
`CHIMERA_SWARM`, `CHIMERA_TENANT`), else the context (`chimera context`), else `RAY_ADDRESS` or the
Ray that `chimera up` started here. `chimera config view --show-origin` says which it is. With
`--url` a command goes over HTTP and needs no Ray; where somebody said which swarm, the gateway
must be of that one.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | it went wrong, and the message says why: a task failed, the swarm is not ready |
| 2 | what was asked is wrong: the command line, the spec, a payload, an id, a deadline |
| 3 | there is no such swarm, task or type; nothing answers at its address or URL |
| 4 | it conflicts with what is there, e.g. an idempotency key used with another payload |
| 124 | it took longer than `--timeout` |
| 130 | Ctrl-C |
| 141 | nobody reads its output any more, as behind `head` |

Every command takes:

| option | |
| --- | --- |
"""
#: options of every command, described once
COMMON = ("--output", "--json", "--debug", "--help")


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that is not hidden, by what a person types."""
    yield from _walk(main, "chimera")


def _walk(group: click.Group, prefix: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if isinstance(found, click.Group):
            yield from _walk(found, f"{prefix} {name}")
        elif found is not None and not found.hidden:
            yield f"{prefix} {name}", found


def examples(command: click.Command) -> list[str]:
    """The command lines under `Examples:` in its help."""
    _, _, told = (command.help or "").partition("Examples:\n")
    return [line.strip() for line in told.splitlines() if line.strip()]


def reference() -> str:
    """The document."""
    found = dict(commands())
    text = [_HEAD]
    some = next(iter(found.values()))
    text += [_row(one) for one in some.params if one.opts[0] in (*COMMON, "-o")]
    for typed, command in found.items():
        text.append(f"\n## {typed}\n\n")
        usage = command.collect_usage_pieces(click.Context(command))
        text.append(f"`{typed} {' '.join(usage)}`\n\n{_prose(command)}\n")
        if lines := examples(command):
            text.append("\n```sh\n" + "\n".join(lines) + "\n```\n")
        rows = [_row(one) for one in command.params
                if isinstance(one, click.Option) and not {*one.opts} & {*COMMON}]  # fmt: skip
        if rows:
            text.append("\n| option | |\n| --- | --- |\n" + "".join(rows))
    return "".join(text)


def _prose(command: click.Command) -> str:
    told, _, _ = (command.help or "").partition("\b\nExamples:")
    return re.sub(r"\n{3,}", "\n\n", told.replace("\b\n", "")).strip()


def _row(option: click.Parameter) -> str:
    assert isinstance(option, click.Option)
    name, told = option.get_help_record(click.Context(click.Command(""))) or ("", "")
    name, told = (part.replace("|", "\\|") for part in (name, told))
    return f"| `{name}` | {told} |\n"


if __name__ == "__main__":
    click.echo(reference(), nl=False)
