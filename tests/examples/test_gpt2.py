"""The GPT-2 example at a tiny size on the CPU: it learns, saves, stops when told, and goes on exactly where it was."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from example_runs import ROOT, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from command_lab import Lab

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


INSIDE = """
import argparse, json, runpy, sys
sys.path.insert(0, sys.argv[1])
import torch, train

def runs(most):
    tried = []
    def attempt(size):
        tried.append(size)
        if size > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
    return train.largest_batch(20, attempt), tried

corpus = train.Corpus.__new__(train.Corpus)
corpus.train = torch.arange(24).reshape(6, 4).numpy()
epoch = [corpus.sequences(step, 2, seed=1)[:, 0].tolist() for step in (1, 2, 3)]
again = [corpus.sequences(step, 2, seed=1)[:, 0].tolist() for step in (4, 5, 6)]

def refused(*flags):
    sys.argv = ["train.py", *flags]
    try:
        train.arguments()
    except SystemExit as error:
        return error.code

rate = train.learning_rate(argparse.Namespace(warmup=10, steps=110))
print(json.dumps({
    "batches": [runs(most) for most in (0, 1, 9, 100)],
    "epoch": epoch,
    "again": again,
    "refused": [refused(*flags) for flags in (
        ["--steps", "0"], ["--precision", "int8"], ["--width", "100"], ["--batch", "3"], ["--dropout", "nan"],
        ["--vocabulary", "70000"],
    )],
    "rates": [round(rate(done), 4) for done in (0, 9, 10, 60, 110, 500)],
}))
"""


@pytest.fixture(scope="module")
def inside(python: str, environment: dict[str, str]) -> dict[str, Any]:
    """What parts of the program answer, asked in one process, and what was printed on stderr."""
    done = run([python, "-c", INSIDE, str(EXAMPLE)], environment)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "stderr": done.stderr}


def test_the_batch_grows_until_memory_runs_out(inside: dict[str, Any]) -> None:
    """Through what divides a step's 20 sequences; the last that ran is taken."""
    assert inside["batches"] == [
        [0, [1]],
        [1, [1, 2]],
        [5, [1, 2, 4, 5, 10]],
        [20, [1, 2, 4, 5, 10, 20]],
    ]


def test_each_sequence_comes_once_in_an_epoch(inside: dict[str, Any]) -> None:
    """In an order of the epoch's own."""
    first, second = ([place for step in inside[name] for place in step] for name in ("epoch", "again"))
    assert sorted(first) == sorted(second) == [0, 4, 8, 12, 16, 20]
    assert first != second


def test_the_learning_rate_rises_and_falls(inside: dict[str, Any]) -> None:
    """A linear warm-up, a cosine down to a tenth, and no further."""
    assert inside["rates"] == [0.1, 1.0, 1.0, 0.55, 0.1, 0.1]


def test_a_bad_flag_is_named(inside: dict[str, Any]) -> None:
    """Exit 2, and a line that names it."""
    assert inside["refused"] == [2] * 6
    named = re.findall(r"train.py: error: argument (--\w+): ", inside["stderr"])
    assert named == ["--steps", "--precision", "--width", "--batch", "--dropout", "--vocabulary"]


def test_other_settings_are_not_mixed_into_a_run(
    python: str, environment: dict[str, str], whole: Whole, tmp_path: Path
) -> None:
    """A folder of another run is refused, naming what differs; a missing text says how to prepare one."""
    other = run(command(python, whole.data, whole.checkpoints, "--seed", "2", "--lr", "0.1"), environment)
    assert (other.returncode, other.stdout) == (1, "")
    assert "was made with other settings (lr, seed)" in other.stderr

    none = run(command(python, tmp_path / "data", tmp_path), environment)
    assert (none.returncode, none.stdout) == (1, "")
    assert "python prepare.py corpus.txt" in none.stderr


def test_preparing_is_safe_to_repeat_and_loses_nothing(
    python: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """The tokens are the text, byte for byte; a second time nothing is written; another text is prepared anew."""
    text, data = tmp_path / "text.txt", tmp_path / "data"
    text.write_text("Ünïcode, \U0001f600 and\r\n\ttabs  and  spaces\n" * 50, encoding="utf-8", newline="")
    argv = [python, str(EXAMPLE / "prepare.py"), str(text), "--data", str(data), "--vocabulary", "300"]
    done = run(argv, environment)
    assert (done.returncode, done.stderr) == (0, "")
    meta = json.loads((data / "meta.json").read_text())
    assert (data / "tokens.bin").stat().st_size == 2 * meta["tokens"]
    assert meta["validation_tokens"] == int(meta["tokens"] * 0.05)
    decode = (
        "import sys, numpy; from tokenizers import Tokenizer; "
        "t = Tokenizer.from_file(sys.argv[1] + '/tokenizer.json'); "
        "sys.stdout.buffer.write(t.decode(numpy.fromfile(sys.argv[1] + '/tokens.bin', 'uint16').tolist()).encode())"
    )
    decoded = subprocess.run([python, "-c", decode, str(data)], capture_output=True, env=environment, check=True)
    assert decoded.stdout == text.read_bytes()

    written = (data / "tokens.bin").stat().st_mtime_ns
    assert run(argv, environment).returncode == 0
    assert (data / "tokens.bin").stat().st_mtime_ns == written
    text.write_text("another\n" * 50, encoding="utf-8")
    assert run(argv, environment).returncode == 0
    assert json.loads((data / "meta.json").read_text())["text_sha256"] != meta["text_sha256"]

    text.write_bytes(b"\xff\xfe\x00")
    refused = run(argv, environment)
    assert refused.returncode == 1
    assert "cannot be read" in refused.stderr
    assert not (data / "meta.json").exists()


def test_the_trial_runs_under_gpulaunch_and_its_pace_is_read(lab: Lab) -> None:
    """The job file as it is: every metric is read, the forecast knows the end, and an estimate takes its pace."""
    up = lab.ended(lab.start("up", "gpt2-124m/trial.yaml", "--yes"), bound_s=250)
    assert up.code == 0, up.err
    view = lab.status("gpt2-trial")
    assert (view["outcome"], view["spend_confirmed"]) == ("finished", True)
    assert {"val_loss", "val_perplexity", "loss", "grad_norm", "tokens_per_s"} <= set(view["metrics"])
    assert (view["metrics"]["val_loss"]["step"], view["metrics"]["val_loss"]["seen"]) == (120, 6)
    assert view["metrics"]["val_loss"]["value"] < 5.5
    assert (view["progress"]["step"], view["progress"]["steps"]) == (120, 120)

    estimate = lab.run("estimate", "--params", "124M", "--tokens", "100M", "--from", "gpt2-trial", "--json")
    assert estimate.code == 0, estimate.err
    told = view["metrics"]["tokens_per_s"]["value"]
    assert estimate.document["measured"]["tokens_per_s_high"] == pytest.approx(told, rel=1e-4)
