"""`gpulaunch status --watch`: the live table, the plain lines, and the stream of JSON."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from command_lab import GPULAUNCH, Terminal, wait_until
from rich.console import Console

from launcher.cli.watch import Seen, changes, plain_line
from launcher.cli.watch_table import draw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from command_lab import Lab

# Tells a metric, and ends when the test says so.
TRAINING = """
import os, time
print("step 1/2 val_loss=3.5", flush=True)
while not os.path.exists("go"):
    time.sleep(0.05)
print("step 2/2 val_loss=2.5", flush=True)
"""
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]")


@pytest.fixture
def running(lab: Lab) -> Iterator[Lab]:
    """A home where the job `job` runs until `end` is called; it is ended in any case."""
    lab.write_job(["python", "-c", TRAINING])
    lab.launch(cap="0.10")
    yield lab
    lab.down()


def end(lab: Lab) -> None:
    """Let the training finish."""
    (lab.work / "go").touch()


def on_terminal(lab: Lab, *args: str, **env: str) -> Terminal:
    """`gpulaunch status --watch` on a terminal of its own."""
    argv = [str(GPULAUNCH), "status", "--watch", *args]
    return Terminal(argv, cwd=lab.work, env={**lab.env, "TERM": "xterm", **env})


# As a process


def test_off_a_terminal_there_is_a_line_for_each_change(running: Lab) -> None:
    """The first look, the end: plain text, nothing on stderr, and it ends by itself when no job is live."""
    watching = running.start("status", "--watch")
    assert watching.stdout is not None
    first = watching.stdout.readline()
    assert re.match(r"job: running, \$0\.0\d+ of \$0\.10, ", first)
    end(running)
    done = running.ended(watching)
    assert (done.code, done.err) == (0, "")
    last = done.out.splitlines()[-1]
    assert re.match(r"job: finished, \$0\.0\d+ of \$0\.10, val_loss=2\.5 \(step 2\)$", last)
    assert [char for char in first + done.out if not char.isprintable() and char != "\n"] == []


def test_with_json_it_is_a_stream_of_documents(running: Lab) -> None:
    """One document in each line; the last is what `status --json` says afterwards."""
    watching = running.start("status", "job", "--watch", "--json")
    assert watching.stdout is not None
    views = [json.loads(watching.stdout.readline())]
    end(running)
    done = running.ended(watching)
    views += [json.loads(line) for line in done.out.splitlines()]
    assert (views[0]["state"], views[-1]["state"], done.err) == ("running", "gone", "")
    assert views[-1] == running.status()


def test_a_table_on_a_terminal_that_stays_when_the_job_has_ended(running: Lab) -> None:
    """It is redrawn, shows the final state, gives the cursor back, and ends with 0."""
    terminal = on_terminal(running, COLUMNS="160")
    terminal.shows("running")
    terminal.shows("Ctrl-C leaves this view; the jobs go on.")
    end(running)
    terminal.shows("val_loss=2.5 (step 2)")
    terminal.shows("No job is live any more.")
    assert terminal.ends() == 0
    assert terminal.text.rindex("\x1b[?25h") > terminal.text.rindex("\x1b[?25l")
    assert COLOUR.search(terminal.text)
    terminal.close()


def test_ctrl_c_leaves_and_the_job_goes_on(running: Lab) -> None:
    """The exit code is 0, the cursor is back, and nothing of the job was touched."""
    terminal = on_terminal(running)
    terminal.shows("running")
    terminal.press_ctrl_c()
    assert terminal.ends() == 0
    assert "The jobs go on." in terminal.text
    assert "\x1b[?25h" in terminal.text
    assert running.live() == ["job"]
    terminal.close()


def test_no_color_takes_the_colours_away(running: Lab) -> None:
    """The table stays."""
    terminal = on_terminal(running, NO_COLOR="1")
    terminal.shows("running")
    terminal.press_ctrl_c()
    assert terminal.ends() == 0
    assert COLOUR.search(terminal.text) is None
    terminal.close()


def test_a_dumb_terminal_gets_plain_lines(running: Lab) -> None:
    """No control character at all."""
    terminal = on_terminal(running, TERM="dumb")
    terminal.shows("job: running")
    end(running)
    terminal.shows("job: finished")
    assert terminal.ends() == 0
    assert "\x1b" not in terminal.text
    terminal.close()


def test_a_guard_that_dies_is_replaced_while_watching(running: Lab) -> None:
    """The view sees to it that every live job is watched."""
    watching = running.start("status", "--watch")
    assert watching.stdout is not None
    watching.stdout.readline()
    running.kill_guard()
    wait_until(running.guards, "a new guard")
    end(running)
    assert running.ended(watching).out.splitlines()[-1].startswith("job: finished")


def test_the_exit_code_of_the_job_after_watching_it(running: Lab) -> None:
    """--exit-status waits for the job and ends with its code."""
    end(running)
    assert running.run("status", "job", "--watch", "--exit-status").code == 0


def test_watching_where_nothing_runs_ends_at_once(lab: Lab) -> None:
    """Without any job ever, and with an ended one, whose state is shown."""
    assert lab.run("status", "--watch").code == 0
    lab.write_job(["false"])
    assert lab.run("up", "--budget", "0.05", "--yes").code == 5
    done = lab.run("status", "--watch")
    assert (done.code, done.out.startswith("job: failed (EXIT_1)")) == (0, True)


def test_rich_and_jinja2_are_imported_for_the_table_and_the_page_only(lab: Lab) -> None:
    """`status`, and `status --watch` off a terminal, start without them."""
    lab.write_job(["true"])
    assert lab.run("up", "--budget", "0.05", "--yes").code == 0
    for flags in ([], ["--watch"]):
        script = (
            "import atexit, sys\n"
            "atexit.register(lambda: print(sorted({'rich', 'jinja2'} & set(sys.modules)), file=sys.stderr))\n"
            f"sys.argv = ['gpulaunch', 'status', *{flags!r}]\n"
            "from launcher.cli import main\n"
            "main()\n"
        )
        assert _python(lab, script).splitlines()[-1] == "[]"


def _python(lab: Lab, script: str) -> str:
    """What a Python program prints on stderr in this home."""
    argv = [sys.executable, "-c", script]
    return subprocess.run(
        argv, cwd=lab.work, env=lab.env, capture_output=True, text=True, check=True, timeout=60
    ).stderr


# The table itself


def seen(name: str = "tiny-lm", **changes: Any) -> Seen:
    """A running job with a metric, a forecast and half of its cap spent."""
    soft = datetime(2026, 11, 21, 14, 0, tzinfo=UTC) + timedelta(hours=1)
    view = {
        "job": f"j-{name}",
        "name": name,
        "state": "running",
        "outcome": None,
        "reason": None,
        "provider": "aws",
        "rate_usd_per_hour": "0.526",
        "spend_usd": "2.50",
        "cap_usd": "5.00",
        "attempt": 1,
        "soft_deadline": soft.isoformat(),
        "metrics": {"val_loss": {"value": 3.365, "step": 12000}},
    }
    told = {key: changes.pop(key) for key in ("notes", "forecast", "left", "values") if key in changes}
    whole = Seen(view=view | changes, values=(5.0, 4.0, 3.365), left="~4h 10m", notes=(), forecast="")
    return replace(whole, **told)


def drawn(jobs: list[Seen], width: int, *, blocks: bool = True) -> list[str]:
    """The lines of the table on a terminal of that width."""
    console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)
    console.print(draw(jobs, width, blocks=blocks))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (200, ["JOB", "STATE", "PROVIDER", "$/H", "SPENT", "CAP", "USED", "LEFT", "ENDS BY", "METRIC"]),
        (80, ["JOB", "STATE", "SPENT", "CAP", "USED", "LEFT", "METRIC"]),
        (40, ["JOB", "STATE", "SPENT", "USED"]),
        (10, ["JOB", "STATE"]),
    ],
)
def test_a_narrow_terminal_drops_the_least_important_columns(width: int, titles: list[str]) -> None:
    """What is kept says most, and no line is longer than the terminal is wide."""
    lines = drawn([seen()], width)
    assert [title for title in re.split(r"\s{2,}", lines[0]) if title] == titles if width > 20 else True
    assert max(map(len, lines)) <= width


def test_the_row_of_a_running_job_at_80_columns() -> None:
    """Everything that matters in a standard terminal, sparkline included."""
    assert drawn([seen()], 80)[1] == "tiny-lm  running  $2.50  $5.00  ████░░░░  ~4h 10m  val_loss=3.365  █▄▁"


def test_a_terminal_without_blocks_gets_ascii() -> None:
    """The table, its bar and its sparkline."""
    lines = drawn([seen("x" * 40)], 80, blocks=False)
    assert all(line.isascii() for line in lines)
    assert "####...." in lines[1]


def test_remarks_are_shown_below_and_markup_is_text() -> None:
    """A note in square brackets is no markup of ours."""
    lines = drawn([seen(notes=("[bold]no[/bold] news",), forecast="at this pace it costs more")], 80)
    assert "tiny-lm: [bold]no[/bold] news" in lines
    assert "tiny-lm: at this pace it costs more" in lines


def test_a_job_that_ended_shows_its_outcome() -> None:
    """The reason too where there is room."""
    ended = seen(state="gone", outcome="early_stopped", reason="PATIENCE_EXHAUSTED", left="")
    assert "early_stopped (PATIENCE_EXHAUSTED)" in drawn([ended], 200)[1]
    assert "early_stopped  " in drawn([ended], 80)[1]


def test_a_metric_name_cannot_move_the_cursor() -> None:
    """In the table and in the plain line, control characters are escapes."""
    evil = seen(metrics={"\x1b[2J": {"value": 1.0, "step": 1}})
    assert "\x1b" not in "".join(drawn([evil], 200)) + plain_line(evil)


@pytest.mark.parametrize(
    ("change", "news"),
    [
        ({"spend_usd": "2.509999"}, False),
        ({"spend_usd": "2.51"}, True),
        ({"state": "stopping"}, True),
        ({"metrics": {"val_loss": {"value": 3.1, "step": 12100}}}, True),
        ({"left": "~4h 9m"}, False),
        ({"notes": ("the disk is full",)}, True),
        ({"forecast": "at this pace it costs more"}, True),
    ],
)
def test_what_is_worth_a_new_line(change: dict[str, Any], news: bool) -> None:
    """A cent, a state, a metric, a remark; not a tenth of a cent, and not a minute."""
    assert (changes(seen(**change)) != changes(seen())) is news


def test_the_forecast_is_told_once_and_not_with_each_second() -> None:
    """Its finish time moves a little at each look."""
    first, second = seen(forecast="at this pace it finishes at 14:00:00"), seen(forecast="… at 14:00:01")
    assert changes(first) == changes(second)


def test_the_plain_line_has_the_deadline_and_the_remarks() -> None:
    """All of it in one line, with money from the view."""
    line = plain_line(seen(forecast="--budget 7 would do"))
    assert line == (
        "tiny-lm: running, $2.50 of $5.00, val_loss=3.365 (step 12000), "
        "ends by 2026-11-21T15:00:00+00:00, --budget 7 would do"
    )
    assert Decimal("2.50") == Decimal(line.split("$")[1].split()[0])
