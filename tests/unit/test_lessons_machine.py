"""What went wrong in other tools, and must not here: what a machine does by itself, and what it is sent.

Each test has the name of the report that it comes from.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from makers import START, make_job, make_offer, make_spec
from scripted import Bench, ScriptedProvider
from simulated_lab import FOR_EVER
from test_boot import make_orders
from test_boot_data import CLOUDS as NAMES
from test_boot_data import IMAGE, files_of, orders_for, script_of
from test_lessons import CLOUDS, HOUR_S, Rented

from launcher import boot, launch
from launcher.agent.watch import Watch
from launcher.core.clock import VirtualClock
from launcher.environment import training_environment
from launcher.job import Stall
from launcher.outcome import State
from launcher.plan import make_plan
from launcher.policy import AGENT_TIMEOUT_S
from launcher.views import job_view
from providers.base import Backstop
from providers.simulated.faults import Crash, SimulatedCrash
from providers.simulated.script import Script
from providers.simulated.shapes import AWS, AZURE, GCP, Shape

if TYPE_CHECKING:
    from pathlib import Path

NEVER_BOOTS = Script(boots=False)
ARMING = "systemctl enable --now --no-block gpulaunch-deadline.timer"
SECRETS = ("AKIAsecretKEY0123", "hunter2hunter2", "hf_secretTOKEN")


def without_timer(shape: Shape) -> Shape:
    """That cloud, without its own timer."""
    things = tuple(thing for thing in shape.things if thing != "timer")
    return replace(shape, timer=None, things=things, own_end_leaves=frozenset())


def heredoc(script: str, name: str) -> str:
    """A file that the boot script writes."""
    return script.partition(f"cat >{name} <<'EOF'\n")[2].partition("\nEOF")[0]


def commands(script: str) -> str:
    """The boot script's own steps, without the files that it writes."""
    return re.sub("<<'EOF'\n.*?\nEOF\n", "\n", script, flags=re.DOTALL)


class Computer:
    """The deadline script of a rented machine, run by sh with nothing but `date` and `sleep`; its kernel is made up."""

    def __init__(self, folder: Path, cloud: str) -> None:
        self.folder = folder
        orders = orders_for(cloud)
        self.hard_after_s, self.hard_at_s = int(orders["hard_after_s"]), int(orders["hard_at"])
        text = heredoc(script_of(cloud, boot.build(cloud, orders, "https://bucket/agent")), "deadline")
        for path in ("/proc/sys/kernel/random/boot_id", "/proc/uptime", "/proc/1/stat", "/dev/console"):
            assert path in text
            text = text.replace(path, str(folder / path.rpartition("/")[2]))
        text = text.replace("/var/lib/gpulaunch", str(folder)).replace("/etc/gpulaunch", str(folder))
        tools = folder / "bin"
        tools.mkdir()
        for tool in ("sh", "sleep"):
            (tools / tool).symlink_to(str(shutil.which(tool)))
        files = {
            "deadline": text,
            "end": f"echo $1 >{folder}/ended\nkill -9 $PPID\n",
            "bin/date": '#!/bin/sh\necho "$NOW_S"\n',
            "stat": f"1 (systemd) S {' '.join('0' * 30)}\n",
        }
        for name, content in files.items():
            (folder / name).write_text(content, encoding="utf-8")
        (tools / "date").chmod(0o755)

    def look(self, boot_id: str, up_s: int, *, before_end_s: int = 10**6) -> bool:
        """One look, so long after that boot and so long before the date of the end: whether the machine has ended."""
        (self.folder / "boot_id").write_text(boot_id + "\n", encoding="utf-8")
        (self.folder / "uptime").write_text(f"{up_s}.00 0.00\n", encoding="utf-8")
        environment = {"PATH": str(self.folder / "bin"), "NOW_S": str(self.hard_at_s - before_end_s)}
        done = subprocess.run([str(shutil.which("sh")), "deadline"], cwd=self.folder, env=environment, timeout=30)
        ended = (self.folder / "ended").exists()
        assert (-9 if ended else 0) == done.returncode
        return ended


@pytest.mark.parametrize("shape", CLOUDS, ids=lambda shape: shape.name)
@pytest.mark.parametrize("alone", ["agent", "timer"])
def test_dstack_1047_machine_stops_itself_without_the_server(tmp_path: Path, shape: Shape, alone: str) -> None:
    """An unreachable server left machines running; here agent and timer, each alone, end them within the cap."""
    if alone == "agent":
        rented = Rented(tmp_path, without_timer(shape), FOR_EVER)
    else:
        rented = Rented(tmp_path, shape, NEVER_BOOTS)
    rented.launch()
    rented.reach(State.BOOTING)
    lived_s = rented.lab.run_until_gone(rented.machine().id)

    attempt = rented.attempt()
    assert attempt.hard_after_s <= lived_s <= attempt.hard_after_s + attempt.lateness_s
    assert rented.cloud.bill() <= rented.job().cap_usd


