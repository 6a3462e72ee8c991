"""A machine's network: a cable to a gateway that is the cloud. Two network namespaces, nothing of this computer's."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from boot_machine import HERE, Machine, run, wait_until
from boot_relay import Relay

MACHINE = "10.0.0.2"
GATEWAY = "10.0.0.1"
APIS = ("compute.googleapis.com", "management.azure.com")


class Network:
    """Made before the machine, removed after it."""

    def __init__(self, folder: Path, user_data: bytes = b"", refusals: int = 0) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        name = uuid.uuid4().hex[:6]
        self.gateway, self.machine = f"gl-g-{name}", f"gl-m-{name}"
        (folder / "user-data").write_bytes(user_data)
        (folder / "refusals").write_text(str(refusals))
        self._make_key()
        for each in (self.gateway, self.machine):
            run("ip", "netns", "add", each)
            run("ip", "-n", each, "link", "set", "lo", "up")
        cable = ("ip", "link", "add", "eth0", "netns", self.machine, "type", "veth", "peer", "name", "gw0")
        run(*cable, "netns", self.gateway)
        for each, device, address in ((self.machine, "eth0", MACHINE), (self.gateway, "gw0", GATEWAY)):
            run("ip", "-n", each, "address", "add", f"{address}/24", "dev", device)
            run("ip", "-n", each, "link", "set", device, "up")
        for service in ("169.254.169.254", "168.63.129.16"):
            run("ip", "-n", self.gateway, "address", "add", f"{service}/32", "dev", "lo")
        run("ip", "-n", self.machine, "route", "add", "default", "via", GATEWAY)
        server = [sys.executable, str(HERE / "boot_gateway.py"), str(folder)]
        self.process = subprocess.Popen(["ip", "netns", "exec", self.gateway, *server])
        self.relays: list[Relay] = []
        self.others: list[subprocess.Popen[bytes]] = []
        wait_until((folder / "ready").exists)

    def lead_to(self, port: int) -> Relay:
        """Let the machine, and not its containers, reach that port of this computer at 127.0.0.1."""
        path = Path("/tmp") / f"{self.machine}-{port}"  # the name of a socket has to be short
        relay = Relay(path, port)
        self.relays.append(relay)
        there = [sys.executable, str(HERE / "boot_relay.py"), str(port), str(path)]
        self.others.append(subprocess.Popen(["ip", "netns", "exec", self.machine, *there]))
        look = ["ip", "netns", "exec", self.machine, "ss", "-Htln", f"sport = :{port}"]
        wait_until(lambda: run(*look))
        return relay

    def say(self, name: str, text: str) -> None:
        """Have a metadata service say that from now on: `spot`, `preempted` or `events`."""
        part = self.folder / f"{name}.new"
        part.write_text(text)
        part.replace(self.folder / name)

    def _make_key(self) -> None:
        """A certificate for the two APIs, which the machine will trust."""
        names = ",".join(f"DNS:{name}" for name in APIS)
        kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        made = ("openssl", "req", "-x509", *kind, "-days", "2", "-subj", "/CN=test")
        key, certificate = self.folder / "key", self.folder / "certificate"
        run(*made, "-addext", f"subjectAltName={names}", "-keyout", str(key), "-out", str(certificate))
        (self.folder / "key.pem").write_text(key.read_text() + certificate.read_text())

    def introduce(self, machine: Machine) -> None:
        """Tell the machine's disk what its network is: names, and whom to trust."""
        hosts = "".join(f"{GATEWAY} {name}\n" for name in APIS)
        machine.write("etc/hosts", "127.0.0.1 localhost\n" + hosts)
        machine.write("etc/resolv.conf", "nameserver 169.254.169.254\n")
        trusted = "etc/ssl/certs/ca-certificates.crt"
        machine.write(trusted, machine.file(trusted) + (self.folder / "certificate").read_text())

    def requests(self, method: str = "") -> list[dict[str, Any]]:
        """What was asked of the cloud so far."""
        path = self.folder / "requests"
        lines = path.read_text().splitlines() if path.exists() else []
        asked = [json.loads(line) for line in lines]
        return [each for each in asked if not method or each["method"] == method]

    def unplug(self) -> None:
        """Cut the cable for good."""
        run("ip", "-n", self.gateway, "link", "set", "gw0", "down")

    def remove(self) -> None:
        """Switch it off."""
        for process in (self.process, *self.others):
            process.kill()
            process.wait()
        for relay in self.relays:
            relay.close()
        for path in Path("/tmp").glob(f"{self.machine}-*"):
            path.unlink()
        for each in (self.gateway, self.machine):
            run("ip", "netns", "delete", each)
