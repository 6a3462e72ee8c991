"""Before a guard touches anything it makes sure that it speaks for the account that it is to watch."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from providers.base import AuthError, ProviderError

if TYPE_CHECKING:
    from collections.abc import Callable

    from launcher.core.clock import Clock
    from launcher.journal import Writer
    from providers.base import Provider

FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 60.0


def await_account(
    writer: Writer, load: Callable[[], Provider], clock: Clock, pause: Callable[[float], bool]
) -> Provider | None:
    """The provider, once it speaks for the account of this guard; None when no job is left, or the guard is to stop.

    A cloud that does not answer, a login that has expired and credentials of somebody else are told, here and in
    `status`, and asked about again: whoever must act may do so at any time, and meanwhile the machine's own layers hold
    its deadlines. `pause` waits so many seconds, and returns whether to go on.
    """
    told, wait_s = "", FIRST_WAIT_S
    while True:
        try:
            provider = load()
            _check(writer.account, provider.account)
            return provider
        except ProviderError as error:
            if str(error) != told:
                told = str(error)
                print(told, file=sys.stderr, flush=True)
                _tell_jobs(writer, clock, error)
        if not writer.journal.jobs(live=True, account=writer.account, limit=1) or not pause(wait_s):
            return None
        wait_s = min(wait_s * 2, LONGEST_WAIT_S)


def _check(account: str, found: str) -> None:
    if found != account:
        raise AuthError(
            f"The credentials here speak for {found}, not for {account}.",
            "A guard never touches another account's machines.",
            "Set the credentials that launched the job, then run gpulaunch status.",
            code="AccountMismatch",
        )


def _tell_jobs(writer: Writer, clock: Clock, error: ProviderError) -> None:
    facts = {"error": str(error)}
    for attempt in writer.journal.live_attempts(writer.account):
        writer.save(replace(attempt, trouble=str(error)), now=clock.now(), kind="trouble", facts=facts)
