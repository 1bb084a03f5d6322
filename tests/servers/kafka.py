"""A real Kafka (KRaft) from Maven Central's jars: one node, or three; plain, and TLS with SCRAM.

Each node has listeners for plain clients, for plain clients through a proxy, and for clients with
TLS and a user. Plain clients may do everything, users what access control lists allow.
"""

from __future__ import annotations

import base64
import secrets
import shutil
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.servers.certificates import Certificates, issue
from tests.servers.jars import jars, java
from tests.servers.processes import READY_S, Server, free_ports, run

VERSION = "4.4.0"
#: users with a password, and no rights but those that a test grants; `swarm` may do everything
USERS = {"leader": "leader-secret", "client": "client-secret", "swarm": "swarm-secret"}

_SETTINGS = """
process.roles=broker,controller
node.id={id}
controller.quorum.bootstrap.servers={quorum}
listeners=PLAINTEXT://127.0.0.1:{plain},PROXIED://127.0.0.1:{behind},SECURE://127.0.0.1:{secure},\
CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},PROXIED://127.0.0.1:{proxy},\
SECURE://127.0.0.1:{secure}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,\
SECURE:SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:ANONYMOUS;User:swarm
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor={copies}
min.insync.replicas={in_sync}
offsets.topic.num.partitions=4
offsets.topic.replication.factor={copies}
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=2
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_sync}
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=16777216
message.max.bytes=4000000
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms={beat}
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
controller.quorum.request.timeout.ms=1000
controller.quorum.election.backoff.max.ms=300
"""  # a killed node is back only after its own session has run out, hence the short one


def _uuid() -> str:
    """As Kafka writes them: 16 bytes; a leading - would be taken for an option."""
    while (text := base64.urlsafe_b64encode(secrets.token_bytes(16)).decode()[:22])[0] == "-":
        pass
    return text


def program() -> Path:
    """Where its jars are; skips where it cannot be run."""
    return jars(f"kafka-{VERSION}", [
        f"org.apache.kafka:kafka_2.13:{VERSION}", "org.slf4j:slf4j-simple:1.7.36",
    ])  # fmt: skip


class Kafka:
    """A cluster; its nodes can be killed and started again."""

    def __init__(self, directory: Path, nodes: int = 1) -> None:
        self._dir = directory
        self._jars = program()
        self.certificates: Certificates = issue(directory)
        ports = free_ports(5 * nodes)
        kinds = ("plain", "behind", "proxy", "secure", "controller")
        self._ports = [
            dict(zip(kinds, ports[5 * i : 5 * i + 5], strict=True)) for i in range(nodes)
        ]
        self.nodes = [self._node(i) for i in range(nodes)]

    @property
    def bootstrap(self) -> str:
        """Where plain clients connect: HOST:PORT, one a node."""
        return ",".join(f"127.0.0.1:{ports['plain']}" for ports in self._ports)

    @property
    def secure(self) -> str:
        """Where clients with TLS and a user connect."""
        return ",".join(f"127.0.0.1:{ports['secure']}" for ports in self._ports)

    @property
    def proxied(self) -> tuple[int, int]:
        """Ports of the first node's proxy: where it must listen, where it must lead."""
        return self._ports[0]["proxy"], self._ports[0]["behind"]

    def admin(self) -> AdminClient:
        """An administrator of the cluster."""
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 2})

    def set_password(self, user: str, password: str) -> None:
        """From now on; who is connected already stays so."""
        how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(user, how, password.encode())
        admin = self.admin()  # its answers end with it
        for future in admin.alter_user_scram_credentials([change]).values():
            future.result(READY_S)

    def start(self) -> None:
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait_ready()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()  # nothing is kept, and ending well takes seconds
        shutil.rmtree(self._dir, ignore_errors=True)

    def _node(self, index: int) -> Server:
        ports, count = self._ports[index], len(self._ports)
        name = f"kafka-{index + 1}"
        settings = self._dir / f"{name}.properties"
        quorum = ",".join(f"127.0.0.1:{one['controller']}" for one in self._ports)
        settings.write_text(
            _SETTINGS.format(
                id=index + 1, quorum=quorum, copies=count, in_sync=min(2, count),
                beat=500 if count == 1 else 300, data=self._dir / name, **ports,
                keystore=self.certificates.keystore, ca=self.certificates.ca,
            )
        )  # fmt: skip
        self._format(settings)
        address = {"bootstrap.servers": f"127.0.0.1:{ports['plain']}", "log_level": 0}

        def answers() -> bool:
            try:
                return len(AdminClient(address).list_topics(timeout=1).brokers) == count
            except KafkaException:
                return False

        return Server(name, java(self._jars, "kafka.Kafka", str(settings)), self._dir, answers)

    def _format(self, settings: Path) -> None:
        """Give a node's data directory its identity, and the cluster its users."""
        who = [f"SCRAM-SHA-512=[name={user},password={word}]" for user, word in USERS.items()]
        quorum = ["--standalone"]
        if len(self._ports) > 1:
            quorum = ["--initial-controllers", ",".join(
                f"{i + 1}@127.0.0.1:{ports['controller']}:{self._identity(i)}"
                for i, ports in enumerate(self._ports)
            )]  # fmt: skip
        run(
            java(self._jars, "kafka.tools.StorageTool", "format", "-t", self._identity(-1),
                 "-c", str(settings), *quorum, *(x for one in who for x in ("--add-scram", one))),
            self._dir,
        )  # fmt: skip

    def _identity(self, index: int) -> str:
        """The same random name each time it is asked for: of a node, or of the cluster (-1)."""
        path = self._dir / f"identity{index}"
        if not path.exists():
            path.write_text(_uuid())
        return path.read_text()
