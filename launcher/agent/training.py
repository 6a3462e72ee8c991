"""The training itself: a process, or a container where the job has an image."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from . import processes

WORKSPACE = "/workspace"
CONTAINER_METRICS = "/gpulaunch/metrics.jsonl"
# docker-run(1): 125 is docker's own failure, 126 and 127 a command that cannot be started.
DOCKER_FAILED = 125
NOT_EXECUTABLE, NOT_FOUND = 126, 127
LAST_WORDS_S = 3.0
"""After the hard deadline: what the agent may still take to write its result."""


class Training:
    """What runs, in one or two stages: a container's image is pulled first."""

    def __init__(self, orders: dict[str, Any], folder: Path) -> None:
        self.orders = orders
        self.workdir: str = orders["workdir"]
        self.container = f"gpulaunch-{orders['job']}-{orders['attempt']}" if orders.get("image") else ""
        self.docker = ""
        self.process: subprocess.Popen[Any] | None = None
        self.begun = ""
        self.stage = ""
        self.asked_rest = False
        metrics = folder / "metrics.jsonl"
        own = {
            "GPULAUNCH_JOB": orders["job"],
            "GPULAUNCH_JOB_NAME": orders["name"],
            "GPULAUNCH_ATTEMPT": str(orders["attempt"]),
            "GPULAUNCH_WORKSPACE": WORKSPACE if self.container else self.workdir,
            "GPULAUNCH_METRICS_FILE": CONTAINER_METRICS if self.container else str(metrics),
        }
        self.env = {"PYTHONUNBUFFERED": "1", **os.environ, **orders["env"], **own}
        self.stages: list[tuple[str, list[str]]] = [("running", list(orders["command"]))]
        if self.container:
            self._contain(metrics, sorted({"PYTHONUNBUFFERED", *orders["env"], *own}))

    def _contain(self, metrics: Path, names: list[str]) -> None:
        self.docker = shutil.which("docker") or ""
        if not self.docker:
            return
        metrics.touch()
        metrics.chmod(0o666)  # the image's user may be any; the folder above is private
        image = self.orders["image"]
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        run = [self.docker, "run", "--name", self.container, "--init", "--workdir", WORKSPACE]
        for source, target in ((self.workdir, WORKSPACE), (str(metrics), CONTAINER_METRICS)):
            # A mount is a line of CSV: quoted, a path may hold commas.
            run += ["--mount", 'type=bind,"source={}",target={}'.format(source.replace('"', '""'), target)]
        run += ["--shm-size", str(memory // 2)]  # as the kernel does for /dev/shm: data loaders need more than 64 MB
        run += ["--gpus", "all"] if shutil.which("nvidia-smi") else []
        # A value on a command line could be read by all: docker takes it from its own environment.
        for name in names:
            run += ["--env", name]
        has_or_pulls = '"$0" image inspect "$1" >/dev/null 2>&1 || exec "$0" pull --quiet "$1"'
        self.stages = [
            ("pulling", ["sh", "-c", has_or_pulls, self.docker, image]),
            ("running", [*run, image, *self.orders["command"]]),
        ]

    def start(self, out: int) -> str:
        """Start the next stage, with its output to that descriptor; returns the stage's name. Raises OSError."""
        self.stage, argv = self.stages.pop(0)
        self.process = None
        self.process = processes.spawn(
            argv,
            stdout=out,
            stderr=out,
            cwd=self.workdir,
            env=self.env if self.stage == "running" else None,
            start_new_session=True,
        )
        started = processes.read(self.process.pid)
        self.begun = started.start if started else ""
        return self.stage

    def alive(self) -> bool:
        """Whether the main process of the stage is still there."""
        return self.process is not None and self.process.returncode is None

    def ended_well(self) -> bool:
        """Whether it has ended with exit code 0."""
        return self.process is not None and self.process.returncode == 0

    @property
    def group(self) -> int:
        """The process group of what runs; 0 when nothing was started."""
        return self.process.pid if self.process else 0

    def terminate(self, grace_s: float) -> None:
        """Ask it to save and end. Its main process is asked, since it may need its helpers while it saves."""
        self.stages.clear()
        if self.container and self.docker:
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            processes.spawn([self.docker, "stop", "-t", str(round(grace_s)), self.container], **quiet)
        elif self.process and self.process.returncode is None:
            os.kill(self.process.pid, signal.SIGTERM)  # not reaped yet, so the number is still its own

    def ask_rest(self) -> bool:
        """When the main process has ended on SIGTERM (a shell does): ask its children too. False when none is left."""
        if self.container:
            return False
        if not self.asked_rest:
            self.asked_rest = bool(processes.send(signal.SIGTERM, self.group))
            return self.asked_rest
        return bool(processes.ours(self.group))

    def kill(self, limit_s: float) -> bool:
        """End it and all that it left, now; says whether that is done."""
        if self.container and self.docker:
            try:
                subprocess.run(
                    [self.docker, "rm", "--force", self.container], capture_output=True, timeout=limit_s, check=False
                )
            except (OSError, subprocess.TimeoutExpired):
                processes.kill_all(limit_s, self.group)
                return False
        return processes.kill_all(limit_s, self.group)

    def strike(self, late_s: float) -> None:
        """The hard deadline has come, and it is not known what the main loop does: kill, and soon end the agent too."""
        try:
            self.kill(1.0)
        finally:
            if late_s > LAST_WORDS_S:
                os._exit(1)

    def exit_code(self) -> int | None:
        """The command's own, as shells tell it: 128 + n for signal n; None when it did not run or did not end."""
        code = self.process.returncode if self.process and self.stage == "running" else None
        return code if code is None or code >= 0 else 128 - code

    def half_written(self) -> bool:
        """Whether it died by a signal, so that it may have left a file half-written."""
        code = self.process.returncode if self.process else None
        # A shell dies of the SIGTERM that its children use to save and end by themselves.
        return code is not None and not self.asked_rest and (code < 0 or (bool(self.container) and code > 128))

    def outcome(self) -> tuple[str, str]:
        """Outcome and reason when it has ended by itself."""
        code = self.process.returncode if self.process else None
        if code is None:
            return "failed", "NOT_KILLED"
        if self.stage == "pulling":
            return "launch_failed", "IMAGE_PULL_FAILED"
        if self.container and code == DOCKER_FAILED:
            return "launch_failed", "DOCKER_FAILED"
        if self.container and code in (NOT_EXECUTABLE, NOT_FOUND):
            return "failed", "COMMAND_NOT_FOUND"
        if self.container and code > 128:
            code = 128 - code
        if code < 0:
            return "failed", "SIGNAL_" + _signal_name(-code)
        return ("failed", f"EXIT_{code}") if code else ("finished", "EXIT_0")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
