"""Starts the agent on a rented machine, at its first boot and after each fault of its own.

As `agent.py bring` it brings what the training needs, on the agent's behalf.
"""

import bz2
import hashlib
import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path("/opt/gpulaunch")
STATE = Path("/var/lib/gpulaunch")
TRIES = 3
LIMIT_S = 10


def fetch(rest: dict[str, Any]) -> None:
    """Bring the part of the agent that had no room in the boot data. Without it the job runs and ends all the same."""
    for _ in range(TRIES):
        try:
            with urllib.request.urlopen(rest["url"], timeout=LIMIT_S) as reply:  # noqa: S310 - we made the address
                data = reply.read()
            if hashlib.sha256(data).hexdigest() != rest["sha256"]:
                raise ValueError("the checksum is wrong")
            parts = iter(bz2.decompress(data).decode().split("\0"))
            for path, content in zip(parts, parts, strict=True):
                (HERE / path).write_text(content, encoding="utf-8")
            return
        except (OSError, ValueError) as error:
            print(f"gpulaunch: the rest of the agent did not come: {error}", file=sys.stderr)
            time.sleep(1)


def start() -> int:
    """Run the orders."""
    orders = json.loads((HERE / "orders.json").read_text(encoding="utf-8"))
    for folder, mode in ((STATE / "machine", 0o700), (Path(orders["workdir"]), 0o777)):  # the image's user may be any
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)
    rest = orders.get("rest")
    if rest and not (HERE / rest["needs"]).exists():
        fetch(rest)
    sys.path.insert(0, str(HERE))
    if sys.argv[1:] == ["bring"]:
        from gpulaunch_agent.bring import bring  # type: ignore[import-not-found]

        brought: int = bring(orders, STATE / "machine")
        return brought
    from gpulaunch_agent.main import main  # type: ignore[import-not-found]

    # What the deadline's own clock says this machine has lived, earlier boots included.
    lived_s = int((STATE / "lived").read_text(encoding="ascii").split()[2])
    code: int = main(orders, str(STATE / "machine"), time.clock_gettime(time.CLOCK_MONOTONIC) - lived_s)
    return code


if __name__ == "__main__":
    sys.exit(start())
