"""`/docs`: the OpenAPI document as a page that loads nothing from elsewhere."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

#: nothing from elsewhere
_POLICY = (
    "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)

router = APIRouter(include_in_schema=False)


@router.get("/docs", response_class=HTMLResponse)
@router.get("/", response_class=HTMLResponse)
async def page() -> HTMLResponse:
    """The page; it reads /openapi.json."""
    text = files("chimera.serve").joinpath("docs.html").read_text(encoding="utf-8")
    return HTMLResponse(text, headers={"Content-Security-Policy": _POLICY})
