"""The agent writes, a reader reads: whatever happens to either, what is read is one whole checkpoint."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from launcher.agent import folder
from launcher.agent.checkpoints import Checkpoints
from launcher.agent.egress import Egress
from launcher.agent.folder import FolderSets, complete_sets
from launcher.agent.store import Store as AgentStore
from launcher.store.bucket import Bucket, StoreUnavailable
from launcher.store.store import TRIES, Checkpoint, CheckpointFile, Store, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).parents[2]


class Job:
    """A job with a store that is a folder: the training's side, the agent's, and the reader's."""

    def __init__(self, tmp_path: Path, keep: int = 3) -> None:
        self.root = tmp_path / "store"
        self.sets = self.root / "j-1/checkpoints"
        self.source = tmp_path / "source"
        self.source.mkdir(exist_ok=True)
        self.made = Checkpoints(self.source, FolderSets(self.sets), keep)
        self.into = tmp_path / "into"
        self.into.mkdir(exist_ok=True)

    def save(self, *words: str) -> None:
        """The training writes `a` and `b` with each word; the agent sends both."""
        for word in words:
            self.write(word)
            assert self.made.save(None) == 0

    def write(self, word: str) -> None:
        """The training writes."""
        for name in ("a", "b"):
            (self.source / name).write_text(f"{name} {word}")
        (self.source / "same").touch()

    def read(self) -> tuple[int, str] | None:
        """The newest checkpoint's number, and the word of both its files, which must be the same."""
        shutil.rmtree(self.into)
        self.into.mkdir()
        return read(open_store(str(self.root), {}), self.into)


def read(store: Store, into: Path) -> tuple[int, str] | None:
    """The newest checkpoint's number, and the word of both its files, which must be the same."""
    found = store.latest_checkpoint("j-1", into)
    if found is None:
        assert list(into.iterdir()) == []
        return None
    words = {(into / name).read_text().removeprefix(f"{name} ") for name in ("a", "b")}
    assert sorted(path.name for path in into.iterdir()) == ["a", "b", "same"]
    [word] = words
    return found.n, word


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job that keeps the newest three."""
    return Job(tmp_path)


# Killed

# Saves three checkpoints; then, once for each moment, one more in a child that is killed just before that moment.
KILLER = """
import os, shutil, signal, sys
from pathlib import Path
sys.path.insert(0, os.path.join(os.getcwd(), "tests", "unit"))
from launcher.agent import checkpoints, files, folder
from test_store import Job

folder.READ_BYTES = 2

def die_at(moment):
    left = [moment]
    def counted(real):
        def call(*args, **how):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return real(*args, **how)
        return call
    for name in ("mkdir", "open", "fsync", "link", "replace", "unlink", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))
    files.write = counted(files.write)

moment = 0
while True:
    folder = Path(sys.argv[1], str(moment))
    folder.mkdir()
    job = Job(folder)
    job.save("1", "2", "3")
    child = os.fork()
    if not child:
        die_at(moment)
        job.save("4")
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
    moment += 1
print(moment)
"""


def test_a_kill_at_any_moment_of_a_save_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """The one before, or the new one; and the next save goes on from there, and clears what was left half."""
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    moments = int(done.stdout)
    seen = []
    for moment in range(moments + 1):
        job = Job(tmp_path / str(moment))
        found = job.read()
        seen.append(found)
        job.save("5")
        after = job.read()
        assert found is not None
        assert after is not None
        assert (after[0] > found[0], after[1]) == (True, "5")
        assert len(complete_sets(job.sets)) == 3
        assert sorted(path.name for path in job.sets.iterdir()) == sorted(map(str, complete_sets(job.sets)))

    assert set(seen) == {(3, "3"), (4, "4")}
    assert seen == sorted(seen, key=str)  # once the new one counts, it counts for good
    assert moments > 20


# Removed while it is read


def interrupt(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None], times: int = 1) -> None:
    """Do that before a reader gets the content of a file, so many times."""
    real, left = Bucket.parts, [times]

    def parts(bucket: Bucket, path: str, size: int) -> Iterator[bytes]:
        if left[0] and "/files/" in path:
            left[0] -= 1
            then()
        return real(bucket, path, size)

    monkeypatch.setattr(Bucket, "parts", parts)


def test_a_set_that_is_removed_while_it_is_read_gives_way_to_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the removed one stays."""
    job = Job(tmp_path, keep=1)
    job.save("1")
    interrupt(monkeypatch, lambda: job.save("2"))

    assert job.read() == (2, "2")


