"""A folder of checkpoints, `step-000500` and so on: each is whole or absent, whatever stops the process and when."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from accelerate import Accelerator

PROGRESS = "progress.json"


def say(line: str) -> None:
    """Print one line at once, even into a pipe."""
    print(line, flush=True)


class Found(NamedTuple):
    """A whole checkpoint."""

    step: int
    path: Path
    progress: dict[str, Any]


class Checkpoints:
    """Saves and finds them. `facts` go into each, beside what accelerate saves.

    Accelerate saves the weights, the optimiser, its schedule, the loss scaler of mixed precision and the state of all
    random numbers; the position in the data follows from the step.
    """

    def __init__(self, folder: Path, configuration: dict[str, Any], keep: int) -> None:
        self.folder = folder
        self.configuration = configuration
        self.keep = keep
        self.facts: dict[str, Any] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def _by_step(self) -> list[tuple[int, Path]]:
        found = [(path.name.removeprefix("step-"), path) for path in self.folder.glob("step-*")]
        return sorted((int(step), path) for step, path in found if step.isdecimal())

    def save(self, step: int, accelerator: Accelerator, state: dict[str, Any]) -> Path:
        """Write one checkpoint: into a folder of another name, to the disk, and only then under its own name."""
        path, partial = self.folder / f"step-{step:06d}", self.folder / ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        # As torch writes them: safetensors cannot hold GPT-2's output layer, which is its embedding.
        accelerator.save_state(str(partial), safe_serialization=False)
        sizes = {file.name: file.stat().st_size for file in partial.iterdir()}
        progress = {"step": step, "configuration": self.configuration, **self.facts, **state, "files": sizes}
        (partial / PROGRESS).write_text(json.dumps(progress), encoding="utf-8")
        for file in partial.iterdir():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
        for _, old in [found for found in self._by_step() if found[0] <= step][: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        return path

    def latest(self) -> Found | None:
        """The whole checkpoint with the highest step; a torn one is named and passed over.

        Exits when it is of a run with other settings: to mix two runs would be worse than to ask.
        """
        for step, path in reversed(self._by_step()):
            try:
                progress = json.loads((path / PROGRESS).read_text(encoding="utf-8"))
                torn = [name for name, size in progress["files"].items() if (path / name).stat().st_size != size]
            except (OSError, ValueError, KeyError, TypeError) as error:
                say(f"skipped {path}: not a whole checkpoint ({error})")
                continue
            if torn:
                say(f"skipped {path}: not a whole checkpoint ({torn[0]} is cut short)")
                continue
            self._compare(path, progress["configuration"])
            return Found(step, path, progress)
        return None

    def _compare(self, path: Path, theirs: dict[str, Any]) -> None:
        names = sorted(self.configuration.keys() | theirs.keys())
        other = [name for name in names if self.configuration.get(name) != theirs.get(name)]
        if other:
            sys.exit(
                f"train.py: {path} was made with other settings ({', '.join(other)}). Name another folder with "
                "--checkpoints, or remove this one."
            )
