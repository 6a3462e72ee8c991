"""What lies in a job's store, seen from the launcher's side. The agent writes it; launcher/agent/store.py says how.

    <store>/<job>/checkpoints/<n>/files/…          a set of checkpoint files
    <store>/<job>/checkpoints/<n>/manifest.json    written last: a set without it is not complete
    <store>/<job>/<attempt>/output.log.1           the log's older part, where it was rotated
    <store>/<job>/<attempt>/output.log
    <store>/<job>/<attempt>/log/<n>                in a bucket: the log in chunks, while it grows
    <store>/<job>/<attempt>/heartbeat              in a bucket: the newest line of the machine's console
    <store>/<job>/<attempt>/result.json            how that machine ended, written last
    <store>/archives/<sha256>.tar.gz               working folders, by their content
    <store>/agents/<sha256>                        the part of the agent that a machine fetches, by its content

Nothing is believed unchecked: a set counts once every file of it has the size and the checksum that its manifest says.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec

from launcher.agent.objects import stored_name
from launcher.core.errors import UsageError
from launcher.store.bucket import Bucket, ObjectNotFound, StoreDamaged, StoreError, StoreUnavailable, open_bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from launcher.store.archive import Archive

# A training that saves faster than a set can be read would keep a reader busy for ever.
TRIES = 10
# What lies beside the jobs.
OURS = ("archives", "agents")
_STEP = re.compile(r"(?:steps?|iters?|iteration|checkpoint|ckpt)[-_=.]?0*(\d{1,12})(?!\d)", re.IGNORECASE)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


class NotInStore(UsageError):
    """The store knows no such job."""


class CheckpointFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a set, as its manifest describes it. Size in bytes."""

    size: int
    sha256: str
    mtime_ns: int
    set: int | None = None
    """The number of the set in whose folder it lies, where it is not this one's."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One complete set: its number, when it was saved (RFC 3339), its size, and its files by their paths."""

    n: int
    at: str
    bytes: int
    files: dict[str, CheckpointFile]

    @property
    def step(self) -> int | None:
        """The highest step that the files' names speak of, if any: `checkpoint-500`, `step=200`, `iter_0001000`."""
        steps = [int(step) for path in self.files for step in _STEP.findall(path)]
        return max(steps, default=None)


