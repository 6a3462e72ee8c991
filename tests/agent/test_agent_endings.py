"""How runs end, with real agents and real children."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from agent_harness import Agent, alive, python, wait_until

IGNORES_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True: time.sleep(1)
"""
SAVES_ON_SIGTERM = """
import signal, sys, time
def save(*_):
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
while True: time.sleep(1)
"""
# Forks twice, makes a session of its own, clears its environment by starting anew, and prints its number.
ESCAPES = """
import os, subprocess, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        code = "import os, time; print('escaped', os.getpid(), flush=True); open('out', 'w').close(); time.sleep(600)"
        os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", code], {})
    os._exit(0)
os.wait()
while not os.path.exists("out"): time.sleep(0.02)
"""


def escaped_pid(agent: Agent) -> int:
    """The number that the escaped child has printed."""
    agent.says("escaped")
    wait_until(lambda: agent.output().endswith(b"\n"))
    return int(agent.output().split()[1])


def test_a_note_is_told_once_in_the_log(tmp_path: Path) -> None:
    """What the user must know stands in the log, once, however often its figures change."""
    command = """
import time
print("note the training will not be done in time: 1 h", flush=True)
for hours in range(2, 6):
    time.sleep(0.3)
    print(f"note the training will not be done in time: {hours} h", flush=True)
"""
    with Agent(tmp_path, python(command), heartbeat_s=0.1) as agent:
        result = agent.finish()

    told = [line for line in agent.output().decode().splitlines() if line.startswith("gpulaunch: ")]
    assert ["the training will not be done in time"] == [line[11:].split(":")[0] for line in told]
    assert ["the training will not be done in time: 5 h"] == result["notes"]


def test_a_training_that_finishes(tmp_path: Path) -> None:
    """Exit code 0 is `finished`, and the result says what happened and when."""
    with Agent(tmp_path, python("import sys; print('out'); print('err', file=sys.stderr)")) as agent:
        result = agent.finish()

    assert (result["outcome"], result["reason"], result["exit_code"]) == ("finished", "EXIT_0", 0)
    assert sorted(agent.output().split()) == [b"err", b"out"]
    assert result["output_bytes"] == 8
    assert result["metrics"] == {"lines": 2}
    assert (result["job"], result["name"], result["attempt"]) == ("job-1", "test", 1)
    assert result["started_at"] <= result["ended_at"]
    assert result["started_at"].endswith("Z")


def test_states_and_the_last_heartbeat(tmp_path: Path) -> None:
    """Each change of state is told, and the last heartbeat has the result's outcome."""
    with Agent(tmp_path, python("print('note watched')")) as agent:
        result = agent.finish()
        last = agent.beats()[-1]

    assert agent.states() == ["booting", "running", "ended"]
    assert (last["outcome"], last["reason"], last["exit_code"]) == (result["outcome"], result["reason"], 0)
    assert last["notes"] == ["watched"]


def test_files_are_private(tmp_path: Path) -> None:
    """What a training prints may be secret."""
    with Agent(tmp_path, python("print('hello')")) as agent:
        agent.finish()
    modes = {path.name: path.stat().st_mode & 0o777 for path in agent.machine.iterdir()}

    assert modes == dict.fromkeys(["console.log", "output.log", "result.json", "training.json"], 0o600)


@pytest.mark.parametrize(
    ("source", "reason", "exit_code"),
    [
        ("import sys; sys.exit(3)", "EXIT_3", 3),
        ("import os; os.kill(os.getpid(), 11)", "SIGNAL_SIGSEGV", 139),
        ("import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 2)", "SIGNAL_36", 164),
    ],
)
def test_a_training_that_fails(tmp_path: Path, source: str, reason: str, exit_code: int) -> None:
    """The reason names the exit code, or the signal."""
    with Agent(tmp_path, python(source)) as agent:
        result = agent.finish()

    assert (result["outcome"], result["reason"], result["exit_code"]) == ("failed", reason, exit_code)


