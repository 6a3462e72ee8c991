"""A whole cloud in small: for each instance in the emulated EC2, a real machine that boots with what was sent for it.

The machine is that of the boot tests: Debian in systemd-nspawn, its boot data from cloud-init's EC2 datasource, its
container by docker. Its serial port is what the launcher reads as the console, its power-off is the instance's
termination, and what ends the instance pulls the machine's plug. It reaches the cloud's API and the store at the very
address that the launcher uses, and nothing else of this computer.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from aws_cloud import AwsCloud
from boot_machine import Machine, wait_until
from boot_network import Network
from boot_relay import Relay

LOOK_S = 0.1
MACHINE_KEY = "AKID"
"""The access key of the machine's own role, as the boot tests' metadata service gives it."""


class Instance:
    """One instance and its machine."""

    def __init__(self, aws: AwsCloud, name: str, folder: Path) -> None:
        self.name = name
        data = aws.user_data(name)
        self.cable = Network(folder / "network", data)
        self.relay: Relay = self.cable.lead_to(int(aws.endpoint.rpartition(":")[2]))
        self.machine = Machine(folder / "machine", "aws", data, self.cable.machine)
        self.cable.introduce(self.machine)
        self.machine.boot()
        self.ended_at = 0.0

    def cut_the_network(self) -> None:
        """Nothing gets out any more, and nothing in."""
        self.relay.cut.set()
        self.cable.unplug()

    def remove(self) -> None:
        """Pull the plug, and take it away."""
        self.machine.remove()
        self.cable.remove()


class LabCloud:
    """The cloud. `instances` are those that ever were, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.aws = AwsCloud().start()
        self.instances: list[Instance] = []
        self.failure: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def instance(self, number: int = 1) -> Instance:
        """The first, second, … instance, once it is there."""

        def found() -> Instance | None:
            if self.failure is not None:
                raise AssertionError("the lab itself has failed") from self.failure
            return self.instances[number - 1] if len(self.instances) >= number else None

        instance: Instance = wait_until(found)
        return instance

    def uploads_s(self, after: float) -> float:
        """How long machines were sending to the store after that time, by the monotonic clock."""
        calls = [call for call in self.aws.calls if call.key == MACHINE_KEY and call.ended_s > after]
        return max((call.ended_s for call in calls), default=after) - after

    def sent(self, name: str) -> bool:
        """Whether a machine has put an object of that name into the store."""
        calls = (call for call in self.aws.calls if call.key == MACHINE_KEY and call.action == "PutObject")
        return any(call.ended_s and call.params["path"].endswith(name) for call in calls)

    def close(self) -> None:
        """Switch all off."""
        self._stop.set()
        self._thread.join()
        for instance in self.instances:
            instance.remove()
        self.aws.stop()

    def _run(self) -> None:
        try:
            while not self._stop.wait(LOOK_S):
                self._look()
        except BaseException as error:  # noqa: BLE001 - the test's own thread raises it
            self.failure = error

    def _look(self) -> None:
        alive = self.aws.alive()
        known = {instance.name for instance in self.instances}
        for name in alive:
            if name not in known:
                self.instances.append(Instance(self.aws, name, self.folder / f"machine-{len(self.instances) + 1}"))
        for instance in self.instances:
            if instance.ended_at:
                continue
            self.aws.put_console(instance.name, instance.machine.console.decode("utf-8", "replace"))
            if not instance.machine.is_on():
                instance.ended_at = time.monotonic()
                self.aws.power_off(instance.name, tells_when=True)
            elif instance.name not in alive:
                instance.ended_at = time.monotonic()
                instance.machine.pull_the_plug()
