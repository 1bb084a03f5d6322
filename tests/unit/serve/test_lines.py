"""Lines of a bulk: bad ones are told by number, and the rest goes its way in order."""

from __future__ import annotations

import pytest

from chimera.errors import PayloadTooLarge
from chimera.serve.lines import Splitter, groups, parse


def test_good_lines_are_parsed_at_once_with_their_numbers():
    lines, bad, count = parse(b'{"type":"a","payload":1}\n{"type":"b"}', 5)
    assert [(number, line.type, bytes(line.payload)) for number, line in lines] == [
        (5, "a", b"1"),
        (6, "b", b"null"),
    ]
    assert (bad, count) == ([], 2)


def test_bad_lines_are_told_and_the_rest_is_kept():
    text = b'{"type":"a"}\n{"type":7}\n\nno\n{"type":"\xff"}\n{"type":"b","x":1}\n{"type":"c"}\n'
    lines, bad, count = parse(text, 1)
    assert [(number, line.type) for number, line in lines] == [(1, "a"), (7, "c")]
    assert [one.number for one in bad] == [2, 4, 5, 6]
    assert bad[0].error.details["errors"][0]["pointer"] == "/type"
    assert "no JSON" in bad[1].error.message
    assert "UTF-8" in bad[2].error.message
    assert count == 7


def test_a_line_that_is_nested_without_end_is_bad_and_the_rest_is_kept():
    deep = b'{"type":"a","payload":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    lines, bad, count = parse(b'{"type":"a"}\n' + deep + b'\n{"type":"b"}\n', 1)
    assert [(number, line.type) for number, line in lines] == [(1, "a"), (3, "b")]
    assert [one.number for one in bad] == [2]
    assert "too deeply" in bad[0].error.message
    assert count == 3


def test_lines_with_keys_keep_their_order_and_others_are_gathered():
    text = b"\n".join(
        [
            b'{"type":"a"}',
            b'{"type":"a","key":"k"}',
            b'{"type":"b","key":"k"}',
            b'{"type":"a","key":"k"}',
            b'{"type":"a"}',
        ]
    )
    found = list(groups(parse(text, 1)[0]))
    assert [(group.type, group.keys, group.numbers) for group in found] == [
        ("a", ["k"], [2]),
        ("b", ["k"], [3]),
        ("a", ["k"], [4]),
        ("a", [], [1, 5]),
    ]


def test_options_that_differ_make_groups_of_their_own():
    text = b'{"type":"a","tags":["x"]}\n{"type":"a"}\n{"type":"a","idempotency_key":"i"}'
    found = list(groups(parse(text, 1)[0]))
    assert [(group.options, group.idempotency) for group in found] == [
        ({"tags": ["x"]}, []),
        ({}, []),
        ({}, ["i"]),
    ]


def test_lines_are_cut_where_they_end_however_they_arrive():
    splitter = Splitter(100)
    found = b"".join(splitter.feed(bytes([byte])) for byte in b"ab\ncd\ne")
    assert (found, splitter.rest()) == (b"ab\ncd\n", b"e")
    with pytest.raises(PayloadTooLarge):
        splitter.feed(b"x" * 100)
