"""Which files of a working folder are left out: what .gitignore and .dockerignore name, and `.git` itself.

`.gitignore` counts as git reads it: in the folder, in those below it, and in those above it up to the repository's
root; a nearer one wins. `.dockerignore` counts in the working folder alone, as docker reads it: each pattern starts at
that folder, and the last one that matches wins, also for a file in a folder that is left out. What it names as an
exception (`!path`) is sent, whatever .gitignore says.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from pathspec import GitIgnoreSpec

from launcher.core.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

_WILD = re.compile(r"[*?\[]")


class Ignored:
    """The rules of one working folder. Raises UsageError for a rule file that cannot be read."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._git: dict[str, GitIgnoreSpec | None] = {}
        self._folders: dict[str, bool] = {"": False}
        self._above = _above(root)
        patterns = [_as_git(line) for line in _lines(root / ".dockerignore")]
        self._docker = _spec(root / ".dockerignore", patterns)
        self._exceptions = [pattern.removeprefix("!/") for pattern in patterns if pattern.startswith("!")]

    def leaves_out(self, path: str) -> bool:
        """Whether the file at this path, relative to the working folder, is left out."""
        return self._docker.match_file(path) or (not self.is_asked_for(path) and self._git_says(path))

    def leaves_out_folder(self, path: str) -> bool:
        """Whether nothing below this folder can be wanted."""
        if path.rpartition("/")[2] == ".git":
            return True
        if any(_meet(path, each) for each in self._exceptions):
            return False  # a file below may be asked for
        return self._docker.match_file(f"{path}/") or self._git_leaves_out_folder(path)

    def is_asked_for(self, path: str) -> bool:
        """Whether .dockerignore names the file as an exception: `!path`."""
        return self._docker.check_file(path).include is False

    def _git_says(self, path: str) -> bool:
        return self._git_leaves_out_folder(path.rpartition("/")[0]) or self._nearest(path)

    def _git_leaves_out_folder(self, folder: str) -> bool:
        """A folder that is left out, or lies in one that is: no rule can bring back what is in it."""
        if folder not in self._folders:
            above = self._git_leaves_out_folder(folder.rpartition("/")[0])
            self._folders[folder] = above or self._nearest(f"{folder}/")
        return self._folders[folder]

    def _nearest(self, path: str) -> bool:
        """The nearest .gitignore that says anything about the path decides."""
        folder = path.rstrip("/").rpartition("/")[0]
        while True:
            if (spec := self._git_in(folder)) is not None:
                found = spec.check_file(path[len(folder) + 1 :] if folder else path).include
                if found is not None:
                    return found
            if not folder:
                break
            folder = folder.rpartition("/")[0]
        for prefix, spec in self._above:
            found = spec.check_file(prefix + path).include
            if found is not None:
                return found
        return False

    def _git_in(self, folder: str) -> GitIgnoreSpec | None:
        if folder not in self._git:
            path = self._root / folder / ".gitignore"
            lines = _lines(path)
            self._git[folder] = _spec(path, lines) if lines else None
        return self._git[folder]


def _meet(folder: str, exception: str) -> bool:
    one, other = f"{folder}/", f"{exception}/"
    return one.startswith(other) or other.startswith(one) or bool(_WILD.search(exception))


def _above(root: Path) -> list[tuple[str, GitIgnoreSpec]]:
    """The rules of the folders above, nearest first, each with the way from there to here."""
    found = []
    for folder in (root, *root.parents):
        path = folder / ".gitignore"
        if folder != root and (lines := _lines(path)):
            spec, way = _spec(path, lines), f"{root.relative_to(folder).as_posix()}/"
            if not spec.match_file(way):  # whoever names a folder as the working folder wants it, ignored or not
                found.append((way, spec))
        if os.path.lexists(folder / ".git"):
            return found
    return []  # no repository: what lies above is none of ours


def _spec(path: Path, lines: list[str]) -> GitIgnoreSpec:
    try:
        return GitIgnoreSpec.from_lines(lines)
    except (ValueError, re.error) as error:
        raise UsageError(f"{path} holds a pattern that means nothing.", str(error), "Change that line.") from error


def _as_git(line: str) -> str:
    """A pattern of .dockerignore as one of .gitignore: it starts at the root, and a slash at its end says nothing."""
    pattern = line.strip()
    if not pattern or pattern.startswith("#"):
        return ""
    mark = "!" if pattern.startswith("!") else ""
    path = pattern.removeprefix("!").strip().removeprefix("./").strip("/")
    return f"{mark}/{path}" if path else ""


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return []
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", fix=f"Run: chmod u+r {path}") from error
