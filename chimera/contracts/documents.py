"""docs/events.md and docs/asyncapi.yaml, made from the schemas: `python -m` this, in the root."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from chimera.contracts import cloudevents, schemas
from chimera.contracts.events import Event, kinds
from chimera.contracts.registry import OWN_LEVEL

ASYNCAPI = "3.1.0"
#: topic, without `chimera.SWARM.` → what the swarm does with it, and the events in it
CHANNELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "commands": ("receive", ("command", "command_frame")),
    "results": ("send", ("result",)),
    "dead-letters": ("send", ("dead_letter",)),
    "workers": ("send", ("worker_lifecycle",)),
    "leaders": ("send", ("leader_report",)),
    "regions": ("send", ("region_summary",)),
    "audit": ("send", ("audit",)),
}
_AVRO_FORMAT = "application/vnd.apache.avro+json;version=1.9.0"
_HEADERS = {
    "ce_specversion": "`1.0`",
    "ce_id": "unique in its source",
    "ce_source": "URI reference of the one who made it",
    "ce_type": "names the event and its major version",
    "ce_subject": "what it is about: a task's id, an actor's name",
    "ce_time": "when it was made, RFC 3339",
}
_REQUIRED = ("ce_specversion", "ce_id", "ce_source", "ce_type")
_INTRODUCTION = f"""\
# Events

What travels through the broker of a swarm that has one. Made from the schemas in
`chimera/contracts/schemas` by `python -m chimera.contracts.documents`; do not edit.
[asyncapi.yaml](asyncapi.yaml) says the same to programs.

A record is Avro in Confluent's wire format: a zero byte, the id of the schema (four bytes,
big-endian), the Avro. The subject in the registry is the record's full name (`RecordNameStrategy`).
The registry is served below `/registry` of the gateway, unless the spec names another one. Our
subjects are held to {OWN_LEVEL}: old readers read new records, and new readers old
ones, for ever. Whoever writes commands may do so by any version.

With each record go the attributes of CloudEvents 1.0: on Kafka as headers `ce_NAME` with
`content-type: {cloudevents.AVRO}`; on RabbitMQ as application properties `cloudEvents:NAME`
(`cloudEvents_NAME` is read too), with that content type.

