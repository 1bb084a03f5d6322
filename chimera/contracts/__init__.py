"""Contracts: the events' Avro schemas, how they travel, and what a registry holds them to.

    codec = Codec(registry)  # anything that is a `Schemas`: RemoteRegistry(url), OwnSchemas() …
    message = codec.encode(
        Result(task_id=id, type="audit.file", state="succeeded", recorded_at=now_ms, result=b"1"),
        Envelope(id=f"{shard}/{position}", source="/chimera/demo/shard/3", subject=id, time=now_ms,
                 extensions={"causationid": command_id, "partitionkey": key}),
    )
    producer.produce(topic, message.value, message.key, headers=message.kafka_headers())
    exchange.publish(Message(message.value, content_type=message.envelope.datacontenttype,
                             headers=message.amqp_properties()), routing_key)

    event = codec.decode(record.value())  # a Command, CommandFrame, Result …; or BadRecord
    envelope = from_kafka(record.headers())  # or from_amqp(properties, content_type); may be None

Nothing here knows a broker, a store or Ray. `decode` raises BadRecord (UnknownSchema: no such
schema id) for what belongs among the dead letters, Unavailable for what is to be tried again.
"""

from chimera.contracts.cloudevents import Envelope as Envelope
from chimera.contracts.cloudevents import from_amqp as from_amqp
from chimera.contracts.cloudevents import from_kafka as from_kafka
from chimera.contracts.codec import Codec as Codec
from chimera.contracts.codec import Message as Message
from chimera.contracts.codec import Schemas as Schemas
from chimera.contracts.events import Audit as Audit
from chimera.contracts.events import Command as Command
from chimera.contracts.events import CommandFrame as CommandFrame
from chimera.contracts.events import DeadLetter as DeadLetter
from chimera.contracts.events import Event as Event
from chimera.contracts.events import Failure as Failure
from chimera.contracts.events import Latency as Latency
from chimera.contracts.events import LeaderReport as LeaderReport
from chimera.contracts.events import Origin as Origin
from chimera.contracts.events import RegionSummary as RegionSummary
from chimera.contracts.events import Result as Result
from chimera.contracts.events import Shard as Shard
from chimera.contracts.events import WorkerLifecycle as WorkerLifecycle
from chimera.contracts.events import WorkflowEvent as WorkflowEvent
from chimera.contracts.own import OwnSchemas as OwnSchemas
