"""A real Prometheus scrapes the gateway with our configuration; the queries of the docs answer."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import requests

from tests.servers.processes import free_ports

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 90.0


def queries() -> list[str]:
    """Those that the README shows."""
    text = (ROOT / "README.md").read_text()
    shown = re.search(r"Three queries:\n\n```promql\n(.*?)```", text, re.DOTALL)
    assert shown
    return shown[1].strip().splitlines()


@pytest.fixture
def prometheus(api, tmp_path):
    """A server with our configuration, the gateway's port and its patience aside."""
    if shutil.which("prometheus") is None:
        pytest.skip("there is no prometheus: apt-get install prometheus")
    config = ROOT / "configs" / "prometheus.yml"
    subprocess.run(["promtool", "check", "config", config], check=True, capture_output=True)
    text = config.read_text().replace("127.0.0.1:8000", api.url.removeprefix("http://"))
    (tmp_path / "prometheus.yml").write_text(text.replace("interval: 5s", "interval: 1s"))
    where = f"127.0.0.1:{free_ports(1)[0]}"
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            ["prometheus", f"--config.file={tmp_path}/prometheus.yml",
             f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address={where}"],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield f"http://{where}"
    finally:
        server.terminate()
        server.wait(30)


def test_the_queries_of_the_documentation_answer(api, prometheus):
    assert len(queries()) == 3
    open_ = set(queries())
    end = time.monotonic() + PATIENCE_S
    while open_:
        assert time.monotonic() < end, open_
        api.submit(1)
        for query in tuple(open_):
            try:
                found = requests.get(f"{prometheus}/api/v1/query", {"query": query}, timeout=10)
            except requests.ConnectionError:
                continue  # it is starting
            if found.status_code == 503:
                continue  # the same
            assert found.status_code == 200, found.text
            values = [float(one["value"][1]) for one in found.json()["data"]["result"]]
            # of a rate it takes two looks with something between them
            if values and not math.isnan(values[0]) and ("rate" not in query or values[0] > 0):
                open_.discard(query)
