"""What a gateway answers, for tests of the client over HTTP."""

from __future__ import annotations

import json

import httpx2

ID = "4a57e9c5-2fe0-8fd5-b400-{:012x}"
URL = "http://gateway"


def view(number: int = 0, **members) -> dict:
    return {"id": ID.format(number), "type": "echo", "tenant": "default", "state": "queued",
            "url": "", **members}  # fmt: skip


def problem(status: int, code: str, **members) -> httpx2.Response:
    headers = {"Retry-After": str(members.pop("after", 0))}
    body = {"code": code, "detail": f"it is {code}", "status": status, **members}
    return httpx2.Response(status, json=body, headers=headers)


def lines_of(request: httpx2.Request) -> list[dict]:
    return [json.loads(one) for one in request.content.splitlines()]


def accept(request: httpx2.Request) -> httpx2.Response:
    """Accept each line, out of order; ids tell the payloads."""
    told = [{"line": at, "id": ID.format(one["payload"])}
            for at, one in enumerate(lines_of(request), 1)]  # fmt: skip
    text = "".join(json.dumps(one) + "\n" for one in [*reversed(told), {"done": True}])
    return httpx2.Response(200, text=text)


def told(*lines: dict, cut: bool = False) -> httpx2.Response:
    """The answer to a bulk; whole, unless it was cut off."""
    end = [] if cut else [{"done": True, "lines": len(lines)}]
    return httpx2.Response(200, text="".join(json.dumps(one) + "\n" for one in [*lines, *end]))


def no(line: int, code: str, status: int, **members) -> dict:
    """A line of the answer that refuses one."""
    return {"line": line, "error": {"code": code, "status": status, **members}}
