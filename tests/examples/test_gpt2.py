"""The GPT-2 example at a tiny size on the CPU: it learns, saves, stops when told, and goes on exactly where it was."""

from __future__ import annotations

import re
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from example_runs import ROOT, run

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = ROOT / "examples" / "gpt2-124m"
TEXT = ROOT / "examples" / "tiny-lm" / "sonnets.txt"
STEPS = 400
SIZE = (
    *("--layers", "2", "--heads", "2", "--width", "16", "--context", "32", "--sequences", "4", "--batch", "2"),
    *("--steps", str(STEPS), "--warmup", "10", "--lr", "0.003"),
    *("--log-every", "20", "--eval-every", "50", "--eval-sequences", "10", "--checkpoint-every", "30"),
)
LINE = re.compile(r"^(step (\d+)/\d+ .*?)(?: tokens_per_s=(\d+))?$", re.MULTILINE)

pytestmark = pytest.mark.timeout(300)


class Whole(NamedTuple):
    """A prepared text, and a run over it that was left alone."""

    data: Path
    checkpoints: Path
    output: str


def command(python: str, data: Path, checkpoints: Path, *flags: str) -> list[str]:
    """The program's command line."""
    return [python, str(EXAMPLE / "train.py"), "--data", str(data), "--checkpoints", str(checkpoints), *SIZE, *flags]


def curve(output: str) -> list[tuple[int, str]]:
    """What was printed of each step, without the speed."""
    return [(int(step), said) for said, step, _ in LINE.findall(output)]


@pytest.fixture(scope="module")
def whole(python: str, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The run that the others are compared with."""
    folder = tmp_path_factory.mktemp("whole")
    flags = ("--text", str(TEXT), "--vocabulary", "300")
    done = run(command(python, folder / "data", folder / "checkpoints", *flags), environment)
    assert (done.returncode, done.stderr) == (0, "")
    return Whole(folder / "data", folder / "checkpoints", done.stdout)


@contextmanager
def running(argv: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The program while it runs; killed at the end of the block if it is still there."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as process:
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


def steps_saved(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder."""
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


def test_it_learns_and_tells_what_it_does(whole: Whole) -> None:
    """The losses fall; the model, its tokeniser and the last two checkpoints are there."""
    losses = [
        float(loss) for loss in re.findall(r" val_loss=(\d+\.\d+) val_perplexity=\d+\.\d+$", whole.output, re.MULTILINE)
    ]
    assert len(losses) == STEPS // 50
    assert losses[-1] < losses[0] - 0.5
    assert all(int(speed) > 0 for _, _, speed in LINE.findall(whole.output) if speed)
    assert whole.output.count("tokens_per_s=") == STEPS // 20
    assert steps_saved(whole.checkpoints) == [390, 400]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in (whole.checkpoints / "model").iterdir()
    }
    assert f"finished at step {STEPS}/{STEPS}: the model of sonnets.txt is in" in whole.output


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_run_goes_on_exactly_where_it_was(
    python: str, environment: dict[str, str], whole: Whole, tmp_path: Path, how: signal.Signals
) -> None:
    """Killed or stopped and started again, it prints the same losses and saves the same weights as one left alone."""
    argv = command(python, whole.data, tmp_path)
    with running(argv, environment) as process:
        read_until(process, "step 60/")
        process.send_signal(how)
        if how == signal.SIGTERM:
            stopped = read_until(process, "stopped by SIGTERM")
        assert process.wait(timeout=100) == (0 if how == signal.SIGTERM else -signal.SIGKILL)
    reached = steps_saved(tmp_path)[-1]
    assert 30 <= reached < STEPS  # what is killed while it saves has only the checkpoint before
    if how == signal.SIGTERM:
        assert stopped == f"stopped by SIGTERM at step {reached}/{STEPS}: saved {tmp_path}/step-{reached:06d}\n"

    rest = run(argv, environment)

    assert (rest.returncode, rest.stderr) == (0, "")
    assert rest.stdout.startswith(f"resumed from {tmp_path}/step-{reached:06d} at step {reached}/{STEPS}\n")
    assert curve(rest.stdout) == [(step, said) for step, said in curve(whole.output) if step > reached]
    last = f"step-{STEPS:06d}"
    for name in ("pytorch_model.bin", "optimizer.bin", "scheduler.bin", "progress.json"):
        assert (tmp_path / last / name).read_bytes() == (whole.checkpoints / last / name).read_bytes()


def test_a_torn_checkpoint_is_passed_over_and_a_met_target_ends_the_run(
    python: str, environment: dict[str, str], whole: Whole
) -> None:
    """It goes on from the one before, evaluates, and stops because the loss is low enough."""
    torn = whole.checkpoints / f"step-{STEPS:06d}" / "optimizer.bin"
    content = torn.read_bytes()
    torn.write_bytes(content[:-10])
    try:
        done = run(command(python, whole.data, whole.checkpoints, "--target-perplexity", "200"), environment)
    finally:
        torn.write_bytes(content)

    assert (done.returncode, done.stderr) == (0, "")
    assert f"skipped {torn.parent}: not a whole checkpoint (optimizer.bin is cut short)\n" in done.stdout
    assert f"resumed from {whole.checkpoints}/step-000390 at step 390/{STEPS}\n" in done.stdout
    assert re.search(
        r"^the target is met \(val_loss=\d\.\d{4}\) at step 390/400: the model of", done.stdout, re.MULTILINE
    )


def test_other_settings_are_not_mixed_into_a_run(python: str, environment: dict[str, str], whole: Whole) -> None:
    """A folder of another run is refused, naming what differs."""
    other = run(command(python, whole.data, whole.checkpoints, "--seed", "2", "--lr", "0.1"), environment)
    assert (other.returncode, other.stdout) == (1, "")
    assert "was made with other settings (lr, seed)" in other.stderr
