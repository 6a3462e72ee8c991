"""Each test of a command gets a home of its own, and must leave nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from command_lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A place to run commands in; fails a test that leaves a process or a live job behind."""
    made = Lab(tmp_path)
    yield made
    assert made.clean_up() == []
