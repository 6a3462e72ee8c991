"""`gpulaunch report`, of jobs that really ran on this computer."""

from __future__ import annotations

import json
import os
import stat
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from command_lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Falls to its best at step 3, then rises.
TRAINING = """
for step, loss in enumerate([3.0, 2.0, 1.5, 1.75], 1):
    print(f"step {step}/4 train_loss={loss + 1} val_loss={loss}", flush=True)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A home where the job `job` has finished. No test here changes it."""
    lab = Lab(tmp_path_factory.mktemp("report"))
    lab.write_job(["python", "-c", TRAINING])
    done = lab.run("up", "--budget", "0.05", "--yes")
    assert done.code == 0, done.err
    yield lab
    assert lab.clean_up() == []


@pytest.fixture
def ran(home: Lab, tmp_path: Path) -> Lab:
    """That home, with an empty working folder of the test's own."""
    home.work = tmp_path
    return home


def test_the_report_has_the_numbers_of_the_ledger_and_of_the_log(ran: Lab) -> None:
    """Spend, cap and times are those of `status`; the metrics are those that the training printed."""
    document, view = ran.run("report", "job", "--format", "json").document, ran.status()
    assert (document["spend"]["usd"], document["spend"]["cap_usd"]) == (view["spend_usd"], view["cap_usd"])
    assert document["spend"]["confirmed"] is view["spend_confirmed"] is True
    assert sum(Decimal(part["usd"]) for part in document["spend"]["parts"]) == Decimal(view["spend_usd"])
    assert document["times"]["billed_s"] == view["billed_s"]
    assert (document["metrics"]["main"], document["metrics"]["best"]) == ("val_loss", {"value": 1.5, "step": 3})
    assert [point["value"] for point in document["metrics"]["points"]] == [3, 2, 1.5, 1.75]
    assert (document["job"]["outcome"], document["job"]["exit_code"]) == ("finished", 0)
    assert document["ran"]["command"] == ["python", "-c", TRAINING]


def test_markdown_is_what_comes_without_a_flag(ran: Lab) -> None:
    """On stdout, with nothing on stderr."""
    done = ran.run("report", "job")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("# job\n\nThe training finished.")
    assert "| val\\_loss" not in done.out
    assert "| val_loss | 1.75 | 4 | 1.5 at step 3 | 4 |" in done.out
    assert "## val_loss against dollars" in done.out


@pytest.mark.parametrize(
    ("name", "begins"), [("TRAINING.md", "# job\n"), ("page.html", "<!DOCTYPE html>"), ("data.json", "{\n")]
)
def test_a_file_has_the_format_of_its_ending(ran: Lab, name: str, begins: str) -> None:
    """It is written whole over what was there, readable as other files are, and nothing else is left beside it."""
    folder = ran.work / "out"
    folder.mkdir()
    (folder / name).write_text("x" * 100_000)
    done = ran.run("report", "job", "-o", f"out/{name}")
    assert (done.code, done.out) == (0, "")
    assert (folder / name).read_text(encoding="utf-8").startswith(begins)
    assert [path.name for path in folder.iterdir()] == [name]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((folder / name).stat().st_mode) == 0o666 & ~umask


def test_the_flag_wins_over_the_ending(ran: Lab) -> None:
    """`--format json -o notes.txt` is JSON."""
    assert ran.run("report", "job", "--format", "json", "-o", "notes.txt").code == 0
    assert json.loads((ran.work / "notes.txt").read_text())["job"]["name"] == "job"


def test_a_link_stays_a_link(ran: Lab) -> None:
    """The file it points to is replaced."""
    (ran.work / "link.md").symlink_to("real.md")
    assert ran.run("report", "job", "-o", "link.md").code == 0
    assert (ran.work / "link.md").is_symlink()
    assert (ran.work / "real.md").read_text().startswith("# job")


def test_a_file_that_cannot_be_written_is_a_clear_error(ran: Lab) -> None:
    """A folder is refused, a missing folder is named; both end with 2 and leave nothing behind."""
    for target in (".", "missing/TRAINING.md"):
        done = ran.run("report", "job", "-o", target)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("Error: ")
        assert "Traceback" not in done.err
    assert list(ran.work.iterdir()) == []


def test_what_is_no_file_is_written_to_and_not_replaced(ran: Lab) -> None:
    """/dev/stdout gets the page."""
    done = ran.run("report", "job", "-o", "/dev/stdout")
    assert (done.code, done.out.startswith("# job")) == (0, True)


def test_an_unknown_job_ends_with_2(lab: Lab) -> None:
    """Before any job was launched, and after."""
    before = lab.run("report", "nothing")
    lab.write_job(["true"])
    assert lab.run("up", "--budget", "0.05", "--yes").code == 0
    after = lab.run("report", "nothing")
    assert (before.code, after.code) == (2, 2)
    assert "There is no job 'nothing'." in before.err
    assert "There is no job 'nothing'." in after.err


def test_a_live_job_gets_a_report_marked_as_such(lab: Lab) -> None:
    """Its spend is what it has cost so far."""
    lab.write_job()
    lab.launch()
    try:
        document = lab.run("report", "job", "--format", "json").document
        assert (document["job"]["live"], document["times"]["ended_at"]) == (True, None)
        assert Decimal(document["spend"]["usd"]) > 0
        assert "this job is live, and its figures still change" in lab.run("report", "job").out
    finally:
        lab.down()


def test_the_page_is_utf_8_on_any_terminal(lab: Lab) -> None:
    """A command beyond ASCII is no error where the terminal says that it knows only ASCII."""
    lab.write_job(["echo", "é漢"])
    assert lab.run("up", "--budget", "0.05", "--yes").code == 0
    lab.env |= {"PYTHONIOENCODING": "ascii"}
    assert "echo 'é漢'" in lab.raw("report", "job").decode("utf-8")
