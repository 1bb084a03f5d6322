"""What an operator asks of Kafka: topics made, trimmed, measured and looked at."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
)

from chimera.bus.kafka.client import ENVELOPE_BYTES, Health, configuration, translate
from chimera.bus.protocol import Finding, Kind, Topic, wrong_partitions
from chimera.bus.settings import BusSettings
from chimera.errors import BusUnavailable

#: copies of a topic where there are enough nodes, and how many must have a record before its answer
_COPIES = 3
_IN_SYNC = 2
_NEVER = str(2**63 - 1)


class Admin:
    """An administrator's client, made when it is first needed."""

    def __init__(self, settings: BusSettings, health: Health) -> None:
        self._config = configuration(settings, health)
        self._health = health
        self._lock = threading.Lock()
        self._made: AdminClient | None = None

    @property
    def _client(self) -> AdminClient:
        with self._lock:
            if self._made is None:
                self._made = AdminClient(self._config)
            return self._made

    def _metadata(self, timeout: float, *topic: str) -> Any:
        """What the cluster has: nodes, and all topics, or one, with their partitions."""
        try:
            found = self._client.list_topics(*topic, timeout=timeout)
        except KafkaException as error:
            self._client.poll(0)  # hear why
            raise self._health.broken() or translate(error.args[0]) from error
        self._health.works()
        return found

    def _result(self, future: Any, timeout: float, topic: str = "", fine: int | None = None) -> Any:
        """What the broker answered; its error as one of ours, unless it is `fine`."""
        try:
            return future.result(timeout + 1)
        except KafkaException as error:
            if error.args[0].code() == fine:
                return None
            found = translate(error.args[0], topic)
            self._client.poll(0)  # hear why nothing came
            if isinstance(found, BusUnavailable):
                found = self._health.broken() or found
            raise found from error
        except concurrent.futures.TimeoutError as error:
            raise BusUnavailable(f"{self._health.shown}: no answer in time") from error

    def provision(self, topics: Sequence[Topic], timeout: float) -> list[str]:
        metadata = self._metadata(timeout)
        nodes, there = len(metadata.brokers), metadata.topics
        for topic in topics:
            if topic.name in there and len(there[topic.name].partitions) != topic.partitions:
                raise wrong_partitions(topic, len(there[topic.name].partitions))
        absent = [topic for topic in topics if topic.name not in there]
        made = [
            NewTopic(
                topic.name, topic.partitions, _copies(topic, nodes), config=wanted(topic, nodes)
            )
            for topic in absent
        ]
        if made:
            for name, future in self._client.create_topics(
                made, operation_timeout=timeout, request_timeout=timeout
            ).items():
                self._result(future, timeout, name, KafkaError.TOPIC_ALREADY_EXISTS)
        changed = self._correct([one for one in topics if one not in absent], nodes, timeout)
        return [topic.name for topic in absent] + changed

    def _correct(self, topics: Sequence[Topic], nodes: int, timeout: float) -> list[str]:
        """Set what is set otherwise than it is wanted."""
        configs = self._configs([topic.name for topic in topics], timeout)
        changes = []
        for topic in topics:
            wrong = {
                key: value
                for key, value in wanted(topic, nodes).items()
                if configs[topic.name].get(key) != value
            }
            if wrong:
                entries = [
                    ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                    for key, value in wrong.items()
                ]
                changes.append(
                    ConfigResource(
                        ConfigResource.Type.TOPIC, topic.name, incremental_configs=entries
                    )
                )
        if changes:
            for future in self._client.incremental_alter_configs(
                changes, request_timeout=timeout
            ).values():
                self._result(future, timeout)
        return [change.name for change in changes]

    def _configs(self, names: Sequence[str], timeout: float) -> dict[str, dict[str, str]]:
        """Every setting of topics."""
        if not names:
            return {}
        asked = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
        answers = self._client.describe_configs(asked, request_timeout=timeout)
        return {
            resource.name: {
                key: entry.value
                for key, entry in self._result(future, timeout, resource.name).items()
            }
            for resource, future in answers.items()
        }

    def trim(self, topic: str, below: Mapping[int, int], timeout: float) -> None:
        asked = [TopicPartition(topic, partition, at) for partition, at in below.items()]
        answers = self._client.delete_records(asked, request_timeout=timeout)
        for future in answers.values():
            self._result(future, timeout, topic)

    def lag(self, topic: Topic, group: str, timeout: float) -> dict[int, int]:
        found = self._metadata(timeout, topic.name).topics[topic.name]
        if found.error:
            raise translate(found.error, topic.name)
        partitions = [TopicPartition(topic.name, one) for one in range(topic.partitions)]
        ends = self._offsets(partitions, OffsetSpec.latest(), timeout)
        starts = self._offsets(partitions, OffsetSpec.earliest(), timeout)
        name = f"{topic.name}.{group}"
        asked = [ConsumerGroupTopicPartitions(name, partitions)]
        future = self._client.list_consumer_group_offsets(asked, request_timeout=timeout)[name]
        known = {
            one.partition: one.offset
            for one in self._result(future, timeout, topic.name).topic_partitions
        }
        return {one: ends[one] - max(known.get(one, 0), starts[one]) for one in ends}

    def _offsets(
        self, partitions: Sequence[TopicPartition], which: OffsetSpec, timeout: float
    ) -> dict[int, int]:
        answers = self._client.list_offsets(
            dict.fromkeys(partitions, which), request_timeout=timeout
        )
        return {
            one.partition: self._result(future, timeout, one.topic).offset
            for one, future in answers.items()
        }

    def check(self, topics: Sequence[Topic], timeout: float, production: bool) -> list[Finding]:
        metadata = self._metadata(timeout)
        there = metadata.topics
        configs = self._configs([one.name for one in topics if one.name in there], timeout)
        found: list[Finding] = []
        for topic in topics:
            if topic.name not in there:
                found.append(
                    Finding(True, topic.name, "the topic is not there", "chimera bus provision")
                )
                continue
            partitions = there[topic.name].partitions
            if len(partitions) != topic.partitions:
                problem = f"{len(partitions)} partitions instead of {topic.partitions}"
                found.append(Finding(True, topic.name, problem, wrong_partitions(topic, 0).message))
            copies = min(len(one.replicas) for one in partitions.values())
            found += judge(topic, configs[topic.name], copies, production)
        return found


