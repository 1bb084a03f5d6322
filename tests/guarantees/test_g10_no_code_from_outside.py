"""G10: nothing received from outside is unpickled; payloads are JSON, checked at the edge. What is
malformed is refused with the reason, and harms nobody."""

from __future__ import annotations

import pickle
import time

import pytest

from chimera.actors import boot
from chimera.config import make_spec, parse_spec
from chimera.errors import (
    CorruptFrame,
    DeadlinePassed,
    HandlerLoadError,
    InvalidPayload,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    SpecError,
    TaskFailed,
    UnknownTaskType,
    from_wire,
)
from chimera.frames import command
from tests.guarantees.kit import HANDLERS, notes, payloads

pytestmark = pytest.mark.cluster


class Evil:
    """Runs code where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return open, (self.path, "w")


def test_what_is_no_task_is_refused_with_the_reason(swarm):
    client = swarm.client
    with pytest.raises(UnknownTaskType, match="no_such"):
        client.submit("no_such", 1)
    with pytest.raises(InvalidPayload, match=r"\$\.a\[1\]"):
        client.submit("echo", {"a": [1, object()]})
    with pytest.raises(PayloadTooLarge):
        client.submit("echo", "x" * (swarm.spec.payload_max_bytes + 1))
    with pytest.raises(DeadlinePassed):
        client.submit("echo", 1, deadline=time.time() - 1)
    with pytest.raises(InvalidRequest, match="colour"):
        client.submit("echo", 1, colour="blue")
    with pytest.raises(InvalidRequest, match="priority"):
        client.submit("echo", 1, priority="urgent")
    with pytest.raises(InvalidRequest, match="key"):
        client.submit("echo", 1, key="")
    with pytest.raises(InvalidPayload, match="payload 5000"):
        client.submit_many("echo", [*range(5000), {1, 2}.pop, 7])
    with pytest.raises(InvalidRequest, match="no task id"):
        client.get("nonsense")
    assert client.call("echo", "still well", timeout_s=60) == "still well"


def test_a_leader_refuses_bytes_that_are_no_frame_and_lives_on(swarm):
    handle = swarm.cluster.find(swarm.region().placement[0])
    path = swarm.dir / "executed"
    evil = pickle.dumps(Evil(str(path)))
    head = command.encode_head(command.Head("echo", swarm.client.tenant, at=1))
    whole = command.pack(1, 0, 0, head, [b"1"], None)
    for bad in (b"", b"nonsense", evil, whole[:-1], whole[:30] + b"\xff" + whole[31:]):
        (answer,) = swarm.cluster.call(handle.append.remote(0, bad), 60)
        assert isinstance(from_wire(answer), CorruptFrame)
    assert not path.exists()
    assert swarm.client.call("echo", "still well", timeout_s=60) == "still well"


def test_a_payload_that_is_a_pickle_is_never_opened(swarm):
    # past the edge: a frame as only a broken client would make it
    handle = swarm.cluster.find(swarm.region().placement[0])
    path = swarm.dir / "executed"
    head = command.Head("echo", swarm.client.tenant, at=int(time.time() * 1000))
    frame = command.pack(
        77, 0, 0, command.encode_head(head), [pickle.dumps(Evil(str(path))), b"1"], None
    )
    swarm.cluster.call(handle.append.remote(0, frame), 60)
    states = {}
    for record in swarm.client.list():
        try:
            states["well"] = swarm.client.handle(record.task_id).result(timeout_s=60)
        except TaskFailed as fault:
            states["evil"] = fault.details["type"]
    assert states == {"well": 1, "evil": "chimera.InvalidPayload"}
    assert not path.exists()


def test_results_that_are_no_json_and_permanent_errors_are_not_tried_again(swarm):
    log = swarm.dir / "log"
    for how, error in (
        ("no_json", "chimera.InvalidResult"),
        ("permanent", "chimera.PermanentError"),
        ("no_retry", "builtins.KeyError"),
    ):
        with pytest.raises(TaskFailed) as failed:
            swarm.client.call("picky", {"log": str(log), "raises": how}, timeout_s=60)
        assert failed.value.details["type"] == error
    assert len(notes(log)) == 3


def test_a_handlers_module_that_cannot_be_loaded_is_told_before_anything_is_made(
    ray_cluster, tmp_path
):
    body = {"name": "none", "handlers": [HANDLERS, "no_such_module"], "data_dir": str(tmp_path)}
    with pytest.raises(HandlerLoadError, match="no_such_module"):
        boot.up(make_spec(body), timeout_s=60)
    assert not list(tmp_path.iterdir())


def test_a_malformed_spec_is_refused_with_line_and_key():
    text = "name: local\nhandlers: [a]\nregions:\n  - name: here\n    leaders: many\n"
    with pytest.raises(SpecError) as refused:
        parse_spec(text, "swarm.yaml")
    assert refused.value.details["line"] == 5
    assert "leaders" in refused.value.details["key"]
    with pytest.raises(SpecError, match="did you mean `handlers`"):
        parse_spec("name: local\nhandler: [a]\n", "swarm.yaml")


def test_bad_options_of_a_frame_are_refused_by_the_leader(swarm):
    handle = swarm.cluster.find(swarm.region().placement[0])
    for options in ({"type": "work"}, {"max_attempts": "many"}):
        head = command.Head("echo", swarm.client.tenant, at=1, options=options)
        frame = command.pack(3, 0, 0, command.encode_head(head), [b"1"], None)
        (answer,) = swarm.cluster.call(handle.append.remote(0, frame), 60)
        assert isinstance(from_wire(answer), InvalidRequest)


def test_a_tenant_sees_nothing_of_another_one(swarm):
    task = swarm.client.submit("work", payloads(1, swarm.dir / "log")[0])
    assert task.result(timeout_s=60) == 0
    stranger = swarm.for_tenant("stranger", swarm.dir)
    try:
        with pytest.raises(NotFound, match=task.id):
            stranger.client.get(task.id)
        assert task.id not in {record.task_id for record in stranger.client.list()}
    finally:
        stranger.client.close()