def test_sets_that_are_always_removed_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that saves faster than a set can be read keeps nobody busy for ever."""
    job = Job(tmp_path, keep=1)
    job.save("0")
    words = iter(range(10 * TRIES))
    interrupt(monkeypatch, lambda: job.save(str(next(words))), times=10 * TRIES)

    with pytest.raises(StoreUnavailable, match="replaced faster than they can be read"):
        job.read()


def test_a_store_that_is_emptied_while_it_is_read_holds_nothing(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no error of the reader."""
    job.save("1")
    interrupt(monkeypatch, lambda: shutil.rmtree(job.root))

    assert job.read() is None


# Two machines of one job


def while_copying(monkeypatch: pytest.MonkeyPatch, name: str, then: Callable[[], Any]) -> None:
    """Do that, once, after an agent has copied the file of that name."""
    real, left = folder._copy, [1]

    def copy(source: Path, target: Path) -> dict[str, Any] | None:
        made = real(source, target)
        if source.name == name and left[0]:
            left[0] = 0
            then()
        return made

    monkeypatch.setattr(folder, "_copy", copy)


def test_a_second_machine_counts_on(job: Job, tmp_path: Path) -> None:
    """From the numbers of the first; the newest set is that of the second, and none of its files are the first's."""
    job.save("1", "2")
    (tmp_path / "second").mkdir()
    second = Job(tmp_path / "second")
    second.made = Checkpoints(second.source, FolderSets(job.sets), 3)
    second.save("3")

    assert complete_sets(job.sets) == [1, 2, 3]
    assert job.read() == (3, "3")