@pytest.mark.parametrize("shape", CLOUDS, ids=lambda shape: shape.name)
def test_skypilot_2768_4410_armed_only_after_set_up(tmp_path: Path, shape: Shape) -> None:
    """A client that died during set-up left a machine without an end; here the create call and the boot arm it."""
    armed_by_boot = shape is AWS  # its schedule is a second call, which a crash can keep from being made
    rented = Rented(tmp_path, shape, FOR_EVER if armed_by_boot else NEVER_BOOTS)
    rented.launch()
    rented.lab.faults.once("create", Crash(after_effect=True))
    with pytest.raises(SimulatedCrash):
        rented.guard.tick()
    rented.lab.run_until_gone(rented.machine().id)
    assert rented.cloud.bill() <= rented.job().cap_usd

    script = script_of(shape.name, boot.build(shape.name, orders_for(shape.name), "https://bucket/agent"))
    steps = commands(script)
    assert 0 < steps.index(ARMING) < steps.index("\nsh deadline\n") < steps.index("python3 -I")


def test_dstack_3040_twenty_minutes_of_image_pull(tmp_path: Path) -> None:
    """A pull of 20 minutes was billed and then given up; here it is shown, and a boot has a time limit of its own."""
    bench = Bench(tmp_path / "pulls")
    pulling = {"state": "pulling", "notes": ["the image is being pulled: layers 3 of 9"]}
    bench.provider.after = lambda call, _: setattr(bench.box, "beat", pulling) if call == "create" else None
    bench.add()
    bench.tick(120)
    view = job_view(bench.job, [bench.attempt], bench.clock.now())
    assert ("running", pulling["notes"], 0) == (view["state"], view["notes"], bench.count("delete"))

    silent = Bench(tmp_path / "silent")
    silent.provider.after = lambda call, _: setattr(silent.box, "beat", None) if call == "create" else None
    silent.add()
    silent.run()
    assert ("agent_lost", "BOOT_TIMEOUT") == (silent.job.outcome, silent.job.reason)
    assert silent.lived_s() < silent.provider.boot_timeout_s + 60


