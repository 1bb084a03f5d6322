"""Brokers that want to know who asks: TLS, users, rights; refusals are clear errors, not waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from chimera import errors
from chimera.bus.connect import connect
from chimera.bus.protocol import Bus, Kind, Record, Topic
from chimera.cli.backends import look_at_bus
from chimera.config import make_spec
from tests.servers import kafka as kafka_server
from tests.servers import rabbitmq as rabbitmq_server
from tests.servers.kafka import Kafka
from tests.servers.processes import free_ports, wait_until
from tests.servers.rabbitmq import RabbitMQ

GROUP = "leaders"
SOON_S = 60.0
OPEN = Topic("chimera.open.commands", 2, Kind.COMMANDS, (GROUP,))
CLOSED = Topic("chimera.closed.commands", 1, Kind.COMMANDS, (GROUP,))

Connect = Callable[[str], Bus]


@pytest.fixture
def connected() -> Iterator[Connect]:
    opened: list[Bus] = []

    def open_bus(url: str) -> Bus:
        opened.append(connect(url))
        return opened[-1]

    yield open_bus
    for bus in opened:
        bus.close(1)


def allow(server: Kafka, user: str, topic: Topic) -> None:
    """What a leader may do with a topic, and with its group."""
    rules = [
        (ResourceType.TOPIC, topic.name, AclOperation.READ),
        (ResourceType.TOPIC, topic.name, AclOperation.WRITE),
        (ResourceType.GROUP, f"{topic.name}.{GROUP}", AclOperation.READ),
    ]
    bindings = [
        AclBinding(kind, name, ResourcePatternType.LITERAL, f"User:{user}", "*", operation,
                   AclPermissionType.ALLOW)
        for kind, name, operation in rules
    ]  # fmt: skip
    admin = server.admin()  # its answers end with it
    for future in admin.create_acls(bindings).values():
        future.result(SOON_S)


@pytest.fixture(scope="module")
def secured_kafka(kafka: Kafka) -> Kafka:
    bus = connect(f"kafka://{kafka.bootstrap}")
    bus.provision([OPEN, CLOSED], SOON_S)
    bus.close(5)
    allow(kafka, "leader", OPEN)
    return kafka


@pytest.fixture(scope="module")
def secured_rabbitmq(rabbitmq: RabbitMQ) -> RabbitMQ:
    bus = connect(rabbitmq.url)
    bus.provision([OPEN, CLOSED], SOON_S)
    bus.close(5)
    return rabbitmq


def kafka_url(server: Kafka, user: str, password: str, ca: str = "") -> str:
    ca = ca or str(server.certificates.ca)
    return f"kafka+ssl://{user}:{quote(password)}@{server.secure}?ca={ca}"


def rabbit_url(server: RabbitMQ, user: str, password: str, ca: str = "") -> str:
    ca = ca or str(server.certificates.ca)
    return f"amqps://{user}:{quote(password)}@127.0.0.1:{server.secure}?ca={ca}"


def works(bus: Bus) -> None:
    """Records go through, both ways."""
    assert bus.publish([Record(OPEN.name, 1, b"a")], SOON_S) == [None]
    subscription = bus.subscribe(OPEN, GROUP)
    (got,) = subscription.fetch(1, 1000, SOON_S)
    assert (got.partition, got.value) == (1, b"a")
    subscription.ack([got])


def is_refused(bus: Bus, topic: Topic, secret: str) -> None:
    """Publishing and fetching say that we are refused, long before their deadlines."""
    answers = bus.publish([Record(topic.name, 0, b"a")], SOON_S)
    assert isinstance(answers[0], errors.BusUnauthorized)
    with pytest.raises(errors.BusUnauthorized) as fetched:
        bus.subscribe(topic, GROUP).fetch(1, 1000, 2.0)
    for said in (answers[0].message, fetched.value.message):
        assert secret not in said


def is_refused_an_answer(bus: Bus, topic: Topic) -> None:
    """RabbitMQ tells every user of a virtual host how long a queue is; the rest is refused."""
    with pytest.raises(errors.BusUnauthorized):
        bus.lag(topic, GROUP, 2.0)


WRONG = "no-such-password"


def test_kafka_with_tls_and_scram_works(secured_kafka: Kafka, connected: Connect):
    works(connected(kafka_url(secured_kafka, "leader", kafka_server.USERS["leader"])))


def test_kafka_refuses_a_wrong_password(secured_kafka: Kafka, connected: Connect):
    bus = connected(kafka_url(secured_kafka, "leader", WRONG))
    is_refused(bus, OPEN, WRONG)
    is_refused_an_answer(bus, OPEN)


def test_kafka_of_another_authority_is_not_trusted(secured_kafka: Kafka, connected: Connect):
    ca = str(secured_kafka.certificates.foreign_ca)
    word = kafka_server.USERS["leader"]
    is_refused(connected(kafka_url(secured_kafka, "leader", word, ca)), OPEN, word)


def test_kafka_refuses_what_no_rule_allows(secured_kafka: Kafka, connected: Connect):
    word = kafka_server.USERS["leader"]
    bus = connected(kafka_url(secured_kafka, "leader", word))
    is_refused(bus, CLOSED, word)
    is_refused_an_answer(bus, CLOSED)
    works(bus)


def test_a_right_that_is_granted_later_is_noticed(secured_kafka: Kafka, connected: Connect):
    bus = connected(kafka_url(secured_kafka, "client", kafka_server.USERS["client"]))
    record = [Record(OPEN.name, 0, b"b")]
    for _ in range(2):
        assert isinstance(bus.publish(record, SOON_S)[0], errors.BusUnauthorized)
    allow(secured_kafka, "client", OPEN)
    wait_until(lambda: bus.publish(record, SOON_S) == [None], "a right to be noticed", SOON_S)


def test_rabbitmq_with_tls_and_a_user_works(secured_rabbitmq: RabbitMQ, connected: Connect):
    word = rabbitmq_server.USERS["leader"][0]
    works(connected(rabbit_url(secured_rabbitmq, "leader", word)))


def test_rabbitmq_refuses_a_wrong_password(secured_rabbitmq: RabbitMQ, connected: Connect):
    bus = connected(rabbit_url(secured_rabbitmq, "leader", WRONG))
    is_refused(bus, OPEN, WRONG)
    is_refused_an_answer(bus, OPEN)


def test_rabbitmq_of_another_authority_is_not_trusted(
    secured_rabbitmq: RabbitMQ, connected: Connect
):
    ca = str(secured_rabbitmq.certificates.foreign_ca)
    word = rabbitmq_server.USERS["leader"][0]
    is_refused(connected(rabbit_url(secured_rabbitmq, "leader", word, ca)), OPEN, word)


def test_rabbitmq_refuses_what_no_right_allows(secured_rabbitmq: RabbitMQ, connected: Connect):
    word = rabbitmq_server.USERS["leader"][0]
    bus = connected(rabbit_url(secured_rabbitmq, "leader", word))
    is_refused(bus, CLOSED, word)
    works(bus)


def told(url: str) -> str:
    """What `chimera doctor` says of a broker: what is wrong, and how to mend it."""
    spec = make_spec({"name": "told", "handlers": ["a"], "bus": url})
    ((state, saw, mend),) = look_at_bus(spec)
    assert (state, WRONG in saw) == ("fail", False)
    return mend


AUTHORITY, PASSWORD, PORT = (
    "`?ca=PATH`",
    "see user and password in `bus`",
    "whether that port speaks TLS",
)


def test_doctor_tells_what_kafka_refuses_and_how_to_mend_it(secured_kafka: Kafka):
    word, certificates = kafka_server.USERS["leader"], secured_kafka.certificates
    assert PASSWORD in told(kafka_url(secured_kafka, "leader", WRONG))
    assert AUTHORITY in told(kafka_url(secured_kafka, "leader", word, str(certificates.foreign_ca)))
    assert PORT in told(f"kafka://{secured_kafka.secure}")


def test_doctor_tells_what_rabbitmq_refuses_and_how_to_mend_it(secured_rabbitmq: RabbitMQ):
    word, certificates = rabbitmq_server.USERS["leader"][0], secured_rabbitmq.certificates
    assert PASSWORD in told(rabbit_url(secured_rabbitmq, "leader", WRONG))
    assert AUTHORITY in told(
        rabbit_url(secured_rabbitmq, "leader", word, str(certificates.foreign_ca))
    )
    assert PORT in told(f"amqp://leader:{word}@127.0.0.1:{secured_rabbitmq.secure}")
    (free,) = free_ports(1)
    assert PORT in told(f"amqp://127.0.0.1:{free}")
    missing = make_spec({"name": "nowhere", "handlers": ["a"], "bus": secured_rabbitmq.url})
    mends = {mend for state, _, mend in look_at_bus(missing) if state == "fail"}
    assert mends == {"chimera bus provision"}