class Store:
    """One store. Every method raises StoreError when the store cannot be used."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self.address = bucket.address

    def find_job(self, name_or_id: str) -> str:
        """The id of a job: that id, or the job of that name that ended last. Raises NotInStore.

        A job is known by its name once a machine of it has written its result.
        """
        jobs = [each for each in self._bucket.folders() if _ID.fullmatch(each) and each not in OURS]
        if name_or_id in jobs:
            return name_or_id
        results = {job: self.result(job) or {} for job in jobs}
        named = [job for job, result in results.items() if result.get("name") == name_or_id]
        if not named:
            raise NotInStore(f"There is no job {name_or_id[:60]!r} in {self.address}.")
        return max(named, key=lambda job: str(results[job].get("ended_at")))

    def attempts(self, job: str) -> list[int]:
        """The machines that have written something, oldest first."""
        return sorted(int(each) for each in self._bucket.folders(job) if each.isdecimal())

    def result(self, job: str, attempt: int | None = None) -> dict[str, Any] | None:
        """How a machine ended, by default the newest that has written something; None before it has."""
        for number in self._wanted(job, attempt):
            path = f"{job}/{number}/result.json"
            try:
                result = json.loads(self._bucket.get(path))
            except ObjectNotFound:
                return None
            except ValueError as error:
                raise StoreDamaged(f"{path} in {self.address} is no JSON.", str(error)) from error
            return result if isinstance(result, dict) else None
        return None

    def heartbeat(self, job: str, attempt: int) -> bytes:
        """The newest heartbeat of a machine; empty before it has sent one."""
        try:
            return self._bucket.get(f"{job}/{attempt}/heartbeat")
        except ObjectNotFound:
            return b""

    def log(self, job: str, attempt: int | None = None) -> Iterator[bytes] | None:
        """What the training printed on a machine, by default the newest, part by part; None before it was sent."""
        for number in self._wanted(job, attempt):
            sizes = {}
            for name in (*self.log_chunks(job, number), "output.log.1", "output.log"):
                path = f"{job}/{number}/{name}"
                try:
                    sizes[path] = self._bucket.size(path)
                except ObjectNotFound:
                    continue
            return self._joined(sizes) if sizes else None
        return None

    def log_chunks(self, job: str, attempt: int) -> list[str]:
        """The chunks of a log that came while it grew, in order, by their names below the attempt."""
        names = self._bucket.names(f"{job}/{attempt}/log")
        return [f"log/{name}" for name in sorted(names) if name.isdecimal()]

    def log_chunk(self, job: str, attempt: int, name: str) -> bytes:
        """One of them. Raises ObjectNotFound."""
        return self._bucket.get(f"{job}/{attempt}/{name}")

    def _wanted(self, job: str, attempt: int | None) -> list[int]:
        return self.attempts(job)[-1:] if attempt is None else [attempt]

    def _joined(self, sizes: dict[str, int]) -> Iterator[bytes]:
        for path, size in sizes.items():
            yield from self._bucket.parts(path, size)

    # Checkpoints

    def checkpoint(self, job: str, n: int) -> Checkpoint | None:
        """What the manifest of a set says; None without one: the set is not complete, or is being removed.

        Raises StoreDamaged for a manifest that cannot be read.
        """
        path = f"{job}/checkpoints/{n}/manifest.json"
        try:
            # Python's own reader: a file's name need not be UTF-8, and is then one that msgspec refuses.
            found = msgspec.convert(json.loads(self._bucket.get(path)), Checkpoint)
        except ObjectNotFound:
            return None
        except (ValueError, msgspec.ValidationError) as error:
            raise StoreDamaged(f"{path} in {self.address} is damaged.", str(error)) from error
        for each in found.files:
            inside = PurePosixPath(each)
            if inside.is_absolute() or not inside.parts or ".." in inside.parts or "\0" in each:
                raise StoreDamaged(f"{path} in {self.address} names a file outside the checkpoints: {each!r}.")
        return found

    def latest_checkpoint(
        self, job: str, into: Path | None = None, warn: Callable[[str], None] = lambda _: None
    ) -> Checkpoint | None:
        """The newest complete set whose every file has the right size and checksum, or None when there is none.

        With `into`, an empty folder, its files are in it. A set that is removed while it is read gives way to the
        newest; one that is damaged to the one before it, which `warn` is told. Raises StoreDamaged when there are sets
        and none is right; OSError when the folder cannot be written.
        """
        assert into is None or not any(into.iterdir()), "what else lies there would be removed"
        seen: set[int] = set()
        vanished = 0
        damage: StoreDamaged | None = None
        while left := self._sets(job) - seen:
            n = max(left)
            seen.add(n)
            try:
                found = self.checkpoint(job, n)
                if found is not None:
                    self._fetch(job, found, into)
                    return found
            except ObjectNotFound as error:
                if not self._is_there(job, n):
                    vanished += 1
                    self._check_pace(vanished)
                    continue
                damage = StoreDamaged(f"Checkpoint {n} in {self.address} is not whole.", error.what)
                warn(f"{damage} An earlier one is looked for.")
            except StoreDamaged as error:
                damage = error
                warn(f"{damage} An earlier one is looked for.")
        if damage is not None:
            raise damage
        return None

    def _sets(self, job: str) -> set[int]:
        return {int(each) for each in self._bucket.folders(f"{job}/checkpoints") if each.isdecimal()}

    def _check_pace(self, vanished: int) -> None:
        if vanished >= TRIES:
            raise StoreUnavailable(
                f"The checkpoints in {self.address} are replaced faster than they can be read.",
                f"{vanished} of them were removed while they were read.",
                "Keep more of them (`keep` under `checkpoints` in the job file), or wait for the job's end.",
            )

    def _is_there(self, job: str, n: int) -> bool:
        """Whether a set still counts as complete: its manifest goes first when it is removed."""
        try:
            return self._bucket.size(f"{job}/checkpoints/{n}/manifest.json") > 0
        except ObjectNotFound:
            return False

    def _fetch(self, job: str, checkpoint: Checkpoint, into: Path | None) -> None:
        """Bring the files of a set, or nothing; without a folder, check them only."""
        try:
            for path, file in checkpoint.files.items():
                parts = self._checked(f"{job}/checkpoints/{file.set or checkpoint.n}/files/{stored_name(path)}", file)
                if into is None:
                    for _ in parts:
                        pass
                    continue
                (into / path).parent.mkdir(parents=True, exist_ok=True)
                write_parts(into / path, parts)
                os.utime(into / path, ns=(file.mtime_ns, file.mtime_ns))
        except (StoreError, OSError):
            for left in into.iterdir() if into is not None else ():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            raise

    def _checked(self, path: str, file: CheckpointFile) -> Iterator[bytes]:
        """A file of a set, part by part. Raises StoreDamaged, at the end, when it is not what was written."""
        size = self._bucket.size(path)
        if size != file.size:
            raise StoreDamaged(f"{path} in {self.address} has {size} bytes; {file.size} were written.")
        digest = hashlib.sha256()
        for part in self._bucket.parts(path, size):
            digest.update(part)
            yield part
        if digest.hexdigest() != file.sha256:
            raise StoreDamaged(f"{path} in {self.address} is not what was written: its checksum differs.")

    # Working folders

    def put_archive(self, archive: Archive) -> bool:
        """Send a packed working folder, unless it lies there already; whether it was sent."""
        path = archive_path(archive.sha256)
        try:
            if self._bucket.size(path) == archive.bytes:
                return False
        except ObjectNotFound:
            pass
        archive.file.seek(0)
        self._bucket.put(path, archive.file)
        return True

    def put_agent(self, packed: bytes) -> str:
        """Send a part of the agent, unless it lies there already; its path."""
        path = agent_path(packed)
        try:
            if self._bucket.size(path) == len(packed):
                return path
        except ObjectNotFound:
            pass
        self._bucket.put(path, packed)
        return path

    def sign(self, path: str, for_s: float) -> str:
        """An address by which anybody can read that one object, for so many seconds. A folder has none: UsageError."""
        return self._bucket.sign(path, for_s)


def archive_path(sha256: str) -> str:
    """Where the working folder with that checksum lies in a store."""
    return f"archives/{sha256}.tar.gz"


def agent_path(packed: bytes) -> str:
    """Where that part of the agent lies in a store."""
    return f"agents/{hashlib.sha256(packed).hexdigest()}"


def write_parts(path: Path, parts: Iterator[bytes]) -> int:
    """Write a new file, to the disk; its size in bytes."""
    with path.open("xb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def open_store(url: str, environ: Mapping[str, str] | None = None) -> Store:
    """The store at that address: a folder, s3://, gs:// or az://. Asks nothing of it yet. Raises UsageError."""
    return Store(open_bucket(url, os.environ if environ is None else environ))
