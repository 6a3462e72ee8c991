"""What is refused before a job starts on this computer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from makers import make_spec

from launcher.core.errors import Exit, UsageError
from launcher.local_checks import check_local

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with one program, `train`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "train").write_text("#!/bin/sh\n", encoding="utf-8")
    (folder / "train").chmod(0o700)
    return folder


def check(tmp_path: Path, programs: Path, **changes: Any) -> None:
    """Check a job in `tmp_path` whose PATH is one folder."""
    spec = make_spec(**({"workdir": str(tmp_path), "path": "gpulaunch.yaml"} | changes))
    check_local(spec, {"PATH": str(programs)})


@pytest.mark.parametrize(
    "changes",
    [{}, {"command": ("bin/train",)}, {"store": "/data"}, {"store": "none"}],
    ids=["along PATH", "in the workdir", "a folder as store", "no store"],
)
def test_a_job_that_can_run_here_passes(tmp_path: Path, programs: Path, changes: dict[str, Any]) -> None:
    """Nothing is said."""
    check(tmp_path, programs, **changes)


def test_a_program_may_be_named_by_its_path(tmp_path: Path, programs: Path) -> None:
    """From the root, whatever the workdir is."""
    check(tmp_path, programs, command=(str(programs / "train"),))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"workdir": "/no/such/folder"}, "workdir /no/such/folder is not a folder"),
        ({"secrets": ("HF_TOKEN",)}, "no secret store"),
        ({"store": "s3://bucket/prefix"}, "is a bucket"),
        ({"image": "pytorch"}, "no docker"),
        ({"command": ("no-such-program",)}, "'no-such-program' does not exist"),
        ({"command": ("./train",)}, "does not exist"),
        ({"command": ("x" * 300,)}, f"'{'x' * 60}' does not exist"),
    ],
)
def test_what_cannot_run_is_refused_with_the_change_that_helps(
    tmp_path: Path, programs: Path, changes: dict[str, Any], what: str
) -> None:
    """Nothing was created yet, and the user knows which line to change."""
    with pytest.raises(UsageError, match=what) as refused:
        check(tmp_path, programs, **changes)

    assert Exit.USAGE == refused.value.exit_code
    assert refused.value.fix


def test_a_program_without_the_right_to_execute_does_not_count(tmp_path: Path, programs: Path) -> None:
    """It would fail only after money was spent."""
    (programs / "train").chmod(0o600)

    with pytest.raises(UsageError, match="cannot be executed"):
        check(tmp_path, programs)


def test_with_docker_an_image_is_enough(tmp_path: Path, programs: Path) -> None:
    """The command is looked for inside the image, not here."""
    (programs / "docker").write_text("#!/bin/sh\n", encoding="utf-8")
    (programs / "docker").chmod(0o700)

    check(tmp_path, programs, image="pytorch", command=("no-such-program",))
