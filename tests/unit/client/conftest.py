"""A swarm in memory for the client's tests: tasks are done as soon as they are accepted."""

from __future__ import annotations

import pytest

from chimera.client.swarm import Swarm
from tests.unit.client.fake import FakeLeaders, core


def picky(payload):
    if payload == "bad" or (isinstance(payload, int) and payload % 7 == 3):
        raise ValueError(f"{payload} is bad")
    return payload


@pytest.fixture
def leaders():
    made = FakeLeaders()
    made.handler = picky
    return made


@pytest.fixture
def swarm(leaders):
    made = core(leaders)
    yield Swarm(made, "default", made.close)
    made.close()
