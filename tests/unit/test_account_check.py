"""A guard asks whom it speaks for, for as long as it takes, and touches nothing before it knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from makers import ACCOUNT
from scripted import Bench, ScriptedProvider

from launcher.account_check import await_account
from providers.base import AuthError, ProviderUnavailable

if TYPE_CHECKING:
    from pathlib import Path


class Asked(ScriptedProvider):
    """A cloud that says, or does not say, who we are."""

    answers: list[str | Exception]

    @property
    def account(self) -> str:  # type: ignore[override]
        """The next answer."""
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @account.setter
    def account(self, value: str) -> None:
        self.answers = [value]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A job whose machine runs."""
    bench = Bench(tmp_path)
    bench.started()
    return bench


def wait(bench: Bench, *answers: str | Exception, stop_after: int | None = None) -> tuple[bool, list[float]]:
    """Ask, with these answers; whether it may go on, and how long it waited each time."""
    provider = Asked(bench.clock)
    provider.answers = list(answers)
    waits: list[float] = []

    def pause(seconds: float) -> bool:
        waits.append(seconds)
        return stop_after is None or len(waits) < stop_after

    return await_account(bench.writer, lambda: provider, bench.clock, pause) is provider, waits


def test_the_right_account_is_not_waited_for(bench: Bench) -> None:
    """It goes on at once."""
    assert (True, []) == wait(bench, ACCOUNT)


def test_a_cloud_that_does_not_answer_is_asked_again(bench: Bench) -> None:
    """Less and less often, and for ever: the network of a laptop comes back."""
    down = ProviderUnavailable("No answer.")

    assert (True, [5, 10, 20, 40, 60, 60]) == wait(bench, *[down] * 6, ACCOUNT)


def test_credentials_that_are_not_even_there_are_waited_for(bench: Bench) -> None:
    """A provider may look for them when it is made."""
    made = iter([AuthError("There are no credentials."), ScriptedProvider(bench.clock)])

    def load() -> ScriptedProvider:
        found = next(made)
        if isinstance(found, Exception):
            raise found
        return found

    assert await_account(bench.writer, load, bench.clock, lambda seconds: True) is not None
    assert "There are no credentials." == bench.attempt.trouble


def test_an_expired_login_is_told_in_status_once(bench: Bench) -> None:
    """Who must act finds it beside the job, with the command; the guard's next look takes it away again."""
    expired = AuthError("The login has expired.", fix="Run: aws sso login.")
    wait(bench, expired, expired, ACCOUNT)

    assert "The login has expired. Run: aws sso login." == bench.attempt.trouble
    assert ["trouble"] == [e.kind for e in bench.journal.events("j-tiny") if e.kind == "trouble"]
    bench.tick()
    assert bench.attempt.trouble is None


def test_somebody_elses_credentials_touch_nothing(bench: Bench) -> None:
    """They are told, and the guard waits for the right ones."""
    before = len(bench.provider.log)

    assert (False, [5]) == wait(bench, "local/account-9", stop_after=1)
    assert "speak for local/account-9, not for local/account-1" in str(bench.attempt.trouble)
    assert before == len(bench.provider.log)


def test_without_a_live_job_nobody_is_waited_for(bench: Bench) -> None:
    """A guard that has nothing to watch ends."""
    bench.journal.request_cancel("j-tiny", now=bench.clock.now(), by="a test")
    bench.run()

    assert (False, []) == wait(bench, AuthError("The login has expired."))
