"""A swarm whose GCS is killed and comes back: run as a process, with a Ray of its own.

Prints a line of JSON with what was seen. The GCS keeps its tables in an embedded RocksDB, so that
one started again with the same command line and environment goes on where the dead one stopped.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

DIRECTORY = tempfile.mkdtemp(prefix="ch", dir="/tmp")
os.environ["RAY_gcs_storage"] = "rocksdb"
os.environ["RAY_gcs_storage_path"] = f"{DIRECTORY}/gcs"
# a Ray process that finds no GCS for so long ends itself; 60 s unless told otherwise
os.environ["RAY_gcs_rpc_server_reconnect_timeout_s"] = "600"

import psutil  # noqa: E402  # Ray reads its settings when it is imported
import ray  # noqa: E402

import chimera  # noqa: E402
from chimera.actors import boot  # noqa: E402
from chimera.config import make_spec  # noqa: E402
from tests.guarantees.kit import HANDLERS, notes, until  # noqa: E402


def gcs() -> psutil.Process:
    """This Ray's GCS: a child of this process."""
    found = psutil.Process().children(recursive=True)
    return next(one for one in found if one.name() == "gcs_server")


def main(data_dir: Path) -> dict[str, Any]:
    context = ray.init(
        address="local", num_cpus=4, include_dashboard=False, object_store_memory=100_000_000,
        log_to_driver=False, namespace="chimera-head", _temp_dir=f"{DIRECTORY}/ray",
    )  # fmt: skip
    seen: dict[str, Any] = {"address": context.address_info["gcs_address"]}
    spec = make_spec({"name": "head", "handlers": [HANDLERS], "data_dir": str(data_dir)})
    boot.up(spec, timeout_s=120.0)
    client = chimera.connect("head")
    log = data_dir / "log"

    def work(count: int) -> list[str]:
        tasks = [client.submit("work", {"log": str(log), "n": n}) for n in range(count)]
        for task in tasks:
            task.result(timeout_s=60)
        return [task.id for task in tasks]

    done = work(50)
    _say("the GCS is killed")
    dead = gcs()
    command, environment = dead.cmdline(), dead.environ()
    os.kill(dead.pid, signal.SIGKILL)
    dead.wait(10)
    began = time.monotonic()
    done += work(200)
    seen["served_without_gcs_s"] = time.monotonic() - began
    _say("the GCS comes back")
    port = seen["address"].rpartition(":")[2]  # it had picked one
    option = "--gcs_server_port="
    command = [f"{option}{port}" if one.startswith(option) else one for one in command]
    again = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        began = time.monotonic()
        until(lambda: _is_whole(), 100.0)
        seen["ready_again_s"] = time.monotonic() - began
        _say("a worker is killed")
        former = _workers()
        os.kill(min(former), signal.SIGKILL)
        began = time.monotonic()
        until(lambda: len(_workers() - former) == 1 and _is_whole(), 100.0)
        seen["worker_made_again_s"] = time.monotonic() - began
        done += work(50)
        ran = [note.task_id for note in notes(log, "ran")]
        seen["ran_once"] = sorted(ran) == sorted(done)
        boot.down("head", timeout_s=60.0)
        seen["down"] = True
    finally:
        ray.shutdown()
        again.kill()
        again.wait(10)
    return seen


def _say(what: str) -> None:
    print(f"{time.strftime('%X')} {what}", file=sys.stderr, flush=True)


def _is_whole() -> bool:
    try:
        return boot.status("head", timeout_s=5.0).ready and len(_leaders()) == 2
    except chimera.ChimeraError:
        return False


def _leaders() -> list[str]:
    report = boot.status("head", timeout_s=5.0).regions["local"]
    return [one.leader for one in report.leaders if one.ready and one.shards]


def _workers() -> set[int]:
    """Processes of the workers."""
    report = boot.status("head", timeout_s=5.0).regions["local"]
    return {worker.process.pid for one in report.leaders for worker in one.workers}


if __name__ == "__main__":
    try:
        print(json.dumps(main(Path(sys.argv[1]))), flush=True)
    finally:
        shutil.rmtree(DIRECTORY, ignore_errors=True)
