"""compose.yaml has the stand-ins that the configurations name; Docker itself is not asked."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import yaml

from chimera.config import load_spec
from tests.style.sources import ROOT

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_kept_and_reached_from_this_machine_only(name: str) -> None:
    service = SERVICES[name]
    image, _, tag = service["image"].rpartition(":")
    assert image
    assert tag[:1].isdigit() or tag[:1] == "v", "an image without a version changes by itself"
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    kept = {volume.partition(":")[0] for volume in service["volumes"]}
    assert kept <= COMPOSE["volumes"].keys()
    assert set(service["profiles"]) <= {"kafka", "rabbitmq"}


@pytest.mark.parametrize("config", ["kafka", "rabbitmq"])
def test_a_configuration_finds_what_it_names(config: str) -> None:
    spec = load_spec(ROOT / f"configs/{config}.yaml")
    ports = {
        int(port.split(":")[1])
        for service in SERVICES.values()
        if config in service["profiles"]
        for port in service["ports"]
    }
    for url in (spec.bus, spec.store):
        assert urlsplit(url).port in ports
    user, database = urlsplit(spec.store).username, urlsplit(spec.store).path.strip("/")
    given = SERVICES["postgres"]["environment"]
    assert (user, database) == (given["POSTGRES_USER"], given["POSTGRES_DB"])
