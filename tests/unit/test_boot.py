"""What a machine is sent: the packed agent runs with Python alone, and the user's words arrive byte for byte."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import make_spec

from launcher import boot
from launcher.agent import heartbeat
from launcher.boot import pack
from launcher.budget import Deadlines
from launcher.job import Checkpoints, EarlyStop
from launcher.outcome import Outcome

if TYPE_CHECKING:
    from launcher.job import JobSpec

AGENT = Path(boot.__file__).parents[1] / "agent"
START_OF_THE_AGENT = "main = importlib"
# Decoded and compressed, in bytes. It grows only on purpose.
LARGEST_AGENT = 24_500

EVIL = [
    "it's",
    'a "quoted" word',
    "two\nlines\r\n",
    "$(touch /tmp/owned) `id` ${HOME} $$",
    "\\ \\n %s {{ agent }} {% raw %} #{x}",
    "naïve café, 学习, \U0001f680",
    "",
    " ",
    "-rf",
    "'''\"\"\"",
    "\x01\x1b[31m\x7f",
]


def make_orders(spec: JobSpec, **changes: Any) -> dict[str, Any]:
    """Orders for a job under five dollars."""
    ends = Deadlines(soft_after_s=100.0, hard_after_s=160.5, outcome=Outcome.BUDGET_REACHED, committed_usd=Decimal(0))
    values: dict[str, Any] = {
        "provider": "local",
        "job": "j-tiny",
        "attempt": 1,
        "deadlines": ends,
        "rate_usd_per_hour": Decimal("3.6"),
        "spent_usd": Decimal("0.25"),
        "cap_usd": Decimal(5),
        "hard_at": 1_800_000_000.5,
        "notice_s": 3.0,
        "store": {"kind": "folder", "path": spec.store} if spec.store else None,
    }
    return boot.make_orders(spec, **(values | changes))


def run_boot_data(data: bytes, folder: Path, then: str) -> str:
    """Run boot data as a machine does, with `then` in the place of the agent's main; what it prints."""
    text = data.decode()
    assert text.count(START_OF_THE_AGENT) == 1
    script = folder / "boot.py"
    script.write_text(text.partition(START_OF_THE_AGENT)[0] + then, encoding="utf-8")
    done = subprocess.run([sys.executable, "-I", str(script), "agent"], capture_output=True, cwd=folder, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_the_packed_agent_imports_with_python_alone(tmp_path: Path) -> None:
    """No site packages, no environment, none of our own packages; all travels but what only a rented machine runs."""
    printed = run_boot_data(
        boot.build("local", make_orders(make_spec())),
        tmp_path,
        "for name in sorted(modules):\n"
        "    if name != '__init__':\n"
        "        print(importlib.import_module('gpulaunch_agent.' + name).__name__)\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('launcher', 'providers', 'msgspec')])\n",
    )
    names = sorted({path.stem for path in AGENT.glob("*.py")} - {"__init__", *pack.FOR_A_CLOUD})

    assert [*(f"gpulaunch_agent.{name}" for name in names), "[]"] == printed.splitlines()


def test_the_packed_agent_speaks_the_launchers_language(tmp_path: Path) -> None:
    """What was stripped on the way changes nothing of what it does."""
    printed = run_boot_data(
        boot.build("local", make_orders(make_spec())),
        tmp_path,
        "beat = importlib.import_module('gpulaunch_agent.heartbeat')\nprint(beat.encode(7, {'state': 'running'}))\n",
    )

    assert (7, {"state": "running"}) == heartbeat.decode(printed)


def test_a_job_full_of_traps_arrives_byte_for_byte(tmp_path: Path) -> None:
    """It travels as data: no shell and no template reads it, on any of the ways."""
    env = {f"NAME_{number}": text for number, text in enumerate(EVIL)}
    orders = make_orders(make_spec(name=EVIL[0], command=tuple(EVIL), env=env, workdir=EVIL[3]))

    printed = run_boot_data(boot.build("local", orders), tmp_path, "print(json.dumps(orders))\n")

    arrived = json.loads(printed)
    assert orders == arrived
    assert (EVIL, env, EVIL[3]) == (arrived["command"], arrived["env"], arrived["workdir"])


@settings(max_examples=25)
@given(words=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_any_command_arrives(words: list[str]) -> None:
    """Read back from the boot data without running it."""
    data = boot.build("local", make_orders(make_spec(command=tuple(words)))).decode()
    encoded = data.partition('base64.b64decode("')[2].partition('"')[0]

    assert words == json.loads(base64.b64decode(encoded))["command"]


def test_the_orders_say_what_the_plan_says() -> None:
    """Money as text, times in seconds, and which limit the soft deadline is."""
    orders = make_orders(make_spec(grace_s=30.0))

    assert (100.0, 160.5, 30.0, 3.0) == tuple(
        orders[key] for key in ("soft_after_s", "hard_after_s", "grace_s", "notice_s")
    )
    assert ("budget_reached", "CAP") == (orders["soft_outcome"], orders["soft_reason"])
    assert ("3.60", "0.25", "5.00") == (orders["rate_usd_per_hour"], orders["spent_usd"], orders["cap_usd"])
    assert (None, None, None) == (orders["early_stop"], orders["checkpoints"], orders["store"])


def test_a_time_limit_is_named_as_the_reason() -> None:
    """Not the cap."""
    ends = Deadlines(soft_after_s=60.0, hard_after_s=70.0, outcome=Outcome.DURATION_REACHED, committed_usd=Decimal(0))
    orders = make_orders(make_spec(), deadlines=ends)

    assert ("duration_reached", "MAX_DURATION") == (orders["soft_outcome"], orders["soft_reason"])


def test_rules_and_folders_of_the_job_file_are_in_the_orders() -> None:
    """As plain JSON."""
    spec = make_spec(
        early_stop=EarlyStop(monitor="val_loss", patience=5),
        checkpoints=Checkpoints(path="out", every_s=60.0, keep=2),
        store="/data/store",
    )
    orders = json.loads(json.dumps(make_orders(spec)))

    assert ("val_loss", 5) == (orders["early_stop"]["monitor"], orders["early_stop"]["patience"])
    assert {"path": "out", "every_s": 60.0, "keep": 2} == orders["checkpoints"]
    assert {"kind": "folder", "path": "/data/store"} == orders["store"]


def test_a_provider_without_a_pace_of_its_own_gets_the_usual_one() -> None:
    """A serial console is slower than a file."""
    assert boot.HEARTBEAT_S["local"] == make_orders(make_spec())["heartbeat_s"]
    assert boot.DEFAULT_HEARTBEAT_S == make_orders(make_spec(), provider="aws")["heartbeat_s"]


def test_the_packed_agent_stays_small(capsys: pytest.CaptureFixture[str]) -> None:
    """Boot data has a limit (16,384 bytes on EC2), so each growth of the agent must be a decision."""
    size = len(base64.b85decode(boot.packed_agent()))
    with capsys.disabled():
        print(f"\nthe packed agent: {size} bytes compressed")

    assert size < LARGEST_AGENT
