"""The bus on Kafka: shards are partitions, positions are offsets."""

from __future__ import annotations

from chimera.bus.kafka.bus import KafkaBus as KafkaBus
