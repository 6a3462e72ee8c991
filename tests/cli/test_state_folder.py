"""The state folder: full, read-only, a file, or with a damaged journal in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from command_lab import GPULAUNCH, assert_no_traceback, wait_until

if TYPE_CHECKING:
    from command_lab import Done, Lab

GARBAGE = bytes(range(256)) * 40


def _can_mount() -> bool:
    """Whether this user may have a file system of its own, seen by no other process."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


needs_mount = pytest.mark.skipif(not _can_mount(), reason="needs root on Linux: a small file system of its own")

# $1 is the state folder, $2 the KiB that are left free in it before the launch, $3 gpulaunch.
FULL_DISK = """
mount -t tmpfs -o size=256k tmpfs "$1" || exit 99
dd if=/dev/zero of="$1/filler" bs=1k count=$((256 - $2)) 2>/dev/null
"$3" up --budget 5 --yes --json; echo "up $?"
rm "$1/filler"
"$3" down --all --yes >/dev/null; echo "down $?"
"$3" status --all --json >/dev/null; echo "status $?"
until ! "$3" guard 2>&1 | grep -q already; do :; done
ls "$1/machines" 2>/dev/null
exit 0
"""
READ_ONLY = """
mount -t tmpfs -o ro tmpfs "$1" || exit 99
exec "$3" up --budget 5 --yes
"""


def in_a_namespace(lab: Lab, script: str, free_kib: int = 0) -> Done:
    """Run a shell script with mounts of its own."""
    lab.home.mkdir(exist_ok=True)
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", str(lab.home), str(free_kib), str(GPULAUNCH)]
    return lab.run_argv(argv)


def assert_unusable(done: Done, home: Path) -> None:
    """A clear error that names the folder and the way out."""
    assert done.code == 1
    assert f"The state folder {home} cannot be used" in done.err
    assert "GPULAUNCH_HOME" in done.err
    assert_no_traceback([done.out, done.err])


@pytest.mark.root
@needs_mount
@pytest.mark.parametrize("free_kib", [0, 4, 24, 64, 112, 160])
def test_a_full_disk_leaves_nothing_running(lab: Lab, free_kib: int) -> None:
    """Wherever the space ends, in the journal or in the machine's folder: an error or a whole run, and no process."""
    lab.write_job(["true"])
    done = in_a_namespace(lab, FULL_DISK, free_kib)
    wait_until(lambda: not lab.processes(), "every process to end")

    assert done.code == 0
    assert_no_traceback([done.out, done.err])
    assert "met a bug" not in done.err
    assert "down 0" in done.out
    assert "status 0" in done.out
    if "up 0" not in done.out:
        assert "Error: " in done.err or "launch_failed" in done.out


@pytest.mark.root
@needs_mount
def test_a_read_only_state_folder_is_an_error(lab: Lab) -> None:
    """Nothing can be written down, so nothing is created."""
    lab.write_job()

    assert_unusable(in_a_namespace(lab, READ_ONLY), lab.home)


@pytest.mark.skipif(os.geteuid() == 0, reason="no folder is closed to root")
def test_a_state_folder_that_is_not_ours_is_an_error(lab: Lab) -> None:
    """Nothing can be written down, so nothing is created."""
    lab.write_job()
    lab.home.mkdir(mode=0o500)

    assert_unusable(lab.run("up", "--budget", "5", "--yes"), lab.home)


def test_a_file_in_place_of_the_state_folder_is_an_error(lab: Lab) -> None:
    """It is not touched."""
    lab.write_job()
    lab.home.write_bytes(GARBAGE)
    done = lab.run("up", "--budget", "5", "--yes")

    assert_unusable(done, lab.home)
    assert lab.home.read_bytes() == GARBAGE


@pytest.mark.parametrize(
    "args", [["status"], ["up", "--budget", "5", "--yes"], ["down", "--all", "--yes"], ["logs", "job"]]
)
def test_a_damaged_journal_is_kept_aside(lab: Lab, args: list[str]) -> None:
    """Every byte of it; the error says where, and the next command works."""
    lab.write_job(["true"])
    lab.home.mkdir()
    (lab.home / "journal.db").write_bytes(GARBAGE)
    done = lab.run(*args)
    [kept] = lab.home.glob("journal.db.damaged-*")

    assert done.code == 1
    assert str(kept) in done.err
    assert kept.read_bytes() == GARBAGE
    assert_no_traceback([done.out, done.err])
    assert lab.run("up", "--budget", "5", "--yes").code == 0


def test_a_machine_outlives_its_journal_no_longer_than_its_deadline(lab: Lab) -> None:
    """The journal is damaged in mid-run: the machine still ends by itself, and a new job can be launched."""
    lab.write_job()
    lab.launch(cap="0.0085")
    lab.kill_guard()
    for path in lab.home.glob("journal.db*"):
        path.write_bytes(GARBAGE)
    assert lab.run("status").code == 1
    wait_until(lambda: not lab.processes(), "the machine to end by itself")

    assert lab.run("status", "--json").document == []
