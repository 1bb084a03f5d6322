"""The page at /docs in a real Chromium, without a swarm and without a network."""

from __future__ import annotations

import re
import shutil
import socket
import threading

import pytest
import uvicorn
from playwright.sync_api import expect, sync_playwright

from chimera.serve.app import build
from chimera.serve.gateway import Gateway

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip


@pytest.fixture(scope="module")
def url():
    """The application, served without a swarm behind it."""
    config = uvicorn.Config(build(Gateway("none")), lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_playwright() as player:
        found = player.chromium.launch(executable_path=path, args=FLAGS)
        yield found
        found.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_tells_every_operation_and_asks_nobody_else(url, browser, width, tmp_path):
    page = browser.new_page(viewport={"width": width, "height": 900})
    asked, faults = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.goto(url + "/docs")
    submit = page.locator("details", has_text="Submit a task").first
    submit.locator("summary").click()
    expect(submit).to_contain_text("Idempotency-Key", ignore_case=True)
    expect(submit).to_contain_text('"payload"')
    document = page.request.get(url + "/openapi.json").json()
    operations = sum(map(len, document["paths"].values()))
    expect(page.locator("details")).to_have_count(operations)
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("Chimera"))
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert all(one.startswith((url, "data:")) for one in asked), asked
    assert not faults
    page.screenshot(path=tmp_path / f"docs-{width}.png", full_page=False)
    page.close()
