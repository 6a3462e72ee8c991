"""Metric files: found by their usual names, read on as they grow."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from launcher.agent.file_formats import CHUNK, CsvFile, LinesFile, TrainerState
from launcher.agent.file_search import ENTRIES_A_FOLDER, FILES, MetricFiles, walk
from launcher.agent.line_formats import LineReader, Row, read_json

TRAINING = Path(__file__).parent.parent / "fixtures" / "training"


def series(rows: list[Row], name: str, place: str = "step") -> list[tuple[float | None, float]]:
    """The (place, value) pairs of one name."""
    return [(row.get(place), row[name]) for row in rows if name in row]


def search(tmp_path: Path, form: str = "auto", patterns: tuple[str, ...] = ()) -> MetricFiles:
    """A search below `tmp_path/work`, with the machine's folder beside it."""
    (tmp_path / "work").mkdir(exist_ok=True)
    (tmp_path / "machine").mkdir(exist_ok=True)
    return MetricFiles(tmp_path / "work", tmp_path / "machine", form, patterns, lambda: LineReader("nanogpt"))


def write(path: Path, text: str) -> None:
    """Write a file with the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_lightning_csv() -> None:
    """Sparse rows with their steps, in full precision."""
    rows = CsvFile(TRAINING / "lightning" / "metrics.csv").read()
    assert len(rows) == 12
    assert series(rows, "val_loss") == [
        (9.0, 0.7834334373474121),
        (19.0, 0.09641517698764801),
        (29.0, 0.013337770476937294),
        (39.0, 0.002090680878609419),
    ]
    assert series(rows, "val_extra", "epoch") == [(2.0, 2.0), (3.0, 3.0)]


def test_lightning_csv_that_is_written_again(tmp_path: Path) -> None:
    """A new column moves every byte of the file; each row is still read once."""
    path = tmp_path / "metrics.csv"
    shutil.copy(TRAINING / "lightning" / "before-new-column.csv", path)
    file = CsvFile(path)
    first = file.read()
    shutil.copy(TRAINING / "lightning" / "metrics.csv", path)
    second = file.read()
    assert [len(first), len(second), len(file.read())] == [6, 6, 0]
    assert first + second == CsvFile(TRAINING / "lightning" / "metrics.csv").read()


def test_csv_seen_while_it_is_written_again(tmp_path: Path) -> None:
    """A file caught empty or half rewritten neither loses nor repeats a row."""
    path = tmp_path / "metrics.csv"
    shutil.copy(TRAINING / "lightning" / "before-new-column.csv", path)
    whole = (TRAINING / "lightning" / "metrics.csv").read_bytes()
    file = CsvFile(path)
    rows = file.read()
    for size in (0, 10, 60, 200, len(whole)):
        path.write_bytes(whole[:size])
        rows += file.read()
    assert series(rows, "val_loss") == series(CsvFile(TRAINING / "lightning" / "metrics.csv").read(), "val_loss")


def test_csv_of_a_second_run(tmp_path: Path) -> None:
    """A file with the same columns that begins anew is a new run: all of it is read."""
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss\n0,3.0\n1,2.0\n")
    file = CsvFile(path)
    assert series(file.read(), "loss", "epoch") == [(1.0, 3.0), (2.0, 2.0)]
    path.write_text("epoch,loss\n0,9.0\n1,8.0\n2,7.0\n")
    assert series(file.read(), "loss", "epoch") == [(1.0, 9.0), (2.0, 8.0), (3.0, 7.0)]


def test_csv_grows_line_by_line(tmp_path: Path) -> None:
    """Half a line waits for its other half."""
    path = tmp_path / "log.csv"
    text = "epoch,loss\n0,3.25\n1,2.5\n"
    file = CsvFile(path)
    rows: list[Row] = []
    for size in range(len(text) + 1):
        path.write_text(text[:size])
        rows += file.read()
    assert rows == [{"epoch": 1.0, "loss": 3.25}, {"epoch": 2.0, "loss": 2.5}]


def test_keras_csv() -> None:
    """CSVLogger counts epochs from 0, and so one more is done."""
    rows = CsvFile(TRAINING / "keras" / "log.csv").read()
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["val_loss"] == 0.8694866895675659
    assert rows[0]["accuracy"] == 0.516339898109436


def test_trainer_states() -> None:
    """Each state repeats the history; a step is taken once, and the way to go is known."""
    done: dict[Path, float] = {}
    run = TRAINING / "huggingface"
    first = TrainerState(run / "checkpoint-30" / "trainer_state.json", run, done).read()
    second = TrainerState(run / "checkpoint-60" / "trainer_state.json", run, done).read()
    again = TrainerState(run / "checkpoint-60" / "trainer_state.json", run, done).read()
    assert series(first, "eval_loss") == [
        (10.0, 2.541335344314575),
        (20.0, 2.541224718093872),
        (30.0, 2.541334867477417),
    ]
    assert series(second, "eval_loss") == [
        (40.0, 2.541196823120117),
        (50.0, 2.5412421226501465),
        (60.0, 2.541133165359497),
    ]
    assert series(first, "steps") == [(30.0, 60.0)]
    assert again == []


def test_trainer_state_with_a_bare_nan(tmp_path: Path) -> None:
    """The JSON of a Trainer may hold NaN, which JSON has not."""
    path = tmp_path / "trainer_state.json"
    path.write_text('{"log_history": [{"step": 5, "loss": NaN}], "global_step": 5, "max_steps": 10}')
    assert str(TrainerState(path, tmp_path, {}).read()[0]["loss"]) == "nan"


def test_json_lines_that_were_cut_off(tmp_path: Path) -> None:
    """A file that was emptied and begun anew is read from its beginning."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 3}\n{"step": 2, "loss": 2}\nnot json\n')
    file = LinesFile(path, read_json)
    assert [row["step"] for row in file.read()] == [1, 2]
    path.write_text('{"step": 9, "loss": 1}\n')
    assert [row["step"] for row in file.read()] == [9]


