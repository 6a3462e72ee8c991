"""Telling people, at the addresses that the configuration names, how a job ended and what needs a hand."""

from __future__ import annotations

import importlib.util
import logging
import sys
import threading
from typing import TYPE_CHECKING

from launcher.core.errors import UsageError
from launcher.core.money import usd_text
from launcher.outcome import State
from launcher.report.ending_text import ending_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from launcher.core.clock import Clock
    from launcher.records import Attempt, Job

# How long an idle guard stays for messages that are still under way.
SEND_S = 20.0


def check_notify(addresses: Sequence[str]) -> None:
    """Raise UsageError where addresses are configured and cannot be used: silence would be found out too late."""
    if addresses and importlib.util.find_spec("apprise") is None:
        raise UsageError(
            "The configuration has `notify`, and what sends the messages is not installed.",
            fix="Install it with pip install 'gpulaunch[notify]', or take `notify` out of the configuration.",
        )


class Notifier:
    """Sends each message from a thread of its own: a slow mail server never makes a guard late."""

    def __init__(self, addresses: Sequence[str], clock: Clock) -> None:
        self._addresses = tuple(addresses)
        self._clock = clock
        self._threads: list[threading.Thread] = []

    def ended(self, job: Job) -> None:
        """How a job ended, and what it cost."""
        spent = "" if job.spend_usd is None else f" It cost {usd_text(job.spend_usd)} of {usd_text(job.cap_usd)}."
        self._send(
            f"gpulaunch: {job.name}: {job.outcome}",
            f"{job.name}: {ending_words(str(job.outcome), job.reason)}{spent} Nothing of it is left.\n"
            f"gpulaunch report {job.name}",
        )

    def stuck(self, job: Job, attempt: Attempt, for_s: float) -> None:
        """What is not seen gone, or cannot be looked at."""
        deleting = attempt.state == State.DELETING
        what = "is not confirmed gone: something may still be billed" if deleting else "cannot be looked at"
        why = f" {attempt.trouble}" if attempt.trouble else ""
        where = f" Look at it: {attempt.console_url}" if attempt.console_url else ""
        self._send(
            f"gpulaunch: {job.name} needs a hand",
            f"{job.name}: the machine {attempt.machine_id} ({attempt.provider}, {attempt.region}) {what}, "
            f"for {for_s / 60:.0f} minutes by now.{why} The guard goes on trying.{where}\ngpulaunch status {job.name}",
        )

    def wait(self, limit_s: float = SEND_S) -> None:
        """Wait for the messages under way, for a bounded time."""
        ends_s = self._clock.monotonic() + limit_s
        for thread in self._threads:
            thread.join(max(ends_s - self._clock.monotonic(), 0))

    def _send(self, title: str, body: str) -> None:
        if self._addresses:
            thread = threading.Thread(target=self._deliver, args=(title, body), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _deliver(self, title: str, body: str) -> None:
        """Failing is told in the guard's log, without the addresses: they may hold passwords."""
        try:
            import apprise

            logging.getLogger("apprise").disabled = True  # it names addresses
            sender = apprise.Apprise()
            known = [sender.add(address) for address in self._addresses]
            sent = sender.notify(body=body, title=title)
        except Exception as error:  # noqa: BLE001 - a message that cannot be sent must not end the guard; it is told
            print(f"notify: {type(error).__name__}", file=sys.stderr, flush=True)
            return
        if not sent or not all(known):
            print(f"notify: not everybody was told: {title}", file=sys.stderr, flush=True)
