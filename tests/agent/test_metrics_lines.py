"""Lines of trainings: names, steps and values."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from launcher.agent.line_formats import LONGEST_LINE, LineReader, Row

TRAINING = Path(__file__).parent.parent / "fixtures" / "training"


def rows(file: str, form: str = "auto") -> list[tuple[str, Row]]:
    """What a reader makes of a printed file, cut into lines as a terminal does it."""
    text = (TRAINING / file).read_text(encoding="utf-8")
    reader = LineReader(form)
    return [found for line in text.replace("\r", "\n").split("\n") for found in reader.read(line)]


def series(found: list[tuple[str, Row]], name: str, place: str) -> list[tuple[float | None, float]]:
    """The (place, value) pairs of one name."""
    return [(row.get(place), row[name]) for _, row in found if name in row]


@pytest.mark.parametrize("form", ["auto", "hf"])
def test_hugging_face_lines(form: str) -> None:
    """Each dict is a row with its epoch, quoted numbers included, and nothing else is taken for one."""
    found = rows("huggingface/stdout.txt", form)
    assert {source for source, _ in found} == {"hf"}
    assert len(found) == 12 + 6 + 1
    assert series(found, "eval_loss", "epoch") == [
        (0.3125, 2.541),
        (0.625, 2.541),
        (0.9375, 2.541),
        (1.25, 2.541),
        (1.562, 2.541),
        (1.875, 2.541),
    ]
    assert series(found, "grad_norm", "epoch")[:2] == [(0.1562, 0.5914), (0.3125, 0.6014)]
    assert series(found, "learning_rate", "epoch")[-1] == (1.875, 1.667e-05)


def test_hugging_face_older_lines() -> None:
    """Older versions print bare floats, and nan without quotes."""
    line = "{'loss': 0.125, 'grad_norm': nan, 'learning_rate': 5e-05, 'epoch': 0.5}"
    row = LineReader().read(line)[0][1]
    assert math.isnan(row.pop("grad_norm"))
    assert row == {"loss": 0.125, "learning_rate": 5e-05, "epoch": 0.5}


def test_hugging_face_progress_bar() -> None:
    """The bar of the training gives the position; those of evaluations and of saving inside it do not."""
    found = rows("huggingface/merged.txt")
    bars = [(row["bar"], row["bars"]) for source, row in found if source == "bar"]
    assert {total for _, total in bars} == {60.0}
    assert [bars[0], bars[-1]] == [(0.0, 60.0), (60.0, 60.0)]
    assert len(series(found, "eval_loss", "epoch")) == 6


@pytest.mark.parametrize("file", ["keras/verbose2.txt", "keras/verbose1.txt"])
@pytest.mark.parametrize("form", ["auto", "keras"])
def test_keras_lines(file: str, form: str) -> None:
    """The last line of an epoch is a row with its epoch, drawn in colour or plain."""
    found = rows(file, form)
    assert {source for source, _ in found} == {"keras"}
    assert series(found, "val_loss", "epoch") == [
        (1.0, 0.9776),
        (2.0, 0.9542),
        (3.0, 0.9315),
        (4.0, 0.9101),
        (5.0, 0.8891),
        (6.0, 0.8695),
    ]
    assert series(found, "val_accuracy", "epochs")[0] == (6.0, 0.5128)
    assert series(found, "loss", "epoch")[-1] == (6.0, 0.8556)
    assert found[0][1] == {"epoch": 0.0, "epochs": 6.0}


@pytest.mark.parametrize("form", ["auto", "nanogpt"])
def test_nanogpt_lines(form: str) -> None:
    """Evaluations and iterations have their step; a loss of nan is a loss."""
    found = rows("nanogpt/stdout.txt", form)
    assert series(found, "val_loss", "step") == [(0.0, 4.2823), (250.0, 2.0614), (500.0, 1.7282)]
    assert series(found, "train_loss", "step")[-1] == (500.0, 1.5235)
    assert series(found, "loss", "step")[:2] == [(0.0, 4.2654), (10.0, 3.2414)]
    assert math.isnan(series(found, "loss", "step")[-1][1])


def test_nanogpt_config() -> None:
    """The number of steps is taken from the printed configuration."""
    assert [row["steps"] for _, row in rows("nanogpt/stdout.txt") if "steps" in row] == [5000.0]


@pytest.mark.parametrize("form", ["auto", "llmc"])
def test_llmc_lines(form: str) -> None:
    """A validation loss, printed without a step, belongs to the step before it."""
    found = rows("llmc/stdout.txt", form)
    assert series(found, "val_loss", "step") == [(0.0, 11.00982), (20.0, 9.051234)]
    assert series(found, "loss", "step") == [(1.0, 11.009752), (2.0, 10.954321), (20.0, 9.123456), (21.0, 9.001234)]
    assert series(found, "norm", "steps")[0] == (5000.0, 15.3543)
    assert series(found, "lr", "step")[0] == (1.0, 4.29e-07)


def test_llmc_log() -> None:
    """main.log names the losses tersely."""
    found = rows("llmc/main.log")
    assert series(found, "val_loss", "step") == [(0.0, 11.0098), (20.0, 9.0512)]
    assert series(found, "loss", "step") == [(0.0, 11.0098), (19.0, 9.1235), (20.0, 9.0012)]


def test_json_lines() -> None:
    """Numbers and text that reads as a number count; null, lists, true and text do not."""
    line = '{"step": 5, "max_steps": 50, "loss": NaN, "val_loss": "1e-3", "tag": "x", "on": [1], "no": null}'
    source, row = LineReader().read(line)[0]
    assert source == "jsonl"
    assert math.isnan(row.pop("loss"))
    assert row == {"step": 5.0, "steps": 50.0, "val_loss": 0.001}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("loss=0.5", {"loss": 0.5}),
        ("loss: .5 acc: 93.2%", {"loss": 0.5, "acc": 93.2}),
        ("val_loss=1e-5, lr = 3.0E-04", {"val_loss": 1e-05, "lr": 0.0003}),
        ("Loss: inf, norm=-Infinity", {"Loss": math.inf, "norm": -math.inf}),
        ("val loss: 3.4 train loss: 3.2", {"val_loss": 3.4, "train_loss": 3.2}),
        ("Validation Loss: 2.5", {"Validation_Loss": 2.5}),
        (
            "Epoch [3/10], Step [100/600], Loss: 0.35",
            {"Loss": 0.35, "epoch": 3, "epochs": 10, "step": 100, "steps": 600},
        ),
        ("epoch 2 step=120 | eval/loss=0.25", {"eval/loss": 0.25, "epoch": 2, "step": 120}),
        ("global step 7: loss=1", {"loss": 1, "step": 7}),
        ("  Total optimization steps = 1,500", {"steps": 1500}),
        ("  Num Epochs = 3", {"epochs": 3}),
        ("max_steps=5000", {"steps": 5000}),
        ("max_steps=-1", {}),
        ("my_own_thing=4", {"my_own_thing": 4}),
        (
            "step 10/5000 loss=6.1 lr=6.0e-04 tokens_per_s=6120",
            {"loss": 6.1, "lr": 6e-4, "tokens_per_s": 6120, "step": 10, "steps": 5000},
        ),
        ("samples_per_second: 12.5 seconds: 3", {"samples_per_second": 12.5}),
        ("port: 8080 time: 12:30:05 date=2026-11-21 version: 1.2.3", {}),
        ("norm_loss: 12:30", {}),
        ("loss: 0.5.1", {}),
        ("Epoch 0: 100%|███| 10/10 [00:00<00:00, 120.5it/s, v_num=0, val_loss=0.6]", {}),
        ("Epoch 3/3  ━━━━━━━ 10/10 0:00:00 • 0:00:00 657.87it/s v_num: 0 loss: 0.5", {}),
        ("12it [00:03, 4.1it/s, loss=0.5]", {}),
        ("Writing model shards: 100%|██| 1/1 [00:09<00:00, 1it/s]", {}),
        ("Training:  12%|█▏  | 60/500 [00:10<01:20, 5.5it/s]", {"bar": 60, "bars": 500}),
        ("lossless", {}),
        ("", {}),
    ],
)
def test_generic_lines(line: str, expected: Row) -> None:
    """`name=value` and `name: value` with all of the float grammar; times, dates and versions are no values."""
    assert LineReader(wanted="my_own_thing").read_row(line) == expected


def test_generic_nan() -> None:
    """Nan is a value of the generic format, too."""
    assert math.isnan(LineReader().read_row("val_loss=NaN")["val_loss"])


def test_user_regex() -> None:
    """The user's own patterns come first, and work beside what is recognised; alone with the format `regex`."""
    patterns = [{"name": "val_loss", "regex": r"quality (\S+)"}, {"name": "step", "regex": r"#(\d+)"}]
    line = "#12 quality 0.75 loss=3"
    assert LineReader("auto", patterns).read(line) == [
        ("regex", {"val_loss": 0.75, "step": 12.0}),
        ("generic", {"loss": 3.0}),
    ]
    assert LineReader("regex", patterns).read(line) == [("regex", {"val_loss": 0.75, "step": 12.0})]
    assert LineReader("regex", patterns).read("quality good") == []


