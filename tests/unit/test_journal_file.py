"""The journal's file: survives kills, is never overwritten when damaged, and is refused where locks do not hold."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections import namedtuple
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from makers import ACCOUNT, START, make_job

from launcher.core.errors import JournalDamaged, StateError
from launcher.journal import Journal
from launcher.journal_file import FILE_NAME, MIGRATIONS, open_journal

HERE = Path(__file__).parent

WRITES = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from launcher.journal import Journal

home, account, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
journal = Journal(home)
writer = journal.writer(account, 1)
for number in range(count):
    writer.note("j-tiny", number, now=datetime.now(UTC), kind=account, facts={"padding": "x" * 2000})
    print(number, flush=True)
"""
NAMES = """
import sys
from datetime import UTC, datetime
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from launcher.core.errors import NameInUse
from launcher.journal import Journal
from dataclasses import replace
from makers import make_job

sys.stdin.readline()
try:
    Journal(Path(sys.argv[1])).add_job(replace(make_job(), id=f"j-{sys.argv[3]}"), now=datetime.now(UTC))
except NameInUse:
    print("in use")
else:
    print("written")
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def fill(home: Path, count: int = 50) -> None:
    """A journal with some pages in it, closed properly."""
    with closing(Journal(home)) as journal:
        journal.add_job(make_job(), now=START)
        writer = journal.writer(ACCOUNT, 1)
        for number in range(count):
            writer.note("j-tiny", number, now=START, kind="note", facts={"padding": "x" * 2000})


def kept(home: Path) -> list[Path]:
    """What was moved aside."""
    return sorted(home.glob(f"{FILE_NAME}.damaged-*"))


# The file


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """It holds the names of secrets and what the user runs."""
    home = tmp_path / "state" / "gpulaunch"
    before = os.umask(0)
    try:
        fill(home, 1)
        journal = Journal(home)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()}
        journal.close()
    finally:
        os.umask(before)

    assert 0o700 == stat.S_IMODE(home.stat().st_mode)
    assert FILE_NAME in modes
    assert {0o600} == set(modes.values())


def test_it_is_opened_so_that_a_kill_is_survivable(tmp_path: Path) -> None:
    """A write-ahead log, flushed at each commit."""
    with closing(open_journal(tmp_path)) as db:
        assert "wal" == db.execute("PRAGMA journal_mode").fetchone()[0]
        assert 2 == db.execute("PRAGMA synchronous").fetchone()[0]
        assert len(MIGRATIONS) == db.execute("PRAGMA user_version").fetchone()[0]


def test_opening_it_again_changes_nothing(tmp_path: Path) -> None:
    """What was written is there."""
    fill(tmp_path, 3)

    with closing(Journal(tmp_path)) as journal:
        assert 4 == len(journal.events("j-tiny"))


def test_an_empty_file_is_a_new_journal(tmp_path: Path) -> None:
    """A process was killed between the file and its first table."""
    (tmp_path / FILE_NAME).touch()

    with closing(Journal(tmp_path)) as journal:
        assert [] == journal.jobs()


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it happens, or nothing."""
    fill(tmp_path, 1)
    monkeypatch.setattr(
        "launcher.journal_file.MIGRATIONS", (*MIGRATIONS, "CREATE TABLE half (a); CREATE TABLE half (a);")
    )
    with pytest.raises(StateError):
        Journal(tmp_path)
    monkeypatch.undo()

    with closing(Journal(tmp_path)) as journal:
        assert [] == journal._rows("SELECT name FROM sqlite_master WHERE name = 'half'")


# Damage


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"\x00" * 8192, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_damaged_file_is_kept_aside_and_never_overwritten(tmp_path: Path, content: bytes) -> None:
    """To the byte; the next command starts with an empty journal, and the damaged one stays."""
    (tmp_path / FILE_NAME).write_bytes(content)

    with pytest.raises(JournalDamaged) as refused:
        Journal(tmp_path)
    (aside,) = kept(tmp_path)
    assert content == aside.read_bytes()
    assert str(aside) in str(refused.value)

    fill(tmp_path, 1)
    assert [aside] == kept(tmp_path)
    assert content == aside.read_bytes()


def test_a_second_damaged_file_does_not_replace_the_first(tmp_path: Path) -> None:
    """Even within one second."""
    for content in (b"first" * 1000, b"second" * 1000, b"third" * 1000):
        (tmp_path / FILE_NAME).write_bytes(content)
        with pytest.raises(JournalDamaged):
            Journal(tmp_path)

    assert {b"first" * 1000, b"second" * 1000, b"third" * 1000} == {path.read_bytes() for path in kept(tmp_path)}


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
def test_a_truncated_file_is_kept_aside(tmp_path: Path, share: float) -> None:
    """Noticed when it is opened or when it is first read, never taken for a shorter truth."""
    fill(tmp_path)
    path = tmp_path / FILE_NAME
    content = path.read_bytes()[: int(path.stat().st_size * share)]
    path.write_bytes(content)

    with pytest.raises(JournalDamaged):  # noqa: PT012 - whichever of the three notices
        journal = Journal(tmp_path)
        try:
            journal.jobs()
            journal.events("j-tiny")
        finally:
            journal.close()

    (aside,) = (path for path in kept(tmp_path) if not path.name.endswith(("-wal", "-shm")))
    assert content == aside.read_bytes()
    with closing(Journal(tmp_path)) as journal:
        assert [] == journal.jobs()