def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    """It fails as a shell would say it, with a sentence in the log."""
    with Agent(tmp_path, ["no-such-command"]) as agent:
        result = agent.finish()

    assert (result["outcome"], result["reason"], result["exit_code"]) == ("failed", "COMMAND_NOT_FOUND", 127)
    assert b"cannot start the command" in agent.output()
    assert b"no-such-command" in agent.output()


def test_a_command_that_is_not_executable(tmp_path: Path) -> None:
    """A file without the right to run is 126."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    with Agent(tmp_path, [str(script)]) as agent:
        result = agent.finish()

    assert (result["outcome"], result["reason"], result["exit_code"]) == ("failed", "COMMAND_NOT_FOUND", 126)


def test_the_environment_of_the_training(tmp_path: Path) -> None:
    """It gets its own variables, ours, and unbuffered output unless it wants another."""
    source = "import json, os; print(json.dumps(dict(os.environ)))"
    with Agent(tmp_path, python(source), env={"A": "1\n2", "PYTHONUNBUFFERED": ""}, name="nice") as agent:
        agent.finish()
    seen = json.loads(agent.output())

    assert {name: seen[name] for name in seen if name.startswith("GPULAUNCH_") and name != "GPULAUNCH_MACHINE"} == {
        "GPULAUNCH_JOB": "job-1",
        "GPULAUNCH_JOB_NAME": "nice",
        "GPULAUNCH_ATTEMPT": "1",
        "GPULAUNCH_WORKSPACE": str(agent.workdir),
        "GPULAUNCH_METRICS_FILE": str(agent.machine / "metrics.jsonl"),
    }
    assert (seen["A"], seen["PYTHONUNBUFFERED"]) == ("1\n2", "")


def test_the_training_has_signals_as_usual(tmp_path: Path) -> None:
    """What the agent ignores, the training must not inherit as ignored."""
    source = "import signal; print(signal.getsignal(signal.SIGHUP), signal.getsignal(signal.SIGINT).__name__)"
    with Agent(tmp_path, python(source)) as agent:
        agent.finish()

    assert agent.output() == b"0 default_int_handler\n"


def test_the_soft_deadline_lets_the_training_save(tmp_path: Path) -> None:
    """SIGTERM, and the orders' own outcome whatever the exit code."""
    with Agent(tmp_path, python(SAVES_ON_SIGTERM)) as agent:
        agent.says("ready")
        agent.pass_time(1000)
        result = agent.finish()

    assert (result["outcome"], result["reason"], result["exit_code"]) == ("budget_reached", "CAP", 0)
    assert agent.output() == b"ready\nsaved\n"
    assert agent.states() == ["booting", "running", "stopping", "ended"]
    assert result["age_s"] >= 1000


def test_a_training_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    """SIGKILL comes when the grace is over."""
    with Agent(tmp_path, python(IGNORES_SIGTERM), grace_s=500) as agent:
        agent.says("ready")
        agent.pass_time(1000)
        wait_until(lambda: "stopping" in agent.states())
        lives = alive(agent.training_pid())
        agent.pass_time(500)
        result = agent.finish()

    assert lives
    assert (result["outcome"], result["reason"], result["exit_code"]) == ("budget_reached", "CAP", 137)


def test_only_the_main_process_is_asked_first(tmp_path: Path) -> None:
    """Helpers, such as data loaders, must live while the main process saves with them."""
    source = """
import signal, subprocess, sys, time
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
def save(*_):
    time.sleep(0.5)
    print("helper lives", helper.poll() is None, flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
while True: time.sleep(1)
"""
    with Agent(tmp_path, python(source)) as agent:
        agent.says("ready")
        agent.pass_time(1000)
        agent.finish()
        left = agent.marked()

    assert agent.output() == b"ready\nhelper lives True\n"
    assert left == []


