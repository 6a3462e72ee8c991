"""Answers of AWS that are good for a while: kept in a file of the state folder, so that a launch asks less.

Only answers that let a launch go on are kept. What stood in the way is asked again each time, since somebody is working
on it. A file that cannot be read or written costs calls, and nothing else.
"""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from launcher.core.clock import Clock

GOOD_FOR = timedelta(hours=24)
"""Zones get a type of machine, and accounts a limit, once in months."""

log = logging.getLogger(__name__)


class _Kept(msgspec.Struct, frozen=True):
    answer: list[str]
    at: datetime


class Memory:
    """What was answered, by question. `account` keeps the answers of two accounts apart."""

    def __init__(self, home: str, account: str, clock: Clock) -> None:
        self._path = Path(home) / "aws" / "answers.json"
        self._account = account
        self._clock = clock
        self._kept = self._read()

    def get(self, question: str) -> list[str] | None:
        """A young answer, or None."""
        kept = self._kept.get(f"{self._account} {question}")
        if kept is None or not timedelta(0) <= self._clock.now() - kept.at <= GOOD_FOR:
            return None
        return kept.answer

    def keep(self, answers: dict[str, list[str]]) -> None:
        """Write answers down, with what others have written down meanwhile. Old ones are thrown away."""
        now = self._clock.now()
        fresh = {f"{self._account} {question}": _Kept(answer, now) for question, answer in answers.items()}
        young = {key: kept for key, kept in self._read().items() if now - kept.at <= GOOD_FOR}
        self._kept = young | fresh
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=".answers-")  # mode 0600
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(msgspec.json.encode(self._kept))
                Path(temporary).replace(self._path)
            except BaseException:
                with suppress(FileNotFoundError):
                    Path(temporary).unlink()
                raise
        except OSError as error:
            log.warning("AWS's answers cannot be kept in %s: %s", self._path, error)

    def _read(self) -> dict[str, _Kept]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, _Kept])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("AWS's kept answers in %s are not used: %s", self._path, error)
            return {}
