"""A guard with a planted mistake is found out: else the simulation would prove nothing."""

from __future__ import annotations

import pytest
from mutants import MUTANTS, find

SEEDS = range(1, 1000)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_simulation_finds_a_planted_mistake(name: str) -> None:
    """Each of them breaks an invariant in one of the first worlds."""
    found = find(name, SEEDS)

    assert found is not None
    assert "Violation" in found[1]