| attribute | |
| --- | --- |
"""


def events_page() -> str:
    """The page for people."""
    rows = [f"| `{name.removeprefix('ce_')}` | {told} |" for name, told in _HEADERS.items()]
    rows += [f"| `{name}` | {told} |" for name, told in cloudevents.EXTENSIONS.items()]
    text = _INTRODUCTION + "\n".join(rows) + "\n"
    return text + "".join(_section(event, kind) for event, kind in _events())


def asyncapi() -> str:
    """The document for programs, in YAML."""
    text: str = yaml.dump(
        _document(), Dumper=_Plain, sort_keys=False, allow_unicode=True, width=100
    )
    return "# Made by `python -m chimera.contracts.documents`; do not edit.\n" + text


def _events() -> Iterator[tuple[str, type[Event]]]:
    """Every event, those in channels first."""
    listed = [event for _, events in CHANNELS.values() for event in events]
    for event in [*listed, *(one for one in kinds() if one not in listed)]:
        yield event, kinds()[event]


def _channel(event: str) -> str | None:
    return next((name for name, (_, events) in CHANNELS.items() if event in events), None)


def _section(event: str, kind: type[Event]) -> str:
    newest = schemas.newest(event)
    schema = newest.schema()
    channel = _channel(event)
    topic = f"topic `chimera.SWARM.{channel}`" if channel else "not published yet"
    lines = [
        f"\n## {schema['name']}\n",
        f"{schema['doc']}\n",
        f"CloudEvents type `{kind.ce_type}`, {topic}, subject `{newest.subject}`,\n"
        + f"version {newest.version}, id {newest.id} in a swarm's own registry.\n",
    ]
    inner = list(_inner(schema))
    for record in [schema, *inner]:
        if record is not schema:
            lines.append(f"`{record['name']}`: {record['doc']}\n")
        lines += ["| field | type | default | |", "| --- | --- | --- | --- |"]
        lines += [_row(field) for field in record["fields"]]
        lines.append("")
    return "\n".join(lines)


def _row(field: dict[str, Any]) -> str:
    default = f"`{json.dumps(field['default'])}`" if "default" in field else "required"
    return f"| `{field['name']}` | {_type(field['type'])} | {default} | {field['doc']} |"


def _type(schema: Any) -> str:
    if isinstance(schema, list):
        return " or ".join(_type(branch) for branch in schema)
    if isinstance(schema, str):
        return schema
    match schema["type"]:
        case "record":
            return f"`{schema['name']}`"
        case "array":
            return f"list of {_type(schema['items'])}"
        case "map":
            return f"map of {_type(schema['values'])}"
        case kind:
            return f"{kind} ({schema['logicalType']})" if "logicalType" in schema else str(kind)


def _inner(schema: Any) -> Iterator[Any]:
    """The records that are written out in a schema, itself aside."""
    if isinstance(schema, list):
        parts = schema
    elif isinstance(schema, dict):
        parts = [schema.get(key) for key in ("type", "items", "values")]
        parts += [field["type"] for field in schema.get("fields", ())]
    else:
        return
    for part in parts:
        if isinstance(part, dict) and part.get("type") == "record":
            yield part
        yield from _inner(part)


def _document() -> dict[str, Any]:
    return {
        "asyncapi": ASYNCAPI,
        "id": "urn:io:chimera",
        "info": {
            "title": "Events of a Chimera swarm",
            "version": "1.0.0",
            "description": "Tasks are asked for by commands; results, dead letters and what the "
            "tiers report can be read by anyone.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": cloudevents.AVRO,
        "servers": {
            "kafka": {"host": "localhost:9092", "protocol": "kafka"},
            "rabbitmq": {"host": "localhost:5672", "protocol": "amqp"},
        },
        "channels": {name: _channel_of(name) for name in CHANNELS},
        "operations": {f"{action}-{name}": _operation(name) for name, (action, _) in
                       CHANNELS.items()},
        "components": {
            "messages": {event: _message(event, kind) for event, kind in _events()},
            "messageTraits": {"cloudevent": {"headers": _headers()}},
        },
    }  # fmt: skip


def _channel_of(name: str) -> dict[str, Any]:
    _, events = CHANNELS[name]
    return {
        "address": f"chimera.{{swarm}}.{name}",
        "parameters": {"swarm": {"description": "Name of the swarm.", "default": "local"}},
        "messages": {event: {"$ref": f"#/components/messages/{event}"} for event in events},
    }


def _operation(name: str) -> dict[str, Any]:
    action, events = CHANNELS[name]
    does = "takes in" if action == "receive" else "publishes"
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": f"The swarm {does} these.",
        "messages": [{"$ref": f"#/channels/{name}/messages/{event}"} for event in events],
    }


def _message(event: str, kind: type[Event]) -> dict[str, Any]:
    newest = schemas.newest(event)
    schema = newest.schema()
    return {
        "name": kind.ce_type,
        "title": schema["name"],
        "summary": schema["doc"],
        "contentType": cloudevents.AVRO,
        "traits": [{"$ref": "#/components/messageTraits/cloudevent"}],
        "payload": {"schemaFormat": _AVRO_FORMAT, "schema": schema},
        "bindings": {
            "kafka": {
                "schemaIdLocation": "payload",
                "schemaIdPayloadEncoding": "confluent",
                "schemaLookupStrategy": "RecordNameStrategy",
                "bindingVersion": "0.5.0",
            }
        },
    }


def _headers() -> dict[str, Any]:
    told = {f"ce_{name}": text for name, text in cloudevents.EXTENSIONS.items()}
    return {
        "type": "object",
        "required": list(_REQUIRED),
        "properties": {
            name: {"type": "string", "description": text}
            for name, text in {**_HEADERS, **told}.items()
        },
    }


class _Plain(yaml.SafeDumper):
    """Writes what is the same twice twice: readers of the document need no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def main(home: Path = Path("docs")) -> None:
    """Write both documents."""
    (home / "events.md").write_text(events_page(), encoding="utf-8")
    (home / "asyncapi.yaml").write_text(asyncapi(), encoding="utf-8")


if __name__ == "__main__":
    main()
