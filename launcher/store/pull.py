"""What `gpulaunch pull` fetches: the newest whole checkpoint, the log and the result of a job.

DIR/checkpoint/…   the files, as they lay under the checkpoints' folder
DIR/output.log     what the training printed on the newest machine
DIR/result.json    how that machine ended
DIR/pull.json      what was fetched, and from where
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.core.errors import Exit, GpulaunchError
from launcher.store.pull_folder import filled, write_mark
from launcher.store.sizes import size_text
from launcher.store.store import write_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from launcher.store.store import Store

READ_BYTES = 1 << 20


class NothingToPull(GpulaunchError):
    """The job has left nothing: yet, while it is live, or for good."""

    def __init__(self, what: str, why: str = "", fix: str = "", *, live: bool) -> None:
        super().__init__(what, why, fix)
        self.exit_code = Exit.RUNNING if live else Exit.UNAVAILABLE


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a job's things lie."""

    job: str
    name: str
    live: bool
    store: Store | None
    attempt: int | None = None
    """The newest machine's number, where it is known here."""
    log_path: Path | None = None
    """The newest machine's log on this computer, with its result beside it."""
    saved_to: Path | None = None
    """The folder on this computer to which the training itself saves."""


@dataclass(kw_only=True)
class Pulled:
    """What was fetched. Sizes in bytes."""

    folder: Path
    checkpoint: dict[str, Any] | None = None
    log: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)


def pull(source: Source, folder: Path) -> Pulled:
    """Fetch it into `folder`, whole or not at all.

    Raises NothingToPull when there is nothing; UsageError for a folder that must not or cannot be written; StoreError.
    """
    pulled = Pulled(folder=folder)
    with filled(folder, source.job) as part:
        pulled.checkpoint = _checkpoint(source, part / "checkpoint", pulled.notes.append)
        pulled.log = _log(source, part / "output.log")
        pulled.result = _result(source, part / "result.json")
        if not (pulled.checkpoint or pulled.log or pulled.result):
            _raise_nothing(source, pulled.notes)
        where = source.store.address if source.store else None
        write_mark(part, {"job": source.job, "name": source.name, "store": where, "checkpoint": pulled.checkpoint})
    return pulled


def _checkpoint(source: Source, into: Path, note: Callable[[str], None]) -> dict[str, Any] | None:
    if source.store is None:
        if source.saved_to is not None:
            note(f"The job has no store; what the training saved lies where it wrote it: {source.saved_to}")
        return None
    into.mkdir()
    found = source.store.latest_checkpoint(source.job, into, note)
    if found is None:
        into.rmdir()
        note(f"There is no whole checkpoint in {source.store.address}{' yet' if source.live else ''}.")
        return None
    return {"n": found.n, "at": found.at, "step": found.step, "files": len(found.files), "bytes": found.bytes}


def _log(source: Source, path: Path) -> dict[str, Any] | None:
    """The log, from this computer if it lies here, else from the store; None if nothing was printed."""
    here = source.log_path
    parts = None
    if here is not None and here.exists():
        parts, where = _read(here), str(here)
    elif source.store is not None:
        parts, where = source.store.log(source.job, source.attempt), source.store.address
    if parts is None:
        return None
    if size := write_parts(path, parts):
        return {"bytes": size, "from": where}
    path.unlink()
    return None


def _read(log: Path) -> Iterator[bytes]:
    for path in (log.with_name(f"{log.name}.1"), log):
        if path.exists():
            with path.open("rb") as file:
                while part := file.read(READ_BYTES):
                    yield part


def _result(source: Source, path: Path) -> dict[str, Any] | None:
    result = None
    here = source.log_path.with_name("result.json") if source.log_path else None
    if here is not None and here.exists():
        result = json.loads(here.read_bytes())
    elif source.store is not None:
        result = source.store.result(source.job, source.attempt)
    if result is not None:
        write_parts(path, iter([json.dumps(result, indent=1).encode()]))
    return result


def _raise_nothing(source: Source, notes: list[str]) -> None:
    raise NothingToPull(
        f"{source.name} has left nothing to fetch{' yet' if source.live else ''}.",
        " ".join(notes),
        f"Where it stands: gpulaunch status {source.name}",
        live=source.live,
    )


def lines(source: Source, pulled: Pulled) -> list[str]:
    """What was fetched, for the screen."""
    found = [f"{source.name} ({source.job}) in {pulled.folder}"]
    if made := pulled.checkpoint:
        step = "" if made["step"] is None else f", step {made['step']}"
        count = f"{made['files']} file{'' if made['files'] == 1 else 's'}"
        found.append(f"  checkpoint  set {made['n']}{step}, saved {made['at']}: {count}, {size_text(made['bytes'])}")
    if pulled.log:
        found.append(f"  log         output.log, {size_text(pulled.log['bytes'])}, from {pulled.log['from']}")
    if pulled.result:
        said = f"{pulled.result.get('outcome')} ({pulled.result.get('reason')})"
        found.append(f"  result      result.json: {said}")
    elif source.live:
        found.append("  result      none yet")
    return found
