"""A real RabbitMQ, Debian's, as a private node: plain and TLS, users with rights of their own."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.servers.certificates import Certificates, issue
from tests.servers.processes import Server, free_ports, run, wait_until

#: not the wrapper in /usr/sbin, which wants to be the system's one RabbitMQ
_BIN = Path("/usr/lib/rabbitmq/bin")
NODE = "chimera@localhost"
ADMIN = ("admin", "admin-secret")
#: users with a password, and rights on what their pattern names: configure, write, read
USERS: Mapping[str, tuple[str, str, str, str]] = {
    "leader": ("leader-secret", "", r".*\.open.*", r".*\.open.*"),
    "swarm": ("swarm-secret", ".*", ".*", ".*"),
}

_SETTINGS = """
listeners.tcp.1 = 127.0.0.1:{plain}
listeners.ssl.1 = 127.0.0.1:{secure}
ssl_options.cacertfile = {ca}
ssl_options.certfile = {cert}
ssl_options.keyfile = {key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
loopback_users = none
load_definitions = {definitions}
log.console = false
"""


class RabbitMQ:
    """One node with its own name server; it can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        if not (_BIN / "rabbitmq-server").exists() or shutil.which("epmd") is None:
            pytest.skip("RabbitMQ (Debian's rabbitmq-server) is not installed")
        self._dir = directory
        self.certificates: Certificates = issue(directory)
        self.plain, self.secure, names, nodes = free_ports(4)
        (directory / "plugins").write_text("[].")
        (directory / "definitions.json").write_text(json.dumps(_definitions()))
        (directory / "rabbitmq.conf").write_text(
            _SETTINGS.format(
                plain=self.plain, secure=self.secure, ca=self.certificates.ca,
                cert=self.certificates.cert, key=self.certificates.key,
                definitions=directory / "definitions.json",
            )
        )  # fmt: skip
        self._env = {
            "HOME": str(directory),
            "ERL_EPMD_PORT": str(names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.plain),
            "RABBITMQ_DIST_PORT": str(nodes),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        epmd = ["epmd", "-port", str(names), "-address", "127.0.0.1"]
        # its own name server: else a shared one is left behind on the standard port
        self._epmd = Server("epmd", epmd, directory, lambda: _answers(names), self._env)
        self._node = Server(
            "rabbitmq", [str(_BIN / "rabbitmq-server")], directory, self._speaks, self._env
        )

    @property
    def url(self) -> str:
        """Of the administrator, without TLS."""
        user, password = ADMIN
        return f"amqp://{user}:{password}@127.0.0.1:{self.plain}"

    def start(self) -> None:
        if not self._epmd.is_running:
            self._epmd.start()
        self._node.start()

    def kill(self) -> None:
        """SIGKILL to the node; clients see their connections end.

        Which quorum queues a node holds is in a table that this version writes out every three
        minutes only: a queue younger than that would lose its log with the node (on a cluster it
        gets it back from the others). The tests' queues are young, so the table is written first.
        """
        self.control("eval", "[dets:sync(Table) || Table <- dets:all()].")
        self._node.kill()
        wait_until(lambda: not _answers(self.plain), "the killed node's port to close")

    def stop(self) -> None:
        self._node.kill()  # nothing is kept, and ending well takes seconds
        self._epmd.kill()
        shutil.rmtree(self._dir, ignore_errors=True)

    def control(self, *arguments: str) -> str:
        """`rabbitmqctl`: more than a second of CPU a call."""
        return run([str(_BIN / "rabbitmqctl"), "-q", "-n", NODE, *arguments], self._dir, self._env)

    def _speaks(self) -> bool:
        """Whether a client of the protocol is answered: the port opens before that."""
        try:
            with socket.create_connection(("127.0.0.1", self.plain), 1) as client:
                client.settimeout(2)
                client.sendall(b"AMQP\x00\x00\x09\x01")
                return client.recv(1) == b"\x01"  # a method frame: connection.start
        except OSError:
            return False


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


def _definitions() -> dict[str, object]:
    """Users and rights; `definitions` are read at each start."""
    users = [{"name": ADMIN[0], "password": ADMIN[1], "tags": "administrator"}]
    rights = [{"user": ADMIN[0], "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}]
    for name, (password, configure, write, read) in USERS.items():
        users.append({"name": name, "password": password, "tags": ""})
        rights.append(
            {"user": name, "vhost": "/", "configure": configure, "write": write, "read": read}
        )
    return {"vhosts": [{"name": "/"}], "users": users, "permissions": rights}
