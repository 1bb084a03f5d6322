"""Object stores that speak S3 over HTTP: moto's server, and versitygw where there is one.

versitygw checks credentials and keeps what it acknowledged through a crash, which moto does not; to
build it takes some minutes of CPU (`go install github.com/versity/versitygw/cmd/versitygw@v1.8.0`),
so that it is tested against where it is found: in the cache of servers, or on the PATH.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

from tests.servers.processes import Server, cache_dir, free_ports

KEY, SECRET, REGION = "key-of-tests", "secret-of-tests", "us-east-1"


def versitygw() -> str | None:
    """Where the program is."""
    cached = cache_dir("versitygw") / "versitygw"
    return str(cached) if cached.exists() else shutil.which("versitygw")


@dataclass(frozen=True)
class S3:
    """A store that runs."""

    endpoint: str
    server: Server | None = None  #: that can be killed and started again

    def environment(self, secret: str = SECRET) -> dict[str, str]:
        """The variables by which clients find it."""
        return {
            "AWS_ENDPOINT": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": REGION,
            "AWS_ALLOW_HTTP": "true",
        }

    def bucket(self, name: str) -> str:
        """The URL of a new bucket."""
        self._client().create_bucket(Bucket=name)
        return f"s3://{name}/objects"

    def overwrite(self, bucket: str, name: str, body: bytes) -> None:
        self._client().put_object(Bucket=bucket, Key=f"objects/{name}", Body=body)

    def _client(self):
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 8}),
        )


@contextlib.contextmanager
def moto() -> Iterator[S3]:
    """Moto's, in this process: it takes any credentials."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3(f"http://{host}:{port}")
    finally:
        server.stop()


@contextlib.contextmanager
def gateway(program: str, home: Path) -> Iterator[S3]:
    """A versitygw that keeps objects as files."""
    (port,) = free_ports(1)
    for name in ("iam", "data"):
        (home / name).mkdir()
    endpoint = f"http://127.0.0.1:{port}"
    command = [
        program, "--port", f"127.0.0.1:{port}", "--quiet", "--health", "/healthz", "--iam-dir",
        str(home / "iam"), "posix", str(home / "data"),
    ]  # fmt: skip

    def answers() -> bool:
        import httpx2

        with contextlib.suppress(httpx2.HTTPError):
            return httpx2.get(f"{endpoint}/healthz").status_code == 200
        return False

    secrets = {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
    server = Server("versitygw", command, home, answers, secrets)
    server.start()
    try:
        yield S3(endpoint, server)
    finally:
        server.kill()
