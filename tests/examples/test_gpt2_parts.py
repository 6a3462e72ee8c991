"""The parts of the GPT-2 example that need no torch: when it stops early, and which checkpoint it goes on from."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from example_runs import ROOT

EXAMPLE = ROOT / "examples" / "gpt2-124m"


def stops_at(losses: list[float], *rules: Any) -> int | None:
    """The index of the evaluation after which it stops."""
    stopping = runpy.run_path(str(EXAMPLE / "early_stopping.py"))["EarlyStopping"](*rules)
    for index, loss in enumerate(losses):
        stopping.see(loss)
        if stopping.reason:
            return index
    return None


@pytest.mark.parametrize(
    ("losses", "rules", "index"),
    [
        ([5.0, 4.0, 4.0, 4.1, 3.9, 3.0], (2, 0.0, None, None), 3),
        ([5.0, 4.9, 4.8, 4.7], (3, 0.5, None, None), 3),
        ([5.0, 4.9, 4.8, 4.7], (3, 0.05, None, None), None),
        ([5.0, 6.0, 7.0, 8.0], (None, 0.0, None, None), None),
        ([5.0, 4.0, 3.0], (None, 0.0, 4.0, None), 1),
        ([5.0, 4.0, 2.9], (None, 0.0, None, 20.0), 2),
        ([5.0, 4.0, 2.9], (None, 0.0, 4.5, 20.0), 1),
    ],
)
def test_it_stops_early(losses: list[float], rules: tuple[Any, ...], index: int | None) -> None:
    """By patience, with a least gain, by a target for the loss or for the perplexity: whichever comes first."""
    assert stops_at(losses, *rules) == index


def test_patience_goes_on_after_a_resume() -> None:
    """The evaluations before it count; a run that had stopped for good stays stopped."""
    make = runpy.run_path(str(EXAMPLE / "early_stopping.py"))["EarlyStopping"]
    stopping = make(3, 0.0, None, None)
    stopping.restore({"best": 4.0, "waited": 2})
    assert stopping.reason == ""
    stopping.see(4.2)
    assert stopping.reason == "stopped early after 3 evaluations without a gain"
    again = make(3, 0.0, None, None)
    again.restore({"best": 4.0, "waited": 3})
    assert again.reason == stopping.reason


class Accelerator:
    """Saves one file, as accelerate saves several."""

    def save_state(self, folder: str, *, safe_serialization: bool) -> None:
        """Write it."""
        assert not safe_serialization
        Path(folder).mkdir()
        (Path(folder) / "weights.bin").write_bytes(b"1234")


def make_checkpoints(folder: Path, **configuration: Any) -> Any:
    """Checkpoints of a run with these settings, the last two kept."""
    return runpy.run_path(str(EXAMPLE / "checkpoints.py"))["Checkpoints"](folder, configuration, 2)


def test_the_last_whole_checkpoint_is_gone_on_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Torn ones are named and passed over, foreign files left alone, all but the last two removed."""
    checkpoints = make_checkpoints(tmp_path, lr=1)
    assert checkpoints.latest() is None
    checkpoints.facts = {"batch": 4}
    (tmp_path / ".partial").mkdir()  # of a run that was killed while it saved
    (tmp_path / ".partial" / "torn.bin").write_bytes(b"1")
    (tmp_path / "step-last").mkdir()
    for step in (10, 20, 30):
        checkpoints.save(step, Accelerator(), {"early_stopping": {}})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000020", "step-000030", "step-last"]

    (tmp_path / "step-000030" / "weights.bin").write_bytes(b"123")
    (tmp_path / "step-000040").mkdir()
    (tmp_path / "step-000050").mkdir()
    (tmp_path / "step-000050" / "progress.json").write_text("{", encoding="utf-8")
    found = checkpoints.latest()

    assert (found.step, found.path.name, found.progress["batch"]) == (20, "step-000020", 4)
    skipped = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert skipped == [f"skipped {tmp_path}/step-0000{step}" for step in (50, 40, 30)]


def test_another_run_is_refused(tmp_path: Path) -> None:
    """Naming the settings that differ, also those that only one of them has."""
    make_checkpoints(tmp_path, lr=1, seed=1).save(10, Accelerator(), {})
    with pytest.raises(SystemExit, match=r"other settings \(lr, width\)"):
        make_checkpoints(tmp_path, lr=2, seed=1, width=3).latest()
