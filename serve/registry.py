"""`/registry`: the schema registry, by the REST API of Confluent's, for clients that know that one.

It is an application of its own, since its errors and its media type are others than ours. Subjects
are taken from the path as it was sent, so that one with a slash (`%2F`) is one segment. What is
asked of a context (`/contexts/:.NAME:/subjects/…`) is asked of subjects named `:.NAME:…`.
https://docs.confluent.io/platform/current/schema-registry/develop/api.html
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeAlias
from urllib.parse import quote, unquote

from fastapi import APIRouter, Body, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from chimera.errors import ChimeraError, RegistryFault, Unavailable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
#: carries out an operation of `chimera.contracts.registry.Registry.call`
Ask: TypeAlias = Callable[[str, dict[str, Any]], Awaitable[Any]]

_CONTEXT = re.compile(r"/contexts/(?:%3A|:)?(\.?[^/:%]*)(?:%3A|:)?(/.*)\Z", re.IGNORECASE)
#: paths that name a subject, up to its name; and those that list subjects
_NAMING = re.compile(r"/(?:compatibility/)?(?:subjects|config|mode)/(?=.)")
_LISTING = ("/subjects", "/schemas")

router = APIRouter()


class Answer(JSONResponse):
    """JSON as the registry's clients expect it."""

    media_type = MEDIA_TYPE


def build(ask: Ask) -> ASGIApp:
    """The application, in front of whoever carries out what is asked."""
    app = FastAPI(
        title="Schema registry", default_response_class=Answer, redirect_slashes=False,
        docs_url=None, redoc_url=None,
    )  # fmt: skip
    app.state.ask = ask
    app.include_router(router)
    _install(app)
    return _RawPaths(app)


def _refusal(status: int, code: int, message: str, headers: dict[str, str] | None = None) -> Answer:
    return Answer({"error_code": code, "message": message}, status, headers)


