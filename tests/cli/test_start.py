"""How commands start: what they import, and that each of them is documented."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from command_lab import assert_no_traceback, wait_until

from launcher import guard_process
from launcher.cli import COMMANDS

if TYPE_CHECKING:
    from command_lab import Lab

README = Path(__file__).parents[2] / "README.md"
HEAVY = {"asyncio", "azure", "boto3", "botocore", "google", "jinja2", "numpy", "rich"}

# Runs the command in this very process, and tells what it has imported.
SPY = """
import json, sys
from launcher.cli import main
try:
    sys.argv[0] = "gpulaunch"
    main()
finally:
    sys.stderr.write("\\n" + json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_a_command_that_only_looks_imports_nothing_heavy(lab: Lab) -> None:
    """No SDK, no rich, no jinja2, no asyncio: what is not needed must not cost time."""
    lab.write_job(["true"])
    assert lab.run("up", "--budget", "5", "--yes").code == 0
    for args in (["--help"], ["--version"], ["status"], ["status", "--json"], ["status", "job"]):
        done = lab.run_argv([sys.executable, "-c", SPY, *args])
        imported = set(json.loads(done.err.splitlines()[-1]))

        assert done.code == 0, done.err
        assert imported & HEAVY == set(), args
        assert "launcher" in imported


def test_help_imports_no_command() -> None:
    """The list of commands is a table, and `--help` reads it alone."""
    import subprocess

    script = "import sys\nfrom launcher.cli import cli\ntry:\n    cli.main(['--help'])\nexcept SystemExit:\n    pass\n"
    script += "print([name for name in sys.modules if name.startswith('launcher.')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    imported = "['launcher.core', 'launcher.core.errors', 'launcher.core.version', 'launcher.cli']"
    assert imported == done.stdout.splitlines()[-1]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(lab: Lab, command: str) -> None:
    """`--help` exits 0, names the command, and says more than its options."""
    done = lab.run(command, "--help")

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: gpulaunch {command} ")
    assert len(done.out.split("\n\n")[1].strip()) > 20
    assert not lab.home.exists()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_is_documented(command: str) -> None:
    """The README names each of them."""
    assert f"gpulaunch {command}" in README.read_text(encoding="utf-8")


def test_the_help_lists_every_command(lab: Lab) -> None:
    """In the order in which a user meets them, each with its line."""
    done = lab.run("--help")
    listed = [line.split()[0] for line in done.out.split("Commands:")[1].splitlines() if line.startswith("  ")]

    assert done.code == 0
    assert [word for word in listed if word in COMMANDS] == list(COMMANDS)
    assert_no_traceback([done.out])


def test_the_version_is_told(lab: Lab) -> None:
    """One line, for a bug report."""
    done = lab.run("--version")

    assert done.code == 0
    assert done.out.startswith("gpulaunch ")
    assert done.out.count("\n") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(lab: Lab, shell: str) -> None:
    """For each shell that click knows."""
    done = lab.run("completion", shell)

    assert (done.code, done.err) == (0, "")
    assert "_GPULAUNCH_COMPLETE" in done.out


def test_a_guard_without_jobs_ends_at_once(lab: Lab) -> None:
    """For cron: nothing to watch is success."""
    done = lab.run("guard")

    assert (done.code, done.err) == (0, "No job is live: nothing to watch.\n")
    assert not lab.home.exists()


def test_a_guard_in_the_foreground_stays_until_the_last_job_is_gone(lab: Lab) -> None:
    """It takes over from one that was killed, and ends by itself."""
    lab.write_job(["sh", "-c", "while [ ! -e go ]; do sleep 0.1; done"])
    lab.launch()
    lab.kill_guard()
    guard = lab.start("guard")
    # `status` would start one of its own before this one has its lock.
    wait_until(lambda: guard_process.guard_lives(lab.home, "local/this-computer"), "the guard to take its lock")
    assert lab.status()["state"] == "running"
    (lab.work / "go").touch()

    assert lab.ended(guard).code == 0
    assert lab.status()["outcome"] == "finished"


def test_a_second_guard_steps_back(lab: Lab) -> None:
    """There is one guard for an account."""
    lab.write_job()
    lab.launch()
    done = lab.run("guard")

    assert done.code == 0
    assert "watches local/this-computer already" in done.err
    lab.down()
