"""Each test of a command gets a home of its own, and must leave nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from command_lab import Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def new_lab(tmp_path: Path) -> Iterator[Callable[[], Lab]]:
    """Makes places to run commands in; fails a test that leaves a process or a live job behind in any of them."""
    made: list[Lab] = []

    def make() -> Lab:
        made.append(Lab(tmp_path / f"lab-{len(made)}"))
        return made[-1]

    yield make
    left = [lab.clean_up() for lab in made]
    assert left == [[] for _ in made]


@pytest.fixture
def lab(new_lab: Callable[[], Lab]) -> Lab:
    """One place to run commands in."""
    return new_lab()
