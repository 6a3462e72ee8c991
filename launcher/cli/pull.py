"""`gpulaunch pull`: bring home what a job has made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.cli.screen import put, put_json, say
from launcher.cli.state import open_state_if_any
from launcher.config import load_config
from launcher.core.errors import Exit, UsageError
from launcher.outcome import State

if TYPE_CHECKING:
    from launcher.cli.state import Context
    from launcher.records import Job
    from launcher.store.pull import Pulled, Source


@click.command()
@click.argument("job")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def pull(*, job: str, folder: Path | None, as_json: bool) -> int:
    """Fetch a job's newest whole checkpoint, its log and its result into DIR.

    JOB is a name or an id; DIR is by default a folder of the job's name here. Works while the job is live, and
    afterwards. A job of another computer is looked for in the store that the configuration names.
    """
    from launcher.store.pull import lines
    from launcher.store.pull import pull as fetch

    source = _source(job)
    if source.store is not None and "://" in source.store.address:
        say(f"Fetching from {source.store.address}: this may take a while.")
    pulled = fetch(source, folder or Path(source.name))
    for note in pulled.notes:
        say(note)
    if as_json:
        put_json(_document(source, pulled))
    else:
        for line in lines(source, pulled):
            put(line)
    return Exit.OK


def _source(name_or_id: str) -> Source:
    """Where the job's things lie: by the journal, or else in the configured store. Raises UsageError."""
    state = open_state_if_any()
    try:
        if state is None:
            raise UsageError(f"There is no job {name_or_id[:60]!r}.", "No job was ever launched here.", "gpulaunch up")
        job = state.journal.find(name_or_id)
    except UsageError:
        address = load_config(os.environ).store
        if address in (None, "none"):
            raise
        return _from_store(str(address), name_or_id)
    return _from_journal(state, job)


def _from_journal(state: Context, job: Job) -> Source:
    from launcher.job import spec_from_json
    from launcher.store.pull import Source
    from launcher.workdir import job_store

    spec = spec_from_json(job.spec)
    made = [attempt for attempt in state.journal.attempts(job.id) if attempt.create_called]
    log = made[-1].log_path if made else None
    saved_to = None
    if job.provider == "local":
        inside = spec.checkpoints.path if spec.checkpoints else ""
        saved_to = Path(spec.workdir, inside.removeprefix("/workspace").lstrip("/"))
    return Source(
        job=job.id,
        name=job.name,
        live=job.state != State.GONE,
        store=None if spec.store in (None, "none") else job_store(str(spec.store), job.settings or {}),
        attempt=made[-1].number if made else None,
        log_path=Path(log) if log else None,
        saved_to=saved_to,
    )


def _from_store(address: str, name_or_id: str) -> Source:
    from launcher.store.pull import Source
    from launcher.store.store import open_store

    store = open_store(address)
    job = store.find_job(name_or_id)
    result = store.result(job)
    name = str(result["name"]) if result and "name" in result else job
    return Source(job=job, name=name, live=result is None, store=store)


def _document(source: Source, pulled: Pulled) -> dict[str, object]:
    return {
        "job": source.job,
        "name": source.name,
        "folder": str(pulled.folder.resolve()),
        "store": source.store.address if source.store else None,
        "checkpoint": pulled.checkpoint,
        "log": pulled.log,
        "result": pulled.result,
        "notes": pulled.notes,
    }
