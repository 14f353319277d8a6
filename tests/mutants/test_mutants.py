"""The table of mutations itself: `python -m tests.mutants` tries them."""

from __future__ import annotations

from collections import Counter

from .table import MUTATIONS, fault_of


def test_every_mutation_can_be_made_and_names_tests_that_exist() -> None:
    assert [fault for mutation in MUTATIONS if (fault := fault_of(mutation))] == []
    assert max(Counter(mutation.key for mutation in MUTATIONS).values()) == 1
    assert len(MUTATIONS) >= 150