def _install(app: FastAPI) -> None:
    @app.exception_handler(ChimeraError)
    async def _ours(request: Request, fault: ChimeraError) -> Response:
        if isinstance(fault, RegistryFault):
            return _refusal(fault.status, fault.error_code, fault.message)
        if isinstance(fault, Unavailable):
            headers = {"Retry-After": str(max(1, math.ceil(fault.retry_after)))}
            return _refusal(503, 50003, fault.message, headers)
        log.error("%s %s", request.method, request.url.path, exc_info=fault)
        return _refusal(500, 50001, fault.message)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, fault: RequestValidationError) -> Response:
        first = fault.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "json_invalid":
            return _refusal(400, 400, f"the body is no JSON: {first['msg']}")
        return _refusal(422, 422, f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def _plain(_: Request, fault: HTTPException) -> Response:
        told = f"HTTP {fault.status_code} {fault.detail}"
        return _refusal(fault.status_code, fault.status_code, told, dict(fault.headers or {}))

    @app.exception_handler(Exception)
    async def _bug(request: Request, fault: Exception) -> Response:
        log.error("%s %s", request.method, request.url.path, exc_info=fault)
        return _refusal(500, 50001, "an error of the registry: its log says more")


class _RawPaths:
    """Has paths matched as they were sent, those of contexts as those of their subjects."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raw = scope.get("raw_path") or quote(scope["path"]).encode()
            path, query = raw.decode("latin-1").partition("?")[0], scope["query_string"]
            root = scope.get("root_path", "")
            match = _CONTEXT.match(path, len(root))
            if match:
                path, query = _in_context(match[1], match[2], query)
                path = root + path
            scope = {**scope, "path": path, "query_string": query}
        await self._app(scope, receive, send)


def _in_context(context: str, path: str, query: bytes) -> tuple[str, bytes]:
    prefix = "" if context in ("", ".") else quote(f":.{context.removeprefix('.')}:", safe="")
    if naming := _NAMING.match(path):
        path = naming[0] + prefix + path[naming.end() :]
    elif path in _LISTING and prefix and b"subjectPrefix=" not in query:
        query = query + b"&" * bool(query) + b"subjectPrefix=" + prefix.encode()
    return path, query


def _asker(request: Request) -> Ask:
    found: Ask = request.app.state.ask
    return found


AskDep = Annotated[Ask, Depends(_asker)]
Subject = Annotated[str, AfterValidator(unquote)]
Sent = Annotated[dict[str, Any], Body()]
Prefix = Annotated[str, Query(alias="subjectPrefix")]
Only = Annotated[bool, Query(alias="deletedOnly")]
Latest = Annotated[bool, Query(alias="latestOnly")]
Default = Annotated[bool, Query(alias="defaultToGlobal")]
Texts = Annotated[list[str] | None, Query()]


class Page:
    """Which part of a list is wanted."""

    def __init__(self, offset: Annotated[int, Query(ge=0)] = 0, limit: int = -1) -> None:
        self._part = slice(offset, None if limit < 0 else offset + limit)

    def of(self, found: Sequence[Any]) -> Sequence[Any]:
        """That part."""
        return found[self._part]


PageDep = Annotated[Page, Depends(Page)]


@router.get("/")
async def root() -> Any:
    return {}


# -- schemas -----------------------------------------------------------------------------------


@router.get("/schemas/types")
async def types(ask: AskDep) -> Any:
    return await ask("types", {})


@router.get("/schemas")
async def every(
    ask: AskDep, page: PageDep, prefix: Prefix = ":*:", deleted: bool = False,
    latest: Latest = False,
) -> Any:  # fmt: skip
    found = await ask("every", {"prefix": prefix, "deleted": deleted, "latest": latest})
    return page.of(found)


@router.get("/schemas/ids/{id}")
async def by_id(ask: AskDep, id: int) -> Any:
    return await ask("by_id", {"id": id})


@router.get("/schemas/ids/{id}/schema")
async def text_by_id(ask: AskDep, id: int) -> Any:
    found = await ask("by_id", {"id": id})
    return Response(found["schema"], media_type=MEDIA_TYPE)


@router.get("/schemas/ids/{id}/subjects")
async def subjects_of(
    ask: AskDep, page: PageDep, id: int, subject: str = "", deleted: bool = False
) -> Any:
    found = await ask("versions_of", {"id": id, "subject": subject, "deleted": deleted})
    return page.of(sorted({one["subject"] for one in found}))


@router.get("/schemas/ids/{id}/versions")
async def versions_of(
    ask: AskDep, page: PageDep, id: int, subject: str = "", deleted: bool = False
) -> Any:
    return page.of(await ask("versions_of", {"id": id, "subject": subject, "deleted": deleted}))


@router.get("/schemas/guids/{guid}")
async def by_guid(ask: AskDep, guid: str) -> Any:
    return await ask("by_guid", {"guid": guid})


@router.get("/schemas/guids/{guid}/ids")
async def ids_of(ask: AskDep, guid: str) -> Any:
    found = await ask("by_guid", {"guid": guid})
    return [{"context": ".", "id": found["id"]}]


@router.get("/contexts")
async def contexts(ask: AskDep, page: PageDep) -> Any:
    return page.of(await ask("contexts", {}))


# -- subjects ----------------------------------------------------------------------------------


@router.get("/subjects")
async def subjects(
    ask: AskDep, page: PageDep, prefix: Prefix = ":*:", deleted: bool = False,
    only: Only = False,
) -> Any:  # fmt: skip
    given = {"prefix": prefix, "deleted": deleted, "only": only}
    return page.of(await ask("subjects", given))


@router.post("/subjects/{subject}")
async def lookup(
    ask: AskDep, subject: Subject, body: Sent, normalize: bool = False, deleted: bool = False
) -> Any:
    given = {"subject": subject, "body": body, "normalize": normalize, "deleted": deleted}
    return await ask("lookup", given)


@router.delete("/subjects/{subject}")
async def delete_subject(ask: AskDep, subject: Subject, permanent: bool = False) -> Any:
    return await ask("delete_subject", {"subject": subject, "permanent": permanent})


@router.get("/subjects/{subject}/metadata")
async def with_metadata(
    ask: AskDep, subject: Subject, key: Texts = None,
    value: Texts = None, deleted: bool = False,
) -> Any:  # fmt: skip
    # Confluent's client quotes them once more than the query needs
    wanted = dict(zip(map(unquote, key or ()), map(unquote, value or ()), strict=False))
    return await ask("with_metadata", {"subject": subject, "wanted": wanted, "deleted": deleted})


@router.get("/subjects/{subject}/versions")
async def versions(
    ask: AskDep, page: PageDep, subject: Subject, deleted: bool = False,
    only: Only = False,
) -> Any:  # fmt: skip
    given = {"subject": subject, "deleted": deleted, "only": only}
    return page.of(await ask("versions", given))


@router.post("/subjects/{subject}/versions")
async def register(ask: AskDep, subject: Subject, body: Sent, normalize: bool = False) -> Any:
    return await ask("register", {"subject": subject, "body": body, "normalize": normalize})


@router.get("/subjects/{subject}/versions/{version}")
async def version(ask: AskDep, subject: Subject, version: str, deleted: bool = False) -> Any:
    return await ask("version", {"subject": subject, "version": version, "deleted": deleted})


@router.delete("/subjects/{subject}/versions/{version}")
async def delete_version(
    ask: AskDep, subject: Subject, version: str, permanent: bool = False
) -> Any:
    given = {"subject": subject, "version": version, "permanent": permanent}
    return await ask("delete_version", given)


@router.get("/subjects/{subject}/versions/{version}/schema")
async def text(ask: AskDep, subject: Subject, version: str, deleted: bool = False) -> Any:
    given = {"subject": subject, "version": version, "deleted": deleted}
    found = await ask("version", given)
    return Response(found["schema"], media_type=MEDIA_TYPE)


@router.get("/subjects/{subject}/versions/{version}/referencedby")
async def referenced_by(ask: AskDep, page: PageDep, subject: Subject, version: str) -> Any:
    return page.of(await ask("referenced_by", {"subject": subject, "version": version}))


# -- compatibility, levels and modes -----------------------------------------------------------


@router.post("/compatibility/subjects/{subject}/versions")
async def check_all(
    ask: AskDep, subject: Subject, body: Sent, normalize: bool = False, verbose: bool = False
) -> Any:
    given = {"subject": subject, "version": "", "body": body}
    return await ask("check", {**given, "normalize": normalize, "verbose": verbose})


@router.post("/compatibility/subjects/{subject}/versions/{version}")
async def check(
    ask: AskDep, subject: Subject, version: str, body: Sent, normalize: bool = False,
    verbose: bool = False,
) -> Any:  # fmt: skip
    given = {"subject": subject, "version": version, "body": body}
    return await ask("check", {**given, "normalize": normalize, "verbose": verbose})


@router.get("/config")
@router.get("/config/{subject}")
async def level(
    ask: AskDep, subject: Subject = "", default: Default = False
) -> Any:  # fmt: skip
    given = {"subject": subject, "default": default}
    return {"compatibilityLevel": await ask("level", given)}


@router.put("/config")
@router.put("/config/{subject}")
async def set_level(ask: AskDep, body: Sent, subject: Subject = "") -> Any:
    if others := sorted(body.keys() - {"compatibility"}):
        raise RegistryFault(f"this registry has no setting {others[0]!r}", error_code=422)
    given = {"subject": subject, "level": body.get("compatibility")}
    return {"compatibility": await ask("set_level", given)}


@router.delete("/config")
@router.delete("/config/{subject}")
async def unset_level(ask: AskDep, subject: Subject = "") -> Any:
    return {"compatibilityLevel": await ask("unset_level", {"subject": subject})}


@router.get("/mode")
@router.get("/mode/{subject}")
async def mode(
    ask: AskDep, subject: Subject = "", default: Default = False
) -> Any:  # fmt: skip
    return {"mode": await ask("mode", {"subject": subject, "default": default})}


@router.put("/mode")
@router.put("/mode/{subject}")
async def set_mode(ask: AskDep, body: Sent, subject: Subject = "", force: bool = False) -> Any:
    given = {"subject": subject, "mode": body.get("mode"), "force": force}
    return {"mode": await ask("set_mode", given)}


@router.delete("/mode")
@router.delete("/mode/{subject}")
async def unset_mode(ask: AskDep, subject: Subject = "") -> Any:
    return {"mode": await ask("unset_mode", {"subject": subject})}
