"""`gpulaunch report`: what happened to a job, as a page or as data."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launcher.cli.follow import describe
from launcher.cli.screen import say
from launcher.cli.state import open_state_if_any
from launcher.core.errors import Exit, UsageError

if TYPE_CHECKING:
    from launcher.cli.state import Context

_BY_SUFFIX = {".html": "html", ".htm": "html", ".json": "json"}


@click.command()
@click.argument("job")
@click.option(
    "--format",
    "form",
    type=click.Choice(["md", "html", "json"]),
    help="By default what FILE's ending says: .html, .json, else Markdown.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write it to this file, whole or not at all.",
)
def report(*, job: str, form: str | None, output: Path | None) -> int:
    """Tell what a job did and what it cost: where it ran, its outcome, its bill, its best metric, a chart.

    JOB is a name or an id. A job that is live gets a report too, marked as such.
    """
    state = open_state_if_any()
    if state is None:
        raise UsageError(f"There is no job {job[:60]!r}.", "No job was ever launched here.", "gpulaunch up")
    document = _document(state, job)
    text = _rendered(document, form or _BY_SUFFIX.get(output.suffix.lower() if output else "", "md"))
    if output is None or str(output) == "-":
        # Bytes: a page is UTF-8 wherever it is read, whatever this terminal's own encoding is.
        click.echo(text.encode(), nl=False)
    else:
        _write(output, text)
        say(f"Written to {output}.")
    return Exit.OK


def _document(state: Context, name_or_id: str) -> dict[str, Any]:
    from launcher.report.document import make_report

    job = state.journal.find(name_or_id)
    attempts, events = state.journal.attempts(job.id), state.journal.events(job.id)
    return make_report(job, attempts, events, state.clock.now(), describe)


def _rendered(document: dict[str, Any], form: str) -> str:
    if form == "json":
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    from launcher.report.page import to_html, to_markdown

    return to_html(document) if form == "html" else to_markdown(document)


def _write(output: Path, text: str) -> None:
    """Put the text into the file, which never holds a part of it. Raises UsageError where it cannot be written."""
    if output.is_dir():
        raise UsageError(f"{output} is a folder.", fix=f"Name a file in it: -o {output / 'TRAINING.md'}")
    try:
        if output.exists() and not output.is_file():  # a pipe or a terminal: nothing there could be replaced
            output.write_text(text, encoding="utf-8")
            return
        target = output.resolve()  # a link keeps pointing where it points
        part = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
        try:
            with part.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"The report cannot be written to {output}: {error.strerror or error}.",
            fix="Name another file with -o, or leave -o out to have it on stdout.",
        ) from error
