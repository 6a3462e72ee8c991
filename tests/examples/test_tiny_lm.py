"""The example job, run as a user runs it: it learns, saves, stops when told, and goes on exactly where it was."""

from __future__ import annotations

import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from launcher.job import load_job

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "tiny-lm"
ENVIRONMENT = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
LINE = re.compile(r"^step (\d+)/(\d+) train_loss=(\d+\.\d+) val_loss=(\d+\.\d+) tokens_per_s=(\d+)$", re.MULTILINE)


def command(folder: Path, *flags: str) -> list[str]:
    """The program's command line, with its checkpoints in this folder."""
    return [sys.executable, str(EXAMPLE / "train.py"), "--checkpoints", str(folder), *flags]


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    return subprocess.run(command(folder, *flags), capture_output=True, text=True, env=ENVIRONMENT, timeout=60)


@contextmanager
def running(folder: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """The program while it runs; killed at the end of the block if it is still there."""
    with subprocess.Popen(command(folder, *flags), stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], start: str) -> str:
    """Read its output up to the first line that begins so; the program's end is the bound."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(start):
            return line
    raise AssertionError(f"the program ended without a line that begins with {start!r}")


def losses(output: str) -> dict[int, tuple[str, str]]:
    """Training and validation loss by step, as printed."""
    return {int(step): (train, validation) for step, _, train, validation, _ in LINE.findall(output)}


def names(folder: Path) -> list[str]:
    """The files in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_both_losses_fall_and_a_sample_is_printed(tmp_path: Path) -> None:
    """A short run learns, prints a line for each evaluation, and ends with a sample of its own."""
    done = run(tmp_path, "--steps", "200", "--eval-every", "50", "--checkpoint-every", "40")

    assert (done.returncode, done.stderr) == (0, "")
    curve = losses(done.stdout)
    assert list(curve) == [50, 100, 150, 200]
    for column in (0, 1):
        values = [float(pair[column]) for pair in curve.values()]
        assert values == sorted(values, reverse=True)
        assert values[-1] < 2.6
    sample = done.stdout.split("a sample:\n")[1]
    assert len(sample) == 301
    assert names(tmp_path) == ["step-000120.npz", "step-000160.npz", "step-000200.npz"]


def test_sigterm_saves_and_exits_with_zero(tmp_path: Path) -> None:
    """SIGTERM ends the run in the middle, with a checkpoint of the very step that it names."""
    with running(tmp_path, "--steps", "100000", "--eval-every", "5", "--checkpoint-every", "100000") as process:
        read_until(process, "step 5/")
        process.send_signal(signal.SIGTERM)
        stopped = read_until(process, "stopped by SIGTERM")
        assert process.wait(timeout=30) == 0

    match = re.fullmatch(r"stopped by SIGTERM at step (\d+)/100000: saved (.*)\n", stopped)
    assert match is not None
    assert match[2] == str(tmp_path / f"step-{int(match[1]):06d}.npz")
    assert names(tmp_path) == [Path(match[2]).name]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_run_goes_on_exactly_where_it_was(tmp_path: Path, how: signal.Signals) -> None:
    """Killed or stopped and started again, it prints the same losses and saves the same bytes as a run left alone."""
    # One epoch of 3,000 characters is 11 steps, so that the run crosses several.
    flags = ("--eval-every", "10", "--checkpoint-every", "9", "--train-chars", "3000")
    with running(tmp_path / "parts", *flags, "--steps", "100000") as process:
        read_until(process, "step 40/")
        process.send_signal(how)
        process.wait(timeout=30)
    reached = max(int(name[5:11]) for name in names(tmp_path / "parts") if name.startswith("step-"))
    end = str(reached + 25)

    rest = run(tmp_path / "parts", *flags, "--steps", end)
    whole = run(tmp_path / "whole", *flags, "--steps", end)

    last = f"step-{int(end):06d}.npz"
    assert f"resumed from {tmp_path / 'parts' / f'step-{reached:06d}.npz'} at step {reached}/{end}\n" in rest.stdout
    assert losses(rest.stdout) == {step: pair for step, pair in losses(whole.stdout).items() if step > reached}
    assert rest.stdout.split("a sample:\n")[1] == whole.stdout.split("a sample:\n")[1]
    assert (tmp_path / "parts" / last).read_bytes() == (tmp_path / "whole" / last).read_bytes()


def test_torn_and_foreign_files_are_skipped_with_a_message(tmp_path: Path) -> None:
    """A checkpoint that was cut short, or is something else, is named, and the last whole one is continued."""
    flags = ("--eval-every", "10", "--checkpoint-every", "10", "--train-chars", "3000")
    run(tmp_path, "--steps", "30", *flags)
    torn = tmp_path / "step-000030.npz"
    torn.write_bytes(torn.read_bytes()[:-1000])
    (tmp_path / "step-000050.npz").write_text("not a checkpoint")
    (tmp_path / "step-000060.npz").write_bytes(b"")
    (tmp_path / "step-000070.npz").write_bytes((tmp_path / "step-000020.npz").read_bytes())
    (tmp_path / "step-last.npz").write_text("someone else's")

    done = run(tmp_path, "--steps", "40", *flags)

    assert done.returncode == 0
    skipped = re.findall(r"^skipped .*(step-\d+\.npz): not a whole checkpoint", done.stdout, re.MULTILINE)
    assert skipped == ["step-000070.npz", "step-000060.npz", "step-000050.npz", "step-000030.npz"]
    assert f"resumed from {tmp_path / 'step-000020.npz'} at step 20/40\n" in done.stdout
    assert list(losses(done.stdout)) == [30, 40]


