"""Checkpoints on their way to a store that is a folder."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from agent_harness import Agent, python, wait_until

from launcher.agent.checkpoints import Checkpoints, unsettled
from launcher.agent.folder import FolderSets, complete_sets


class Sets:
    """A folder of checkpoints, and the store's sets of it."""

    def __init__(self, tmp_path: Path, keep: int = 3) -> None:
        self.source = tmp_path / "source"
        self.sets = tmp_path / "sets"
        self.source.mkdir()
        self.made = Checkpoints(self.source, FolderSets(self.sets), keep)

    def write(self, path: str, content: bytes, age_s: float = 600) -> None:
        """A file of that age."""
        (self.source / path).parent.mkdir(parents=True, exist_ok=True)
        (self.source / path).write_bytes(content)
        at = time.time() - age_s
        os.utime(self.source / path, (at, at))

    def save(self) -> int:
        """As in the middle of a training."""
        return self.made.save(time.time())

    def files(self, n: int) -> dict[str, bytes]:
        """What a set holds."""
        below = self.sets / str(n) / "files"
        return {p.relative_to(below).as_posix(): p.read_bytes() for p in below.rglob("*") if p.is_file()}

    def manifest(self, n: int) -> dict[str, Any]:
        """What a set says of itself."""
        return json.loads((self.sets / str(n) / "manifest.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture
def sets(tmp_path: Path) -> Sets:
    """Sets that keep the newest three."""
    return Sets(tmp_path)


def test_a_set_holds_every_file_with_its_checksum(sets: Sets) -> None:
    """The manifest lists what there is."""
    sets.write("a.pt", b"one")
    sets.write("deep/b.pt", b"two")

    assert sets.save() == 0
    assert sets.files(1) == {"a.pt": b"one", "deep/b.pt": b"two"}
    assert {path: file["sha256"] for path, file in sets.manifest(1)["files"].items()} == {
        "a.pt": hashlib.sha256(b"one").hexdigest(),
        "deep/b.pt": hashlib.sha256(b"two").hexdigest(),
    }
    assert sets.made.latest is not None
    assert (sets.made.latest["n"], sets.made.latest["bytes"], sets.made.latest["files"]) == (1, 6, 2)


def test_nothing_new_makes_no_set(sets: Sets) -> None:
    """Neither no files, nor the same files again."""
    sets.save()
    assert complete_sets(sets.sets) == []
    sets.write("a", b"one")
    sets.save()
    sets.save()
    assert complete_sets(sets.sets) == [1]


def test_unchanged_files_are_linked(sets: Sets) -> None:
    """A big old file is not copied again."""
    sets.write("old", b"old")
    sets.save()
    sets.write("new", b"new")
    sets.save()

    assert sets.files(2) == {"old": b"old", "new": b"new"}
    assert (sets.sets / "1/files/old").samefile(sets.sets / "2/files/old")


def test_sets_are_copies_and_not_links_to_the_users_files(sets: Sets) -> None:
    """A training that writes into its file does not change what was saved."""
    sets.write("a", b"one")
    sets.save()
    with (sets.source / "a").open("r+b") as file:
        file.write(b"XXX")

    assert sets.files(1) == {"a": b"one"}


def test_the_newest_sets_are_kept(sets: Sets) -> None:
    """Older ones go, and so do incomplete ones; what is not ours stays."""
    (sets.sets / "7/files").mkdir(parents=True)
    (sets.sets / "notes").mkdir()
    for n in range(5):
        sets.write("a", b"%d" % n)
        sets.save()

    assert complete_sets(sets.sets) == [10, 11, 12]
    assert sorted(path.name for path in sets.sets.iterdir()) == ["10", "11", "12", "notes"]
    assert sets.files(12) == {"a": b"4"}
    assert (sets.source / "a").read_bytes() == b"4"


def test_a_file_that_may_still_be_written_waits(sets: Sets) -> None:
    """It is left out first, and comes with a later set."""
    sets.write("old", b"old")
    sets.write("new/part", b"half", age_s=0.5)
    assert sets.save() == 1
    assert sets.files(1) == {"old": b"old"}
    sets.write("new/part", b"whole")
    assert sets.save() == 0
    assert sets.files(2) == {"old": b"old", "new/part": b"whole"}


def test_a_file_that_is_written_anew_stands_as_it_was(sets: Sets) -> None:
    """The last whole version goes with the new set."""
    sets.write("latest/model", b"first")
    sets.save()
    sets.write("latest/model", b"sec", age_s=0.5)
    sets.write("other", b"other")
    sets.save()

    assert sets.files(2) == {"latest/model": b"first", "other": b"other"}
    assert sets.manifest(2)["files"]["latest/model"]["sha256"] == hashlib.sha256(b"first").hexdigest()


def test_files_written_together_wait_together(sets: Sets) -> None:
    """A checkpoint of several files is never sent without its last one; an old neighbour does not wait."""
    sets.write("step-2/model", b"m", age_s=10)
    sets.write("step-2/optimizer", b"o", age_s=0.5)
    sets.write("step-1/model", b"m", age_s=100)
    sets.write("step-2/config", b"c", age_s=100)

    assert sets.save() == 2
    assert sets.files(1) == {"step-1/model": b"m", "step-2/config": b"c"}


def test_a_clock_that_was_set_back_does_not_starve_a_file() -> None:
    """A time of change in the future says nothing."""
    now = 1_800_000_000.0
    found = {"a": (1, int((now + 3600) * 1e9)), "b": (1, int((now - 1) * 1e9))}

    assert unsettled(found, now) == {"b"}


def test_after_a_good_end_everything_is_whole(sets: Sets) -> None:
    """Then nobody writes any more, however new a file is."""
    sets.write("a", b"last", age_s=0)

    assert sets.made.save(None) == 0
    assert sets.files(1) == {"a": b"last"}


def test_a_file_that_grows_while_it_is_copied_is_not_sent_half(sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for the next set, and the copy ends however fast the file grows."""
    sets.write("a", b"x" * 100)

    class Grows:
        """A checksum that appends to the file which it is given."""

        def update(self, data: bytes) -> None:
            with (sets.source / "a").open("ab") as file:
                file.write(data)

        def hexdigest(self) -> str:
            return ""

    with monkeypatch.context() as patched:
        patched.setattr(hashlib, "sha256", Grows)
        waiting = sets.made.save(None)

    assert waiting == 1
    assert list(sets.sets.iterdir()) == []
    assert sets.made.save(None) == 0
    assert sets.files(1) == {"a": b"x" * 200}


def test_what_is_not_a_plain_file_is_passed_over(sets: Sets) -> None:
    """A fifo would block; a link to nowhere is nothing; the store itself below the checkpoints is not copied."""
    made = Checkpoints(sets.source, FolderSets(sets.source / "store"), 3)
    sets.write("a", b"one")
    os.mkfifo(sets.source / "fifo")
    (sets.source / "nowhere").symlink_to("missing")
    made.save(None)
    sets.write("b", b"two")
    made.save(None)
    below = sets.source / "store/2/files"

    assert sorted(path.relative_to(below).as_posix() for path in below.rglob("*")) == ["a", "b"]


def test_a_damaged_manifest_is_passed_over(sets: Sets) -> None:
    """The set before it serves to know what is new."""
    sets.write("a", b"one")
    sets.save()
    (sets.sets / "2").mkdir()
    (sets.sets / "2/manifest.json").write_text("{")
    sets.write("b", b"two")
    sets.save()

    assert sets.files(3) == {"a": b"one", "b": b"two"}


def keeping(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """Orders to send checkpoints to a folder."""
    store = tmp_path / "store"
    checkpoints = {"path": "/workspace/checkpoints", "every_s": 600, "keep": 2, **changes}
    return {"store": {"kind": "folder", "path": str(store)}, "checkpoints": checkpoints}


SAVES = """
import os, signal, sys, time
os.makedirs("checkpoints", exist_ok=True)
def save(*_):
    open("checkpoints/last", "w").write("last")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
open("checkpoints/first", "w").write("first")
os.utime("checkpoints/first", (0, 0))
print("ready", flush=True)
while True: time.sleep(1)
"""


def test_a_run_sends_checkpoints_log_and_result(tmp_path: Path) -> None:
    """Periodically, and at the end what was saved on SIGTERM, the log, and the same result as here."""
    with Agent(tmp_path, python(SAVES), **keeping(tmp_path)) as agent:
        agent.says("ready")
        agent.pass_time(600)
        sets = tmp_path / "store/job-1/checkpoints"
        wait_until(lambda: complete_sets(sets) == [1])
        agent.pass_time(400)
        result = agent.finish()
        last = agent.beats()[-1]
    sent = tmp_path / "store/job-1/1"

    assert complete_sets(sets) == [1, 2]
    assert sorted(path.name for path in (sets / "2/files").iterdir()) == ["first", "last"]
    assert (sent / "output.log").read_bytes() == b"ready\n"
    assert json.loads((sent / "result.json").read_text()) == result
    assert (result["outcome"], result["checkpoint"]["n"], last["checkpoint"]["n"]) == ("budget_reached", 2, 2)


def test_a_training_that_was_killed_may_leave_a_half_written_file(tmp_path: Path) -> None:
    """What it wrote in its last moments is not sent as a checkpoint."""
    source = """
import os, signal
os.makedirs("checkpoints")
open("checkpoints/whole", "w").write("whole")
os.utime("checkpoints/whole", (0, 0))
open("checkpoints/half", "w").write("ha")
os.kill(os.getpid(), signal.SIGKILL)
"""
    with Agent(tmp_path, python(source), **keeping(tmp_path)) as agent:
        agent.finish()

    assert [path.name for path in (tmp_path / "store/job-1/checkpoints/1/files").iterdir()] == ["whole"]


def test_a_store_that_cannot_be_written_is_a_note(tmp_path: Path) -> None:
    """The run ends as it would without it."""
    (tmp_path / "store").write_text("a file in its place")
    with Agent(tmp_path, python("print('hello')"), **keeping(tmp_path)) as agent:
        result = agent.finish()

    assert result["outcome"] == "finished"
    assert any(note.startswith("store: ") and "Not a directory" in note for note in result["notes"])


def test_a_store_that_hangs_does_not_move_the_end_out(tmp_path: Path) -> None:
    """The last copy never returns: the result is written before the hard deadline all the same."""
    before = "from launcher.agent import checkpoints; checkpoints.look = lambda *_: __import__('time').sleep(600)"
    with Agent(tmp_path, python("print('hello')"), before=before, heartbeat_s=0.1, **keeping(tmp_path)) as agent:
        wait_until(lambda: len(agent.beats()) > 10)
        agent.pass_time(1999.5)
        result = agent.finish()

    assert result["outcome"] == "finished"
