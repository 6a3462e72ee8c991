"""What this login may do in the subscription: asked before a launch, and corrected by what Azure then refuses."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from providers.azure.backstop import DELETE_GROUP

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from providers.azure.client import Arm

ASSIGN_ROLES = "Microsoft.Authorization/roleAssignments/write"
NEEDED = (
    "Microsoft.Resources/subscriptions/resourceGroups/write",
    DELETE_GROUP,
    "Microsoft.Network/virtualNetworks/write",
    "Microsoft.Compute/virtualMachines/write",
)
REMEMBERED = timedelta(hours=24)


class Rights:
    """The rights of one login. A refusal is remembered for a day in the state folder.

    The list of rights does not tell of deny assignments and conditions: without that memory every launch would plan
    with a timer that it cannot arm.
    """

    def __init__(self, arm: Arm, home: str) -> None:
        self._arm = arm
        self._path = Path(home) / "azure" / f"roles-refused-{re.sub('[^A-Za-z0-9-]', '_', arm.subscription)}"
        self._listed: list[dict[str, Any]] | None = None

    def ask(self) -> None:
        """Read the list of rights anew."""
        self._listed = self._arm.pages(
            "/providers/Microsoft.Authorization/permissions",
            "list the rights of this login",
            **{"api-version": "2022-04-01"},
        )

    def missing(self) -> str:
        """The first right that a launch needs and this login has not; empty where there is none."""
        return next((action for action in NEEDED if not self._allow(action)), "")

    def may_assign(self) -> bool:
        """Whether roles can be assigned, as far as is known."""
        return self._allow(ASSIGN_ROLES) and not self._was_refused()

    def note_refusal(self) -> None:
        """Azure refused to assign a role."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.write_text(self._arm.clock.now().isoformat(), encoding="ascii")

    def _was_refused(self) -> bool:
        try:
            at = datetime.fromisoformat(self._path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return False
        return timedelta(0) <= self._arm.clock.now() - at <= REMEMBERED

    def _allow(self, action: str) -> bool:
        if self._listed is None:
            self.ask()
        return allows(self._listed or [], action)


def allows(permissions: Sequence[Mapping[str, Any]], action: str) -> bool:
    """Whether one of these permissions grants the action: granted by a pattern, and not taken away by the same role."""

    def matches(patterns: Iterable[str]) -> bool:
        return any(fnmatch(action.lower(), pattern.lower()) for pattern in patterns)

    return any(matches(each.get("actions") or ()) and not matches(each.get("notActions") or ()) for each in permissions)
