"""Verdicts on changes of schemas: ours, the table's, and for Avro those of Avro's own library."""

from __future__ import annotations

import json

import avro.schema
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

from chimera.contracts import languages
from tests.contract.cases import CASES, LEVELS

AVRO = [case for case in CASES if case.language == "AVRO"]


def reads(language, reader, writer):
    parsed = [languages.parse(language, text, {}) for text in (reader, writer)]
    return not languages.incompatibilities(*parsed)


def test_the_table_is_large_and_each_change_is_in_it_once():
    assert len(CASES) >= 60
    assert len({str(case) for case in CASES}) == len(CASES)
    for level in LEVELS:
        assert {case.verdict(level) for case in CASES} == {True, False}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_our_verdict_is_the_tables(case):
    assert reads(case.language, case.new, case.old) == case.backward
    assert reads(case.language, case.old, case.new) == case.forward


def test_all_that_is_said_of_a_property_counts():
    both = (
        '{"properties": {"ab": {"type": "string"}}, "patternProperties": {"^a": {"maxLength": 5}}}'
    )
    named = '{"properties": {"ab": {"type": "string"}}, "patternProperties": {"^a": {}}}'
    assert reads("JSON", named, both)
    assert not reads("JSON", both, named)


def test_a_comparison_ends_however_much_there_is_to_compare():
    def nested(depth):
        inner = {"anyOf": [{"$ref": f"#/definitions/d{depth + 1}"}] * 4}
        return {"type": "object", "properties": {"x": inner}, "required": [f"r{depth}"]}

    definitions = {f"d{n}": nested(n) for n in range(30)} | {"d30": {"type": "integer"}}
    old = json.dumps({"$ref": "#/definitions/d0", "definitions": definitions})
    new = old.replace('"integer"', '"string"')
    assert not reads("JSON", new, old)


@pytest.mark.parametrize("case", AVRO, ids=str)
def test_avros_own_verdict_is_the_tables(case):
    old, new = avro.schema.parse(case.old), avro.schema.parse(case.new)
    for reader, writer, verdict in ((new, old, case.backward), (old, new, case.forward)):
        found = ReaderWriterCompatibilityChecker().get_compatibility(reader, writer)
        assert (found.compatibility is SchemaCompatibilityType.compatible) == verdict
