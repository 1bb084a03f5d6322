"""A swarm's broker, as one of its actors reaches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chimera.traffic.intake import Broker


def open_broker(
    url: str, swarm: str, shards: int, readers: tuple[str, ...], name: str, *, registry: str
) -> Broker:
    """The broker, for the actor `name`; nothing is waited for. Raises InvalidRequest.

    `registry` is the URL of the schema registry; empty: the swarm's own.
    """
    # codecs and what they need take a tenth of a leader's start: a swarm without a broker has none
    from chimera.actors.schemas import known_to
    from chimera.bus.connect import connect
    from chimera.contracts.codec import Codec
    from chimera.traffic.intake import Broker
    from chimera.traffic.records import Writer
    from chimera.traffic.topics import topics

    codec = Codec(known_to(swarm, registry))
    source = f"/chimera/{swarm}/{name}"
    return Broker(connect(url), topics(swarm, shards, readers), codec, Writer(codec), source)
