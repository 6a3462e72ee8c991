"""The agent's entry: one run, and the same ending for each of them."""

from __future__ import annotations

from typing import Any

from .ending import end_machine, finish
from .run import Run


def main(orders: dict[str, Any], folder: str, origin: float | None = None) -> int:
    """Run the orders in the machine's folder until the training is over; returns the exit status, 0.

    `origin` is what the awake clock read when billing started, None for now. When it returns, nothing of the training
    is left, and result.json says how it ended; on a rented machine it does not return. Raises OSError when the folder
    cannot be written at the start.
    """
    run = Run(orders, folder, origin)
    if not (run.training.rented and (run.folder / "result.json").exists()):  # else one before us was stopped in the end
        try:
            run.start()
            run.follow()
        except Exception as error:  # noqa: BLE001 - a fault of ours must not leave a training that nobody watches
            run.fault(error)
        finish(run)
    end_machine(run)
    return 0
