"""What a user is told when something goes wrong: what happened, why, and the command that fixes it."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of every command. README and docs/json.md hold the same table."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    CREDENTIALS = 3
    UNAVAILABLE = 4
    JOB_FAILED = 5
    CANCELLED = 6
    LIMIT = 7
    RUNNING = 8
    UNCONFIRMED = 9
    INTERRUPTED = 130


class GpulaunchError(Exception):
    """The root of all errors that a user may see.

    `what` happened, `why`, and the `fix`: a command or a change, as one sentence each.
    """

    exit_code = Exit.UNEXPECTED

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        said = [part for part in (self.what, self.why, self.fix) if part]
        # A cloud's own words may end without a full stop.
        ended = [part if part.endswith((".", "!", "?", ":")) else f"{part}." for part in said[:-1]]
        return " ".join([*ended, *said[-1:]])


class UsageError(GpulaunchError):
    """The command line or the job file asks for what cannot be done."""

    exit_code = Exit.USAGE


class NameInUse(UsageError):
    """A live job has this name already."""


class CapTooSmall(GpulaunchError):
    """The cap leaves no useful time on the chosen machine."""

    exit_code = Exit.UNAVAILABLE


class ClockWrong(GpulaunchError):
    """This computer's clock is too far from the cloud's."""

    exit_code = Exit.UNAVAILABLE


class Interrupted(GpulaunchError):
    """The user stopped the command before anything was created."""

    exit_code = Exit.INTERRUPTED


class StateError(GpulaunchError):
    """The state folder or the journal cannot be used."""


class JournalDamaged(StateError):
    """The journal's file was damaged, and has been kept aside."""
