"""How a long-running operation is followed: on our clock, and no longer than there is time.

The SDKs' own way sleeps on the system's clock for as long as it takes. Imported on first use: it needs the SDK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from azure.mgmt.core.polling.arm_polling import ARMPolling

from providers.azure.client import LONGEST_POLL_S, POLL_S
from providers.base import AmbiguousOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from launcher.core.clock import Clock


class Following(ARMPolling):
    """Azure's own rules of polling. Raises AmbiguousOutcome when the operation outlasts `within_s`."""

    def __init__(self, clock: Clock, *, within_s: float, enough: Callable[[], bool]) -> None:
        super().__init__(timeout=POLL_S)
        self._our_clock = clock
        self._ends_s = clock.monotonic() + within_s
        self._enough = enough

    def _delay(self) -> None:
        left_s = self._ends_s - self._our_clock.monotonic()
        if left_s <= 0:
            raise AmbiguousOutcome(
                "An operation of Azure is not over in time.", "Its end is not known.", "It is looked at again."
            )
        self._our_clock.sleep(min(self._extract_delay(), LONGEST_POLL_S, left_s))

    def update_status(self) -> None:
        """Look; what was waited for may be there before the operation is over."""
        super().update_status()
        if not self.finished() and self._enough():
            self._status = "Succeeded"
