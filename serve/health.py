"""Health: each check by name, with what it saw and since when; never true by default."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["health"])


@router.get("/livez", summary="Whether this replica answers")
async def livez() -> dict[str, str]:
    """It answers, so it is alive."""
    return {"status": "ok"}
