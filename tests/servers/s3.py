"""Object stores that speak S3 over HTTP: moto's server, and versitygw where there is one.

versitygw checks credentials and keeps what it acknowledged through a crash, which moto does not. It
is built once a machine where Go is (a minute of two cores, through the module proxy), and kept
in the cache of servers; else one on the PATH is used. Debian's own Go is too old for it, so that a
machine without another tests S3 with moto only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from tests.servers.processes import Server, cache_dir, free_ports

KEY, SECRET, REGION = "key-of-tests", "secret-of-tests", "us-east-1"


#: since when `go` fetches a newer Go if a program wants one
_GO_MIN = (1, 21)
_PROGRAM = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"


def has_versitygw() -> bool:
    """Whether the program is here, or can be built."""
    return _built().exists() or shutil.which("versitygw") is not None or _can_build()


def versitygw() -> str:
    """Where the program is; builds it if need be, and skips if that fails."""
    found = _built()
    if not found.exists():
        if (there := shutil.which("versitygw")) is not None:
            return there
        with (found.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not found.exists():
                _build(found)
    return str(found)


def _built() -> Path:
    return cache_dir("versitygw") / "versitygw"


def _can_build() -> bool:
    if shutil.which("go") is None:
        return False
    told = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=False)
    match = re.match(r"go(\d+)\.(\d+)", told.stdout)
    return match is not None and (int(match[1]), int(match[2])) >= _GO_MIN


def _build(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        done = subprocess.run(
            # not optimised, by a compiler that seldom collects garbage: two thirds of the work
            ["go", "install", "-trimpath", "-ldflags=-s -w", "-gcflags=all=-N -l", _PROGRAM],
            env={
                **os.environ, "GOBIN": work, "CGO_ENABLED": "0", "GOFLAGS": "-modcacherw",
                "GOGC": "800",
            },
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"versitygw cannot be built: {done.stderr[-500:]}")
        (Path(work) / "versitygw").rename(target)  # whole or not at all


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
