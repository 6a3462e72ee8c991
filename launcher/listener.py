"""What a guard tells whoever runs it. Silent by default; launcher/notify.py tells people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.records import Attempt, Job


class Listener:
    """Each is called after what it tells of was written down; none may wait."""

    def handed_over(self, account: str) -> None:
        """The guard of that account has got a job from this one, and may have to be started."""

    def ended(self, job: Job) -> None:
        """A job is over, and nothing of it is left."""

    def stuck(self, job: Job, attempt: Attempt, for_s: float) -> None:
        """A machine that must go is not seen gone, or cannot be looked at, for so many seconds by now."""
