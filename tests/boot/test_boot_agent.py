"""The agent as a service of the machine, and the container that it runs."""

from __future__ import annotations

import pytest
from boot_machine import Machine, wait_until
from boot_orders import Start

pytestmark = pytest.mark.root

TRAPS = [
    "it's",
    'a "quoted" word',
    "two\nlines\r\n",
    "$(touch /tmp/owned) `id` ${HOME} $$",
    "\\ \\n %s {{ agent }} {% raw %} #{x}",
    "naïve café, 学习, \U0001f680",
    "",
    " ",
    "-rf",
    "EOF\nEOF\n",
    "'''\"\"\"",
    "\x01\x1b[31m\x7f",
]


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_a_job_full_of_traps_arrives_byte_for_byte(start: Start, cloud: str) -> None:
    """No YAML, no shell and no template reads what the user wrote."""
    program = 'for each in "$@"; do printf "%s\\0" "$each"; done >/workspace/words; printf "%s" "$TRAP" >/workspace/env'
    machine = start(["sh", "-c", program, *TRAPS], cloud, env={"TRAP": "".join(TRAPS)}, network=True)
    machine.ended()
    workspace = machine.root / "var/lib/gpulaunch/workspace"

    assert (workspace / "words").read_bytes().decode().split("\0")[:-1] == TRAPS[1:]
    assert (workspace / "env").read_bytes().decode() == "".join(TRAPS)


def test_an_agent_that_was_killed_follows_the_same_container(start: Start) -> None:
    """It is started again, its heartbeats are numbered on, and the training knows nothing of it."""
    count = "for n in $(seq 24); do echo line $n of $HOSTNAME; sleep 0.25; done"
    machine = start(["sh", "-c", count])
    wait_until(lambda: "line 8 " in machine.output())
    pid = machine.do("systemctl", "show", "-p", "MainPID", "--value", "gpulaunch-agent").strip()
    machine.do("kill", "-KILL", pid)
    before = len(machine.beats())
    machine.ended()
    lines = [line for line in machine.output().splitlines() if line.startswith("line ")]
    numbers = [seq for seq, _ in machine.beats()]

    assert [f"line {n}" for n in range(1, 25)] == list(dict.fromkeys(" ".join(line.split()[:2]) for line in lines))
    assert len({line.split()[-1] for line in lines}) == 1
    assert len(numbers) > before
    assert numbers == list(range(1, len(numbers) + 1))
    assert (machine.result()["outcome"], machine.result()["exit_code"]) == ("finished", 0)


def test_an_agent_that_cannot_run_ends_the_machine(start: Start) -> None:
    """It has been tried again and again: nobody is left who would run the job."""

    def broken(machine: Machine) -> None:
        machine.write(
            "etc/systemd/system/gpulaunch-agent.service.d/broken.conf",
            "[Service]\nRestartSec=0\nExecStart=\nExecStart=/bin/false\n",
        )

    machine = start(["sleep", "1000"], before=broken)
    machine.ended()

    assert machine.beats() == []


REACH = """
reach() { timeout 2 wget -q -O /dev/null "$1" && echo "reached $1" || echo "cannot reach $1"; }
reach http://10.0.0.1:8080/
reach http://169.254.169.254/latest/meta-data/instance-id
reach http://168.63.129.16/
reach http://168.63.129.16:32526/
nslookup some.name.example | grep 10.0.0.1 && echo "resolved"
"""


def test_the_container_is_kept_from_the_metadata_service(start: Start) -> None:
    """The machine itself was booted by it; the container reaches the world, and resolves names at the same address."""
    machine = start(["sh", "-c", REACH], network=True)
    machine.ended()
    lines = machine.output().splitlines()

    assert "reached http://10.0.0.1:8080/" in lines
    assert "cannot reach http://169.254.169.254/latest/meta-data/instance-id" in lines
    assert "cannot reach http://168.63.129.16/" in lines
    assert "cannot reach http://168.63.129.16:32526/" in lines
    assert "resolved" in lines


def test_a_card_is_given_to_the_container(start: Start) -> None:
    """Where nvidia-smi and the runtime's hook are, `--gpus all` is asked for, and docker calls the hook."""

    def card(machine: Machine) -> None:
        machine.write("usr/bin/nvidia-smi", "#!/bin/sh\n", 0o755)
        machine.write("usr/bin/nvidia-container-runtime-hook", "#!/bin/sh\ntouch /root/hook-was-called\n", 0o755)

    machine = start(["sh", "-c", "echo devices: $NVIDIA_VISIBLE_DEVICES"], before=card)
    machine.ended()

    assert machine.result()["outcome"] == "finished"
    assert (machine.root / "root/hook-was-called").exists()
    assert "devices: all" in machine.output()
