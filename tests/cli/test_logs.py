"""`gpulaunch logs`: what a training prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from command_lab import wait_until

if TYPE_CHECKING:
    from command_lab import Lab


def test_logs_follow_until_the_job_is_gone(lab: Lab) -> None:
    """Every line, in order, and then the command ends by itself."""
    lab.write_job(["sh", "-c", "echo first; while [ ! -e go ]; do sleep 0.1; done; echo second"])
    lab.launch()
    follower = lab.start("logs", "job", "-f")
    wait_until(lambda: lab.run("logs", "job").out == "first\n", "the first line")
    (lab.work / "go").touch()
    done = lab.ended(follower)

    assert (done.code, done.out) == (0, "first\nsecond\n")


def test_logs_can_be_read_when_the_job_is_gone(lab: Lab) -> None:
    """By name or by id, both streams of the training, byte for byte."""
    lab.write_job(["sh", "-c", "echo out; echo err >&2; printf '\\377\\000end'"])
    document = lab.run("up", "--budget", "5", "--yes", "--json").document
    log = (lab.machine() / "output.log").read_bytes()

    assert log == b"out\nerr\n\xff\x00end"
    for job in ("job", document["job"]):
        assert lab.raw("logs", job) == log
        assert lab.raw("logs", job, "-f") == log


def test_a_reader_that_goes_away_is_no_error(lab: Lab) -> None:
    """`gpulaunch logs JOB | head` ends quietly."""
    lab.write_job(["sh", "-c", "seq 100000"])
    assert lab.run("up", "--budget", "5", "--yes").code == 0
    process = lab.start("logs", "job")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None

    assert (process.stderr.read(), process.wait(timeout=30)) == ("", 0)


def test_logs_of_an_unknown_job_are_a_usage_error(lab: Lab) -> None:
    """Exit 2, and nothing is created."""
    done = lab.run("logs", "nothing")

    assert (done.code, done.out) == (2, "")
    assert "There is no job 'nothing'." in done.err
    assert not lab.home.exists()
