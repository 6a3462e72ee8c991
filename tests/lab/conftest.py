"""A cloud in small with real machines in it, and a home for the commands that use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from boot_machine import why_not
from lab_cloud import LabCloud
from lab_commands import LabCommands

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabCommands]:
    """An account for which `gpulaunch init aws --apply` has made all that it makes."""
    if why := why_not():
        pytest.skip(why)
    cloud = LabCloud(tmp_path)
    lab = LabCommands(tmp_path / "commands", cloud)
    try:
        lab.set_up()
        yield lab
    finally:
        left = lab.clean_up()
        cloud.close()
    assert left == []