def test_a_sound_journal_is_never_moved_aside_for_one_that_was_damaged(tmp_path: Path) -> None:
    """Another process has moved the damaged file and written a new one, while this one still reads the old."""
    fill(tmp_path)
    path = tmp_path / FILE_NAME
    content = path.read_bytes()
    with closing(Journal(tmp_path)) as old:
        with path.open("r+b") as file:
            file.truncate(4096)
        path.rename(tmp_path / "moved-by-another")
        for suffix in ("-wal", "-shm"):
            (tmp_path / (FILE_NAME + suffix)).unlink()
        fill(tmp_path, 1)

        with pytest.raises(JournalDamaged):
            old.events("j-tiny")

    assert [] == kept(tmp_path)
    assert content[:4096] == (tmp_path / "moved-by-another").read_bytes()
    with closing(Journal(tmp_path)) as journal:
        assert ["j-tiny"] == [job.id for job in journal.jobs()]


def test_a_journal_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """It is not damaged: an older program must not touch it."""
    fill(tmp_path, 1)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = (tmp_path / FILE_NAME).read_bytes()

    with pytest.raises(StateError, match="newer gpulaunch"):
        Journal(tmp_path)

    assert ([], before) == (kept(tmp_path), (tmp_path / FILE_NAME).read_bytes())


# Where it cannot be


Mount = namedtuple("Mount", "mountpoint fstype")


@pytest.mark.parametrize("file_system", ["nfs", "nfs4", "cifs", "smbfs", "fuse.sshfs", "9p", "afs"])
def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_system: str) -> None:
    """Before a file is made."""
    mounts = [Mount("/", "ext4"), Mount(str(tmp_path), file_system), Mount(str(tmp_path) + "-other", "ext4")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)  # noqa: A006

    with pytest.raises(StateError, match="network file system") as refused:
        Journal(tmp_path / "home")

    assert "GPULAUNCH_HOME" in refused.value.fix
    assert not (tmp_path / "home" / FILE_NAME).exists()


@pytest.mark.parametrize("mounts", [[], [Mount("/", "ext4"), Mount("/mnt/share", "nfs")]])
def test_a_disk_of_this_computer_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: list[Mount]
) -> None:
    """Also where a share is mounted elsewhere, and where the system does not tell."""
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)  # noqa: A006

    fill(tmp_path, 1)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """With the change that helps."""
    (tmp_path / "file").touch()

    with pytest.raises(StateError, match="cannot be used") as refused:
        Journal(tmp_path / "file" / "home")

    assert "GPULAUNCH_HOME" in refused.value.fix


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """As SQLite meets it: the write fails as a whole, and reading goes on."""
    with closing(Journal(tmp_path)) as journal:
        pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
        journal._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StateError, match="full"):
            journal.add_job(make_job(settings={"padding": "x" * 100_000}), now=START)

        assert [] == journal.jobs()
        journal._db.execute("PRAGMA max_page_count = 1000000")
        journal.add_job(make_job(), now=START)


def test_a_broken_rule_of_the_tables_is_not_taken_for_damage(tmp_path: Path) -> None:
    """It is a mistake of ours, and must be seen as one."""
    with closing(Journal(tmp_path)) as journal:
        with pytest.raises(sqlite3.IntegrityError), journal._transaction() as db:
            db.execute("INSERT INTO meta VALUES ('key', NULL)")

        assert [] == kept(tmp_path)


# Several processes


def test_processes_that_start_together_make_one_journal(tmp_path: Path) -> None:
    """Each finds the tables, whoever made them."""
    children = [start(WRITES, str(tmp_path), f"account-{number}", "5") for number in range(4)]
    for child in children:
        child.communicate(timeout=60)

    assert [0] * 4 == [child.returncode for child in children]
    with closing(Journal(tmp_path)) as journal:
        assert 20 == len(journal.events("j-tiny"))


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    """Nothing is lost, nothing is torn."""
    fill(tmp_path, 0)
    children = [start(WRITES, str(tmp_path), account, "40") for account in ("one", "two")]
    for child in children:
        child.communicate(timeout=60)

    with closing(Journal(tmp_path)) as journal:
        events = journal.events("j-tiny")
    for account in ("one", "two"):
        assert list(range(40)) == [event.attempt for event in events if event.kind == account]


def test_of_two_jobs_with_one_name_that_start_at_once_one_wins(tmp_path: Path) -> None:
    """Whichever it is."""
    fill(tmp_path / "warm", 0)
    children = [start(NAMES, str(tmp_path), str(HERE), str(number)) for number in range(3)]
    said = [child.communicate("\n", timeout=60)[0].strip() for child in children]

    assert ["in use", "in use", "written"] == sorted(said)


def test_a_process_killed_while_it_writes_leaves_a_readable_journal(tmp_path: Path) -> None:
    """Whatever it said was written is there, in order, and the next process writes on."""
    written = 0
    for round_number in range(3):
        child = start(WRITES, str(tmp_path), f"round-{round_number}", "1000000")
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(20 + 7 * round_number)]
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=60)

        with closing(Journal(tmp_path)) as journal:
            events = [event.attempt for event in journal.events("j-tiny") if event.kind == f"round-{round_number}"]
            assert "ok" == journal._rows("PRAGMA integrity_check")[0][0]
        assert events == list(range(len(events)))
        assert len(events) >= len(said)
        written += len(events)

    with closing(Journal(tmp_path)) as journal:
        assert written == len(journal.events("j-tiny"))
