"""Azure in small for benchmarks/launch.py: a subscription in which nothing takes time but the answers."""

from __future__ import annotations

from azure_server import AzureServer
from azure_things import AT_ONCE
from azure_world import SUBSCRIPTION, World

from launcher.core.clock import SystemClock


class AzureCloud(AzureServer):
    """The server, as the benchmark knows every cloud."""

    def __init__(self) -> None:
        super().__init__(World(SystemClock(), pace=AT_ONCE))

    def start(self) -> AzureCloud:
        """Begin to serve."""
        super().start()
        return self

    def variables(self) -> dict[str, str]:
        """The environment that leads here."""
        return {**self.environment, "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION}

    def clear(self) -> None:
        """Serve no more; every request was as Microsoft describes it."""
        self.close()
        assert self.world.problems == []
