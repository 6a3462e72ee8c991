"""`gpulaunch estimate` as a command: its streams, its exit codes, and a past job's own pace."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from command_lab import wait_until

if TYPE_CHECKING:
    from command_lab import Lab

FIRST_CASE = ("estimate", "--params", "124M", "--tokens", "100M")
# Three evaluations of a training, as JSON lines.
TRAINING = 'for step in range(3): print(\'{"step": %d, "loss": 3.5, "tokens_per_s": 10500}\' % step, flush=True)'
# A training that goes on: about ten steps of 1,000 tokens a second.
RUNNING = """
import itertools, time
for step in itertools.count(1):
    print(f"step {step}/100000 loss=3.5 tokens_per_s=123456", flush=True)
    time.sleep(0.1)
"""


def test_an_estimate_fits_a_terminal(lab: Lab) -> None:
    """At most 80 columns of plain text on stdout, nothing on stderr, and no state folder is made."""
    done = lab.run(*FIRST_CASE, "--budget", "5")
    assert (done.code, done.err) == (0, "")
    assert max(len(line) for line in done.out.splitlines()) <= 80
    assert "\x1b" not in done.out
    assert not lab.home.exists()


def test_json_is_one_document(lab: Lab) -> None:
    """Every number, with its unit in its name, and the assumptions."""
    done = lab.run(*FIRST_CASE, "--budget", "5", "--gpu", "t4", "--precision", "FP32", "--json")
    assert (done.code, done.err) == (0, "")
    document = done.document
    assert (document["params"], document["gpu"], document["precision"]) == (124_000_000, "T4", "fp32")
    assert (document["budget"]["usd"], len(document["places"])) == ("5.00", 9)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--params", "0", "--tokens", "1M"], "--params '0' is zero."),
        (["--params", "-1", "--tokens", "1M"], "--params '-1' is not a count."),
        (["--params", "12X", "--tokens", "1M"], "--params '12X' is not a count."),
        (["--params", "1e30", "--tokens", "1M"], "--params '1e30' is too large."),
        (["--params", "nan", "--tokens", "1M"], "--params 'nan' is not a count."),
        (["--params", "124M"], "--tokens is missing."),
        (["--tokens", "1M"], "--params is missing."),
        (["--params", "124M", "--tokens", "1M", "--budget", "nan"], "--budget 'nan' is not a finite amount"),
        (["--params", "124M", "--tokens", "1M", "--budget", "0"], "--budget '0' must be above zero"),
        (["--params", "124M", "--tokens", "1M", "--gpu", "H999"], "No price is known for a GPU called 'H999'."),
        (["--params", "124M", "--tokens", "1M", "--precision", "int3"], "'int3' is not one of"),
        (["--params", "124M", "--tokens", "1M", "--context", "0"], "--context"),
        (["--params", "124M", "--tokens", "1M", "--from", "nobody"], "There is no job 'nobody'."),
    ],
)
def test_wrong_input_is_a_usage_error(lab: Lab, args: list[str], said: str) -> None:
    """Exit 2, one clear sentence on stderr, nothing on stdout."""
    done = lab.run("estimate", *args, "--json")
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_past_jobs_pace_takes_the_place_of_the_assumption(lab: Lab) -> None:
    """10,500 tokens a second, printed by a job that ran here, hold for this computer."""
    lab.write_job([sys.executable, "-c", TRAINING], early_stop={"monitor": "loss"})
    ran = lab.run("up", "--budget", "0.05", "--yes")
    assert ran.code == 0, ran.err
    done = lab.run(*FIRST_CASE, "--from", "job", "--json")
    assert done.code == 0, done.err
    assert done.document["measured"]["tokens_per_s_high"] == 10_500
    here = next(place for place in done.document["places"] if place["place"] == "this computer")
    assert (round(here["hours_low"], 3), round(here["hours_high"], 3)) == (2.646, 2.778)


def test_a_running_jobs_pace_is_taken_too(lab: Lab) -> None:
    """As its lines tell it, and the steps of its forecast with the tokens of a step."""
    lab.write_job([sys.executable, "-c", RUNNING])
    lab.launch(cap="0.2")
    wait_until(lambda: "steps_per_s" in (lab.status()["progress"] or {}), "the forecast")
    args = ("--from", "job", "--tokens-per-step", "1000", "--json")
    measured = lab.run(*FIRST_CASE, *args).document["measured"]
    lab.down()

    assert measured["tokens_per_s_high"] == 123_456
    assert 0 < measured["tokens_per_s_low"] < 123_456
    assert "tokens_per_s and steps per second of job job" in measured["source"]


def test_a_job_without_a_pace_says_what_to_print(lab: Lab) -> None:
    """Exit 2, and the metric to add."""
    lab.write_job([sys.executable, "-c", "print('done')"])
    assert lab.run("up", "--budget", "0.05", "--yes").code == 0
    done = lab.run(*FIRST_CASE, "--from", "job")
    assert done.code == 2
    assert "Job 'job' has told no tokens per second." in done.err
    assert "metrics.regex" in done.err
