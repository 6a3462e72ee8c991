"""An error in one line: what happened, why, and the fix."""

from __future__ import annotations

import pytest

from launcher.core.errors import GpulaunchError


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (("It failed.", "A reason.", "Run: gpulaunch status"), "It failed. A reason. Run: gpulaunch status"),
        (("It failed.", "no capacity", "Try later."), "It failed. no capacity. Try later."),
        (("It failed.", "", "See: https://example.com/x"), "It failed. See: https://example.com/x"),
        (("It failed", "", ""), "It failed"),
        (("", "", ""), ""),
    ],
)
def test_its_parts_are_sentences(said: tuple[str, str, str], line: str) -> None:
    """Whether or not a cloud ends its own words with a full stop; what stands last may be an address."""
    assert str(GpulaunchError(*said)) == line
