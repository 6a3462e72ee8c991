"""The hard deadline: armed before all else, and kept whatever happens to the machine."""

from __future__ import annotations

import time

import pytest
from boot_machine import Machine, wait_until
from boot_orders import Start

pytestmark = pytest.mark.root

CLOCK_WRONG_S = 7200
FOREVER = ["sleep", "1000"]


def without_an_agent(machine: Machine) -> None:
    """The agent hangs from its start: nothing but the timer is left."""
    drop_in = "[Service]\nExecStart=\nExecStart=/bin/sleep infinity\n"
    machine.write("etc/systemd/system/gpulaunch-agent.service.d/hangs.conf", drop_in)


def without_docker(machine: Machine) -> None:
    """The image has no docker, which has to be downloaded."""
    for name in ("usr/sbin/dockerd", "usr/bin/docker"):
        (machine.root / name).unlink()
    known = machine.file("var/lib/dpkg/status").split("\n\n")
    rest = [each for each in known if not each.startswith("Package: docker.io\n")]
    machine.write("var/lib/dpkg/status", "\n\n".join(rest))


def lived_s(machine: Machine) -> tuple[int, int]:
    """What the machine has noted: seconds lived before this boot, and in all."""
    noted = machine.file("var/lib/gpulaunch/lived").split()
    return (int(noted[1]), int(noted[2])) if len(noted) == 3 else (0, 0)


def test_the_timer_is_armed_before_the_first_download(start: Start) -> None:
    """And a download that never ends does not keep the machine from its deadline."""
    machine = start(FOREVER, network=True, image="10.0.0.1:5000/never:1", soft_after_s=11, hard_after_s=16)
    machine.ended()
    armed = machine.journal("-u", "gpulaunch-deadline.timer", "-o", "json", "--output-fields=MESSAGE").splitlines()
    armed_at = int(armed[0].split('"__REALTIME_TIMESTAMP":"')[1].split('"')[0]) / 1e6
    called_at = machine.cloud.requests("CALL")[0]["at"]

    assert armed_at < called_at
    assert machine.result()["outcome"] == "budget_reached"
    assert "running" not in {beat["state"] for _, beat in machine.beats()}


def test_a_download_that_fails_ends_the_machine(start: Start) -> None:
    """At once: what cannot run is not paid for until the deadline."""
    machine = start(FOREVER, image="registry.invalid/none:1")
    machine.ended()

    assert (machine.result()["outcome"], machine.result()["reason"]) == ("launch_failed", "IMAGE_PULL_FAILED")


def test_with_the_network_cut_from_the_first_second(start: Start) -> None:
    """Docker has to be installed and cannot be: the agent says so at the serial port, and ends at the deadline."""
    machine = start(FOREVER, before=without_docker, soft_after_s=16, hard_after_s=21)
    machine.ended()

    assert machine.result()["outcome"] == "budget_reached"
    assert [beat["state"] for _, beat in machine.beats()][-1] == "ended"
    assert "gpulaunch: failed: apt-get" in machine.output()


def test_a_machine_whose_agent_hangs(start: Start) -> None:
    """The timer ends it alone, with the network cut, and with a clock two hours behind."""
    machine = start(FOREVER, before=without_an_agent, hard_after_s=12, hard_at=time.time() + 12 + CLOCK_WRONG_S)
    machine.ended()

    assert lived_s(machine)[1] >= 12
    assert machine.beats() == []


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_a_reboot_keeps_the_deadline(start: Start, cloud: str) -> None:
    """What was lived before the reboot counts, with a clock two hours behind, and the boot data run a second time."""
    hard = {"hard_after_s": 25, "hard_at": time.time() + 25 + CLOCK_WRONG_S}
    machine = start(FOREVER, cloud, before=without_an_agent, **hard)
    wait_until(lambda: lived_s(machine)[1] >= 6)
    machine.do("reboot", "-ff")
    machine.rebooted()
    wait_until(lambda: lived_s(machine)[0] >= 6)
    before_s, all_s = lived_s(machine)
    machine.ended()

    assert before_s <= all_s < 25
    assert 25 <= lived_s(machine)[1]
    assert lived_s(machine)[0] == before_s


def test_a_time_that_has_come_ends_the_machine_in_its_first_action(start: Start) -> None:
    """A machine that was stopped and started after its deadline does nothing more: nothing is even unpacked."""
    machine = start(FOREVER, hard_at=time.time() - 1)
    machine.ended()

    assert not (machine.root / "opt/gpulaunch").exists()
    assert machine.beats() == []
