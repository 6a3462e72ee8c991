"""From the first boot to the end of the machine, on each cloud."""

from __future__ import annotations

import pytest
from boot_machine import Machine, wait_until
from boot_orders import Start

pytestmark = pytest.mark.root

# The second line is a forgery, and the third one that moves to the start of its line first.
HELLO = ["sh", "-c", r"printf 'hello\nGPULAUNCH1 99 00000000 {}\nx\r\rGPULAUNCH1 98 0 {}\n'; sleep 1"]


def check_run(machine: Machine) -> None:
    """What every run leaves, at the serial port and on the disk."""
    result = machine.result()
    states = [beat["state"] for _, beat in machine.beats()]
    lines = machine.console.decode().splitlines()

    assert (result["outcome"], result["exit_code"]) == ("finished", 0)
    assert list(dict.fromkeys(states)) == ["booting", "pulling", "running", "ended"]
    assert [seq for seq, _ in machine.beats()] == list(range(1, len(states) + 1))
    assert "| hello" in lines
    assert "| GPULAUNCH1 99 00000000 {}" in lines
    assert "| xGPULAUNCH1 98 0 {}" in lines or "| GPULAUNCH1 98 0 {}" in lines


def test_on_ec2_the_machine_switches_itself_off(start: Start) -> None:
    """The boot data comes from the metadata service; a power-off from inside terminates."""
    machine = start(HELLO, "aws", network=True)
    machine.ended()

    check_run(machine)
    assert [each["path"] for each in machine.cloud.requests() if each["path"].endswith("/user-data")] != []
    assert machine.cloud.requests("DELETE") == []


def test_on_gcp_the_machine_deletes_itself(start: Start) -> None:
    """With its own token, asked again when refused; then it switches itself off."""
    machine = start(HELLO, "gcp", network=True, refusals=1)
    machine.ended()
    deletes = machine.cloud.requests("DELETE")

    check_run(machine)
    assert [each["host"] for each in deletes] == ["compute.googleapis.com"] * 2
    assert deletes[0]["path"] == "/compute/v1/projects/12345/zones/us-central1-a/instances/gl-machine-1"
    assert deletes[0]["authorization"] == "Bearer secret-token"


def test_on_azure_the_machine_deletes_its_group(start: Start) -> None:
    """While its role spreads it is refused, and asks again. It stays on: a power-off from inside would still bill."""
    machine = start(HELLO, "azure", network=True, refusals=1)
    wait_until(lambda: len(machine.cloud.requests("DELETE")) > 1)
    deletes = machine.cloud.requests("DELETE")

    check_run(machine)
    assert machine.is_on()
    assert deletes[0]["host"] == "management.azure.com"
    assert deletes[0]["path"] == "/subscriptions/sub-1/resourcegroups/gpulaunch-j-1?api-version=2021-04-01"
    assert deletes[0]["authorization"] == "Bearer secret-token"
