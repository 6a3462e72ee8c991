"""Trainings in a container, with a stand-in for docker that runs the command here and notes how it was called."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from agent_harness import Agent, alive, wait_until

DOCKER = f"""#!{sys.executable}
import json, os, signal, subprocess, sys
here = os.path.dirname(os.path.abspath(__file__))
verb, rest = sys.argv[1], sys.argv[2:]
with open(here + "/calls", "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
def container():
    return int(open(here + "/container").read())
if verb == "image":
    sys.exit(not os.path.exists(here + "/has-image"))
if verb == "pull":
    print("pulled: 1")
    sys.exit(os.path.exists(here + "/pull-fails"))
if verb == "run":
    if os.path.exists(here + "/run-fails"):
        sys.exit(int(open(here + "/run-fails").read()))
    at = rest.index("the/image:1")
    wanted = {{rest[i + 1]: os.environ[rest[i + 1]] for i in range(at) if rest[i] == "--env"}}
    # Started by the engine, not by this client: the agent cannot see it among its children.
    child = subprocess.Popen(rest[at + 1:], env={{"PATH": os.environ["PATH"], **wanted}}, start_new_session=True)
    open(here + "/container.new", "w").write(str(child.pid))
    os.rename(here + "/container.new", here + "/container")
    code = child.wait()
    sys.exit(code if code >= 0 else 128 - code)
if verb == "stop":
    os.kill(container(), signal.SIGTERM)
if verb == "rm":
    try:
        os.kill(container(), signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        pass
"""


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    """The folder of the stand-in."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").write_text(DOCKER)
    (folder / "docker").chmod(0o755)
    return folder


def contained(tmp_path: Path, docker: Path, source: str, **changes: Any) -> Agent:
    """An agent with an image to run, and the stand-in on its path."""
    command = [sys.executable, "-c", source]
    return Agent(tmp_path, command, {"PATH": f"{docker}:/usr/bin:/bin"}, image="the/image:1", **changes)


def calls(docker: Path) -> list[list[str]]:
    """How docker was called."""
    return [json.loads(line) for line in (docker / "calls").read_text().splitlines()]


def test_a_container_is_pulled_run_and_removed(tmp_path: Path, docker: Path) -> None:
    """The image is pulled when it is not there, and the container leaves nothing behind."""
    with contained(tmp_path, docker, "print('hello')") as agent:
        result = agent.finish()
    run = calls(docker)[2]

    assert [call[0] for call in calls(docker)] == ["image", "pull", "run", "rm"]
    assert agent.states() == ["booting", "pulling", "running", "ended"]
    assert (result["outcome"], result["exit_code"]) == ("finished", 0)
    assert agent.output() == b"pulled: 1\nhello\n"
    assert result["metrics"] == {"lines": 1}
    assert run[1:6] == ["--name", "gpulaunch-job-1-1", "--init", "--workdir", "/workspace"]
    assert f'type=bind,"source={agent.workdir}",target=/workspace' in run
    assert "--restart" not in run
    assert calls(docker)[3] == ["rm", "--force", "gpulaunch-job-1-1"]


def test_an_image_that_is_there_is_not_pulled(tmp_path: Path, docker: Path) -> None:
    """It may have been built here."""
    (docker / "has-image").touch()
    with contained(tmp_path, docker, "print('hello')") as agent:
        agent.finish()

    assert [call[0] for call in calls(docker)] == ["image", "run", "rm"]


def test_values_are_not_on_a_command_line(tmp_path: Path, docker: Path) -> None:
    """Any user of the machine could read them there; the container gets its variables and no others."""
    source = "import json, os; print(json.dumps(dict(os.environ)))"
    with contained(tmp_path, docker, source, env={"PASSWORD": "hidden\nvalue"}) as agent:
        agent.finish()
    seen = json.loads(agent.output().splitlines()[-1])

    assert not any("hidden" in word for call in calls(docker) for word in call)
    assert {name: seen[name] for name in seen if name not in ("PATH", "LC_CTYPE")} == {
        "PASSWORD": "hidden\nvalue",
        "PYTHONUNBUFFERED": "1",
        "GPULAUNCH_JOB": "job-1",
        "GPULAUNCH_JOB_NAME": "test",
        "GPULAUNCH_ATTEMPT": "1",
        "GPULAUNCH_WORKSPACE": "/workspace",
        "GPULAUNCH_METRICS_FILE": "/gpulaunch/metrics.jsonl",
    }
    assert (agent.machine / "metrics.jsonl").exists()


def test_a_container_is_stopped_with_its_grace_and_then_killed(tmp_path: Path, docker: Path) -> None:
    """`docker stop` asks; `docker rm --force` ends what ignores it."""
    source = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(600)"
    with contained(tmp_path, docker, source, grace_s=30) as agent:
        agent.says("ready")
        pid = int((docker / "container").read_text())
        agent.pass_time(1000)
        wait_until(lambda: calls(docker)[-1] == ["stop", "-t", "30", "gpulaunch-job-1-1"])
        lives = alive(pid)
        agent.pass_time(30)
        result = agent.finish()

    assert lives
    assert not alive(pid)
    assert result["outcome"] == "budget_reached"


@pytest.mark.parametrize(
    ("file", "content", "outcome", "reason"),
    [
        ("pull-fails", "", "launch_failed", "IMAGE_PULL_FAILED"),
        ("run-fails", "125", "launch_failed", "DOCKER_FAILED"),
        ("run-fails", "127", "failed", "COMMAND_NOT_FOUND"),
        ("run-fails", "137", "failed", "SIGNAL_SIGKILL"),
        ("run-fails", "4", "failed", "EXIT_4"),
    ],
)
def test_how_a_container_fails(
    tmp_path: Path, docker: Path, file: str, content: str, outcome: str, reason: str
) -> None:
    """Docker's own failures are told from the training's."""
    (docker / file).write_text(content)
    with contained(tmp_path, docker, "pass") as agent:
        result = agent.finish()

    assert (result["outcome"], result["reason"]) == (outcome, reason)


def test_an_image_without_docker(tmp_path: Path) -> None:
    """The job cannot be launched, and the log says why."""
    empty = tmp_path / "empty"
    empty.mkdir()
    with Agent(tmp_path, ["true"], {"PATH": str(empty)}, image="the/image:1") as agent:
        result = agent.finish()

    assert (result["outcome"], result["reason"]) == ("launch_failed", "NO_DOCKER")
    assert b"docker is needed" in agent.output()
