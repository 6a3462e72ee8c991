"""`gpulaunch logs`: what a training prints, while it runs and afterwards."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.boot.render import is_rented
from launcher.cli import remote_log
from launcher.cli.state import Context, open_state_if_any
from launcher.core.errors import Exit, UsageError
from launcher.outcome import State

if TYPE_CHECKING:
    from typing import BinaryIO

LOOK_S = 0.3
CHUNK_BYTES = 1 << 16


@click.command()
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Go on as the training prints, until the job is gone.")
def logs(*, job: str, follow: bool) -> int:
    """Show what a training prints.

    JOB is a name or an id. The newest bytes are kept: a log that grew past its bound has lost its beginning. The log of
    a rented machine is read from the job's store, which gets it every 30 seconds, or without one from its console.
    """
    state = open_state_if_any()
    if state is None:
        raise UsageError(f"There is no job {job[:60]!r}.", "No job was ever launched here.")
    found = state.journal.find(job)
    path = _log_path(state, found.id)
    while path is None:
        now = state.journal.job(found.id)
        if is_rented(now.provider) or not follow or now.state == State.GONE:
            remote_log.show(state, found.id, follow=follow)
            return Exit.OK
        time.sleep(LOOK_S)
        path = _log_path(state, found.id)
    older = path.with_name(path.name + ".1")
    if older.exists():
        with older.open("rb") as file:
            _copy(file)
    _show(state, found.id, path, follow=follow)
    return Exit.OK


def _log_path(state: Context, job_id: str) -> Path | None:
    """The log of the newest attempt that has one on this computer."""
    paths = [attempt.log_path for attempt in state.journal.attempts(job_id) if attempt.log_path]
    path = Path(paths[-1]) if paths else None
    return path if path is not None and path.exists() else None


def _show(state: Context, job_id: str, path: Path, *, follow: bool) -> None:
    """Copy the log to stdout; with `follow`, until the job is gone. A rotated log is followed to its successor."""
    file = path.open("rb")
    try:
        while True:
            gone = state.journal.job(job_id).state == State.GONE
            _copy(file)
            if not follow or gone:
                return
            if path.exists() and path.stat().st_ino != _inode(file):
                _copy(file)
                file.close()
                file = path.open("rb")
            time.sleep(LOOK_S)
    finally:
        file.close()


def _inode(file: BinaryIO) -> int:
    import os

    return os.fstat(file.fileno()).st_ino


def _copy(file: BinaryIO) -> None:
    while chunk := file.read(CHUNK_BYTES):
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
