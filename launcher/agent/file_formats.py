"""Metrics in the text files that trainings write. Each read is bounded, however large a file has grown.

Sources: TrainerState of transformers 5.23, CSVLogger of lightning 2.6 (`ExperimentWriter`), CSVLogger of keras 3.15.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

from .line_formats import Row, numbers

CHUNK = 1 << 18  # bytes of a file in one read
LARGEST_STATE = 1 << 24  # bytes of a trainer_state.json


class Tail:
    """The new whole lines of a file, by offset. It begins again when what was read last is no longer in its place."""

    def __init__(self, path: Path) -> None:
        self.is_from_start = False
        self._path = path
        self._offset = 0
        self._last = b""

    def lines(self) -> list[str]:
        """At most a chunk of them; a line longer than that is left out. Raises OSError."""
        with self._path.open("rb") as file:
            file.seek(self._offset - len(self._last))
            if file.read(len(self._last)) != self._last:
                self._offset, self._last = 0, b""
                file.seek(0)
            data = file.read(CHUNK)
        self.is_from_start = self._offset == 0
        whole = data[: data.rfind(b"\n") + 1]
        read = data if len(data) == CHUNK and not whole else whole
        self._offset += len(read)
        self._last = read[-64:] or self._last
        return whole.decode("utf-8", "replace").split("\n")[:-1]


class LinesFile:
    """A file with one row a line: JSON lines, llm.c's main.log, a log of any line format."""

    def __init__(self, path: Path, read: Callable[[str], Row]) -> None:
        self._tail = Tail(path)
        self._read = read

    def read(self) -> list[Row]:
        """The rows that are new. Raises OSError."""
        return [row for line in self._tail.lines() if (row := self._read(line.strip()))]


class CsvFile:
    """A CSV that grows, and is written again as a whole with the same rows when a column is added (Lightning)."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path)
        self._header: list[str] = []
        self._rows = 0
        self._known = 0

    def read(self) -> list[Row]:
        """The rows that are new. Raises OSError, csv.Error."""
        table = list(csv.reader(self._tail.lines()))
        if table and self._tail.is_from_start:
            header = table.pop(0)
            self._known = max(self._known, self._rows) if set(self._header) < set(header) else 0
            self._header, self._rows = header, 0
        new = table[max(self._known - self._rows, 0) :]
        self._rows += len(table)
        rows = [numbers(zip(self._header, cells)) for cells in new]  # noqa: B905 - a sparse row may be short
        if "step" not in self._header:
            for row in rows:
                row["epoch"] = row.get("epoch", 0) + 1  # Keras: no steps, and epochs count from 0
        return rows


class TrainerState:
    """The states that a Hugging Face Trainer saves: each holds the whole history again, so a step is taken once.

    `done` is shared between the states: the last step taken of each run.
    """

    def __init__(self, path: Path, run: Path, done: dict[Path, float]) -> None:
        self._path = path
        self._run = run
        self._done = done

    def read(self) -> list[Row]:
        """The rows of steps that no state of this run had before. Raises OSError, ValueError for a half written one."""
        with self._path.open(encoding="utf-8") as file:
            state = json.loads(file.read(LARGEST_STATE))
        done = self._done.get(self._run, -1)
        rows = [numbers(entry.items()) for entry in state["log_history"]]
        new = [row for row in rows if row["step"] > done]
        if state["global_step"] > done:
            self._done[self._run] = state["global_step"]
            new.append(numbers((("step", state["global_step"]), ("steps", state["max_steps"]))))
        return new