def test_skypilot_10628_a_stuck_loop_defeats_idle_detection(tmp_path: Path) -> None:
    """A loop that is stuck looks busy; here the stall rule counts steps, and the cap asks nobody whether it is idle."""
    orders = make_orders(make_spec(stall=Stall(no_output_s=60.0, no_progress_s=600.0)))
    watched = Watch(orders, str(tmp_path), str(tmp_path))
    verdicts = {}
    for age_s in range(0, 1500, 10):
        step = min(age_s // 10, 60)
        watched.lines(
            [f"step {step}: loss {10 - step / 10}" if age_s <= 600 else "lost the worker, trying again"], age_s
        )
        verdicts[age_s] = watched.verdict(age_s)
    assert [("stalled", "NO_PROGRESS")] == list({verdict for verdict in verdicts.values() if verdict})
    assert 1200 == min(age_s for age_s, verdict in verdicts.items() if verdict)

    bench = Bench(tmp_path / "home", deadlines_held=False)
    bench.started().beat = {"state": "running", "output_bytes": 10**9, "output_age_s": 0.0}
    bench.run()
    assert ("budget_reached", True) == (bench.job.outcome, bench.provider.cost_usd() <= bench.job.cap_usd)


@pytest.mark.parametrize("cloud", NAMES)
def test_skypilot_skylet_reboot_disarms_the_timer(tmp_path: Path, cloud: str) -> None:
    """A reboot disarmed the timer; here the seconds lived are kept, the date is absolute, and the unit is enabled."""
    machine = Computer(tmp_path, cloud)
    half_s = machine.hard_after_s // 2
    assert [False, False] == [machine.look("first", 5), machine.look("first", half_s)]
    assert [False, True] == [machine.look("second", half_s - 5), machine.look("second", half_s)]

    (tmp_path / "ended").unlink()
    (tmp_path / "lived").unlink()
    assert [False, True] == [machine.look("third", 1, before_end_s=1), machine.look("third", 1, before_end_s=0)]

    script = script_of(cloud, boot.build(cloud, orders_for(cloud), "https://bucket/agent"))
    assert ARMING in script
    assert "[Install]\nWantedBy=sysinit.target" in heredoc(script, "/etc/systemd/system/gpulaunch-deadline.timer")


@pytest.mark.parametrize("cloud", NAMES)
def test_tpi_boot_script_fetches_tools(tmp_path: Path, cloud: str) -> None:
    """Without tools fetched at boot nothing stopped the machine; here sh, `date` and `sleep` are enough."""
    assert Computer(tmp_path, cloud).look("first", 10_000)

    script = script_of(cloud, boot.build(cloud, orders_for(cloud), "https://bucket/agent"))
    steps = commands(script).partition(ARMING)[0].splitlines()[1:]
    assert {"umask", "mkdir", "cd", "cat", "systemctl"} == {step.split()[0] for step in steps if step}


@pytest.mark.parametrize("cloud", NAMES)
def test_tpi_skypilot_azure_credentials_copied_to_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cloud: str
) -> None:
    """The user's credentials were copied to the machine; here neither the request nor its boot data hold any."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(f"[default]\naws_secret_access_key = {SECRETS[1]}\n")
    names = ("AWS_ACCESS_KEY_ID", "AZURE_CLIENT_SECRET", "HF_TOKEN")
    for name, value in {**dict(zip(names, SECRETS, strict=True)), "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    spec = make_spec(image=IMAGE, command=("python", "train.py"))
    provider = ScriptedProvider(VirtualClock())
    timer = Backstop(armed=True, what="a timer")
    plan = make_plan(spec, [make_offer(provider=cloud)], provider, backstop=timer, cap_usd=Decimal(5))
    job = make_job(spec=spec)
    attempt = launch.freeze(job, spec, plan, provider, number=1, owner="o", spent_usd=Decimal(0), now=START)

    script = script_of(cloud, launch.thaw(attempt).boot_data)
    sent = {**files_of(script), "script": script, "request": attempt.intent.decode()}
    assert ["python", "train.py"] == json.loads(sent["orders.json"])["command"]
    assert [] == [name for name, text in sent.items() for secret in SECRETS if secret in text]
    assert set(names).isdisjoint(training_environment(os.environ))


@pytest.mark.parametrize("shape", CLOUDS, ids=lambda shape: shape.name)
def test_cml_808_shut_down_during_an_active_job(tmp_path: Path, shape: Shape) -> None:
    """A machine was ended under a training that ran; here slow heartbeats, an outage and a closed lid end none."""
    slow = Script(finishes_after_s=5000.0, heartbeat_s=AGENT_TIMEOUT_S * 0.7)
    rented = Rented(tmp_path, shape, slow)
    rented.launch()
    rented.reach(State.RUNNING)
    now_s = rented.clock.monotonic()
    rented.lab.faults.down(now_s + 300, now_s + 1500)
    while rented.clock.monotonic() < now_s + 2000:
        rented.tick()
    rented.clock.suspend(1500)
    rented.run()

    assert ("finished", "EXIT_0", 0) == (rented.job().outcome, rented.job().reason, rented.job().exit_code)
    assert rented.machine().compute[-1][1] - rented.machine().compute[0][0] >= 5000


@pytest.mark.parametrize("shape", CLOUDS, ids=lambda shape: shape.name)
def test_spotty_47_58_122_machine_ends_itself_when_the_job_ends(tmp_path: Path, shape: Shape) -> None:
    """Users had to end machines by hand; here the agent does it, with no launcher alive, and how it ended is known."""
    rented = Rented(tmp_path, shape, Script(finishes_after_s=300.0))
    rented.launch()
    rented.reach(State.BOOTING)
    rented.clock.advance(rented.attempt().hard_after_s / 2)
    left = {thing for each in rented.cloud.existing() for thing in each.things}
    assert left <= shape.own_end_leaves
    paid_usd = rented.cloud.bill()

    rented.run()
    assert ("finished", []) == (rented.job().outcome, rented.cloud.existing())
    assert paid_usd == rented.cloud.bill() < rented.job().cap_usd / 2


def test_azure_stopped_is_still_billed(tmp_path: Path) -> None:
    """A machine that is switched off from inside bills on; here it is seen, and deleted, and no ending does that."""
    rented = Rented(tmp_path, AZURE)
    rented.launch()
    rented.reach(State.RUNNING)
    rented.cloud.power_off(rented.machine().id)
    before = rented.cloud.bill_lines(rented.machine().id)["compute"]
    rented.clock.advance(HOUR_S / 4)
    assert Decimal("0.526") / 4 == rented.cloud.bill_lines(rented.machine().id)["compute"] - before

    rented.tick()
    assert State.DELETING == rented.attempt().state
    rented.run()
    assert ([], "agent_lost") == (rented.cloud.existing(), rented.job().outcome)

    end = heredoc(script_of("azure", boot.build("azure", orders_for("azure"))), "end")
    assert "-X DELETE" in end
    assert [] == [word for word in ("poweroff", "shutdown", "halt", "sysrq") if word in end]
    assert GCP.billing.billed_states != AZURE.billing.billed_states