def test_a_finished_run_is_put_aside_and_begun_anew(tmp_path: Path) -> None:
    """A checkpoint at --steps is not continued; one that is below a larger --steps is."""
    flags = ("--checkpoint-every", "10", "--train-chars", "3000")
    first = run(tmp_path, "--steps", "20", *flags)
    again = run(tmp_path, "--steps", "20", *flags)
    longer = run(tmp_path, "--steps", "30", *flags)

    assert f"starting anew: {tmp_path / 'step-000020.npz'} has already reached step 20/20" in again.stdout
    assert losses(again.stdout) == losses(first.stdout)
    assert names(tmp_path / "earlier-1") == ["step-000010.npz", "step-000020.npz"]
    assert f"resumed from {tmp_path / 'step-000020.npz'} at step 20/30" in longer.stdout


def test_other_settings_are_not_mixed_into_a_run(tmp_path: Path) -> None:
    """Checkpoints of another seed are put aside, and the new run is what it would be in an empty folder."""
    flags = ("--steps", "20", "--train-chars", "3000")
    run(tmp_path / "used", *flags)
    done = run(tmp_path / "used", *flags, "--seed", "2")

    assert "was made with other settings or another text" in done.stdout
    assert names(tmp_path / "used") == ["earlier-1", "step-000020.npz"]
    assert losses(done.stdout) == losses(run(tmp_path / "empty", *flags, "--seed", "2").stdout)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--steps", "0"), "argument --steps: '0' is not a whole number above zero"),
        (("--steps", "1.5"), "argument --steps: '1.5' is not a whole number above zero"),
        (("--lr", "nan"), "argument --lr: 'nan' is not a number above zero"),
        (("--seed", "-1"), "argument --seed: must not be negative"),
        (("--epochs", "3"), "unrecognized arguments: --epochs 3"),
    ],
)
def test_a_bad_flag_is_named(tmp_path: Path, flags: tuple[str, ...], message: str) -> None:
    """A bad flag exits with 2 and one line that names it; nothing is written."""
    done = run(tmp_path / "checkpoints", *flags)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == f"train.py: error: {message}"
    assert not (tmp_path / "checkpoints").exists()


def test_bad_files_are_named(tmp_path: Path) -> None:
    """A text that is missing, too short or not text, and a checkpoint folder that is a file, each get a clear line."""
    short, binary = tmp_path / "short.txt", tmp_path / "binary.txt"
    short.write_text("To be, or not to be")
    binary.write_bytes(b"\xff\xfe\x00")

    results = [
        run(tmp_path / "c", "--data", str(tmp_path / "none.txt")),
        run(tmp_path / "c", "--data", str(short)),
        run(tmp_path / "c", "--data", str(binary)),
        run(short),
    ]

    assert [done.returncode for done in results] == [1, 1, 1, 1]
    found = [done.stderr.splitlines() for done in results]
    assert [len(lines) for lines in found] == [1, 1, 1, 1]
    assert "No such file" in found[0][0]
    assert "too few" in found[1][0]
    assert "can't decode" in found[2][0]
    assert "File exists" in found[3][0]
    assert "--checkpoints" in found[3][0]


def test_the_text_is_the_whole_work() -> None:
    """The shipped text is 154 sonnets of 14 lines; the 99th has 15 and the 126th 12, as printed in 1609."""
    sonnets = (EXAMPLE / "sonnets.txt").read_text(encoding="utf-8").rstrip("\n").split("\n\n")

    lines = {number: len(sonnet.split("\n")) for number, sonnet in enumerate(sonnets, start=1)}
    assert lines == dict.fromkeys(range(1, 155), 14) | {99: 15, 126: 12}


@pytest.mark.parametrize("job_file", ["gpulaunch.yaml", "early-stop.yaml"])
def test_the_job_files_are_valid_and_their_flags_are_known(tmp_path: Path, job_file: str) -> None:
    """Both job files pass the schema, and the program takes the flags that they give it."""
    job = load_job(EXAMPLE / job_file)

    assert (job.image, job.resources.gpu, job.resources.providers) == (None, None, ("local",))
    python, program, *flags = job.command
    assert (python, program) == ("python", "train.py")
    assert run(tmp_path, *flags, "--steps", "1", "--train-chars", "3000").returncode == 0


def test_the_early_stop_job_would_be_stopped_early(tmp_path: Path) -> None:
    """In the early-stop job the validation loss soon goes without a gain for longer than its patience, and rises."""
    job = load_job(EXAMPLE / "early-stop.yaml")
    assert job.early_stop is not None
    done = run(tmp_path, *job.command[2:], "--steps", "300")

    validation = [float(pair[1]) for pair in losses(done.stdout).values()]
    best = validation.index(min(validation))
    assert 0 < best < len(validation) - 1 - 2 * job.early_stop.patience
    assert validation[-1] > validation[best] + 0.3


@pytest.mark.parametrize("part", ["embedding", "hidden", "hidden_bias", "output", "output_bias"])
def test_the_gradient_is_the_slope_of_the_loss(part: str) -> None:
    """A small step of one part along its gradient changes the loss by as much as the gradient's length says."""
    rng = np.random.default_rng(1)
    program = runpy.run_path(str(EXAMPLE / "train.py"))
    model = program["Model"](7, rng)
    x, y = rng.integers(7, size=(64, program["CONTEXT"])), rng.integers(7, size=64)
    model.backward(x, y)
    length = float(np.linalg.norm(model.gradients[part]))
    start, direction, distance = model.parts[part].copy(), model.gradients[part] / length, 0.02

    def loss_after(move: float) -> float:
        model.parts[part][:] = start + move * direction
        return float(model.loss(x, y))

    slope = (loss_after(distance) - loss_after(-distance)) / (2 * distance)
    assert slope == pytest.approx(length, rel=0.02)
