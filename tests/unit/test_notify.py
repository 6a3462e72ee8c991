"""People are told how a job ended and what needs a hand, and nothing waits for that."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from makers import make_attempt, make_job
from scripted import Bench

from launcher.core.clock import SystemClock
from launcher.core.errors import UsageError
from launcher.notify import Notifier, check_notify
from launcher.outcome import State
from providers.base import ProviderUnavailable

# Whatever a third party's import warns of is no mistake of ours.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_httpserver import HTTPServer


def messages(server: HTTPServer) -> list[tuple[str, str]]:
    """What was received: titles and texts."""
    return [(request.json["title"], request.json["message"]) for request, _ in server.log]


def address(server: HTTPServer) -> str:
    """A receiver of messages on this computer."""
    server.expect_request("/in").respond_with_data("")
    return f"json://user:{'secret'}@127.0.0.1:{server.port}/in"


def test_a_job_that_is_over_is_told_with_its_cost(httpserver: HTTPServer) -> None:
    """Outcome, reason, dollars, and the command that tells more."""
    job = make_job(state=State.GONE, outcome="finished", reason="EXIT_0", spend_usd=Decimal("3.2"))
    notifier = Notifier([address(httpserver)], SystemClock())
    notifier.ended(job)
    notifier.wait()

    [(title, text)] = messages(httpserver)
    assert "gpulaunch: tiny: finished" == title
    assert text.startswith("tiny: The training finished.")
    assert "It cost $3.20 of $5.00. Nothing of it is left." in text
    assert text.endswith("gpulaunch report tiny")


def test_a_machine_that_is_not_seen_gone_is_told(httpserver: HTTPServer) -> None:
    """Which, where, for how long, why, and where a person can look."""
    attempt = make_attempt(
        state=State.DELETING, machine_id="i-1", trouble="The scope is locked.", console_url="https://console/i-1"
    )
    notifier = Notifier([address(httpserver)], SystemClock())
    notifier.stuck(make_job(), attempt, 600.0)
    notifier.wait()

    [(title, text)] = messages(httpserver)
    assert "gpulaunch: tiny needs a hand" == title
    assert "the machine i-1 (local, r1) is not confirmed gone: something may still be billed, for 10 minutes" in text
    assert "The scope is locked." in text
    assert "https://console/i-1" in text


def test_an_address_that_does_not_answer_is_told_in_the_log_without_its_password(
    httpserver: HTTPServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """A failed message is no secret; the address may hold one."""
    httpserver.expect_request("/no").respond_with_data("", status=500)
    notifier = Notifier([f"json://user:{'secret'}@127.0.0.1:{httpserver.port}/no", "nonsense://x"], SystemClock())
    notifier.ended(make_job(outcome="failed", reason="EXIT_1"))
    notifier.wait()
    err = capfd.readouterr().err

    assert "notify: not everybody was told: gpulaunch: tiny: failed\n" == err


def test_without_addresses_nothing_is_sent() -> None:
    """The default."""
    notifier = Notifier([], SystemClock())
    notifier.ended(make_job(outcome="finished", reason="EXIT_0"))

    assert [] == notifier._threads


def test_addresses_without_a_sender_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is launched, with the command that installs it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_notify([])

    with pytest.raises(UsageError, match=r"gpulaunch\[notify\]"):
        check_notify(["json://127.0.0.1/in"])


def test_the_guard_tells_of_an_ending_once(tmp_path: Path) -> None:
    """When it is written down."""
    bench = Bench(tmp_path, training_s=60.0)
    bench.add()
    bench.run()

    assert [("j-tiny", "finished")] == bench.heard.endings
    assert [] == bench.heard.alarms


def test_the_guard_tells_of_a_teardown_that_hangs_less_and_less_often(tmp_path: Path) -> None:
    """After ten minutes, then after twice as long each time, with the reason as it stands."""
    bench = Bench(tmp_path, delete_works=False, deadlines_held=False)
    bench.started()
    bench.journal.request_cancel("j-tiny", now=bench.clock.now(), by="a test")
    for _ in range(300):
        bench.tick()

    assert [600, 1200, 2400] == [round(for_s, -1) for _, for_s in bench.heard.alarms]


def test_the_guard_tells_of_a_cloud_that_cannot_be_asked(tmp_path: Path) -> None:
    """A machine that nobody can look at may need the user; once it can be seen again, the alarm is over."""
    bench = Bench(tmp_path)
    bench.started()

    def away(call: str, subject: str) -> None:
        if call in ("get", "list"):
            raise ProviderUnavailable("No answer.")

    bench.provider.before = away
    bench.tick(70)
    bench.provider.before = lambda call, subject: None
    bench.tick(5)
    bench.provider.before = away
    bench.tick(40)

    assert [("No answer.", 600)] == [(trouble, round(for_s, -1)) for trouble, for_s in bench.heard.alarms]


def test_a_job_called_off_is_told_too(tmp_path: Path) -> None:
    """Whoever did it, someone else may wait for it."""
    bench = Bench(tmp_path)
    bench.add(replace(make_job(), name="tiny"))
    bench.journal.request_cancel("j-tiny", now=bench.clock.now(), by="a test")
    bench.run()

    assert [("j-tiny", "cancelled")] == bench.heard.endings