def test_huge_file_is_read_in_bounded_pieces(tmp_path: Path) -> None:
    """A read takes a chunk; a line without end is left out; what comes after it is read."""
    path = tmp_path / "metrics.jsonl"
    line = json.dumps({"step": 1, "loss": 0.5}) + "\n"
    path.write_text("x" * (3 * CHUNK) + "\n" + line * (2 * CHUNK // len(line)))
    file = LinesFile(path, read_json)
    counts = [len(file.read()) for _ in range(7)]
    assert counts[:3] == [0, 0, 0]
    assert max(counts) <= CHUNK // len(line)
    assert sum(counts) == 2 * CHUNK // len(line)


def test_files_by_their_usual_names(tmp_path: Path) -> None:
    """Every format is found where its trainer puts it."""
    files = search(tmp_path)
    work = tmp_path / "work"
    shutil.copytree(
        TRAINING / "huggingface" / "checkpoint-30", work / "out" / "checkpoint-30", copy_function=shutil.copyfile
    )
    write(work / "lightning_logs" / "version_0" / "metrics.csv", "epoch,step,val_loss\n0,9,0.5\n")
    write(work / "log124M" / "main.log", "s:10 tel:5.5\n")
    write(work / "metrics.jsonl", '{"step": 3, "loss": 1}\n')
    (work / "runs").mkdir()
    shutil.copyfile(
        TRAINING / "tensorboardx" / "events.out.tfevents.1795298434.host", work / "runs" / "events.out.tfevents.1.h"
    )
    write(tmp_path / "machine" / "metrics.jsonl", '{"step": 4, "loss": 2}\n')
    kinds = {source.split(" ")[0] for source, _ in files.read(0)}
    assert kinds == {"trainer_state", "csv", "log", "jsonl", "tensorboard", "told"}
    assert files.notes == {}


def test_only_files_of_the_format_asked_for(tmp_path: Path) -> None:
    """A named format looks for its own files only, and for what GPULAUNCH_METRICS_FILE names."""
    files = search(tmp_path, "lightning")
    write(tmp_path / "work" / "log124M" / "main.log", "s:10 tel:5.5\n")
    write(tmp_path / "work" / "metrics.csv", "epoch,step,val_loss\n0,9,0.5\n")
    write(tmp_path / "machine" / "metrics.jsonl", '{"step": 4, "loss": 2}\n')
    found = [row for _, row in files.read(0)]
    assert sorted(found, key=len) == [{"step": 4, "loss": 2}, {"epoch": 0, "step": 9, "val_loss": 0.5}]


def test_files_that_the_user_names(tmp_path: Path) -> None:
    """A path of the job file is read as its name says, else as lines; /workspace is the job's folder."""
    files = search(tmp_path, "regex", ("/workspace/logs/train.log", "more/*.jsonl"))
    write(tmp_path / "work" / "logs" / "train.log", "step 5: train loss 3.0, val loss 4.0\n")
    write(tmp_path / "work" / "logs" / "other.log", "step 6: train loss 3.0, val loss 4.0\n")
    write(tmp_path / "work" / "more" / "a" / "x.jsonl", '{"step": 1, "loss": 2}\n')
    found = [row for _, row in files.read(0)]
    assert {"step": 5, "train_loss": 3, "val_loss": 4} in found
    assert {"step": 1, "loss": 2} in found
    assert len(found) == 2


def test_files_older_than_the_attempt_are_not_its_metrics(tmp_path: Path) -> None:
    """A file from an earlier attempt counts from when this one writes to it."""
    path = tmp_path / "work" / "metrics.csv"
    write(path, "epoch,step,val_loss\n0,9,0.5\n")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    files = search(tmp_path)
    assert files.read(0) == []
    with path.open("a") as file:
        file.write("1,19,0.25\n")
    assert [row["val_loss"] for _, row in files.read(10_000)] == [0.5, 0.25]


def test_half_written_state_is_read_when_it_is_whole(tmp_path: Path) -> None:
    """A trainer state seen too early is a note, and no loss."""
    files = search(tmp_path)
    path = tmp_path / "work" / "checkpoint-30" / "trainer_state.json"
    text = (TRAINING / "huggingface" / "checkpoint-30" / "trainer_state.json").read_text()
    write(path, text[:500])
    assert files.read(0) == []
    assert "cannot be read" in files.notes[path]
    write(path, text)
    assert len(files.read(10_000)) == 10
    assert files.notes == {}


@pytest.mark.parametrize("text", ["", "[]", "[1", '{"log_history": 5}', '{"log_history": [5]}', "\x00\x01"])
@pytest.mark.parametrize("name", ["trainer_state.json", "metrics.csv", "metrics.jsonl", "main.log", "a.tfevents.1"])
def test_files_of_rubbish(tmp_path: Path, name: str, text: str) -> None:
    """A file of a usual name with other content yields nothing, and stops nothing."""
    files = search(tmp_path)
    write(tmp_path / "work" / name, text)
    assert [row for _, row in files.read(0) if row.keys() - {"epoch"}] == []


def test_a_long_file_is_read_to_its_end(tmp_path: Path) -> None:
    """What a read leaves is read by the next, though the file has not changed since."""
    files = search(tmp_path)
    count = 3 * CHUNK // len('{"step": 1000}\n')
    write(
        tmp_path / "machine" / "metrics.jsonl", "".join(f'{{"step": {step}}}\n' for step in range(1000, 1000 + count))
    )
    steps = [row["step"] for age_s in range(6) for _, row in files.read(age_s)]
    assert steps == list(range(1000, 1000 + count))


def test_a_file_that_vanishes(tmp_path: Path) -> None:
    """A checkpoint that the training deletes is no error."""
    files = search(tmp_path)
    path = tmp_path / "work" / "metrics.csv"
    write(path, "epoch,step,val_loss\n0,9,0.5\n")
    assert len(files.read(0)) == 1
    path.unlink()
    assert files.read(10_000) == []
    assert files.notes == {}


def test_search_is_bounded(tmp_path: Path) -> None:
    """A folder full of pictures does not hide what lies beside it, nor cost more than its bound."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(ENTRIES_A_FOLDER + 100):
        (pictures / f"{number}.jpg").touch()
    write(tmp_path / "logs" / "metrics.csv", "epoch,step\n")
    write(tmp_path / ".cache" / "metrics.csv", "epoch,step\n")
    (tmp_path / "logs" / "loop").symlink_to(tmp_path)
    found = list(walk(tmp_path))
    assert len(found) == ENTRIES_A_FOLDER + 2
    assert tmp_path / "logs" / "metrics.csv" in found


def test_number_of_files_is_bounded(tmp_path: Path) -> None:
    """More metric files than the bound are not opened."""
    files = search(tmp_path)
    for number in range(FILES + 20):
        write(tmp_path / "work" / f"{number % 20}" / f"{number}.csv", "epoch,loss\n0,1\n")
    assert len(files.read(0)) == FILES
