"""`gpulaunch sweep` over a cloud in memory: what it prints, and its exit codes."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from simulated_lab import OWNER, Lab

from launcher.cli import sweep as command
from launcher.core.errors import Exit
from providers import registry
from providers.base import TAG_DEADLINE, TAG_OWNER, AuthError, InvalidRequest, ProviderUnavailable, make_tags
from providers.simulated.faults import HangingDelete, Refuse
from providers.simulated.script import Script
from providers.simulated.shapes import PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def lab() -> Lab:
    """A cloud without a timer, and machines whose agent never comes up: nothing but a sweep ends them."""
    return Lab(replace(PLAIN, timer=None), Script(boots=False))


def existing(lab: Lab) -> set[str]:
    """The jobs of which anything is left, as the cloud itself knows."""
    return {each.job for each in lab.cloud.existing()}


@pytest.fixture
def run(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """`gpulaunch sweep` in this process and without a terminal; the provider that it finds is the lab's."""
    config = tmp_path / "config.yaml"
    config.touch()
    monkeypatch.setenv("GPULAUNCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GPULAUNCH_CONFIG", str(config))
    monkeypatch.setattr(registry, "load", lambda *_, **__: lab.provider)
    monkeypatch.setattr(command, "SystemClock", lambda: lab.clock)
    monkeypatch.setattr(command, "owner_hash", lambda _: OWNER)
    return lambda *args: int(command.sweep.main(list(args), standalone_mode=False))


def test_the_command_destroys_what_is_due(
    lab: Lab, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """From cron: no question, a line for each, exit code 0."""
    lab.start(token="due-1", hard_after_s=600.0)
    lab.start(token="live-1", hard_after_s=7200.0)
    lab.run_until(1000)
    assert run("--yes") == Exit.OK

    out = capsys.readouterr().out
    assert "due #1" in out
    assert "live #1" not in out
    assert existing(lab) == {"live"}


def test_the_command_exits_with_9_when_something_may_still_be_billed(
    lab: Lab, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Said loudly, with what to do."""
    stuck = lab.start(hard_after_s=600.0)
    lab.run_until(1000)
    lab.faults.every("delete", HangingDelete(1e9))
    assert run("--yes") == Exit.UNCONFIRMED

    assert f"{stuck} is NOT CONFIRMED GONE" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(AuthError, 3), (ProviderUnavailable, 4)])
def test_the_command_exits_as_the_provider_failed(
    lab: Lab, run: Callable[..., int], capsys: pytest.CaptureFixture[str], error: type[Any], code: int
) -> None:
    """A sweep that saw nothing does not say that there was nothing."""
    lab.faults.every("list", Refuse(error))
    assert run("--yes") == code

    said = capsys.readouterr().err
    assert "local was not swept" in said
    assert "Nothing to sweep" not in said


def test_the_command_leaves_an_unreadable_deadline_and_says_so(
    lab: Lab, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is offered by --unknown only."""
    tags = make_tags(job="job-1", attempt=1, owner=OWNER, cap_usd=Decimal(5), hard_deadline=lab.clock.now())
    spoilt = lab.start(tags=tags | {TAG_DEADLINE: "soon"})
    lab.run_until(1e6)
    assert run("--yes") == Exit.OK
    assert f"{spoilt} was left alone" in capsys.readouterr().err
    assert run("--dry-run", "--unknown") == Exit.OK
    assert "would destroy" in capsys.readouterr().out

    assert existing(lab) == {"job-1"}


def test_a_dry_run_destroys_nothing(lab: Lab, run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    """It lists what would be destroyed, and needs no --yes."""
    lab.start(hard_after_s=600.0)
    lab.run_until(1000)
    assert run("--dry-run") == Exit.OK

    assert "would destroy" in capsys.readouterr().out
    assert lab.cloud.call_counts["delete"] == 0


def test_a_region_narrows_the_sweep(lab: Lab, run: Callable[..., int]) -> None:
    """Machines elsewhere are not touched."""
    lab.start(hard_after_s=600.0)
    lab.run_until(1000)
    assert run("--yes", "--region", "elsewhere") == Exit.OK
    assert existing(lab) == {"job-1"}
    [region] = {each.region for each in lab.provider.list(OWNER)}
    assert run("--yes", "--region", region) == Exit.OK
    assert existing(lab) == set()


def test_a_sweep_makes_no_state(run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It needs none. With nothing to do it says one line, and nothing on stdout."""
    assert run("--yes") == Exit.OK
    said = capsys.readouterr()

    assert ("", 1) == (said.out, said.err.count("\n"))
    assert not (tmp_path / "home").exists()


def test_a_provider_that_cannot_be_used_here_is_told(
    run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It fails the sweep only if it was asked for by name."""

    def refuse(*_: Any, **__: Any) -> None:
        raise InvalidRequest("Its SDK is not installed.", fix="Install it.")

    monkeypatch.setattr(registry, "load", refuse)
    assert run("--yes") == Exit.OK
    assert "local was not swept: Its SDK is not installed. Install it." in capsys.readouterr().err
    with pytest.raises(InvalidRequest):
        run("--yes", "--provider", "local")


def test_a_listing_that_shows_another_owners_machine_is_not_believed(
    lab: Lab, run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its tag is looked at again, and it is told."""
    theirs = lab.start(hard_after_s=600.0, owner="somebody", tags={TAG_OWNER: "somebody"})
    lab.run_until(1000)
    shown = lab.provider.list("somebody")
    monkeypatch.setattr(lab.provider, "list", lambda _: shown)
    assert run("--yes") == Exit.OK

    assert f"{theirs} was left alone: it carries another owner's tag." in capsys.readouterr().err
    assert existing(lab) == {"job-1"}
