"""Parcels share frames: nothing is lost, mixed up or made too large."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from chimera.client.options import Kind
from chimera.client.parcels import FRAMES_MAX, Parcel, draw
from chimera.client.session import Session
from chimera.errors import InvalidRequest
from chimera.frames import command
from chimera.store.protocol import Receipt, Skipped

KINDS = [Kind(command.Head(type=name)) for name in ("a", "b")]

COLUMNS = st.sampled_from(
    [
        None,
        command.Columns(keys=["k"]),
        command.Columns(idempotency=["i"], deadline=[5]),
        command.Columns(not_before=[7], tags=[["x"]]),
        command.Columns(claims=[0]),
    ]
)
PARCELS = st.lists(
    st.tuples(st.sampled_from(KINDS), COLUMNS, st.booleans(), st.integers(1, 40_000)), max_size=40
)


def parcels(of) -> list[Parcel]:
    return [
        Parcel(kind, [b"%d" % number + b" " * size], columns, blocking, 1.0)
        for number, (kind, columns, blocking, size) in enumerate(of)
    ]


@given(PARCELS, st.booleans())
def test_every_task_is_in_one_frame_with_its_own_columns(of, ordered):
    made = parcels(of)
    queue = deque(made)
    session = Session()
    order = []
    while queue:
        frames = draw(queue, session, 3, ordered)
        assert 1 <= len(frames) <= FRAMES_MAX
        for frame in frames:
            assert len(frame.data) <= command.BYTES_MAX
            header = command.verify(frame.data)
            columns = command.columns(frame.data)
            payloads = command.payloads(frame.data)
            types = {command._decode_head(parcel.kind.token).type for parcel in frame.parcels}
            assert types == {command.head(frame.data).type}
            assert len({parcel.blocking for parcel in frame.parcels}) == 1
            for at, parcel in enumerate(frame.parcels):
                assert payloads[at] == parcel.payloads[0]
                assert parcel.placed == (header.session, 3, header.first + at)
                own = parcel.columns or command.Columns()
                for name, empty in (("keys", None), ("not_before", 0), ("tags", [])):
                    column, mine = getattr(columns, name), getattr(own, name)
                    assert (column[at] if column else empty) == (mine[0] if mine else empty)
                assert (at in (columns.claims or ())) == (own.claims is not None)
                order.append(parcel)
    assert set(map(id, order)) == set(map(id, made))
    if ordered:
        assert order == made


def test_each_parcel_is_told_its_part_of_the_receipt():
    made = [Parcel(KINDS[0], [b"1"] * n, None, False, 1.0) for n in (2, 3, 1)]
    (frame,) = draw(deque(made), Session(), 0, ordered=False)
    refused = Skipped(4, None, InvalidRequest("no"))
    frame.accept(Receipt(100, 6, False, (Skipped(2, "an id", None), refused)))
    done = [parcel.promise.get(0) for parcel in made]
    assert [(one.first, one.count, one.position) for one in done] == [
        (0, 2, 100),
        (2, 3, 102),
        (5, 1, 105),
    ]
    assert [one.skipped for one in done] == [
        (),
        (Skipped(0, "an id", None), Skipped(2, None, refused.error)),
        (),
    ]
