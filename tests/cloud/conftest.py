"""A cloud in small for each test: empty, and told nothing yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aws_cloud import AwsCloud, the_cloud
from aws_lab import AwsLab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def cloud() -> Iterator[AwsCloud]:
    """AWS, empty."""
    cloud = the_cloud()
    cloud.clear()
    yield cloud
    cloud.clear()


@pytest.fixture
def aws(cloud: AwsCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AwsLab:
    """A provider that speaks to it, on a virtual clock which is the cloud's too."""
    return AwsLab(cloud, tmp_path, monkeypatch)
