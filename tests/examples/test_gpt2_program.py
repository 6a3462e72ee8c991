"""The GPT-2 example's program beside its training: the batch, the data, the flags, the text; and its trial job."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from example_runs import ROOT, run

if TYPE_CHECKING:
    from pathlib import Path

    from command_lab import Lab

EXAMPLE = ROOT / "examples" / "gpt2-124m"

pytestmark = pytest.mark.timeout(300)

INSIDE = """
import argparse, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch, train
from corpus import Corpus

def runs(most):
    tried = []
    def attempt(size):
        tried.append(size)
        if size > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
    return train.largest_batch(20, attempt), tried

corpus = Corpus.__new__(Corpus)
corpus.train = torch.arange(24).reshape(6, 4).numpy()
epoch = [corpus.sequences(step, 2, seed=1)[:, 0].tolist() for step in (1, 2, 3)]
again = [corpus.sequences(step, 2, seed=1)[:, 0].tolist() for step in (4, 5, 6)]

try:
    Corpus(Path("nowhere"), 32)
except SystemExit as error:
    unprepared = error.code

def refused(*flags):
    sys.argv = ["train.py", *flags]
    try:
        train.arguments()
    except SystemExit as error:
        return error.code

accepted = []
for flags in json.loads(sys.argv[2]):
    sys.argv[1:] = flags
    accepted.append(train.arguments().steps)

rate = train.learning_rate(argparse.Namespace(warmup=10, steps=110))
print(json.dumps({
    "batches": [runs(most) for most in (0, 1, 9, 100)],
    "epoch": epoch,
    "unprepared": unprepared,
    "again": again,
    "refused": [refused(*flags) for flags in (
        ["--steps", "0"], ["--precision", "int8"], ["--width", "100"], ["--batch", "3"], ["--dropout", "nan"],
        ["--vocabulary", "70000"],
    )],
    "accepted": accepted,
    "rates": [round(rate(done), 4) for done in (0, 9, 10, 60, 110, 500)],
}))
"""


def job_flags() -> list[list[str]]:
    """The flags that each job file gives the program."""
    commands = (yaml.safe_load(path.read_text(encoding="utf-8"))["command"] for path in sorted(EXAMPLE.glob("*.yaml")))
    return [" ".join(command).split("train.py ")[1].split() for command in commands]


@pytest.fixture(scope="module")
def inside(python: str, environment: dict[str, str]) -> dict[str, Any]:
    """What parts of the program answer, asked in one process, and what was printed on stderr."""
    done = run([python, "-c", INSIDE, str(EXAMPLE), json.dumps(job_flags())], environment)
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


def test_a_text_that_was_not_prepared_says_how(inside: dict[str, Any]) -> None:
    """The file that is missing, and the command."""
    assert "meta.json" in inside["unprepared"]
    assert "python prepare.py corpus.txt --data nowhere" in inside["unprepared"]


def test_the_learning_rate_rises_and_falls(inside: dict[str, Any]) -> None:
    """A linear warm-up, a cosine down to a tenth, and no further."""
    assert inside["rates"] == [0.1, 1.0, 1.0, 0.55, 0.1, 0.1]


def test_the_flags_of_the_job_files_are_known(inside: dict[str, Any]) -> None:
    """aws, azure, gcp, local: 5,000 steps; the trial has 120."""
    assert inside["accepted"] == [5000, 5000, 5000, 5000, 120]


def test_a_bad_flag_is_named(inside: dict[str, Any]) -> None:
    """Exit 2, and a line that names it."""
    assert inside["refused"] == [2] * 6
    named = re.findall(r"train.py: error: argument (--\w+): ", inside["stderr"])
    assert named == ["--steps", "--precision", "--width", "--batch", "--dropout", "--vocabulary"]


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
