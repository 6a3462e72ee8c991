"""Finds the metric files of an attempt by their usual names, and reads what is new in them.

Only what was written since the attempt began counts. The search is bounded: a folder of a million pictures costs no
more than one of 500.
"""

from __future__ import annotations

import csv
import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import Any

from .file_formats import CsvFile, LinesFile, TrainerState
from .line_formats import LineReader, Row, read_json
from .tensorboard import EventFile

FOLDERS = 400
ENTRIES_A_FOLDER = 500
FILES = 256
SEARCH_SHARE = 200  # a search may take one 200th of the time
DATING_NS = 20_000_000  # files are dated by a coarser clock than ours, up to 10 ms behind

# Pattern of the usual name, what such a file holds, and the formats that ask for it.
_USUAL = (
    ("*.tfevents.*", "tensorboard", "tensorboard"),
    ("*.csv", "csv", "lightning keras"),
    ("trainer_state.json", "trainer_state", "hf"),
    ("main.log", "log", "llmc"),
    ("metrics.jsonl", "jsonl", "jsonl"),
)


def walk(top: Path) -> Iterator[Path]:
    """The files below a folder, the nearest first, within bounds, without hidden folders and installed packages."""
    folders = [str(top)]
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                for entry in islice(entries, ENTRIES_A_FOLDER):
                    if not entry.is_dir(follow_symlinks=False):
                        yield Path(entry)
                    elif entry.name[0] != "." and entry.name != "site-packages" and len(folders) < FOLDERS:
                        folders.append(entry.path)
        except OSError:
            continue  # gone again, or not ours to read


class MetricFiles:
    """The metric files below `workdir`, and the one that GPULAUNCH_METRICS_FILE names: `metrics.jsonl` in `folder`.

    `patterns` are the user's own paths, relative to the workdir; `*` matches anything. A file of no usual name is read
    by a reader of lines that `make_lines` makes. `notes` says what could not be read, and why.
    """

    def __init__(
        self, workdir: Path, folder: Path, form: str, patterns: Sequence[str], make_lines: Callable[[], LineReader]
    ) -> None:
        self.notes: dict[Path, str] = {}
        self._workdir = workdir
        self._told = folder / "metrics.jsonl"
        self._form = form
        self._patterns = [each.removeprefix("/workspace/") for each in patterns]
        self._make_lines = make_lines
        self._readers: dict[Path, tuple[str, Any]] = {}
        self._signs: dict[Path, tuple[int, int]] = {}
        self._states: dict[Path, float] = {}
        self._search_at_s = float("-inf")
        self._since_ns = time.time_ns() - DATING_NS

    def _kind(self, path: Path) -> str | None:
        """What we read this file as, or None."""
        named = any(fnmatch(str(path.relative_to(self._workdir)), pattern) for pattern in self._patterns)
        for pattern, kind, formats in _USUAL:
            if fnmatch(path.name, pattern) and (named or self._form == "auto" or self._form in formats):
                return kind
        return "told" if named else None

    def _search(self) -> None:
        """Look for new files, the oldest first."""
        found = [(self._told, "told"), *((path, self._kind(path)) for path in walk(self._workdir))]
        new = [
            (sign[0], path, kind) for path, kind in found if kind and path not in self._signs and (sign := _sign(path))
        ]
        for changed_ns, path, kind in sorted(new):
            if changed_ns >= self._since_ns and len(self._signs) < FILES:
                self._signs[path] = (0, 0)
                self._readers[path] = self._open(path, kind)

    def _open(self, path: Path, kind: str) -> tuple[str, Any]:
        if kind == "tensorboard":
            return f"{kind} {path.parent}", EventFile(path)
        if kind == "trainer_state":
            run = path.parent.parent if path.parent.name.startswith("checkpoint-") else path.parent
            return f"{kind} {run}", TrainerState(path, run, self._states)
        if kind == "csv":
            return f"{kind} {path}", CsvFile(path)
        lines = LineReader("llmc") if kind == "log" else self._make_lines()
        return f"{kind} {path}", LinesFile(path, read_json if path.suffix == ".jsonl" else lines.read_row)

    def read(self, age_s: float) -> list[tuple[str, Row]]:
        """What is new in all files, as (source, row) pairs."""
        if age_s >= self._search_at_s:
            began_s = time.perf_counter()
            self._search()
            self._search_at_s = age_s + SEARCH_SHARE * (time.perf_counter() - began_s)
        rows: list[tuple[str, Row]] = []
        for path, (source, reader) in list(self._readers.items()):
            sign = _sign(path)
            if sign and sign != self._signs[path]:
                new = self._read(path, reader)
                rows += ((source, row) for row in new)
                if not new:  # else there may be more of it
                    self._signs[path] = sign
        return rows

    def _read(self, path: Path, reader: Any) -> list[Row]:
        try:
            rows: list[Row] = reader.read()
        except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error, csv.Error) as error:
            self.notes[path] = f"Metrics in {path} cannot be read: {error!r}"
            return []
        self.notes.pop(path, None)
        return rows


def _sign(path: Path) -> tuple[int, int] | None:
    """Time of change and size of a file, or None if there is no such file that we may see."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
