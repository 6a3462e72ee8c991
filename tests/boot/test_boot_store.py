"""A machine and its store: S3 as moto speaks it, reached with the role that the metadata service gives."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import store_places
from boot_machine import wait_until
from boot_orders import Start

from launcher import boot, workdir
from launcher.job import JobSpec

pytestmark = pytest.mark.root

CHECKPOINTS = {"path": "/workspace/out", "every_s": 1.0, "keep": 2}


class Bucket:
    """A bucket, from both sides."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.port = int(server.rpartition(":")[2])
        self.name = store_places.make_bucket(server)
        self.url = f"s3://{self.name}/runs"
        self.orders = {
            "kind": "s3",
            "bucket": self.name,
            "prefix": "runs",
            "region": "us-east-1",
            "endpoint": server,
        }
        self.store = workdir.job_store(self.url, {})

    def rest_url(self) -> str:
        """Where the rest of the agent is fetched."""
        return self.store.sign(self.store.put_agent(boot.packed_rest()), 600)

    def archive(self, folder: Path) -> dict[str, Any]:
        """Send a working folder; what the orders say of it."""
        spec = JobSpec(name="tiny", command=("x",), workdir=str(folder), path="", budget_usd=Decimal(5), store=self.url)
        packed, file = workdir.pack(spec)
        assert packed.archive is not None
        assert file is not None
        with file:
            workdir.send(packed, file, {})
        return {"path": packed.archive.path, "sha256": packed.archive.sha256, "bytes": packed.archive.bytes}

    def files(self, job: str = "j-1") -> dict[str, str]:
        """The newest whole checkpoint's files."""
        found = self.store.latest_checkpoint(job)
        return {path: file.sha256 for path, file in found.files.items()} if found else {}

    def log(self) -> str:
        """The log of the first machine."""
        return b"".join(self.store.log("j-1", 1) or ()).decode()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty one."""
    with store_places.moto() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server)
        yield Bucket(server)


def work(tmp_path: Path) -> Path:
    """A working folder with a training in it."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "train.sh").write_text(
        "busybox mkdir -p out; cat out/state; trap 'echo last >out/state; exit 0' TERM\n"
        "echo first >out/state; echo saved; while true; do sleep 0.2; done\n"
    )
    return folder


def test_everything_goes_by_way_of_the_store(start: Start, bucket: Bucket, tmp_path: Path) -> None:
    """The rest of the agent, the working folder, checkpoints while it runs and at its end, log and result."""
    machine = start(
        ["sh", "train.sh"],
        network=True,
        ports=(bucket.port,),
        rest_url=bucket.rest_url(),
        store=bucket.orders,
        archive=bucket.archive(work(tmp_path)),
        checkpoints=CHECKPOINTS,
        egress={"bytes": 10**9, "store_is_free": True},
        soft_after_s=25,
        hard_after_s=90,
    )
    wait_until(lambda: bucket.store.latest_checkpoint("j-1"))
    first = bucket.files()
    wait_until(lambda: "saved" in bucket.log())
    machine.ended()
    result = bucket.store.result("j-1")

    assert result == machine.result()
    assert (result["outcome"], result["checkpoint"]["files"]) == ("budget_reached", 1)
    assert set(first) == {"state"}
    assert bucket.files() != first
    assert bucket.log() == machine.output()
    assert "checksum right" in machine.output()
    assert list(dict.fromkeys(beat["state"] for _, beat in machine.beats())) == [
        *("booting", "fetching", "pulling", "running", "stopping", "ended")
    ]
    assert 0 < result["egress_bytes"] < 10**8


def test_a_preempted_machine_saves_and_another_goes_on(start: Start, bucket: Bucket, tmp_path: Path) -> None:
    """The notice gives SIGTERM at once; the next machine finds the checkpoint where the training looks for it."""
    folder = work(tmp_path)
    common: dict[str, Any] = {
        "network": True,
        "ports": (bucket.port,),
        "rest_url": bucket.rest_url(),
        "store": bucket.orders,
        "archive": bucket.archive(folder),
        "checkpoints": {**CHECKPOINTS, "every_s": 600.0},
        "resume": True,
    }
    first = start(["sh", "train.sh"], spot=True, **common)
    wait_until(lambda: "saved" in first.output())
    at = datetime.now(UTC) + timedelta(seconds=60)
    first.cloud.say("spot", f'{{"action": "terminate", "time": "{at:%Y-%m-%dT%H:%M:%SZ}"}}')
    first.ended()
    second = start(["sh", "-c", "cat out/state"], attempt=2, **common)
    second.ended()

    assert (first.result()["outcome"], first.result()["reason"]) == ("preempted", "SPOT_NOTICE")
    assert second.result()["outcome"] == "finished"
    assert second.output().splitlines()[-1] == "last"


def test_a_container_that_uses_the_egress_reserve_up(start: Start, bucket: Bucket) -> None:
    """It is cut off at once and stopped; what it had saved is in the store, which is free."""
    flood = "busybox mkdir out; echo it >out/state; sleep 4; busybox nc 10.0.0.1 5000 </dev/zero; sleep 1000"
    machine = start(
        ["sh", "-c", flood],
        network=True,
        ports=(bucket.port,),
        rest_url=bucket.rest_url(),
        store=bucket.orders,
        checkpoints=CHECKPOINTS,
        egress={"bytes": 20_000_000, "store_is_free": True},
    )
    machine.ended()
    result = machine.result()

    assert (result["outcome"], result["reason"]) == ("budget_reached", "EGRESS_RESERVE")
    assert 20_000_000 <= result["egress_bytes"] < 40_000_000
    assert set(bucket.files()) == {"state"}


def test_a_working_folder_that_is_damaged_ends_the_machine(start: Start, bucket: Bucket, tmp_path: Path) -> None:
    """Nothing is run in its place, and the reason is told."""
    wanted = bucket.archive(work(tmp_path))
    machine = start(
        ["sh", "train.sh"],
        network=True,
        ports=(bucket.port,),
        rest_url=bucket.rest_url(),
        store=bucket.orders,
        archive={**wanted, "sha256": "0" * 64},
    )
    machine.ended()

    assert (machine.result()["outcome"], machine.result()["reason"]) == ("launch_failed", "WORKDIR_NOT_BROUGHT")
    assert "its checksum differs" in bucket.log()
    assert list((machine.root / "var/lib/gpulaunch/workspace").iterdir()) == []
