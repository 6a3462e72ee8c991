"""Starts the agent on a rented machine, at its first boot and after each fault of its own."""

import json
import sys
import time
from pathlib import Path

HERE = Path("/opt/gpulaunch")
STATE = Path("/var/lib/gpulaunch")

sys.path.insert(0, str(HERE))
from gpulaunch_agent.main import main  # type: ignore[import-not-found]  # noqa: E402 - it travels beside this file

orders = json.loads((HERE / "orders.json").read_text(encoding="utf-8"))
for folder in (STATE / "machine", Path(orders["workdir"])):
    folder.mkdir(parents=True, exist_ok=True)
# What the deadline's own clock says this machine has lived, earlier boots included.
lived_s = int((STATE / "lived").read_text(encoding="ascii").split()[2])
sys.exit(main(orders, str(STATE / "machine"), time.clock_gettime(time.CLOCK_MONOTONIC) - lived_s))
