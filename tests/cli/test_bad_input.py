"""Bad input: one clear error, the right exit code, and nothing left behind."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest
from command_lab import GPULAUNCH, NEVER

if TYPE_CHECKING:
    from pathlib import Path

    from command_lab import Done, Lab


def job(**keys: Any) -> str:
    """A job file as text; a key that is None is left out."""
    document = {"name": "job", "command": NEVER, "local": {"price_per_hour": "3.6"}, **keys}
    return json.dumps({key: value for key, value in document.items() if value is not None})


LONG = "a" * 300

# What the job file holds, the flags, the exit code, and what the error must name.
BAD = {
    "not YAML": ("name: [job\n", [], 2, "gpulaunch.yaml:"),
    "binary": ("\x00\x01\x02", [], 2, "gpulaunch.yaml"),
    "empty": ("", [], 2, "empty"),
    "a list": ("- name: job\n", [], 2, "gpulaunch.yaml:1"),
    "an unknown key": (job(comand=["true"]), [], 2, "did you mean 'command'"),
    "a key given twice": ('command: "true"\nname: job\nname: other\n', [], 2, "gpulaunch.yaml:3"),
    "a wrong type": (job(resources=["T4"]), [], 2, "resources"),
    "no command": (job(command=None), [], 2, "command"),
    "an empty command": (job(command=[]), [], 2, "command"),
    "a command that does not exist": (job(command=["no-such-program"]), ["--budget", "5"], 2, "'no-such-program'"),
    "a file that cannot be executed": (job(command=["./gpulaunch.yaml"]), ["--budget", "5"], 2, "cannot be executed"),
    "a workdir that is no folder": (job(workdir="gpulaunch.yaml"), [], 2, "workdir"),
    "a bucket as store": (job(store="s3://bucket/runs"), ["--budget", "5"], 2, "the store is a folder"),
    "a secret in env": (job(env={"HF_TOKEN": "hf_abcdefghijklmnopqrst"}), [], 2, "secrets"),
    "a negative budget in the file": (job(budget=-5), [], 2, "budget"),
    "a negative budget": (job(), ["--budget", "-5"], 2, "must be above zero"),
    "a budget of zero": (job(), ["--budget", "0"], 2, "must be above zero"),
    "a budget of nan": (job(), ["--budget", "nan"], 2, "finite"),
    "an infinite budget": (job(), ["--budget", "inf"], 2, "finite"),
    "an endless budget": (job(), ["--budget", "1e400"], 2, "more than a million dollars"),
    "a budget below a micro-dollar": (job(), ["--budget", "0.0000001"], 2, "six decimals"),
    "a budget in words": (job(), ["--budget", "five"], 2, "'five'"),
    "a budget that buys nothing": (job(), ["--budget", "0.000001"], 4, "smallest cap that works is --budget 0.0"),
    "no budget": (job(), [], 2, "--budget 5"),
    "a price of zero": (job(local={"price_per_hour": "0"}), ["--budget", "5"], 2, "price_per_hour"),
    "an unknown provider": (job(), ["--provider", "gpucloud"], 2, "'gpucloud'"),
    "an unknown region": (job(), ["--budget", "5", "--region", "atlantis-1"], 2, "atlantis-1"),
    "an unknown flag": (job(), ["--budgt", "5"], 2, "--budget"),
    "a bad duration": (job(), ["--budget", "5", "--max-duration", "8"], 2, "8"),
    "a name with a quote": (job(), ["--budget", "5", "--name", 'a"b'], 2, "--name"),
    "a name with a line break": (job(), ["--budget", "5", "--name", "a\nb"], 2, "--name"),
    "a name that a shell would run": (job(), ["--budget", "5", "--name", "$(touch pwned)"], 2, "--name"),
    "a name of 300 characters": (job(), ["--budget", "5", "--name", LONG], 2, "--name"),
    "an empty name": (job(), ["--budget", "5", "--name", ""], 2, "--name"),
    "a name with a quote in the file": (job(name="it's"), ["--budget", "5"], 2, "name"),
    "a name with a line break in the file": (job(name="a\nb"), ["--budget", "5"], 2, "name"),
    "a name that a shell would run in the file": (job(name="$(touch pwned)"), ["--budget", "5"], 2, "name"),
    "a name of 300 characters in the file": (job(name=LONG), ["--budget", "5"], 2, "name"),
}


def assert_refused(lab: Lab, done: Done, code: int, words: str) -> None:
    """A clear error of a few readable lines on stderr, nothing on stdout, and nothing left behind."""
    assert (done.code, done.out) == (code, ""), done.err
    assert words in done.err
    assert "Traceback" not in done.err
    assert "met a bug" not in done.err
    assert LONG not in done.err
    assert all(character.isprintable() or character == "\n" for character in done.err)
    assert not lab.home.exists()
    assert not (lab.work / "pwned").exists()


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_input_is_refused(lab: Lab, case: str) -> None:
    """Each line of the table above."""
    text, flags, code, words = BAD[case]
    (lab.work / "gpulaunch.yaml").write_text(text, encoding="utf-8")

    assert_refused(lab, lab.run("up", "--yes", *flags), code, words)


def test_a_missing_job_file_is_refused(lab: Lab) -> None:
    """The error says where it looked, and how to get one."""
    assert_refused(lab, lab.run("up", "--yes", "--budget", "5"), 2, "gpulaunch init")
    assert_refused(lab, lab.run("up", "no.yaml", "--yes", "--budget", "5"), 2, "no.yaml")


def test_a_folder_as_job_file_is_refused(lab: Lab) -> None:
    """It is neither read nor searched."""
    assert_refused(lab, lab.run("up", str(lab.work), "--yes", "--budget", "5"), 2, str(lab.work))


def test_an_image_without_docker_is_refused(lab: Lab, tmp_path: Path) -> None:
    """Known before anything is created."""
    (tmp_path / "bin").mkdir()
    for program in ("sleep", "sh"):
        (tmp_path / "bin" / program).symlink_to(shutil.which(program) or "/")
    lab.write_job(image="python:3.13")
    done = lab.run("up", "--yes", "--budget", "5", env={"PATH": str(tmp_path / "bin")})

    assert_refused(lab, done, 2, "there is no docker on this computer")


def test_a_misspelt_command_is_met_with_a_guess(lab: Lab) -> None:
    """Exit 2, as for every mistake on the command line."""
    assert_refused(lab, lab.run("statsu"), 2, "Did you mean 'status'?")


def test_a_configuration_with_a_mistake_is_refused(lab: Lab, tmp_path: Path) -> None:
    """By every command that reads it, with its file and line."""
    path = tmp_path / "wrong.yaml"
    path.write_text("locl: {watts: 5}\n", encoding="utf-8")
    lab.write_job()
    done = lab.run("up", "--yes", "--budget", "5", env={"GPULAUNCH_CONFIG": str(path)})

    assert_refused(lab, done, 2, f"{path}:1")


def test_the_current_folder_may_be_gone(lab: Lab) -> None:
    """A shell can stand in a folder that was removed."""
    gone = lab.work / "gone"
    gone.mkdir()
    stub = "import os,sys;os.rmdir(os.getcwd());os.execv(sys.argv[1],sys.argv[1:])"
    script = [sys.executable, "-c", stub, str(GPULAUNCH), "up", "--yes", "--budget", "5"]

    assert_refused(lab, lab.run_argv(script, cwd=gone), 2, "The current folder no longer exists.")
