"""A machine to boot without a cloud: a Debian tree in systemd-nspawn, given exactly the boot data that a cloud gives.

The kernel, systemd, cloud-init, the docker engine and the container are real. Stand-ins are the disk (an overlay on the
tree that make_tree.sh makes), the serial port (a pseudo-terminal) and, in boot_gateway.py, the cloud's own services.
"""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import threading
import time
import tty
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launcher.agent import heartbeat

HERE = Path(__file__).parent
TREE = Path(__file__).parents[2] / "build" / "boot" / "tree"
NSPAWN = [
    "systemd-nspawn",
    *("--boot", "--register=no", "--keep-unit", "--capability=all", "--console=pipe"),
    *("--resolv-conf=off", "--link-journal=no", "--system-call-filter=add_key keyctl bpf"),
]
REBOOT = 133
BOUND_S = 60.0

# What a cloud's own image would bring: where cloud-init finds its data, and that it leaves the network alone.
CLOUD_CFG = "network: {config: disabled}\n"
DATASOURCE = {
    "nocloud": "datasource_list: [ NoCloud ]\n",
    "aws": "datasource_list: [ Ec2 ]\ndatasource: {Ec2: {strict_id: false, max_wait: 20, timeout: 5}}\n",
}
GUEST_AGENT = """[Unit]
After=network.target docker.service
[Service]
Type=oneshot
ExecStart=/bin/sh /root/startup-script
[Install]
WantedBy=multi-user.target
"""


def wait_until(condition: Callable[[], Any], bound_s: float = BOUND_S) -> Any:
    """Wait for a true value, and return it; fails when the bound is reached."""
    until = time.monotonic() + bound_s
    while not (value := condition()):
        assert time.monotonic() < until, "the condition did not come true in time"
        time.sleep(0.05)
    return value


def run(*argv: str) -> str:
    """Run a command that must succeed."""
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


