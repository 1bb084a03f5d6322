"""The example on brokers, databases and object stores of others: the report is the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.servers.kafka import Kafka
from tests.servers.postgres import Postgres
from tests.servers.rabbitmq import RabbitMQ
from tests.style.sources import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(400)]

FILES = 120
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@pytest.fixture
def s3() -> Iterator[dict[str, str]]:
    """Environment of those who are to reach a bucket named `chimera`."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name=KEYS["AWS_REGION"],
        aws_access_key_id="key", aws_secret_access_key="secret",
    )  # fmt: skip
    client.create_bucket(Bucket="chimera")
    yield {**KEYS, "AWS_ENDPOINT": endpoint, "AWS_ALLOW_HTTP": "true"}
    server.stop()


def run(
    backends: dict[str, str], output: Path, strike: Callable[[], None], environment: dict[str, str]
) -> str:
    """What the job prints that is run without faults, and then once more with parts killed half
    way: the broker too."""
    options = [part for name, url in backends.items() for part in (f"--{name}", url)]
    job = subprocess.Popen(
        [sys.executable, "-m", "examples.stdlib_audit.main", "--chaos", "--limit", str(FILES),
         "--output", str(output), *options],
        cwd=ROOT, env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert job.stdout is not None
    told = []
    for line in job.stdout:
        told.append(line)
        if "kill -9" in line and "leader" in line:
            strike()
    assert job.wait(60) == 0, "".join(told)
    return "".join(told)


def test_on_kafka_postgresql_and_s3_with_the_broker_killed_half_way(
    kafka: Kafka, postgres: Postgres, s3: dict[str, str], tmp_path: Path
) -> None:
    struck = []

    def strike() -> None:
        kafka.nodes[0].kill()
        kafka.nodes[0].start()
        struck.append("broker")

    backends = {
        "bus": f"kafka://{kafka.bootstrap}",
        "store": postgres.database(),
        "objects": "s3://chimera",
    }
    told = run(backends, tmp_path, strike, s3)
    assert struck
    assert "The report is that of the run without faults, byte for byte." in told


def test_on_rabbitmq_and_postgresql_with_the_broker_killed_half_way(
    rabbitmq: RabbitMQ, postgres: Postgres, tmp_path: Path
) -> None:
    struck = []

    def strike() -> None:
        rabbitmq.kill()
        rabbitmq.start()
        struck.append("broker")

    backends = {"bus": rabbitmq.url, "store": postgres.database()}
    told = run(backends, tmp_path, strike, {})
    assert struck
    assert "The report is that of the run without faults, byte for byte." in told
