"""The whole of it: lines and files in, verdict and report out."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.heartbeat import decode, encode
from launcher.agent.watch import Watch

TRAINING = Path(__file__).parent.parent / "fixtures" / "training"


def watch(tmp_path: Path, early_stop: dict[str, Any] | None = None, **changes: Any) -> Watch:
    """A watch below `tmp_path`, at $0.50 an hour with a cap of $5."""
    (tmp_path / "work").mkdir(parents=True)
    (tmp_path / "machine").mkdir()
    orders = {
        "rate_usd_per_hour": "0.50",
        "spent_usd": "0",
        "cap_usd": "5",
        "soft_after_s": 35_000,
        "soft_outcome": "budget_reached",
        "stall": {"no_output_s": None, "no_progress_s": None},
        "metrics": {"format": "auto", "files": [], "regex": []},
        "early_stop": early_stop,
        **changes,
    }
    return Watch(orders, str(tmp_path / "work"), str(tmp_path / "machine"))


def printed(file: str) -> list[str]:
    """The lines of a printed file."""
    return (TRAINING / file).read_text(encoding="utf-8").replace("\r", "\n").split("\n")


def feed(watched: Watch, lines: list[str], every_s: float = 10) -> tuple[int, tuple[str, str]] | None:
    """Hand in one line after the other: at which line the verdict fell, and which."""
    for number, line in enumerate(lines):
        watched.lines([line], number * every_s)
        verdict = watched.verdict(number * every_s)
        if verdict:
            return number, verdict
    return None


def test_patience_from_printed_lines(tmp_path: Path) -> None:
    """A plateau of the monitored metric stops the training, whatever is printed between."""
    watched = watch(tmp_path, {"monitor": "val_loss", "patience": 2})
    lines = ["step 0: train loss 4, val loss 4", "iter 1: loss 3.9, time 8ms", "step 250: train loss 3, val loss 3"]
    lines += [f"step {step}: train loss 2, val loss 3.5" for step in (500, 750, 1000)]
    assert feed(watched, lines) == (4, ("early_stopped", "PATIENCE_EXHAUSTED"))
    assert watched.report()["metrics"]["val_loss"] == {
        "value": 3.5,
        "step": 750,
        "best": 3,
        "best_step": 250,
        "seen": 4,
    }


def test_a_verdict_stays(tmp_path: Path) -> None:
    """What was decided is not taken back by a better value."""
    watched = watch(tmp_path, {"monitor": "loss", "stopping_threshold": 1})
    watched.lines(["loss=0.5"], 1)
    watched.lines(["loss=5"], 2)
    assert watched.verdict(3) == ("early_stopped", "STOPPING_THRESHOLD")


def test_diverged_hugging_face_run(tmp_path: Path) -> None:
    """The real output of a run whose loss is NaN, printed as 0: stopped, and 0 is not its best loss."""
    watched = watch(tmp_path, {"monitor": "eval_loss"})
    assert feed(watched, printed("huggingface/diverged.txt")) == (3, ("early_stopped", "NON_FINITE_METRIC"))
    assert watched.report()["metrics"]["loss"] == {
        "value": "nan",
        "step": None,
        "best": 2.22,
        "best_step": None,
        "seen": 4,
    }


def test_a_loss_of_zero_beside_a_bad_norm_stops_at_once(tmp_path: Path) -> None:
    """Whatever is monitored, and without a second bad row."""
    watched = watch(tmp_path, {"monitor": "eval_loss"})
    lines = ["{'loss': '2', 'grad_norm': '1', 'epoch': '1'}", "{'loss': '0', 'grad_norm': 'nan', 'epoch': '2'}"]
    assert feed(watched, lines) == (1, ("early_stopped", "NON_FINITE_METRIC"))


def test_one_overflow_of_fp16_does_not_stop(tmp_path: Path) -> None:
    """A single gradient norm of inf between good ones is how loss scaling finds its scale."""
    watched = watch(tmp_path, {"monitor": "eval_loss"})
    lines = [
        f"{{'loss': '2.5', 'grad_norm': '{norm}', 'epoch': '{epoch}'}}"
        for epoch, norm in enumerate(["inf", "0.5", "inf", "0.6", "nan", "0.4"])
    ]
    assert feed(watched, lines) is None


def test_divergence_is_not_looked_for_unasked(tmp_path: Path) -> None:
    """Without early_stop, or without check_finite, a diverged training goes on."""
    lines = printed("huggingface/diverged.txt")
    assert feed(watch(tmp_path / "plain"), lines) is None
    assert feed(watch(tmp_path / "unchecked", {"monitor": "eval_loss", "check_finite": False}), lines) is None


@pytest.mark.parametrize("file", ["stdout.txt", "merged.txt"])
def test_a_healthy_hugging_face_run_is_not_stopped(tmp_path: Path, file: str) -> None:
    """Its real output, with patience that its plateau does not use up."""
    assert feed(watch(tmp_path, {"monitor": "eval_loss", "patience": 6}), printed(f"huggingface/{file}")) is None


def test_the_same_evaluation_printed_and_written_counts_once(tmp_path: Path) -> None:
    """Six evaluations, told by stdout, by two trainer states and by TensorBoard, are six."""
    watched = watch(tmp_path, {"monitor": "eval_loss", "patience": 6})
    watched.lines(printed("huggingface/stdout.txt"), 1)
    out = tmp_path / "work" / "out"
    shutil.copytree(TRAINING / "huggingface", out, copy_function=shutil.copyfile)
    for age_s in (2, 10_000, 20_000):
        watched.poll(age_s)
    assert watched.verdict(20_000) is None
    metrics = watched.report()["metrics"]
    assert [metrics["eval_loss"]["seen"], metrics["eval/loss"]["seen"]] == [6, 6]


def test_evaluations_of_files_alone(tmp_path: Path) -> None:
    """A Lightning run that prints nothing is stopped by what it writes."""
    watched = watch(tmp_path, {"monitor": "val_loss", "stopping_threshold": 0.05}, metrics={"format": "lightning"})
    folder = tmp_path / "work" / "lightning_logs" / "version_0"
    folder.mkdir(parents=True)
    shutil.copyfile(TRAINING / "lightning" / "before-new-column.csv", folder / "metrics.csv")
    watched.poll(1)
    assert watched.verdict(1) is None
    shutil.copyfile(TRAINING / "lightning" / "metrics.csv", folder / "metrics.csv")
    watched.poll(100)
    assert watched.verdict(100) == ("early_stopped", "STOPPING_THRESHOLD")
    assert watched.report()["metrics"]["val_loss"]["seen"] == 4


def test_alias_of_the_monitored_name(tmp_path: Path) -> None:
    """`val_loss` means `eval/loss` while no `val_loss` appears, and the note says so."""
    watched = watch(tmp_path, {"monitor": "val_loss", "patience": 1})
    watched.lines(["step=1 eval/loss=1.0"], 1)
    watched.lines(["step=2 eval/loss=1.5"], 2)
    assert watched.verdict(2) == ("early_stopped", "PATIENCE_EXHAUSTED")
    assert watched.report()["notes"] == ["early_stop: no val_loss is told, eval/loss is taken for it."]
    assert watched.report()["history_of"] == "eval/loss"


def test_the_exact_name_beats_an_alias(tmp_path: Path) -> None:
    """Once the exact name appears, the alias counts no more, and patience begins anew."""
    watched = watch(tmp_path, {"monitor": "val_loss", "patience": 2})
    lines = ["step=1 eval/loss=1.0", "step=2 eval/loss=1.5", "step=3 val_loss=2.0", "step=4 eval/loss=1.6"]
    assert feed(watched, [*lines, "step=5 eval/loss=1.7", "step=6 val_loss=1.9"]) is None
    assert watched.report()["notes"] == []
    assert feed(watched, ["step=7 val_loss=1.9", "step=8 val_loss=1.9"]) == (1, ("early_stopped", "PATIENCE_EXHAUSTED"))


def test_a_second_alias_does_not_count(tmp_path: Path) -> None:
    """Two spellings of one evaluation are one evaluation."""
    watched = watch(tmp_path, {"monitor": "val_loss", "patience": 2})
    lines = [f"step={step} {name}=1.0" for step in range(3) for name in ("eval_loss", "eval/loss")]
    assert feed(watched, lines) == (4, ("early_stopped", "PATIENCE_EXHAUSTED"))


def test_a_missing_name_is_said_loudly(tmp_path: Path) -> None:
    """Two evaluations without the monitored name, or ten minutes: a note with the names seen, and no stop."""
    watched = watch(tmp_path, {"monitor": "val_bleu", "mode": "max"})
    lines = ["loss=1 lr=0.1", "loss=2 val_loss=1", "loss=3 val_loss=1.5"]
    assert feed(watched, lines) is None
    note = watched.report()["notes"][0]
    assert note.startswith("early_stop cannot work: val_bleu has not appeared. Metrics seen: val_loss, loss, lr. Set")


def test_a_missing_name_by_time(tmp_path: Path) -> None:
    """Training lines alone prove nothing for ten minutes; strict waits for half an hour, then fails."""
    watched = watch(tmp_path, {"monitor": "val_loss", "strict": True})
    watched.lines(["loss=1"], 100)
    watched.lines(["loss=0.9"], 690)
    assert watched.report()["notes"] == []
    watched.lines(["loss=0.8"], 700)
    assert "val_loss has not appeared" in watched.report()["notes"][0]
    assert watched.verdict(1899) is None
    assert watched.verdict(1900) == ("failed", "METRIC_MISSING")


def test_strict_with_other_evaluations(tmp_path: Path) -> None:
    """With strict, other evaluations are proof enough; without, the training goes on."""
    lines = ["val_loss=1", "val_accuracy=0.5", "val_loss=2"]
    assert feed(watch(tmp_path, {"monitor": "bleu", "strict": True}), lines) == (2, ("failed", "METRIC_MISSING"))


def test_no_progress(tmp_path: Path) -> None:
    """Output without a new step or a new value is no progress."""
    watched = watch(tmp_path, stall={"no_output_s": None, "no_progress_s": 60})
    watched.lines(["step=1 loss=2"], 10)
    watched.lines(["step=2 loss=2"], 40)
    for age_s in (50, 70, 99):
        watched.lines(["step=2 loss=2", "still waiting", "loss=2"], age_s)
        assert watched.verdict(age_s) is None
    assert watched.verdict(100) == ("stalled", "NO_PROGRESS")


def test_no_progress_of_a_training_that_cannot_be_read(tmp_path: Path) -> None:
    """It counts from the beginning, and at half-time a note warns of it."""
    watched = watch(tmp_path, stall={"no_output_s": None, "no_progress_s": 60})
    watched.lines(["hello"], 5)
    watched.lines(["hello"], 36)
    assert watched.report()["notes"] == [
        "No step and no metric was recognised: stall.no_progress will stop this training."
    ]
    assert [watched.verdict(64), watched.verdict(65)] == [None, ("stalled", "NO_PROGRESS")]


def test_patience_usd_between_evaluations(tmp_path: Path) -> None:
    """At $0.50 an hour, half an hour without improvement is a quarter of a dollar."""
    watched = watch(tmp_path, {"monitor": "val_loss", "patience": 99, "patience_usd": "0.25"})
    watched.lines(["val_loss=1"], 100)
    watched.lines(["val_loss=2"], 200)
    assert [watched.verdict(1899), watched.verdict(1901)] == [None, ("early_stopped", "PATIENCE_USD")]


def test_start_from_step_by_the_progress_bar(tmp_path: Path) -> None:
    """A Hugging Face Trainer prints no step beside its metrics: its progress bar tells it."""
    watched = watch(tmp_path, {"monitor": "eval_loss", "patience": 1, "start_from_step": 100})
    lines = []
    for step in range(50, 201, 50):
        lines += [f" 5%|▌  | {step}/1000 [00:0{step // 50}<10:00, 9.9it/s]"]
        lines += [f"{{'eval_loss': '2.5', 'epoch': '{step / 100}'}}"]
    assert feed(watched, lines) == (5, ("early_stopped", "PATIENCE_EXHAUSTED"))


def test_start_from_step_without_steps_is_said(tmp_path: Path) -> None:
    """A rule that cannot work is a note."""
    watched = watch(tmp_path, {"monitor": "val_loss", "patience": 0, "start_from_step": 100})
    assert feed(watched, ["val_loss=1", "val_loss=2", "val_loss=3"]) is None
    assert watched.report()["notes"] == [
        "early_stop cannot work: the training tells no step, and start_from_step needs one."
    ]


def test_progress_and_its_warning(tmp_path: Path) -> None:
    """A training too slow for its cap is said at once, in progress and in notes."""
    watched = watch(tmp_path)
    for step in range(1, 11):
        line = (
            f"step {step:4}/5000 | loss 9.0 (+0.1z)| norm 1.0 (+0.1z)| lr 1e-4 | 9000.00 ms | 31.5% bf16 MFU | 9 tok/s"
        )
        watched.lines([line], step * 9)
    progress = watched.report()["progress"]
    assert [progress["step"], progress["steps"], progress["fits"], progress["finish_age_s"]] == [
        10,
        5000,
        False,
        45_000,
    ]
    assert watched.report()["notes"][0].startswith("The training will not be done in time: it needs 12.5 h and $6.25")


def test_report_without_metrics(tmp_path: Path) -> None:
    """A training that says nothing has an empty report."""
    watched = watch(tmp_path)
    watched.lines(["hello"], 1)
    assert watched.report() == {"metrics": {}, "progress": {}, "notes": [], "history_of": "", "history": []}


def test_report_fits_a_heartbeat(tmp_path: Path) -> None:
    """With many metrics, NaN among them, and a long series it is valid JSON of less than 4 KB."""
    watched = watch(tmp_path, {"monitor": "eval_loss", "check_finite": False, "patience": None})
    for step in range(5000):
        row = {f"eval_some_long_name_{number}": float(step * number) for number in range(40)}
        row |= {"step": step, "max_steps": 100_000, "eval_loss": 1.2345678901 / (step + 1), "loss": float("nan")}
        watched.lines([json.dumps(row)], step * 7.0)
    report = watched.report()
    decoded = decode(encode(1, report))
    assert decoded is not None
    assert decoded[1] == report
    assert len(report["metrics"]) == 12
    assert report["metrics"]["loss"]["value"] == "nan"
    assert len(report["history"]) <= 60
    assert len(json.dumps(report, separators=(",", ":"))) < 4096


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """Ten times the lines leave no more behind than their tenth."""
    watched = watch(tmp_path, {"monitor": "val_loss", "patience": None})

    def held(start: int, count: int) -> int:
        for step in range(start, start + count):
            watched.lines([f"step={step} val_loss={1 / (step + 1)} loss_{step}=1", "x" * 5000], step)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        first = held(0, 1000)
        second = held(1000, 10_000)
    finally:
        tracemalloc.stop()
    assert second - first < 50_000


def test_large_file_does_not_grow_memory(tmp_path: Path) -> None:
    """64 MB of JSON lines that appear at once are read piece by piece."""
    watched = watch(tmp_path, {"monitor": "val_loss", "patience": None})
    line = '{"step": 1, "val_loss": 0.5}\n'
    with (tmp_path / "machine" / "metrics.jsonl").open("w") as file:
        for _ in range(64):
            file.write(line * (1_000_000 // len(line)))
    tracemalloc.start()
    try:
        for age_s in range(5):
            watched.poll(age_s)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert watched.report()["metrics"]["val_loss"]["value"] == 0.5
    assert peak < 16_000_000
