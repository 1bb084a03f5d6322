"""A real swarm behind its gateway, shared by all tests of this directory."""

from __future__ import annotations

import pytest

from chimera.actors import boot
from chimera.config import make_spec
from chimera.serve import deployment
from tests.http.kit import DEADLINE_S, SWARM, Api


@pytest.fixture(scope="package")
def spec(tmp_path_factory, http_port):
    return make_spec(
        {
            "name": SWARM,
            "handlers": ["tests.swarm.client_handlers", "tests.http.handlers"],
            "data_dir": str(tmp_path_factory.mktemp("gateway")),
            "shards": 4,
            "http": {"port": http_port},
            "slos": [{"name": "done", "indicator": "success", "objective": 0.5, "window_s": 600}],
        }
    )


@pytest.fixture(scope="package")
def url(ray_cluster, spec):
    """Where the gateway listens."""
    boot.up(spec, timeout_s=DEADLINE_S)
    try:
        yield deployment.up(SWARM, spec.http)
    finally:
        deployment.down(SWARM)
        boot.down(SWARM)


@pytest.fixture
def api(url):
    return Api(url)
