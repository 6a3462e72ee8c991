"""The serial log of a machine, from boot diagnostics: Azure gives an address that is good for a while."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from providers.azure.client import raw
from providers.azure.requests import MACHINE
from providers.base import MachineNotFound, ProviderUnavailable

if TYPE_CHECKING:
    from providers.azure.client import Arm

TAIL_BYTES = 65_536
# The log is a blob that Azure keeps to about a megabyte; more than this is no serial log.
MOST_BYTES = 8 << 20
ADDRESS_MIN = 120
"""Minutes for which an address is asked for."""
ADDRESS_USED_S = 100 * 60.0
TIMEOUT_S = 10.0


class Consoles:
    """Reads serial logs. The last tail of each is kept, since the log goes with its machine."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self._addresses: dict[str, tuple[str, float]] = {}
        self._tails: dict[str, bytes] = {}

    def tail(self, group: str) -> bytes:
        """The last 64 KiB, or nothing. Raises ProviderError when it cannot be read."""
        try:
            url = self._address(group)
            found = None if url is None else self._read(url)
        except MachineNotFound:
            found = None
        if found is None:  # the machine or its log is gone, or there is none yet
            self._addresses.pop(group, None)
            return self._tails.get(group, b"")
        self._tails[group] = found
        return found

    def _address(self, group: str) -> str | None:
        now_s = self._arm.clock.monotonic()
        known = self._addresses.get(group)
        if known is not None and now_s - known[1] < ADDRESS_USED_S:
            return known[0]
        with self._arm.asking("say where the serial log is"):
            reply = self._arm.compute.virtual_machines.retrieve_boot_diagnostics_data(
                group, MACHINE, sas_uri_expiration_time_in_minutes=ADDRESS_MIN, cls=raw
            )
        url: str | None = reply.get("serialConsoleLogBlobUri")
        if url:
            self._addresses[group] = (url, now_s)
        return url

    def _read(self, url: str) -> bytes | None:
        """The log's tail; None where there is none (any more), or where the address is no longer good."""
        parts = urlsplit(url)
        here = self._arm.endpoint is not None and parts.hostname == urlsplit(self._arm.endpoint).hostname
        if parts.scheme != "https" and not (here and parts.scheme == "http"):
            raise ProviderUnavailable(
                "The serial log cannot be read.", "Its address is not https.", "It is tried again.", code="NotHttps"
            )
        handlers = [urllib.request.ProxyHandler({})] if here else []
        try:
            with urllib.request.build_opener(*handlers).open(url, timeout=TIMEOUT_S) as reply:
                data: bytes = reply.read(MOST_BYTES)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (403, 404, 409):
                return None
            raise ProviderUnavailable(
                "The serial log cannot be read.",
                f"{error.code} {error.reason}.",
                "It is tried again.",
                code="ConsoleHttp",
            ) from error
        except OSError as error:
            raise ProviderUnavailable(
                "The serial log cannot be read.", f"{error}.", "It is tried again.", code=type(error).__name__
            ) from error
        return data.rstrip(b"\0")[-TAIL_BYTES:]
