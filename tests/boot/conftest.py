"""Machines for the boot tests, each taken away when its test has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from boot_machine import Machine, why_not
from boot_network import Network
from boot_orders import Start, orders

from launcher import boot


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A function that boots a machine with orders for this command, on a cloud's network or with the network cut."""
    if why := why_not():
        pytest.skip(why)
    made: list[Machine | Network] = []

    def start(
        command: list[str],
        cloud: str = "aws",
        *,
        network: bool = False,
        refusals: int = 0,
        disk_mb: int | None = None,
        ports: tuple[int, ...] = (),
        before: Callable[[Machine], None] = lambda _: None,
        **changes: Any,
    ) -> Machine:
        rest_url = changes.pop("rest_url", "")
        data = boot.build(cloud, orders(command, cloud, **changes), rest_url)
        namespace = None
        cable = None
        if network:
            cable = Network(tmp_path / f"network-{len(made)}", data, refusals)
            made.append(cable)
            for port in ports:
                cable.lead_to(port)
            namespace = cable.machine
        machine = Machine(tmp_path / f"machine-{len(made)}", cloud, data, namespace, disk_mb)
        made.append(machine)
        if cable:
            cable.introduce(machine)
            machine.cloud = cable
        before(machine)
        machine.boot()
        return machine

    yield start
    for each in reversed(made):
        each.remove()