@pytest.mark.parametrize("name", ["a", "b", "same"])
def test_two_machines_at_the_same_time_never_mix(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """One that was given up may still be at work: its set ends whole, or not at all."""
    job.save("1")
    (tmp_path / "second").mkdir()
    second = Job(tmp_path / "second")
    second.made = Checkpoints(second.source, FolderSets(job.sets), 3)
    while_copying(monkeypatch, name, lambda: second.save("2"))
    job.write("3")
    with pytest.raises(FileNotFoundError):  # the second has cleared what looked like the first's half set
        job.made.save(None)

    assert job.read() == (3, "2")
    job.save("4")
    assert job.read() == (4, "4")


def test_a_number_belongs_to_whoever_made_its_folder(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that count at the same moment: the later one fails, and takes the next number when it tries again."""
    job.save("1")
    job.write("2")
    real = Path.mkdir

    def mkdir(path: Path, *args: Any, **how: Any) -> None:
        if path == job.sets.resolve() / "2":
            real(path)
        real(path, *args, **how)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", mkdir)
        with pytest.raises(FileExistsError):
            job.made.save(None)

    job.save("3")
    assert job.read() == (3, "3")


# A store that fails


class Agent:
    """The agent's side of the store, with its notes."""

    def __init__(self, job: Job, tmp_path: Path) -> None:
        self.machine = tmp_path / "machine"
        self.machine.mkdir()
        (self.machine / "output.log").write_text("log")
        (self.machine / "result.json").write_text("{}")
        self.notes: dict[str, str] = {}
        orders = {
            "job": "j-1",
            "attempt": 1,
            "workdir": str(job.source.parent),
            "store": {"kind": "folder", "path": str(job.root)},
            "checkpoints": {"path": "source", "every_s": 0.0, "keep": 3},
        }
        self.store = AgentStore(orders, self.machine, self.notes, Egress(None, self.machine))

    def save(self) -> list[str]:
        """The last checkpoints and the log, as at the end of a run; the notes after it."""
        self.store.last(None, lambda: True)
        return self.told()

    def told(self) -> list[str]:
        """The notes, once all is sent that is being sent."""
        assert self.store.thread is not None
        self.store.thread.join(60)
        assert not self.store.busy()
        return list(self.notes.values())


def test_a_store_that_vanishes_is_made_anew_and_noted(job: Job, tmp_path: Path) -> None:
    """The agent goes on, and the user learns that what was saved before is no longer there."""
    agent = Agent(job, tmp_path)
    job.write("1")
    assert agent.save() == []
    shutil.rmtree(job.root)
    job.write("2")

    assert agent.save() == ["store: the checkpoints saved before have gone from it; saved anew"]
    assert job.read() == (1, "2")


def test_a_store_that_vanishes_while_a_set_is_made_leaves_no_half_set(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is noted, the log goes all the same, and the next save makes a whole set."""
    agent = Agent(job, tmp_path)
    job.write("1")
    with monkeypatch.context() as patched:
        while_copying(patched, "a", lambda: shutil.rmtree(job.root))
        [note] = agent.save()

    assert note.startswith("store: checkpoints: ")
    assert job.read() is None
    assert (job.root / "j-1/1/output.log").read_text() == "log"
    assert agent.save() == []
    assert job.read() == (1, "1")


def test_what_cannot_be_sent_does_not_hold_up_the_rest(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No checkpoint fits on the store's disk any more: the log and the result do, and the note stays."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    agent = Agent(job, tmp_path)
    job.write("1")
    monkeypatch.setattr(folder, "_copy", full)
    notes = agent.save()
    agent.store.result()

    assert notes == agent.told() == ["store: checkpoints: [Errno 28] No space left on device"]
    assert sorted(path.name for path in (job.root / "j-1/1").iterdir()) == ["output.log", "result.json"]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="needs root: mounts a small file system")
def test_a_full_store_keeps_what_it_has(job: Job, tmp_path: Path) -> None:
    """Nothing of the set that does not fit stays; once there is room, saving goes on."""
    job.root.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(job.root)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"may not mount: {mounted.stderr.decode().strip()}")
    try:
        agent = Agent(job, tmp_path)
        job.write("1")
        assert agent.save() == []
        job.write("2")
        (job.source / "same").write_bytes(bytes(2 << 20))
        [note] = agent.save()
        held = sum(path.stat().st_size for path in job.root.rglob("*") if path.is_file())
        before = job.read()
        (job.source / "same").write_bytes(b"")
        after, told = agent.save(), job.read()
    finally:
        subprocess.run(["umount", str(job.root)], check=True)

    assert note == "store: checkpoints: [Errno 28] No space left on device"
    assert held < 4096
    assert (before, after, told) == ((1, "1"), [], (2, "2"))


# What a checkpoint says of itself


@pytest.mark.parametrize(
    ("paths", "step"),
    [
        (["checkpoint-500/model.safetensors", "checkpoint-1000/model.safetensors"], 1000),
        (["epoch=3-step=1200.ckpt", "last.ckpt"], 1200),
        (["step-000200.npz", "step-000400.npz"], 400),
        (["global_step500/mp_rank_00_model_states.pt"], 500),
        (["iter_0001000/weights"], 1000),
        (["model.pt", "optimizer-2.pt"], None),
        (["step-99999999999999999999.pt"], None),
        ([], None),
    ],
)
def test_the_step_is_read_from_the_files_names(paths: list[str], step: int | None) -> None:
    """As the usual programs write it; unknown where no name speaks of one."""
    file = CheckpointFile(size=0, sha256="", mtime_ns=0)

    assert Checkpoint(n=1, at="", bytes=0, files=dict.fromkeys(paths, file)).step == step
