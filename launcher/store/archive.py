"""A working folder as one archive with a name made of its content: the same files always give the same archive.

Order, times, owners and modes are fixed, so that a folder which did not change is recognised, and not sent again.
"""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import os
import stat
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.core.errors import UsageError
from launcher.store.ignore import Ignored
from launcher.store.sizes import size_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import BinaryIO, Self

# Above this, sending the folder with every job is a mistake more often than a wish.
LARGEST_BYTES = 2 << 30
# 1980-01-01, the oldest time that a zip file can hold: some tools pack what they find here into one.
MTIME_S = 315_532_800
GZIP_LEVEL = 6
READ_BYTES = 1 << 20
SHOWN = 8

# Files that hold secrets by their very names, in lower case: a name, or a folder and a name.
_SECRET = (
    ".env",
    ".env.*",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "*.pem",
    "*.p12",
    "*.pfx",
    "*.ppk",
    "credentials",
    "credentials.json",
    "application_default_credentials.json",
    "client_secret*.json",
    "service_account*.json",
    "service-account*.json",
    "kaggle.json",
    ".netrc",
    ".pypirc",
    ".pgpass",
    ".git-credentials",
    ".aws/*",
    ".azure/*",
    ".gnupg/*",
    ".kube/*",
    ".ssh/*",
    "gcloud/*",
)
_HARMLESS = (".env.example", ".env.sample", ".env.template", ".env.dist")


@dataclass(frozen=True)
class Archive:
    """A packed working folder. `file` has no name on the disk, and goes when it is closed. Sizes in bytes."""

    sha256: str
    bytes: int
    content_bytes: int
    files: int
    file: BinaryIO

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.file.close()


@dataclass(frozen=True)
class _Entry:
    """One thing to pack: its path in the archive and its kind, from lstat."""

    path: str
    mode: int
    size: int = 0
    link: str = ""


def pack_workdir(path: Path, *, without: Sequence[Path] = (), largest_bytes: int = LARGEST_BYTES) -> Archive:
    """Pack a working folder; `without` names folders to leave out, such as a store that lies in it.

    What .gitignore and .dockerignore name is left out. Raises UsageError, before anything is packed, for a folder above
    `largest_bytes`, for files that look like secrets, and for links that lead out of the folder; and for what cannot be
    read.
    """
    root = path.resolve()
    if not root.is_dir():
        raise UsageError(f"The workdir {path} is not a folder.", fix="Change `workdir` in the job file.")
    ignored = Ignored(root)
    try:
        entries = list(_walk(root, "", ignored, {each.resolve() for each in without}))
        _refuse_outside_links(root, entries)
        _refuse_secrets(entries, ignored)
        _refuse_size(root, entries, largest_bytes)
        return _pack(root, entries)
    except OSError as error:
        raise UsageError(
            f"The workdir {path} cannot be packed: {error.strerror or error}: {error.filename or root}.",
            fix="Make it readable, or name it in .dockerignore to leave it out.",
        ) from error


