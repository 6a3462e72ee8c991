"""What `gpulaunch init CLOUD --apply` changes in the user's configuration, and what it leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from launcher.config import load_config
from launcher.config_edit import with_section

if TYPE_CHECKING:
    from pathlib import Path

MADE = {"profile": "work", "scheduler_role_arn": "arn:aws:iam::123456789012:role/gpulaunch"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", "owner: me@here\naws:\n  profile: work\n", id="no file"),
        pytest.param("owner: you\n", "owner: you\naws:\n  profile: work\n", id="an owner is kept"),
        pytest.param(
            "# mine\naws:\n    image: ami-1  # good\n    profile: old\nlimits: {jobs: 2}\n",
            "# mine\naws:\n    profile: work\n    image: ami-1  # good\nlimits: {jobs: 2}\nowner: me@here\n",
            id="a section",
        ),
        pytest.param(
            "aws: {image: ami-1, profile: old}  # short\n",
            "aws:\n  profile: work\n  image: ami-1\nowner: me@here\n",
            id="a section on one line",
        ),
        pytest.param("gcp:\n  project: p\n", "gcp:\n  project: p\nowner: me@here\naws:\n  profile: work\n", id="other"),
    ],
)
def test_a_section_is_set_and_the_rest_stays(before: str, after: str) -> None:
    """Comments, order and what others wrote are the user's."""
    assert after == with_section(before, "aws", {"profile": "work"}, {"owner": "me@here"})


def test_it_is_the_same_when_done_again() -> None:
    """`init --apply` may be repeated."""
    once = with_section("limits: {jobs: 2}\n", "aws", MADE, {"owner": "me@here"})

    assert once == with_section(once, "aws", MADE, {"owner": "me@here"})


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Values with characters of YAML's own are quoted."""
    path = tmp_path / "config.yaml"
    path.write_text(with_section("", "aws", {**MADE, "image": "ami: #1"}, {"owner": "a 'b' #c"}), encoding="utf-8")
    config = load_config({"GPULAUNCH_CONFIG": str(path)})

    assert ("a 'b' #c", "work", MADE["scheduler_role_arn"], "ami: #1") == (
        config.owner,
        config.aws.profile,
        config.aws.scheduler_role_arn,
        config.aws.image,
    )
