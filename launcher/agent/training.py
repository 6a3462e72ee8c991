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
DOCKER = "/usr/bin/docker"
LIMIT_S = {"booting": 900.0, "fetching": 1800.0, "pulling": 1800.0}
"""What a rented machine may take to make docker ready, to bring the working folder, and to bring the image."""
BRING = ["/usr/bin/env", "python3", "-I", "/opt/gpulaunch/agent.py", "bring"]
PIDS = 16384
# A rented machine's own agent may have been started again: then it follows the container that it finds.
RUN_OR_FOLLOW = """
case $("$0" inspect --format "{{.State.Status}}" "$1" 2>/dev/null) in
running | exited)
    "$0" logs --follow --since "$2" "$1"
    code=$("$0" wait "$1") && exit "$code"
    exit 125 ;;
?*) "$0" rm --force "$1" ;;
esac
shift 2
exec "$0" "$@"
"""


class Training:
    """What runs, in stages: what it needs is brought first."""

    def __init__(self, orders: dict[str, Any], folder: Path) -> None:
        self.orders = orders
        self.workdir: str = orders["workdir"]
        self.container = f"gpulaunch-{orders['job']}-{orders['attempt']}" if orders.get("image") else ""
        self.docker = ""
        self.process: subprocess.Popen[Any] | None = None
        self.begun = ""
        self.stage = ""
        self.asked_rest = False
        self.ending: str = orders["ending"]
        self.rented = self.ending != "exit"
        self.layers: dict[str, bool] = {}
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
        if self.container and self.rented:
            self._on_rented_machine(folder)

    def _contain(self, metrics: Path, names: list[str]) -> None:
        self.docker = DOCKER if self.rented else shutil.which("docker") or ""
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
        has_or_pulls = '"$0" image inspect "$1" >/dev/null 2>&1 || exec "$0" pull "$1"'
        self.stages = [
            ("pulling", ["sh", "-c", has_or_pulls, self.docker, image]),
            ("running", [*run, image, *self.orders["command"]]),
        ]

    def _on_rented_machine(self, folder: Path) -> None:
        """Docker is made ready first, its log is bounded, and the machine's own processes come before the container."""
        _, (docker, run, *rest) = self.stages.pop()
        bounds = ["--log-driver", "json-file", "--log-opt", "max-size=64m", "--log-opt", "max-file=2"]
        bounds += ["--pids-limit", str(PIDS), "--oom-score-adj", "500"]
        log = folder / "output.log"
        # One second twice is better than one line lost.
        since = str(log.stat().st_mtime - 1) if log.exists() else "0"
        argv = ["sh", "-c", RUN_OR_FOLLOW, docker, self.container, since, run, *bounds, *rest]
        bring = (self.orders.get("archive") or self.orders.get("resume")) and not (folder / "brought").exists()
        self.stages = [
            ("booting", ["sh", self.orders["prepare"]]),
            *([("fetching", BRING)] if bring else []),
            *self.stages,
            ("running", argv),
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

    def pulled(self, lines: list[str]) -> str:
        """How far what is brought is; `docker pull` prints when nobody looks: `<layer>: <what happens to it>`."""
        if self.stage == "fetching":
            return lines[-1].removeprefix("gpulaunch: ")
        for line in lines:
            layer, parted, what = line.partition(": ")
            if parted and " " not in layer:
                self.layers[layer] = what in ("Pull complete", "Already exists")
        return f"the image is being pulled: layers {sum(self.layers.values())} of {len(self.layers)}"

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
            except FileNotFoundError:
                pass  # no docker, no container
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
                if self.rented:
                    subprocess.Popen(["sh", self.ending, "hard"], start_new_session=True)
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
        if self.stage == "booting":
            return "launch_failed", "DOCKER_NOT_READY"
        if self.stage == "fetching":
            return "launch_failed", "CHECKPOINT_NOT_RESTORED" if code == 3 else "WORKDIR_NOT_BROUGHT"
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
