"""Where a swarm's schemas are: in its own control store, or in another team's registry."""

from __future__ import annotations

import logging
import threading
from typing import Any
from uuid import UUID

from chimera import names
from chimera.actors.cluster import Cluster
from chimera.contracts.codec import Schemas
from chimera.contracts.own import OwnSchemas
from chimera.contracts.registry import Log, Registry
from chimera.contracts.remote import RemoteRegistry, shown
from chimera.errors import ChimeraError, RegistryFault, Unavailable, UnknownSchema

_log = logging.getLogger(__name__)

#: for the orchestrator to say what schema an id has, seconds
ASK_S = 5.0
#: between two tries to publish our own schemas, seconds
AGAIN_S = 5.0


def known_to(swarm: str, registry: str) -> Schemas:
    """What an actor's codec asks: the registry at a URL, or (empty) the swarm's own."""
    if registry:
        return RemoteRegistry(registry)
    cluster = Cluster(names.namespace(swarm))
    return OwnSchemas(lambda id: _found(cluster, id))


def _found(cluster: Cluster, id: int | UUID) -> str:
    """A schema that is none of ours, from the orchestrator. Raises UnknownSchema, Unavailable."""
    handle = cluster.find(names.ORCHESTRATOR)
    if handle is None:
        raise Unavailable("the orchestrator, which has the schemas, is not there just now")
    op, given = ("by_guid", {"guid": str(id)}) if isinstance(id, UUID) else ("by_id", {"id": id})
    try:
        answer = cluster.call(handle.registry.remote(op, given), ASK_S)
    except ChimeraError as fault:
        if isinstance(fault, RegistryFault) and fault.status == 404:
            raise UnknownSchema(f"no schema has the id {id}", id=str(id)) from fault
        # whatever else is wrong is wrong with us: no record is given up for it
        raise Unavailable(f"the schema of id {id} cannot be had: {fault.message}") from fault
    if answer.get("schemaType", "AVRO") != "AVRO":
        raise UnknownSchema(f"schema {id} is {answer['schemaType']}, not Avro", id=str(id))
    return str(answer["schema"])


class SchemaHome:
    """The orchestrator's part: it serves the swarm's own registry, or publishes to another one."""

    def __init__(self, log: Log, url: str) -> None:
        """Publish our own schemas: to our log at once, to `url` as soon as it answers."""
        self._url = url
        self._own = Registry(log)
        if url:
            threading.Thread(target=self._publish, name="schemas", daemon=True).start()
        else:
            self._own.publish_own()

    def call(self, op: str, arguments: dict[str, Any]) -> Any:
        """Carry out an operation of the registry. Raises RegistryFault if it is elsewhere."""
        if self._url:
            raise RegistryFault(f"this swarm's registry is {shown(self._url)}", error_code=404)
        return self._own.call(op, **arguments)

    def _publish(self) -> None:
        remote, pause = RemoteRegistry(self._url), threading.Event()
        while True:
            try:
                remote.publish_own()
            except ChimeraError as fault:
                _log.warning("our schemas are not in %s yet: %s", shown(self._url), fault.message)
                pause.wait(AGAIN_S)
            else:
                remote.close()
                return