def _copies(topic: Topic, nodes: int) -> int:
    return topic.replicas or min(_COPIES, nodes)


def wanted(topic: Topic, nodes: int) -> dict[str, str]:
    """The settings of a topic on a cluster with so many nodes."""
    commands = topic.kind is Kind.COMMANDS
    copies = _copies(topic, nodes)
    return {
        "cleanup.policy": "delete",
        # an accepted task waits for as long as it takes; what is dealt with is trimmed
        "retention.ms": "-1" if commands else str(topic.retention_ms),
        "retention.bytes": "-1",
        "unclean.leader.election.enable": "false",
        "min.insync.replicas": str(_IN_SYNC if copies >= _COPIES else 1),
        "max.message.bytes": str(topic.record_max_bytes + ENVELOPE_BYTES),
        # a client's clock that is wrong is no reason to refuse its tasks
        "message.timestamp.after.max.ms": _NEVER,
        # Kafka answers before the disk has a record; where there is no second copy, it must wait
        "flush.messages": "1" if commands and copies == 1 else _NEVER,
    }


def judge(topic: Topic, config: Mapping[str, str], copies: int, production: bool) -> list[Finding]:
    """What a topic's settings can cost."""
    found = []

    def say(serious: bool, problem: str, remedy: str = "chimera bus provision") -> None:
        found.append(Finding(serious, topic.name, problem, remedy))

    if config.get("unclean.leader.election.enable") != "false":
        say(production, "unclean.leader.election.enable: acknowledged records can be lost")
    if topic.kind is Kind.COMMANDS:
        if config.get("retention.ms") != "-1" or config.get("retention.bytes") != "-1":
            say(True, "commands are dropped by age or size: accepted tasks can be lost")
        if config.get("cleanup.policy") != "delete":
            say(True, "commands are compacted: accepted tasks can be lost")
    if copies < _COPIES:
        say(production, f"{copies} copies of each record: one lost disk loses records",
            f"a cluster of {_COPIES} nodes; kafka-reassign-partitions adds copies")  # fmt: skip
    if int(config.get("min.insync.replicas", "1")) < _IN_SYNC:
        say(production, "min.insync.replicas < 2: a record is acknowledged with one copy")
    if int(config.get("max.message.bytes", "0")) < topic.record_max_bytes + ENVELOPE_BYTES:
        say(True, f"max.message.bytes: records of {topic.record_max_bytes} bytes are refused")
    return found
