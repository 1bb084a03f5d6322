"""A registry somewhere else that speaks Confluent's REST API: another team's, or a gateway's."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

import httpx2
import stamina

from chimera.contracts import schemas
from chimera.contracts.registry import OWN_LEVEL
from chimera.errors import RegistryFault, Unavailable, UnknownSchema

#: for one answer, seconds
TIMEOUT_S = 10.0
#: tries of a question that got no answer; callers of ours go on, for longer and with longer waits
_TRIES = 3
_MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
#: what passes: the registry restarts, is too busy, its proxy does not reach it; or somebody has to
#: let us in, which is no fault of a record
_PASSING = (401, 403, 408, 429, 500, 502, 503, 504)
#: answers that are remembered
_CACHED_MAX = 1_000


class RemoteRegistry:
    """What a codec asks, over HTTP; ids are remembered, connections are made anew when they break.

    Safe to use from any thread. Every method raises Unavailable if the registry does not answer,
    RegistryFault for what it refuses.
    """

    def __init__(self, url: str) -> None:
        """`url` is the root of the API, with user and password if it wants them."""
        self._client = httpx2.Client(
            base_url=url.rstrip("/") + "/", timeout=TIMEOUT_S, headers={"Accept": _MEDIA_TYPE}
        )
        self._lock = threading.Lock()
        self._texts: dict[int | UUID, str] = {}
        self._ids: dict[tuple[str, str], int] = {}

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The answer to a request, e.g. `call("GET", "subjects")`."""
        for attempt in stamina.retry_context(
            Unavailable, attempts=_TRIES, timeout=None, wait_max=0.5, wait_jitter=0.2
        ):
            with attempt:
                return self._once(method, path, body, query)
        raise AssertionError("not reached")

    def register(self, subject: str, schema: str) -> int:
        """The id of an Avro schema, which is registered if it is new."""
        known = self._ids.get((subject, schema))
        if known is None:
            path = f"subjects/{quote(subject, safe='')}/versions"
            known = int(self.call("POST", path, {"schema": schema})["id"])
            self._keep(self._ids, (subject, schema), known)
        return known

    def schema(self, id: int | UUID) -> str:
        """The schema of an id or GUID. Raises UnknownSchema."""
        known = self._texts.get(id)
        if known is None:
            kind = "guids" if isinstance(id, UUID) else "ids"
            try:
                found = self.call("GET", f"schemas/{kind}/{id}")
            except RegistryFault as fault:
                if fault.status != 404:
                    raise Unavailable(fault.message) from fault
                raise UnknownSchema(f"no schema has the id {id}", id=str(id)) from fault
            if found.get("schemaType", "AVRO") != "AVRO":
                raise UnknownSchema(f"schema {id} is {found['schemaType']}, not Avro", id=str(id))
            known = str(found["schema"])
            self._keep(self._texts, id, known)
        return known

    def publish_own(self) -> dict[str, int]:
        """Register every version of our own events; returns the newest one's id by event."""
        found = {}
        for event, versions in schemas.published().items():
            subject = versions[-1].subject
            for one in versions:
                found[event] = self.register(subject, one.text)
                if one is versions[0]:  # there are registries that set no level before
                    path = f"config/{quote(subject, safe='')}"
                    self.call("PUT", path, {"compatibility": OWN_LEVEL})
        return found

    def _keep(self, cache: dict[Any, Any], key: Any, value: Any) -> None:
        with self._lock:
            if len(cache) >= _CACHED_MAX:
                cache.clear()
            cache[key] = value

    def _once(self, method: str, path: str, body: Any, query: dict[str, Any]) -> Any:
        try:
            answer = self._client.request(
                method, path, params=query or None, json=body,
                headers={} if body is None else {"Content-Type": _MEDIA_TYPE},
            )  # fmt: skip
        except httpx2.HTTPError as fault:
            told = str(fault) or type(fault).__name__
            raise Unavailable(f"the schema registry does not answer: {told}") from fault
        if answer.is_success:
            return _json(answer)
        told = f"the schema registry answers {answer.status_code} to {method} {path}"
        found = _json(answer) if "json" in answer.headers.get("content-type", "") else {}
        if isinstance(found, dict) and found.get("message"):
            told = str(found["message"])
        if answer.status_code in _PASSING:
            raise Unavailable(told)
        code = found.get("error_code") if isinstance(found, dict) else None
        raise RegistryFault(told, error_code=code or answer.status_code)


def shown(url: str) -> str:
    """A registry's URL without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _json(answer: httpx2.Response) -> Any:
    try:
        return answer.json()
    except ValueError as fault:
        raise Unavailable("what answers there is no schema registry") from fault
