"""The bus on RabbitMQ: quorum queues, one a shard, each with a single active consumer."""

from __future__ import annotations

from chimera.bus.rabbitmq.bus import RabbitBus as RabbitBus
