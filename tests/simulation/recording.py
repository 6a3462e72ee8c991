"""Faults that remember which call each met."""

from __future__ import annotations

from collections.abc import Callable

from providers.base import CapacityError, InvalidRequest, QuotaError
from providers.simulated.faults import Call, Fault, Faults, Refuse

_ABOUT_NEW_MACHINES = (CapacityError, QuotaError, InvalidRequest)


class RecordingFaults(Faults):
    """Faults that remember which call each met.

    A cloud that has made a machine for a token answers a replay from memory: neither a lack of capacity nor a quota
    stands in its way any more.
    """

    def __init__(self, seed: int | str, knows_token: Callable[[str], bool]) -> None:
        super().__init__(seed)
        self.met: list[tuple[Call, Fault]] = []
        self._knows_token = knows_token

    def _pick(self, call: Call) -> Fault | None:
        fault = super()._pick(call)
        if isinstance(fault, Refuse) and issubclass(fault.error, _ABOUT_NEW_MACHINES) and self._knows_token(call.about):
            return None
        if fault is not None:
            self.met.append((call, fault))
        return fault
