"""`chimera registry`: look into a schema registry, check a schema against it, register one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from rich.table import Table

from chimera.cli.output import Output, command
from chimera.errors import ChimeraError, InvalidRequest

DEFAULT_URL = "http://127.0.0.1:8000/registry"
LANGUAGES = ("AVRO", "JSON")


class Incompatible(ChimeraError):
    """The schema may not follow what is registered."""

    code = "incompatible"
    status = 409


@click.group()
def registry() -> None:
    """Schemas of events and payloads: the swarm's registry, or any that speaks Confluent's API."""


def url_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--url`."""
    return click.option(
        "--url", default=DEFAULT_URL, envvar="CHIMERA_REGISTRY", show_default=True,
        help="Root of the registry's API.",
    )(function)  # fmt: skip


def schema_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The subject, the file, and what the file is."""
    for option in (
        click.option("--type", "language", type=click.Choice(LANGUAGES, case_sensitive=False),
                     help="Language of the schema. [default: AVRO for *.avsc, else JSON]"),
        click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
        click.argument("subject"),
    ):  # fmt: skip
        function = option(function)
    return function


@contextmanager
def asking(url: str) -> Iterator[Any]:
    """What asks the registry; the connection ends with it."""
    from chimera.contracts.remote import RemoteRegistry

    if not url.startswith(("http://", "https://")):
        raise InvalidRequest(f"{url!r} is no URL of a registry: it begins with http:// or https://")
    remote = RemoteRegistry(url)
    try:
        yield remote.call
    finally:
        remote.close()


def versions_path(subject: str, version: str = "") -> str:
    """Path of a subject's versions, or of one."""
    return f"subjects/{quote(subject, safe='')}/versions" + (version and f"/{version}")


def body(file: Path, language: str | None) -> dict[str, str]:
    """A file's schema as the registry takes it."""
    language = language or ("AVRO" if file.suffix == ".avsc" else "JSON")
    return {"schema": file.read_text(encoding="utf-8"), "schemaType": language.upper()}


@command(of_a_swarm=False)
@url_option
@click.option("--prefix", default="", help="Only subjects that begin with it.")
def list_(out: Output, url: str, prefix: str) -> None:
    """List the subjects, each with its newest version and level.

    \b
    Examples:
      chimera registry list
      chimera registry list --prefix io.chimera.
    """
    with asking(url) as ask:
        rows = []
        for subject in ask("GET", "subjects", subjectPrefix=prefix):
            newest = ask("GET", versions_path(subject, "latest"))
            path = f"config/{quote(subject, safe='')}"
            level = ask("GET", path, defaultToGlobal="true")["compatibilityLevel"]
            rows.append({
                "subject": subject, "version": newest["version"], "id": newest["id"],
                "type": newest.get("schemaType", "AVRO"), "level": level,
            })  # fmt: skip

    def show() -> None:
        table = Table("subject", "version", "id", "type", "level", box=None)
        for row in rows:
            table.add_row(*map(str, row.values()))
        out.console.print(table)

    out.result({"subjects": rows}, show)


@command(of_a_swarm=False)
@url_option
@click.argument("subject")
@click.option("--version", default="latest", show_default=True, help="Number of the version.")
def show(out: Output, url: str, subject: str, version: str) -> None:
    """Show a schema.

    \b
    Examples:
      chimera registry show io.chimera.task.Command
      chimera registry show orders-value --version 2
    """
    with asking(url) as ask:
        found = ask("GET", versions_path(subject, quote(version, safe="")))
    schema = json.dumps(json.loads(found["schema"]), indent=2, ensure_ascii=False)
    out.note(f"{subject} version {found['version']}, id {found['id']}")
    out.result(found, lambda: out.console.print(schema, markup=False))


@command(of_a_swarm=False)
@url_option
@schema_options
@click.option("--version", default="", help="Against this version; else those that the level says.")
def check(
    out: Output, url: str, subject: str, file: Path, language: str | None, version: str
) -> None:
    """Say whether a schema may follow what is registered; exit code 4 if it may not.

    \b
    Examples:
      chimera registry check orders-value order.avsc
    """
    path = f"compatibility/{versions_path(subject, quote(version, safe=''))}"
    with asking(url) as ask:
        found = ask("POST", path, body(file, language), verbose="true")
    faults = found.get("messages") or ["the registry does not say why"]
    if not found["is_compatible"]:
        raise Incompatible("; ".join(faults), messages=faults)
    out.result(found, lambda: out.console.print("compatible"))


@command(of_a_swarm=False)
@url_option
@schema_options
def register(out: Output, url: str, subject: str, file: Path, language: str | None) -> None:
    """Register a schema as the subject's next version; one that is there already stays.

    \b
    Examples:
      chimera registry register orders-value order.avsc
      chimera registry register orders-value order.schema.json
    """
    schema = body(file, language)
    with asking(url) as ask:
        id = ask("POST", versions_path(subject), schema)["id"]
        version = ask("POST", f"subjects/{quote(subject, safe='')}", schema)["version"]
    told = {"subject": subject, "version": version, "id": id}
    out.result(told, lambda: out.console.print(f"{subject} version {version}, id {id}"))


for one in (list_, show, check, register):
    registry.add_command(one)
