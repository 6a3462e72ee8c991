"""Ctrl-C, SIGTERM and the question before money is spent."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from command_lab import Lab


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_without_a_terminal_a_signal_tears_down(lab: Lab, number: signal.Signals) -> None:
    """A stopped pipeline leaves nothing running: exit 6."""
    lab.write_job()
    up = lab.start("up", "--budget", "0.05", "--yes", "--json")
    lab.await_state("running")
    up.send_signal(number)
    done = lab.ended(up)

    assert done.code == 6
    assert (done.document["state"], done.document["outcome"]) == ("gone", "cancelled")


def test_a_signal_while_creating_tears_down_what_was_recorded(lab: Lab) -> None:
    """Sent as soon as the job is written down, it leaves neither a machine nor a live job."""
    lab.write_job()
    up = lab.start("up", "--budget", "0.05", "--yes", "--json")
    lab.await_any_job()
    up.send_signal(signal.SIGTERM)
    done = lab.ended(up)

    assert done.code in (6, 130)
    assert (done.document["state"], done.document["outcome"]) == ("gone", "cancelled")


def test_ctrl_c_detaches_and_says_how_to_follow(lab: Lab) -> None:
    """The first press ends the view, not the job: exit 8."""
    lab.write_job()
    terminal = lab.terminal("up", "--budget", "0.05", "--yes")
    terminal.shows("the training runs")
    terminal.press_ctrl_c()
    for words in ("Detaching", "again within 5 s", "gpulaunch status job", "gpulaunch down job"):
        terminal.shows(words)

    assert terminal.ends() == 8
    assert lab.live() == ["job"]
    lab.down()


def test_a_second_ctrl_c_tears_down(lab: Lab) -> None:
    """Exit 6, and the ending is told."""
    lab.write_job()
    terminal = lab.terminal("up", "--budget", "0.05", "--yes")
    terminal.shows("the training runs")
    terminal.press_ctrl_c()
    terminal.shows("Detaching")
    terminal.press_ctrl_c()
    terminal.shows("job: cancelled")

    assert terminal.ends() == 6
    assert lab.live() == []


def test_ctrl_c_at_the_question_creates_nothing(lab: Lab) -> None:
    """Exit 130, and not even a state folder."""
    lab.write_job()
    terminal = lab.terminal("up", "--budget", "0.05")
    terminal.shows("Launch it?")
    terminal.answers_ctrl_c("Nothing was created.")

    assert terminal.ends() == 130
    assert not lab.home.exists()


@pytest.mark.parametrize(("answer", "code"), [("n", 130), ("y", 0)])
def test_the_question_is_obeyed(lab: Lab, answer: str, code: int) -> None:
    """The plan is shown first; no means nothing was created."""
    lab.write_job(["true"])
    terminal = lab.terminal("up", "--budget", "5")
    terminal.shows("cap       $5.00")
    terminal.shows("Launch it?")
    terminal.type(f"{answer}\r")

    assert terminal.ends() == code
    assert lab.home.exists() == (answer == "y")


def test_ctrl_c_at_the_question_of_down_ends_nothing(lab: Lab) -> None:
    """The job goes on."""
    lab.write_job()
    lab.launch()
    terminal = lab.terminal("down", "job")
    terminal.shows("End job")
    terminal.answers_ctrl_c("Nothing was changed.")

    assert terminal.ends() == 130
    assert lab.live() == ["job"]
    lab.down()


def test_ctrl_c_ends_the_reading_of_a_log_and_nothing_else(lab: Lab) -> None:
    """A word, no traceback, and the job goes on."""
    lab.write_job(["sh", "-c", "echo begun; sleep 600"])
    lab.launch()
    terminal = lab.terminal("logs", "job", "-f")
    terminal.shows("begun")
    terminal.press_ctrl_c()

    assert terminal.ends() == 130
    assert terminal.text.replace("^C", "").split() == ["begun", "Interrupted."]
    assert lab.live() == ["job"]
    lab.down()
