"""Trainings that do their worst: the machine ends on time all the same."""

from __future__ import annotations

import pytest
from boot_orders import Start

pytestmark = pytest.mark.root

HARD_AFTER_S = 14
DISK_MB = 400


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("trap '' TERM; echo deaf; while true; do sleep 1; done", id="hangs and hears no signal"),
        pytest.param("dd if=/dev/zero of=/workspace/full bs=1M; sleep 1000", id="fills the disk"),
        pytest.param("yes 'a line of a log that nobody will ever read to its end'", id="floods its log"),
        pytest.param("bomb() { bomb | bomb & }; bomb; sleep 1000", id="forks without end"),
    ],
)
def test_the_machine_ends_on_time(start: Start, program: str) -> None:
    """At its hard deadline, not before and not by the training's own end."""
    machine = start(["sh", "-c", program], hard_after_s=HARD_AFTER_S, soft_after_s=HARD_AFTER_S - 3, disk_mb=DISK_MB)
    machine.ended()
    lived_s = int(machine.file("var/lib/gpulaunch/lived").split()[2])

    assert "running" in {beat["state"] for _, beat in machine.beats()}
    assert HARD_AFTER_S - 5 <= lived_s
