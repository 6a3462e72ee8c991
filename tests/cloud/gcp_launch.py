"""The fake as benchmarks/launch.py wants it: a cloud that places machines at once, so that only our own time counts."""

from __future__ import annotations

from dataclasses import dataclass

from gcp_server import FakeGcp
from gcp_state import Cloud, Timing

from launcher.core.clock import SystemClock

AT_ONCE = Timing(pending_s=0.0, boot_s=0.2, delete_s=0.2, timer_late_s=0.0)


@dataclass(frozen=True)
class Timed:
    """One request, and when it came and its reply went."""

    name: str
    began_s: float
    ended_s: float

    @property
    def changes(self) -> bool:
        """Whether it asks for a change."""
        return not self.name.startswith("GET ")

    @property
    def settles(self) -> bool:
        """Whether a launch waits for it: the operation of the insert."""
        return "/operations/" in self.name


class LaunchCloud:
    """A project for launches."""

    def start(self) -> LaunchCloud:
        """Listen."""
        cloud = Cloud(SystemClock(), timing=AT_ONCE)
        cloud.quotas["GPUS_ALL_REGIONS"] = 8.0
        cloud.region_quotas["NVIDIA_T4_GPUS"] = 8.0
        self._fake = FakeGcp(cloud)
        self._fake.prices.page_size = self._fake.page_size = 500  # as Google's own
        return self

    def variables(self) -> dict[str, str]:
        """The environment that leads here."""
        return {"GPULAUNCH_GCP_ENDPOINT": self._fake.url, "GOOGLE_CLOUD_PROJECT": self._fake.cloud.project}

    @property
    def delay_s(self) -> float:
        """Added to each reply."""
        return self._fake.reply_after_s

    @delay_s.setter
    def delay_s(self, seconds: float) -> None:
        self._fake.reply_after_s = seconds

    @property
    def calls(self) -> Calls:
        """What was asked."""
        return Calls(self._fake)

    def clear(self) -> None:
        """Stop listening."""
        self._fake.close()


class Calls:
    """The requests so far."""

    def __init__(self, fake: FakeGcp) -> None:
        self._fake = fake

    def __iter__(self):  # type: ignore[no-untyped-def]
        """Each, in the order in which its reply went."""
        return iter([Timed(*each) for each in self._fake.times])

    def clear(self) -> None:
        """Begin anew."""
        self._fake.times.clear()