def test_a_format_does_not_blind_to_others() -> None:
    """After a thousand lines of one format, another is still recognised."""
    reader = LineReader()
    for step in range(1000):
        assert reader.read(f"iter {step}: loss 3.2, time 8ms, mfu 1%")[0][0] == "nanogpt"
    assert reader.read("{'eval_loss': '0.1', 'epoch': '1'}") == [("hf", {"eval_loss": 0.1, "epoch": 1.0})]


def test_only_the_format_asked_for() -> None:
    """A named format reads no other."""
    assert LineReader("keras").read("step 5: train loss 3.2, val loss 3.4") == []
    assert LineReader("hf").read("loss=0.5") == []


@pytest.mark.parametrize(
    "line",
    [
        "x" * 1_000_000,
        "loss" + " " * 1_000_000,
        "a=" * 500_000,
        "\x1b[" * 500_000,
        "{'" * 5000,
        '{"loss":' + "[" * 2000,
        '{"loss": ' + "9" * 4000 + "}",
        "\x00\xff loss=\x00",
        "9" * 4000 + "%|" + "|" * 4000,
    ],
)
def test_hostile_lines(line: str) -> None:
    """What no training prints yields no metric, and no error."""
    assert LineReader().read(line) == []


def test_long_line_is_cut() -> None:
    """Only the beginning of a long line is looked at."""
    assert LineReader().read_row("loss=1 " + "." * LONGEST_LINE + " val_loss=2") == {"loss": 1.0}
