"""What leads to an error can be walked, whatever made it."""

from __future__ import annotations

import contextlib

import pytest

from chimera.errors import BusUnavailable, causes


def _raised_again(kept: BaseException) -> BaseException:
    """`kept` as a client raises it that has it from before, while handling what it led to."""
    try:
        try:
            raise kept
        except ConnectionError as error:
            raise TimeoutError("waited in vain") from error
    except TimeoutError:
        with contextlib.suppress(ConnectionError):
            _raise(kept)
    return kept


def _raise(error: BaseException) -> None:
    raise error


def test_each_cause_comes_once_last_first() -> None:
    first = KeyError("first")
    second = ValueError("second")
    second.__context__ = first
    third = BusUnavailable("third")
    third.__cause__ = second

    assert list(causes(third)) == [third, second, first]


@pytest.mark.timeout(10)
def test_a_ring_of_causes_ends() -> None:
    kept = ConnectionError("lost")

    assert [type(cause) for cause in causes(_raised_again(kept))] == [ConnectionError, TimeoutError]
