"""A region in a Ray cluster of its own: run as a process, in a network namespace if there is one.

Its input is a line of JSON: `spec`, `region`, and `bridge`, HOST:PORT at which the region's link
can be reached from outside of the namespace; and `reach`, pairs of a port and the host outside at
which what is behind that port can be reached from within. It says `ready`, and ends with its input.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import sys
import tempfile
import threading
from typing import Any

READ = 65536


def relay(listen: tuple[str, int], target: tuple[str, int]) -> socket.socket:
    """Pass TCP connections on, as a tunnel does; close what it returns to end it."""
    server = socket.create_server(listen)
    threading.Thread(target=_accept, args=(server, target), daemon=True).start()
    return server


def _accept(server: socket.socket, target: tuple[str, int]) -> None:
    while True:
        try:
            near, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_connect, args=(near, target), daemon=True).start()


def _connect(near: socket.socket, target: tuple[str, int]) -> None:
    try:
        far = socket.create_connection(target, timeout=2.0)
    except OSError:
        near.close()
        return
    far.settimeout(None)
    threading.Thread(target=_copy, args=(near, far), daemon=True).start()
    _copy(far, near)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(READ):
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


def main(order: dict[str, Any]) -> None:
    import ray

    from chimera.actors import boot
    from chimera.actors.cluster import Cluster
    from chimera.names import loopback, namespace
    from chimera.swarm.spec import from_dict

    spec = from_dict(order["spec"])
    if order.get("bridge"):
        host, _, port = order["bridge"].rpartition(":")
        relay((host, int(port)), loopback(spec.region(order["region"]).link))
    for port, host in order.get("reach", ()):
        relay(("127.0.0.1", port), (host, port))
    directory = tempfile.mkdtemp(prefix="cf", dir="/tmp")
    ray.init(
        address="local", num_cpus=4, include_dashboard=False, object_store_memory=100_000_000,
        log_to_driver=False, namespace=namespace(spec.name), _temp_dir=directory,
    )  # fmt: skip
    try:
        boot.up_region(spec, order["region"], timeout_s=120.0)
        print("ready", flush=True)
        for line in sys.stdin:
            if line.strip() == "names":
                print(json.dumps(Cluster(namespace(spec.name)).names()), flush=True)
    finally:
        ray.shutdown()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(json.loads(sys.stdin.readline()))
