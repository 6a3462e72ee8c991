"""`gpulaunch sweep` on this computer: what a lost launcher left running is found by its tags and destroyed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from command_lab import alive, wait_until

if TYPE_CHECKING:
    from command_lab import Lab

# Twelve seconds: a machine is up well before.
CAP = "0.014"


def lose_the_launcher(lab: Lab) -> None:
    """The guard dies, and the journal is lost with the laptop."""
    lab.kill_guard()
    for path in lab.home.glob("journal.db*"):
        path.unlink()


def test_a_machine_whose_keepers_all_failed_is_destroyed(lab: Lab) -> None:
    """No journal, no guard, and agent and backstop hang: past its deadline the sweep ends it, and nothing is left."""
    lab.write_job()
    lab.launch(cap=CAP)
    training = lab.training_pid()
    for pid in (lab.agent_pid(), lab.backstop_pid()):
        os.kill(pid, signal.SIGSTOP)
    lose_the_launcher(lab)

    def is_due() -> bool:
        [row] = lab.run("sweep", "--dry-run", "--json").document
        return bool(row["past_deadline"])

    wait_until(is_due, "the deadline to pass")
    assert alive(training)
    done = lab.run("sweep", "--yes", "--json")

    [row] = done.document
    assert (done.code, row["action"], row["reason"], row["known"]) == (0, "destroyed", "PAST_DEADLINE", False)
    assert (row["provider"], row["machine_id"], row["cap_usd"]) == ("local", lab.machine().name, CAP)
    assert not alive(training)
    assert lab.processes() == []
    assert lab.run("sweep", "--yes", "--json").document == []


def test_a_job_that_is_not_due_is_left_alone(lab: Lab) -> None:
    """It is told as known, its training runs on, and standard output stays empty without --json."""
    lab.write_job()
    view = lab.launch()
    done = lab.run("sweep", "--yes", "--json")

    [row] = done.document
    assert (done.code, row["job"], row["action"], row["known"]) == (0, view["job"], "left", True)
    plain = lab.run("sweep", "--yes")
    assert (plain.code, plain.out, plain.err) == (0, "", "Nothing is past its deadline; 1 machine within it.\n")
    assert lab.status()["state"] == "running"
    lab.down()


def test_another_owner_finds_nothing(lab: Lab) -> None:
    """Whoever shares the computer keeps their machines; --unknown does not offer them either."""
    lab.write_job()
    lab.launch()
    Path(lab.env["GPULAUNCH_CONFIG"]).write_text("owner: somebody else\n", encoding="utf-8")
    done = lab.run("sweep", "--dry-run", "--unknown", "--json")

    assert (done.code, done.document) == (0, [])
    lab.down()


def test_what_no_job_here_knows_is_destroyed_after_a_word(lab: Lab) -> None:
    """Any other word leaves it running."""
    lab.write_job()
    lab.launch()
    training = lab.training_pid()
    lose_the_launcher(lab)
    refused = lab.terminal("sweep", "--unknown")
    refused.shows("Type destroy")
    refused.type("yes\n")
    refused.shows("Not destroyed")
    assert refused.ends() == 0
    assert alive(training)

    typed = lab.terminal("sweep", "--unknown")
    typed.shows("Type destroy")
    typed.type("destroy\n")
    assert typed.ends() == 0
    assert not alive(training)
    assert lab.processes() == []


def test_a_job_of_this_computer_is_not_unknown(lab: Lab) -> None:
    """On a terminal, --unknown asks for nothing when the journal knows all there is."""
    lab.write_job()
    lab.launch()
    terminal = lab.terminal("sweep", "--unknown")
    assert terminal.ends() == 0

    assert "Type destroy" not in terminal.text
    lab.down()


def test_a_no_destroys_nothing(lab: Lab) -> None:
    """On a terminal the sweep asks before it destroys what is due."""
    lab.write_job()
    lab.launch(cap=CAP)
    for pid in (lab.agent_pid(), lab.backstop_pid(), *(guard.pid for guard in lab.guards())):
        os.kill(pid, signal.SIGSTOP)
    training = lab.training_pid()
    wait_until(lambda: lab.run("sweep", "--dry-run", "--json").document[0]["past_deadline"], "the deadline to pass")
    terminal = lab.terminal("sweep")
    terminal.shows("Destroy 1 machine past the deadline?")
    terminal.type("n\n")
    assert terminal.ends() == 130
    assert alive(training)

    assert lab.run("sweep", "--yes").code == 0
    assert not alive(training)
    for guard in lab.guards():
        guard.send_signal(signal.SIGCONT)
    lab.await_state("gone")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "--yes"),
        (("--json",), "--yes"),
        (("--unknown", "--yes"), "--unknown needs a terminal"),
        (("--provider", "nowhere", "--yes"), "'nowhere' is not"),
    ],
)
def test_a_sweep_that_must_not_run_says_why(lab: Lab, args: tuple[str, ...], words: str) -> None:
    """Exit code 2, and nothing on standard output."""
    done = lab.run("sweep", *args)

    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert not lab.home.exists()


def test_a_damaged_journal_stops_no_sweep(lab: Lab) -> None:
    """It is not needed for what is due; it is for telling what is unknown."""
    lab.home.mkdir()
    (lab.home / "journal.db").write_bytes(b"no database at all " * 100)
    done = lab.run("sweep", "--yes")

    assert done.code == 0
    assert "The journal here cannot be read" in done.err
