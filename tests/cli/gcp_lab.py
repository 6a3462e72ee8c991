"""A fake project on this computer's own clock, and a place to run commands against it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gcp_server import FakeGcp
from gcp_state import Cloud, Timing

from launcher.core.clock import SystemClock

if TYPE_CHECKING:
    from command_lab import Lab

IMAGE = "example.com/train:1"
# Times of a cloud that keeps nobody waiting; the launcher's own limits stay as they are.
QUICK = {"pending_s": 0.3, "boot_s": 0.2, "delete_s": 0.3, "timer_late_s": 0.1}
CAP = "0.50"


def quick_cloud(**changes: Any) -> Cloud:
    """A project whose machines are there, and gone, within a second."""
    cloud = Cloud(SystemClock(), timing=Timing(**QUICK), **changes)
    cloud.quotas["GPUS_ALL_REGIONS"] = 64.0
    cloud.region_quotas["NVIDIA_T4_GPUS"] = 64.0
    return cloud


def use(lab: Lab, fake: FakeGcp, **job: Any) -> None:
    """Point a lab's commands at the fake, and write a job for it."""
    lab.env["GPULAUNCH_GCP_ENDPOINT"] = fake.url
    lab.env["GOOGLE_CLOUD_PROJECT"] = fake.cloud.project
    lab.write_job(["python", "train.py"], image=IMAGE, local={}, egress_gb=0, **job)


def up(lab: Lab, *args: str) -> Any:
    """`gpulaunch up` on this cloud, with all that it asks for."""
    return lab.run("up", "--provider", "gcp", "--budget", CAP, "--yes", "--no-store", *args)
