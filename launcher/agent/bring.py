"""What the training needs before it starts: its working folder, and the checkpoints that another machine has saved.

It runs as a program of its own, before the container does: what it prints is the heartbeat's note and the log's first
lines. A machine's role may take minutes until the store knows it, so a refusal is asked again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import clock
from .bucket import BucketSets
from .objects import READ_BYTES, Objects, open_objects, stored_name
from .store import checkpoints_folder

MARK = "brought"
PATIENCE_S = 900.0
AGAIN_S = 10.0
TELL_S = 2.0
TIMEOUT_S = 30.0
NO_WORKDIR, NO_CHECKPOINT = 2, 3


class Damaged(Exception):
    """What came is not what was sent."""


class Progress:
    """Says how much has come, now and then."""

    def __init__(self, what: str, size: int) -> None:
        self.what, self.size, self.come = what, size, 0
        self.next = 0.0

    def __call__(self, more: int) -> None:
        """So many bytes more."""
        self.come += more
        if clock.awake() >= self.next:
            self.next = clock.awake() + TELL_S
            say(f"{self.what}: {self.come / 1e6:.1f} of {self.size / 1e6:.1f} MB")


def say(text: str) -> None:
    """A line of the log."""
    print(f"gpulaunch: {text}", flush=True)


def bring(orders: dict[str, Any], folder: Path) -> int:
    """Bring both; the exit code."""
    steps = []
    if orders.get("archive"):
        steps.append((_workdir, NO_WORKDIR))
    if orders.get("resume") and orders["store"] and orders["checkpoints"] and orders["attempt"] > 1:
        steps.append((_checkpoint, NO_CHECKPOINT))
    for step, code in steps:
        try:
            patiently(lambda step=step: step(orders, folder))  # type: ignore[misc]
        except (OSError, Damaged, tarfile.TarError, ValueError, KeyError) as error:
            say(f"{type(error).__name__}: {error}")
            return code
    (folder / MARK).touch()
    return 0


def patiently(work: Callable[[], None]) -> None:
    """Try it until it works, or there is no point or no time any more. Raises what it raised last."""
    until = clock.awake() + PATIENCE_S
    while True:
        try:
            return work()
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError as error:
            if clock.awake() > until:
                raise
            say(f"{error}; again in {AGAIN_S:.0f} s")
            time.sleep(AGAIN_S)


# The working folder


def _workdir(orders: dict[str, Any], folder: Path) -> None:
    wanted, store = orders["archive"], orders["store"]
    file = folder / "workdir.tar.gz"
    progress = Progress("the working folder comes", wanted["bytes"])
    if url := store.get("archive_url"):
        digest = _download(url, file, progress)
    else:
        digest = open_objects(store).fetch(wanted["path"], file, wanted["bytes"], progress)
    if digest != wanted["sha256"]:
        raise Damaged(f"the archive {wanted['path']} is not what was sent: its checksum differs")
    unpack(file, Path(orders["workdir"]))
    file.unlink()
    say(f"the working folder is here: {wanted['bytes'] / 1e6:.1f} MB, checksum right")


def _download(url: str, file: Path, progress: Progress) -> str:
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as reply, file.open("wb") as target:  # noqa: S310 - ours
            while data := reply.read(READ_BYTES):
                digest.update(data)
                target.write(data)
                progress(len(data))
    except urllib.error.HTTPError as error:
        raise OSError(f"the store answers {error.code}") from error  # the address is a capability: not into the log
    return digest.hexdigest()


def unpack(file: Path, target: Path) -> None:
    """Unpack an archive: plain files, folders, and links that stay inside. Raises Damaged for anything else."""
    root = target.resolve()
    with tarfile.open(file) as archive:
        for member in archive:
            path = root / member.name
            inside = [path.parent / member.linkname] if member.issym() else []
            for each in (path, *inside):
                if not each.resolve().is_relative_to(root):
                    raise Damaged(f"{member.name!r} in the archive leads out of the working folder")
            if not (member.isreg() or member.isdir() or member.issym()):
                raise Damaged(f"{member.name!r} in the archive is no file, folder or link")
            if path.is_symlink():
                path.unlink()
            # The image's user may be any.
            member.mode = 0o777 if member.isdir() or member.mode & 0o100 else 0o666
            member.uid = member.gid = os.getuid()
            member.uname = member.gname = ""
            archive.extract(member, root)


# The checkpoints of another machine


def _checkpoint(orders: dict[str, Any], folder: Path) -> None:
    objects = open_objects(orders["store"])
    if not objects.readable:
        say("the store can only be written: the training starts without the checkpoints of the machine before")
        return
    root = f"{orders['job']}/checkpoints"
    sets = BucketSets(objects, root, orders["attempt"], folder / "sets.json")
    target = checkpoints_folder(orders)
    for n in reversed(sets.complete()):
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            _fetch(objects, root, n, sets.files(n), part)
        except (Damaged, FileNotFoundError, ValueError, KeyError) as error:
            say(f"checkpoint {n} is not whole: {error}; the one before is looked for")
            continue
        shutil.rmtree(target, ignore_errors=True)  # it came with the working folder
        part.rename(target)
        say(f"checkpoint {n} is here: the training can go on from it")
        return
    say("there is no checkpoint of the machine before: the training starts anew")


def _fetch(objects: Objects, root: str, n: int, files: dict[str, Any], into: Path) -> None:
    promised = json.loads(objects.get(f"{root}/{n}/manifest.json"))["files"]
    if missing := set(promised) - set(files):
        raise Damaged(f"{min(missing)!r} has gone")
    progress = Progress(f"checkpoint {n} comes", sum(known["size"] for known in files.values()))
    _folder(into, into)
    for path, known in files.items():
        file = into / path
        if ".." in file.parts or not file.is_relative_to(into):
            raise Damaged(f"{path!r} is outside the checkpoints")
        _folder(file.parent, into)
        key = f"{root}/{known.get('set', n)}/files/{stored_name(path)}"
        if objects.fetch(key, file, known["size"], progress) != known["sha256"]:
            raise Damaged(f"the checksum of {path!r} differs")
        file.chmod(0o666)
        os.utime(file, ns=(known["mtime_ns"], known["mtime_ns"]))


def _folder(folder: Path, above: Path) -> None:
    """Make a folder that any user may write, and those between."""
    folder.mkdir(parents=True, exist_ok=True)
    while folder.is_relative_to(above):
        folder.chmod(0o777)
        folder = folder.parent
