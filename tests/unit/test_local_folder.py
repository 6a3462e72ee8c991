"""A local machine's folder: whole or not there, and locks that tell who lives."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from providers.local.folder import Folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A machine that was made."""
    made = Folder(tmp_path / "local-1")
    made.make({"token": "j-1-1"}, b"boot")
    return made


def test_a_folder_holds_what_it_was_made_from(folder: Folder) -> None:
    """The request, the boot data, and nothing half-written."""
    assert folder.exists()
    assert folder.record() == {"token": "j-1-1"}
    assert sorted(path.name for path in folder.path.iterdir()) == ["boot.py", "machine.json"]


def test_a_folder_is_for_its_user_alone(folder: Folder) -> None:
    """The boot data holds the job's environment."""
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder.path, *folder.path.iterdir())}

    assert modes == {"local-1": 0o700, "boot.py": 0o600, "machine.json": 0o600}


def test_a_folder_without_its_record_was_never_made(tmp_path: Path) -> None:
    """The record is written last: a crash before it leaves nothing that counts."""
    folder = Folder(tmp_path / "local-2")
    folder.path.mkdir()
    (folder.path / "boot.py").write_bytes(b"boot")

    assert not folder.exists()
    assert folder.record() == {}


def test_an_agent_is_started_at_most_once(folder: Folder) -> None:
    """Two backstops may try; one of them may."""
    assert not folder.started()
    assert [folder.claim_start(), folder.claim_start()] == [True, False]
    assert folder.started()


def test_a_lock_is_held_while_its_descriptor_is_open(folder: Folder) -> None:
    """The kernel frees it with the process."""
    assert not folder.is_held("agent.lock")
    descriptor = folder.hold("agent.lock")
    assert descriptor is not None
    assert folder.is_held("agent.lock")
    assert folder.hold("agent.lock") is None
    os.close(descriptor)

    assert not folder.is_held("agent.lock")


def test_a_pid_counts_only_while_its_lock_is_held(folder: Folder) -> None:
    """Another process may have the number by now."""
    folder.write_agent_pid(4711)
    assert folder.agent_pid() is None
    descriptor = folder.hold("agent.lock")
    assert descriptor is not None
    assert folder.agent_pid() == 4711
    os.close(descriptor)

    assert folder.agent_pid() is None


def test_the_first_order_to_delete_counts(folder: Folder) -> None:
    """The notice counts from it, however often the order is repeated."""
    assert folder.delete_ordered_s() is None
    folder.order_delete(12.3456)
    folder.order_delete(99.0)

    assert folder.delete_ordered_s() == 12.346


def test_the_first_word_about_the_end_counts(folder: Folder) -> None:
    """An upper bound never replaces what was seen."""
    assert folder.ended() is None
    folder.write_ended({"billed_s": 5.0, "exact": True})
    folder.write_ended({"billed_s": 9.0, "exact": False})

    assert folder.ended() == {"billed_s": 5.0, "exact": True}


@pytest.mark.parametrize("torn", ["", "{", "[1]", "\x00"])
def test_a_torn_file_is_read_as_none(folder: Folder, torn: str) -> None:
    """A disk that was full, or a computer that lost power, never makes a machine look ended."""
    (folder.path / "ended.json").write_text(torn, encoding="utf-8")

    assert folder.ended() is None


def test_the_tail_of_a_file_is_bounded(folder: Folder) -> None:
    """The last bytes of a long file, all of a short one, none of a missing one."""
    (folder.path / "console.log").write_bytes(b"0123456789")

    assert folder.tail("console.log", 4) == b"6789"
    assert folder.tail("console.log", 40) == b"0123456789"
    assert folder.tail("nothing.log", 4) == b""
