"""Our verdicts on the table of schema changes are those of Apicurio, asked in the same words."""

from __future__ import annotations

import httpx2
import pytest

from tests.contract.cases import CASES, LEVELS
from tests.servers.apicurio import apicurio


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    yield from apicurio(tmp_path_factory.mktemp("apicurio"))


def verdicts(url, case):
    """Whether a change is compatible: (by a check, by a registration), by level."""
    found = {}
    with httpx2.Client(base_url=url, timeout=30) as client:
        old, new = ({"schema": text, "schemaType": case.language} for text in (case.old, case.new))
        for level in LEVELS:
            subject = f"{level}-{CASES.index(case)}"
            client.post(f"/subjects/{subject}/versions", json=old).raise_for_status()
            client.put(f"/config/{subject}", json={"compatibility": level}).raise_for_status()
            check = client.post(f"/compatibility/subjects/{subject}/versions/latest", json=new)
            added = client.post(f"/subjects/{subject}/versions", json=new)
            assert added.status_code in (200, 409), added.text
            found[level] = check.json()["is_compatible"], added.status_code == 200
    return found


@pytest.mark.parametrize("language", ["AVRO", "JSON"])
def test_over_http_our_verdicts_are_the_tables(served, language):
    for case in CASES:
        if case.language == language:
            wanted = {level: (case.verdict(level),) * 2 for level in LEVELS}
            assert verdicts(served.url, case) == wanted, str(case)


@pytest.mark.slow
@pytest.mark.parametrize("language", ["AVRO", "JSON"])
def test_apicurios_verdicts_are_the_tables(theirs, language):
    differ = {}
    for case in CASES:
        if case.language == language:
            known = dict(case.apicurio)
            wanted = {level: (known.get(level, case.verdict(level)),) * 2 for level in LEVELS}
            found = verdicts(theirs, case)
            if found != wanted:
                differ[str(case)] = found
    assert not differ
