"""Examples run as their users run them: with the packages that they ask for, in an environment of their own."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from command_lab import Lab
from example_runs import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BIN = ROOT / ".venv" / "examples" / "bin"
WITH_TORCH = ("gpt2-124m", "huggingface-trainer", "lightning")
# One thread: two runs must add up in the same order, and the machine may be shared.
THREADS = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@pytest.fixture(scope="session")
def python() -> str:
    """The Python of the examples that train with torch."""
    found = BIN / "python"
    if not found.exists():
        pytest.skip("torch is not installed for the examples: make .venv/installed-examples")
    return str(found)


@pytest.fixture
def lab(tmp_path: Path, python: str) -> Iterator[Lab]:
    """A place to run commands in, where the examples lie and `python` is theirs; fails a test that leaves anything."""
    made = Lab(tmp_path / "lab")
    for name in ("tiny-lm", *WITH_TORCH):
        ignore = shutil.ignore_patterns("checkpoints", "data*", "output", "lightning_logs", "__pycache__")
        shutil.copytree(ROOT / "examples" / name, made.work / name, ignore=ignore)
    made.env |= THREADS | {"PATH": f"{BIN}:{made.env['PATH']}"}
    yield made
    assert made.clean_up() == []


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """For a program that is run without gpulaunch."""
    return os.environ | THREADS
