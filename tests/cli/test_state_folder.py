"""The state folder: full, read-only, a file, or with a damaged journal in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from command_lab import GPULAUNCH, assert_no_traceback, spent, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from command_lab import Done, Lab

GARBAGE = bytes(range(256)) * 40


def _can_mount() -> bool:
    """Whether this user may have a file system of its own, seen by no other process."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


needs_mount = pytest.mark.skipif(not _can_mount(), reason="needs root on Linux: a small file system of its own")

# $1 is the state folder, $2 the KiB that are left free in it, $3 gpulaunch.
FULL_DISK = """
mount -t tmpfs -o size=32m tmpfs "$1" || exit 99
dd if=/dev/zero of="$1/filler" bs=1k count=$((32768 - $2)) 2>/dev/null
exec "$3" up --budget 5 --yes
"""
FULL_LATER = """
mount -t tmpfs -o size=32m tmpfs "$1" || exit 99
"$3" up --budget 0.0085 --yes --detach >/dev/null 2>&1 || exit 98
until "$3" status job --json | grep -q '"state": "running"'; do :; done
dd if=/dev/zero of="$1/filler" bs=1k 2>/dev/null
"$3" down --all --yes 2>/dev/null
until [ -z "$(pgrep -f "sleep $2")" ]; do sleep 0.1; done
rm "$1/filler"
exec "$3" down --all --yes --json
"""
READ_ONLY = """
mount -t tmpfs -o ro tmpfs "$1" || exit 99
exec "$3" up --budget 5 --yes
"""


def in_a_namespace(lab: Lab, script: str, number: int = 0) -> Done:
    """Run a shell script with mounts of its own."""
    lab.home.mkdir()
    return lab.run_argv(["unshare", "--mount", "sh", "-c", script, "sh", str(lab.home), str(number), str(GPULAUNCH)])


def assert_unusable(done: Done, home: Path) -> None:
    """A clear error that names the folder and the way out."""
    assert done.code == 1
    assert f"The state folder {home} cannot be used" in done.err
    assert "GPULAUNCH_HOME" in done.err
    assert_no_traceback([done.out, done.err])


@pytest.mark.root
@needs_mount
@pytest.mark.parametrize("free_kib", [0, 4, 64, 1000])
def test_on_a_full_disk_nothing_is_launched(lab: Lab, free_kib: int) -> None:
    """Refused before anything is created, however little is left."""
    lab.write_job()

    assert_unusable(in_a_namespace(lab, FULL_DISK, free_kib), lab.home)


@pytest.mark.root
@needs_mount
def test_a_disk_that_fills_up_in_mid_run_lets_the_job_end(lab: Lab) -> None:
    """What runs is ended without a byte of space; once there is some again, the job is accounted for."""
    lab.write_job(["sleep", "601"])
    done = in_a_namespace(lab, FULL_LATER, 601)

    assert done.code == 0, done.err
    [view] = done.document
    assert (view["state"], view["machine_id"] is not None) == ("gone", True)
    assert 0 < spent(view) <= Decimal(view["cap_usd"])
    assert_no_traceback([done.out, done.err])


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
    lab.write_job()
    lab.home.mkdir()
    (lab.home / "journal.db").write_bytes(GARBAGE)
    done = lab.run(*args)
    [kept] = lab.home.glob("journal.db.damaged-*")

    assert done.code == 1
    assert str(kept) in done.err
    assert kept.read_bytes() == GARBAGE
    assert_no_traceback([done.out, done.err])
    assert lab.run("status", "--json").document == []


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