def _walk(root: Path, folder: str, ignored: Ignored, without: set[Path]) -> Iterator[_Entry]:
    """What is to be packed, in the order of the names. Raises OSError."""
    with os.scandir(root / folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            if not ignored.leaves_out_folder(path) and Path(entry.path) not in without:
                yield _Entry(path, status.st_mode)
                yield from _walk(root, path, ignored, without)
        elif entry.name == ".git" or ignored.leaves_out(path):
            continue
        elif stat.S_ISLNK(status.st_mode):
            yield _Entry(path, status.st_mode, link=str(Path(entry.path).readlink()))
        elif stat.S_ISREG(status.st_mode):
            yield _Entry(path, status.st_mode, status.st_size)


def _refuse_outside_links(root: Path, entries: list[_Entry]) -> None:
    leading_out = [entry for entry in entries if entry.link and not _target(root, entry).is_relative_to(root)]
    if leading_out:
        raise UsageError(
            f"Links in the workdir lead out of it: {_listed(f'{each.path} -> {each.link}' for each in leading_out)}.",
            "What they point at would not be on the machine.",
            "Put the files themselves there, or name the links in .dockerignore to leave them out.",
        )


def _refuse_secrets(entries: list[_Entry], ignored: Ignored) -> None:
    secret = (each.path for each in entries if _is_file(each) and _is_secret(each.path))
    found = [path for path in secret if not ignored.is_asked_for(path)]
    if found:
        raise UsageError(
            f"Files in the workdir look like secrets: {_listed(found)}.",
            "Whoever can read the store could read them.",
            f"Name them in .dockerignore to leave them out; as an exception (!{found[0]}) to send them all the same.",
        )


def _is_file(entry: _Entry) -> bool:
    return not stat.S_ISDIR(entry.mode)


def _is_secret(path: str) -> bool:
    """By the last two parts of the path, so that `.aws/config` counts wherever it lies."""
    folder, _, name = path.lower().rpartition("/")
    if name in _HARMLESS:
        return False
    both = f"{folder.rpartition('/')[2]}/{name}"
    return any(fnmatch.fnmatchcase(both if "/" in pattern else name, pattern) for pattern in _SECRET)


def _refuse_size(root: Path, entries: list[_Entry], largest_bytes: int) -> None:
    total = sum(entry.size for entry in entries)
    if total <= largest_bytes:
        return
    sizes: dict[str, int] = {}
    for entry in entries:
        top = entry.path.partition("/")[0]
        sizes[top] = sizes.get(top, 0) + entry.size
    biggest = sorted(sizes, key=lambda top: sizes[top], reverse=True)[:SHOWN]
    raise UsageError(
        f"The workdir {root} holds {size_text(total)}; at most {size_text(largest_bytes)} are sent.",
        f"The biggest in it: {', '.join(f'{top} ({size_text(sizes[top])})' for top in biggest)}.",
        "Name in .dockerignore what the training does not need, and let it fetch its data itself.",
    )


def _pack(root: Path, entries: list[_Entry]) -> Archive:
    """Raises OSError, and UsageError for a file that changes meanwhile."""
    file = tempfile.TemporaryFile(prefix="gpulaunch-")  # noqa: SIM115 - the archive closes it
    try:
        # Neither the name nor the time of packing goes into the header.
        with (
            gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for entry in entries:
                _add(tar, root, entry)
        file.seek(0)
        digest = hashlib.sha256()
        while part := file.read(READ_BYTES):
            digest.update(part)
        size = file.tell()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return Archive(
        sha256=digest.hexdigest(),
        bytes=size,
        content_bytes=sum(entry.size for entry in entries),
        files=sum(map(_is_file, entries)),
        file=file,
    )


def _add(tar: tarfile.TarFile, root: Path, entry: _Entry) -> None:
    info = tarfile.TarInfo(entry.path)
    info.mtime = MTIME_S
    info.mode = 0o755 if stat.S_ISDIR(entry.mode) or entry.mode & stat.S_IXUSR else 0o644
    if entry.link:
        info.type = tarfile.SYMTYPE
        info.mode = 0o777
        info.linkname = _inner_link(root, entry)
        tar.addfile(info)
    elif stat.S_ISDIR(entry.mode):
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    else:
        info.size = entry.size
        with (root / entry.path).open("rb") as file:
            try:
                tar.addfile(info, file)
            except OSError as error:
                if error.errno is not None:
                    raise
                raise UsageError(
                    f"{entry.path} became shorter while the workdir was packed.",
                    fix="Run the command again when nothing writes there, or name the file in .dockerignore.",
                ) from error


def _target(root: Path, entry: _Entry) -> Path:
    """Where a link ends, there or not."""
    return Path(os.path.realpath(root / entry.path))


def _inner_link(root: Path, entry: _Entry) -> str:
    """What a link says, unless that holds on this computer only: then the way to its end, within the folder."""
    by_words = os.path.normpath(os.path.join(os.path.dirname(entry.path), entry.link))  # noqa: PTH118, PTH120
    if not by_words.startswith(("/", "..")):
        return entry.link
    return os.path.relpath(_target(root, entry), (root / entry.path).parent)


def _listed(found: Iterator[str] | list[str]) -> str:
    every = [repr(each)[1:-1] for each in found]
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more