class Machine:
    """One machine, from its first boot to its end."""

    def __init__(
        self, folder: Path, cloud: str, boot_data: bytes, namespace: str | None = None, disk_mb: int | None = None
    ) -> None:
        self.name = f"gl-{uuid.uuid4().hex[:8]}"
        self.folder = folder
        self.root = folder / "root"
        self.network = [f"--network-namespace-path=/run/netns/{namespace}"] if namespace else ["--private-network"]
        folder.mkdir(parents=True)
        self.has_own_disk = disk_mb is not None
        if disk_mb:
            run("mount", "-t", "tmpfs", "-o", f"size={disk_mb}m", "tmpfs", str(folder))
        for made in ("root", "upper", "work", "docker"):
            (folder / made).mkdir()
        layers = f"lowerdir={TREE},upperdir={folder}/upper,workdir={folder}/work"
        run("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root))
        self.process: subprocess.Popen[bytes] | None = None
        self.cloud: Any = None
        """The network that it hangs on; None when it is cut."""
        self.console = b""
        self._terminal, self._port = pty.openpty()
        tty.setraw(self._port)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        (self.root / "var/log/journal").mkdir(parents=True, exist_ok=True)
        self._give(cloud, boot_data, bool(namespace))

    def _give(self, cloud: str, boot_data: bytes, has_network: bool) -> None:
        if cloud == "gcp":
            self.write("root/startup-script", boot_data)
            self.write("etc/systemd/system/guest-agent.service", GUEST_AGENT)
            self.enable("guest-agent.service", "multi-user.target")
            self.write("etc/cloud/cloud-init.disabled", "")
            return
        source = "aws" if cloud == "aws" and has_network else "nocloud"
        self.write("etc/cloud/cloud.cfg.d/99-here.cfg", CLOUD_CFG + DATASOURCE[source])
        if source == "nocloud":
            self.write("var/lib/cloud/seed/nocloud/user-data", boot_data)
            self.write("var/lib/cloud/seed/nocloud/meta-data", f"instance-id: {self.name}\n")

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Put a file on the machine's disk."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        file.chmod(mode)

    def enable(self, unit: str, target: str) -> None:
        """Have a unit started at boot."""
        wants = self.root / f"etc/systemd/system/{target}.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / unit).symlink_to(f"/etc/systemd/system/{unit}")

    def boot(self) -> None:
        """Switch it on."""
        with (self.folder / "nspawn.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *NSPAWN,
                    *self.network,
                    f"--machine={self.name}",
                    f"--directory={self.root}",
                    f"--bind={self.folder}/docker:/var/lib/docker",
                    f"--bind={os.ttyname(self._port)}:/dev/ttyS0",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def ended(self, bound_s: float = BOUND_S) -> None:
        """Wait until it has switched itself off."""
        assert self.process is not None
        assert self.process.wait(bound_s) == 0, (self.folder / "nspawn.log").read_text()[-2000:]

    def rebooted(self) -> None:
        """Wait until it has restarted itself, and let it boot again."""
        assert self.process is not None
        assert self.process.wait(BOUND_S) == REBOOT
        self.boot()

    def is_on(self) -> bool:
        """Whether it is still on."""
        return self.process is not None and self.process.poll() is None

    def leader(self) -> int:
        """The machine's process 1, as it is numbered here."""
        assert self.process is not None
        pid = self.process.pid

        def child() -> int:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            return int(children[0]) if children else 0

        return int(wait_until(child))

    def do(self, *argv: str) -> str:
        """Run a command on the machine; what it prints, whatever it returns."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.leader()), "-a", "-r", *argv], capture_output=True, text=True, timeout=BOUND_S
        )
        return done.stdout + done.stderr

    def file(self, path: str) -> str:
        """A file of the machine's disk, "" while there is none."""
        file = self.root / path
        return file.read_text(errors="replace") if file.exists() else ""

    def journal(self, *options: str) -> str:
        """What the machine's journal holds."""
        return run(
            "journalctl", "--no-pager", "-D", str(self.root / "var/log/journal"), "-o", "short-iso-precise", *options
        )

    def beats(self) -> list[tuple[int, dict[str, Any]]]:
        """The heartbeats at the serial port."""
        lines = self.console.decode("utf-8", "replace").splitlines()
        return [beat for line in lines if (beat := heartbeat.decode(line))]

    def state(self) -> str:
        """The state that the last heartbeat tells."""
        beats = self.beats()
        return str(beats[-1][1]["state"]) if beats else ""

    def result(self) -> dict[str, Any]:
        """How the run ended."""
        return json.loads(self.file("var/lib/gpulaunch/machine/result.json"))  # type: ignore[no-any-return]

    def output(self) -> str:
        """The training's log."""
        return self.file("var/lib/gpulaunch/machine/output.log")

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._terminal, 1 << 16)
            except OSError:
                return
            if not data:
                return
            self.console += data

    def pull_the_plug(self) -> None:
        """Switch it off, if it is on."""
        if self.is_on():
            assert self.process is not None
            os.kill(self.leader(), 9)
            self.process.wait(BOUND_S)

    def remove(self) -> None:
        """Switch it off, and take its disk away."""
        self.pull_the_plug()
        os.close(self._port)
        self._reader.join(5)
        os.close(self._terminal)
        run("umount", "--lazy", str(self.root))
        if self.has_own_disk:
            run("umount", "--lazy", str(self.folder))
        shutil.rmtree(self.folder, ignore_errors=True)


def why_not() -> str:
    """Why no machine can be booted here; "" when it can."""
    if not os.environ.get("GPULAUNCH_BOOT"):
        return "booting machines takes minutes, and root: make boot"
    if sys.platform != "linux" or os.geteuid() != 0:
        return "booting a machine needs root on Linux"
    for tool in ("systemd-nspawn", "nsenter", "ip", "openssl"):
        if shutil.which(tool) is None:
            return f"booting a machine needs {tool}: apt-get install systemd-container util-linux iproute2 openssl"
    return "" if (TREE / "made").exists() else "the tree to boot is missing: make boot"
