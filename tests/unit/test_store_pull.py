"""The folder that a pull fills: whole or as it was, whatever happens, and never over what is somebody else's."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from launcher.core.errors import UsageError
from launcher.store.pull_folder import filled, write_mark


def fill(folder: Path, word: str, job: str = "j-1") -> None:
    """A pull that fetches one file."""
    with filled(folder, job) as part:
        (part / "deep").mkdir()
        (part / "deep/file").write_text(word)
        write_mark(part, {"job": job, "name": "name"})


def words(folder: Path) -> list[str]:
    """What the pulled file holds, if it is there; nothing may lie beside the folder."""
    assert [path.name for path in folder.parent.iterdir() if path != folder] == []
    return [path.read_text() for path in folder.glob("deep/file")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that does not exist, in one that does not exist."""
    return tmp_path / "somewhere/dir"


def test_a_pull_takes_the_place_of_the_one_before(folder: Path) -> None:
    """Into a new folder, an empty one, and one of an earlier pull of the same job."""
    fill(folder, "1")
    assert words(folder) == ["1"]
    fill(folder, "2")
    assert words(folder) == ["2"]


def test_an_empty_folder_may_be_there(folder: Path) -> None:
    """The user has made it."""
    folder.mkdir(parents=True)
    fill(folder, "1")

    assert words(folder) == ["1"]


def test_a_link_to_a_folder_stays_a_link(folder: Path, tmp_path: Path) -> None:
    """The folder that it points at is replaced."""
    link = tmp_path / "link"
    link.symlink_to(folder)
    fill(link, "1")
    fill(link, "2")

    assert link.is_symlink()
    assert words(folder) == ["2"]


def test_a_pull_that_fails_changes_nothing(folder: Path) -> None:
    """Whatever was there stays, and nothing lies beside it."""
    fill(folder, "1")

    def fails() -> None:
        with filled(folder, "j-1") as part:
            (part / "file").write_text("2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert words(folder) == ["1"]


def die(folder: Path, at: str) -> None:
    """A pull that is killed: while it fetches, or just before its nth rename."""
    if at == "fetching":
        with filled(folder, "j-1") as part:
            (part / "deep").mkdir()
            (part / "deep/file").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    real, left = os.rename, [int(at)]

    def rename(*args: str | Path) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*args)

    os.rename = rename  # type: ignore[assignment]
    fill(folder, "2")


@pytest.mark.parametrize("at", ["fetching", "1", "2"])
def test_a_kill_leaves_what_was_there_and_the_next_pull_clears_up(folder: Path, at: str) -> None:
    """Between the two renames the earlier pull stands beside its place, and the next one puts it back first."""
    fill(folder, "1")
    killed = multiprocessing.get_context("spawn").Process(target=die, args=(folder, at))
    killed.start()
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL

    def refused() -> None:
        with filled(folder, "j-1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refused()
    assert words(folder) == ["1"]
    fill(folder, "3")
    assert words(folder) == ["3"]


def test_a_folder_that_cannot_be_replaced_is_put_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The earlier pull is worth more than the new one."""
    fill(folder, "1")
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.name.endswith(".pull"):
            raise OSError(5, "Input/output error")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(UsageError, match="cannot be written: Input/output error"):
        fill(folder, "2")
    assert words(folder) == ["1"]


def test_two_pulls_into_one_folder_do_not_mix(folder: Path) -> None:
    """The second is refused; another folder beside it is free."""
    with filled(folder, "j-1") as part:
        write_mark(part, {"job": "j-1"})
        with pytest.raises(UsageError, match=r"Another pull into .*dir is at work"):
            fill(folder, "2")
        fill(folder.with_name("other"), "2")

    assert (folder / "pull.json").exists()


def test_what_is_not_a_pull_of_this_job_is_not_overwritten(folder: Path) -> None:
    """Not the user's files, not another job's, not a file in the folder's place."""
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="is not empty"):
        fill(folder, "1")
    with pytest.raises(UsageError, match="is a file"):
        fill(folder / "thesis.tex", "1")
    (folder / "thesis.tex").unlink()
    fill(folder, "1", job="j-2")
    with pytest.raises(UsageError, match="holds a pull of another job, name"):
        fill(folder, "1")
    (folder / "deep/notes.txt").write_text("what I think of it")
    with pytest.raises(UsageError, match=r"a file that is none of it: 'deep/notes\.txt'"):
        fill(folder, "2", job="j-2")


def test_what_appears_while_a_pull_fetches_is_not_overwritten(folder: Path) -> None:
    """The fetching may take an hour."""

    def slow() -> None:
        with filled(folder, "j-1") as part:
            write_mark(part, {"job": "j-1"})
            folder.mkdir()
            (folder / "new").write_text("mine")

    with pytest.raises(UsageError, match="is not empty"):
        slow()
    assert (folder / "new").read_text() == "mine"


def test_the_folder_that_one_is_in_is_not_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell would be left in a folder that is no more."""
    (folder / "below").mkdir(parents=True)
    monkeypatch.chdir(folder / "below")

    with pytest.raises(UsageError, match="is the folder you are in"):
        fill(Path(".."), "1")
