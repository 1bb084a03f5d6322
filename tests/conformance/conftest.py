"""Suites are imported by the tests that run them; their asserts shall explain themselves too."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "tests.conformance.bus_ack_suite",
    "tests.conformance.bus_fault_suite",
    "tests.conformance.bus_kit",
    "tests.conformance.bus_suite",
    "tests.conformance.journal_suite",
    "tests.conformance.journal_side_suite",
    "tests.conformance.journal_view_suite",
)
