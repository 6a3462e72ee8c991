"""What a file says, as plain nodes that know their line, and the problems that are found in it."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from launcher.core.errors import UsageError

ECHO_CHARS = 60


class Scalar(Struct, frozen=True):
    """One value, as the text that was written. `null` says that it was left empty, or written as `null` or `~`."""

    line: int
    text: str
    null: bool = False


class Sequence(Struct, frozen=True):
    """A list."""

    line: int
    items: tuple[Node, ...]


class Mapping(Struct, frozen=True):
    """Keys and their values; `lines` holds the line of each key."""

    line: int
    entries: dict[str, Node]
    lines: dict[str, int]


Node: TypeAlias = Scalar | Sequence | Mapping


class Problem(Struct, frozen=True):
    """One thing that is wrong: where, at which dotted key, and what would be right. Line 0: not from a file."""

    path: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}: " if self.line else ""
        return f"{where}{self.key}: {self.message}" if self.key else f"{where}{self.message}"


class Problems:
    """Collects all the problems of one file, so that they are reported together.

    `path` is the file as it is named on screen; relative folders in it start from `folder`.
    """

    def __init__(self, path: str, folder: Path) -> None:
        self.path = path
        self.folder = folder
        self._found: list[Problem] = []

    def add(self, line: int, key: str, message: str) -> None:
        """Note a problem: the message is a sentence that goes on from the key."""
        self._found.append(Problem(self.path, line, key, message))

    def sorted(self) -> list[Problem]:
        """All the problems, in the order of their lines."""
        return sorted(self._found, key=lambda problem: problem.line)


class FileProblems(UsageError):
    """A file has problems: `problems` lists them, str() shows one in each line."""

    def __init__(self, what: str, problems: list[Problem], fix: str) -> None:
        super().__init__(what, "\n".join(str(problem) for problem in problems), fix)
        self.problems = problems

    def __str__(self) -> str:
        return self.why


def quote(text: str) -> str:
    """What was found, as it may be shown: in quotes, at most 60 characters, no control characters."""
    shown = repr(text)
    return shown if len(shown) <= ECHO_CHARS else f"{shown[: ECHO_CHARS - 2]}…{shown[0]}"


def dotted(key: str, name: str) -> str:
    """The key of an entry below another key. A name that is odd or long is shown in quotes."""
    name = name if name.isprintable() and 0 < len(name) <= ECHO_CHARS else quote(name)
    return f"{key}.{name}" if key else name


def closest(word: str, known: list[str]) -> str | None:
    """The known word that was probably meant, if there is one."""
    from difflib import get_close_matches

    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(word[:ECHO_CHARS].lower(), list(by_lower), n=1)
    return by_lower[close[0]] if close else None
