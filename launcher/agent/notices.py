"""Preemption notices: a spot machine asks its cloud, every few seconds, whether it is to be taken back.

EC2: `spot/instance-action`, two minutes before (ec2/latest/userguide, "Spot Instance interruption notices"). GCE:
`instance/preempted`, 30 s (compute/docs/instances/spot). Azure: scheduled events of the type Preempt, 30 s
(azure/virtual-machines/linux/scheduled-events); the first question turns the service on, so it is asked from the start.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from . import clock, identity

POLL_S = 5.0
SHORT_S = 30.0
"""What is left where the cloud does not say."""
MARGIN_S = 5.0


class Notices:
    """Asks until there is a notice, and then calls `told(seconds left)` once."""

    def __init__(self, cloud: str, told: Callable[[float], None]) -> None:
        self.look = {"aws": _ec2, "gcp": _gce, "azure": _azure}[cloud]
        self.told = told
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            try:
                left_s = self.look()
            except (OSError, ValueError, KeyError, TypeError):
                left_s = None  # it may be there in a moment; without it the shutdown signal is what remains
            if left_s is not None:
                self.told(max(left_s - MARGIN_S, 1.0))
                return
            time.sleep(POLL_S)


def _ec2() -> float | None:
    try:
        notice: dict[str, Any] = json.loads(identity.ask_ec2("spot/instance-action"))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise
    at = datetime.fromisoformat(notice["time"].replace("Z", "+00:00"))  # noqa: FURB162 - Python 3.10
    return at.timestamp() - clock.wall()


def _gce() -> float | None:
    path = "/computeMetadata/v1/instance/preempted"
    return SHORT_S if identity.ask(path, {"Metadata-Flavor": "Google"}).strip() == b"TRUE" else None


def _azure() -> float | None:
    path = "/metadata/scheduledevents?api-version=2020-07-01"
    for event in json.loads(identity.ask(path, {"Metadata": "true"}))["Events"]:
        if event["EventType"] == "Preempt":
            if not event.get("NotBefore"):  # it has begun
                return SHORT_S
            at = parsedate_to_datetime(event["NotBefore"])
            return at.replace(tzinfo=at.tzinfo or timezone.utc).timestamp() - clock.wall()  # noqa: UP017 - Python 3.10
    return None