def test_a_training_behind_a_shell_may_save_too(tmp_path: Path) -> None:
    """A shell dies of SIGTERM without handing it on: its children are asked next, and get the rest of the grace."""
    script = tmp_path / "script.sh"
    script.write_text(f"{sys.executable} -c '{SAVES_ON_SIGTERM}'\necho not reached\n")
    with Agent(tmp_path, ["sh", str(script)]) as agent:
        agent.says("ready")
        agent.pass_time(1000)
        result = agent.finish()

    assert agent.output() == b"ready\nsaved\n"
    assert result["outcome"] == "budget_reached"


def test_the_hard_deadline_kills_at_once(tmp_path: Path) -> None:
    """A long grace does not reach beyond it."""
    with Agent(tmp_path, python(IGNORES_SIGTERM), grace_s=5000) as agent:
        agent.says("ready")
        agent.pass_time(1000)
        wait_until(lambda: "stopping" in agent.states())
        agent.pass_time(1000)
        result = agent.finish()
        left = agent.marked()

    assert (result["outcome"], result["reason"], result["exit_code"]) == ("budget_reached", "CAP", 137)
    assert result["age_s"] >= 2000
    assert left == []


def test_time_before_the_agent_started_counts(tmp_path: Path) -> None:
    """A machine that was billed for longer than it may live runs nothing for long."""
    with Agent(tmp_path, python(IGNORES_SIGTERM), before="orders['origin'] = real() - 3000") as agent:
        result = agent.finish()

    assert result["outcome"] == "budget_reached"
    assert result["age_s"] >= 3000


@pytest.mark.parametrize("how", ["in python", "in the kernel"])
def test_the_hard_deadline_holds_when_the_agent_hangs(tmp_path: Path, how: str) -> None:
    """The second hand kills the training and ends the agent, whether the main loop hangs in C code or in the kernel."""
    source = f"print('hang {how}', flush=True)\n{IGNORES_SIGTERM}"
    with Agent(tmp_path, python(source)) as agent:
        agent.hangs()
        agent.pass_time(2000)
        pid = agent.training_pid()
        wait_until(lambda: not alive(pid))
        agent.pass_time(10)
        agent.process.wait(timeout=60)
        left = agent.marked()

    assert agent.process.returncode == 1
    assert left == []


def test_silence_is_a_stall(tmp_path: Path) -> None:
    """No byte for that long stops the training; a byte, even without a newline, starts the count anew."""
    source = "import time\nprint('ready', end='', flush=True)\ntime.sleep(600)"
    with Agent(tmp_path, python(source), stall={"no_output_s": 60, "no_progress_s": None}) as agent:
        agent.pass_time(55)
        agent.says("ready")
        agent.pass_time(30)
        wait_until(lambda: agent.beats()[-1]["output_age_s"] >= 30)
        lives = alive(agent.training_pid())
        agent.pass_time(30)
        result = agent.finish()

    assert lives
    assert (result["outcome"], result["reason"]) == ("stalled", "NO_OUTPUT")


def test_the_watchers_verdict_stops_the_training(tmp_path: Path) -> None:
    """Early stop is a graceful stop with the watcher's outcome."""
    with Agent(tmp_path, python("print('verdict early_stopped PATIENCE_EXHAUSTED')\n" + SAVES_ON_SIGTERM)) as agent:
        result = agent.finish()

    assert (result["outcome"], result["reason"]) == ("early_stopped", "PATIENCE_EXHAUSTED")


def test_sigterm_to_the_agent_is_a_shutdown(tmp_path: Path) -> None:
    """The machine is going: save, and say so."""
    with Agent(tmp_path, python(SAVES_ON_SIGTERM)) as agent:
        agent.says("ready")
        agent.process.send_signal(signal.SIGTERM)
        result = agent.finish()

    assert (result["outcome"], result["reason"], result["exit_code"]) == ("preempted", "SHUTDOWN_SIGNAL", 0)
    assert agent.output() == b"ready\nsaved\n"


