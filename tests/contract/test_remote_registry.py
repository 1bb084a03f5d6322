"""The client of registries elsewhere: ids are remembered, faults told apart, breaks survived."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import UUID

import pytest

from chimera.contracts import Codec, schemas
from chimera.contracts.remote import RemoteRegistry
from chimera.errors import RegistryFault, Unavailable, UnknownSchema
from tests.contract.samples import EVENTS


@pytest.fixture
def remote(served):
    remote = RemoteRegistry(served.url)
    yield remote
    remote.close()


def test_a_codec_works_by_the_ids_of_the_other_registry(remote, served):
    served.registry.register("first", '"string"')
    ids = remote.publish_own()
    assert remote.publish_own() == ids
    assert min(ids.values()) > 1000, "they are the other registry's to give"
    codec = Codec(remote)
    for event in EVENTS:
        record = codec.encode_value(event)
        assert int.from_bytes(record[1:5], "big") == ids[event.name]
        assert Codec(RemoteRegistry(served.url)).decode(record) == event
    subject = schemas.newest("result").subject
    assert served.registry.call("level", subject=subject) == "FULL_TRANSITIVE"


def test_what_is_known_is_not_asked_for_again(remote, served):
    id = remote.register("s/1", '"string"')
    assert remote.schema(id) == '"string"'
    guid = UUID(served.registry.call("by_id", id=id)["guid"])
    assert remote.schema(guid) == '"string"'
    served.registry = None  # whatever is asked now fails
    assert remote.register("s/1", '"string"') == id
    assert remote.schema(id) == '"string"'


def test_faults_are_told_apart(remote, served):
    with pytest.raises(UnknownSchema):
        remote.schema(77)
    body = {"schema": '{"type": "string"}', "schemaType": "JSON"}
    id = served.registry.call("register", subject="j", body=body)["id"]
    with pytest.raises(UnknownSchema, match="is JSON, not Avro"):
        remote.schema(id)
    with pytest.raises(RegistryFault) as told:
        remote.register("s", "nonsense")
    assert told.value.error_code == 42201
    with pytest.raises(Unavailable, match="does not answer"):
        RemoteRegistry("http://127.0.0.1:9").schema(1)


class Moody(BaseHTTPRequestHandler):
    """Answers by a list: a status, or None to hang up."""

    moods: list[int | None]
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        mood = self.moods.pop(0)
        if mood is None:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        body = b'{"schema": "\\"int\\""}' if mood == 200 else b"<html>"
        self.send_response(mood)
        kind = "application/json" if mood == 200 else "text/html"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("moods", "outcome"),
    [
        ([None, 503, 200], '"int"'),
        ([503, 503, 503], Unavailable),
        ([404], UnknownSchema),
        ([401, 403, 200], '"int"'),
        ([400], Unavailable),
    ],
)
def test_a_registry_in_a_mood_is_asked_again(moods, outcome):
    handler = type("Once", (Moody,), {"moods": list(moods)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    remote = RemoteRegistry(f"http://127.0.0.1:{server.server_port}")
    try:
        if isinstance(outcome, str):
            assert remote.schema(1) == outcome
        else:
            with pytest.raises(outcome):
                remote.schema(1)
        assert handler.moods == []
    finally:
        remote.close()
        server.shutdown()
        server.server_close()
        thread.join()
