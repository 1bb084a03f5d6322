"""Verdicts on changes of schemas: ours, the table's, and for Avro those of Avro's own library."""

from __future__ import annotations

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


@pytest.mark.parametrize("case", AVRO, ids=str)
def test_avros_own_verdict_is_the_tables(case):
    old, new = avro.schema.parse(case.old), avro.schema.parse(case.new)
    for reader, writer, verdict in ((new, old, case.backward), (old, new, case.forward)):
        found = ReaderWriterCompatibilityChecker().get_compatibility(reader, writer)
        assert (found.compatibility is SchemaCompatibilityType.compatible) == verdict