def test_a_shutdown_shortens_a_long_grace(tmp_path: Path) -> None:
    """The notice is all there is; the first reason to stop stays."""
    with Agent(tmp_path, python(IGNORES_SIGTERM), grace_s=900, notice_s=100) as agent:
        agent.says("ready")
        agent.pass_time(1000)
        wait_until(lambda: "stopping" in agent.states())
        agent.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "the machine was told to shut down" in agent.beats()[-1]["notes"])
        agent.pass_time(100)
        result = agent.finish()

    assert (result["outcome"], result["exit_code"]) == ("budget_reached", 137)


@pytest.mark.parametrize("ignored", [signal.SIGHUP, signal.SIGINT])
def test_a_closed_terminal_changes_nothing(tmp_path: Path, ignored: signal.Signals) -> None:
    """SIGHUP and SIGINT to the agent are passed over."""
    source = "import os, time; print('ready', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.05)"
    with Agent(tmp_path, python(source)) as agent:
        agent.says("ready")
        agent.process.send_signal(ignored)
        (agent.workdir / "go").touch()
        result = agent.finish()

    assert result["outcome"] == "finished"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can hold a process that leaves its group and parent")
@pytest.mark.parametrize("seconds", [0, 600])
def test_an_escaped_child_is_killed(tmp_path: Path, seconds: int) -> None:
    """Two forks, a new session and an empty environment do not help, when the training ends or when it is stopped."""
    with Agent(tmp_path, python(f"{ESCAPES}\ntime.sleep({seconds})")) as agent:
        pid = escaped_pid(agent)
        if seconds:
            agent.pass_time(1000)
            wait_until(lambda: "stopping" in agent.states())
            agent.pass_time(20)
        result = agent.finish()

    assert not alive(pid)
    assert result["outcome"] == ("budget_reached" if seconds else "finished")


def test_children_that_outlive_the_training_are_killed(tmp_path: Path) -> None:
    """The run is over when its main process is, even though a child holds the pipe."""
    source = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid)"
    )
    with Agent(tmp_path, python(source)) as agent:
        result = agent.finish()

    assert result["outcome"] == "finished"
    assert not alive(int(agent.output()))


def test_strangers_are_left_alone(tmp_path: Path) -> None:
    """A training of another machine lives on when this one ends."""
    with Agent(tmp_path / "long", python(IGNORES_SIGTERM)) as other, Agent(tmp_path, python("print('done')")) as agent:
        other.says("ready")
        agent.finish()
        lives = alive(other.training_pid())

    assert lives


def test_a_fault_of_the_agent_kills_the_training(tmp_path: Path) -> None:
    """Nothing runs on unwatched: the run fails, and the notes and the log say why."""
    with Agent(tmp_path, python(f"print('raise')\n{IGNORES_SIGTERM}")) as agent:
        result = agent.finish()
        left = agent.marked()

    assert (result["outcome"], result["reason"]) == ("failed", "AGENT_ERROR")
    assert "a fault in the agent: ValueError: a fault for the test" in result["notes"]
    assert b"ValueError: a fault for the test" in agent.output()
    assert left == []


def test_a_report_that_json_cannot_hold_does_not_lose_the_result(tmp_path: Path) -> None:
    """The outcome is told without the watcher's part then."""
    before = "watch.Watch.report = lambda self: {'metrics': float('nan')} if self.seen else {}"
    with Agent(tmp_path, python("print('hello')"), before=before) as agent:
        result = agent.finish()

    assert (result["outcome"], "metrics" in result) == ("finished", False)
    assert agent.beats()[-1]["outcome"] == "finished"


def test_the_training_is_named_so_that_others_can_end_it(tmp_path: Path) -> None:
    """training.json has its process, its group, and when it started."""
    with Agent(tmp_path, python(IGNORES_SIGTERM)) as agent:
        pid = agent.training_pid()
        known = json.loads((agent.machine / "training.json").read_text())
        group = os.getpgid(pid)
        agent.pass_time(2000)
        agent.finish()

    assert (known["pid"], known["pgid"], known["container"]) == (pid, group, "")
    assert sys.platform != "linux" or known["start"].isdecimal()
