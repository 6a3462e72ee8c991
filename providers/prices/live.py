"""Live prices behind one interface, and the cache that stands before every loader.

A loader asks one cloud for its compute prices. Loaders that need a cloud's SDK come with that cloud's adapter and
are named in LOADERS then, so that nothing here imports one.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from contextlib import suppress
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from providers.prices.rows import Row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launcher.core.clock import Clock

LOADERS = {
    "aws": "providers.aws.prices:AwsPrices",
    "azure": "providers.prices.azure_retail:AzureRetailPrices",
    "gcp": "providers.gcp.prices:GcpCataloguePrices",
}
"""Provider to `module:Class`; it is made by the class's `of_settings`, from a clock and the cloud's settings."""

NEEDS_LOGIN = frozenset({"aws", "gcp"})
"""Clouds that tell their prices only to somebody they know."""

MAX_AGE_S = 3600.0
"""How old a cached live price may be. Spot prices move within hours; list prices within months."""

log = logging.getLogger(__name__)


class PriceLoader(Protocol):
    """Asks one cloud what its machines cost now."""

    provider: str
    source: str
    """Where the prices are asked from, such as the address of an API."""

    def load(self, gpu: str) -> list[Row]:
        """Compute prices of every machine with that GPU, on demand and spot, in USD per hour.

        Never an empty list. Raises ProviderUnavailable within seconds when the cloud cannot be asked, and
        PriceUnknown when it has no price.
        """


class _Cached(msgspec.Struct, frozen=True, kw_only=True):
    source: str
    saved_at: datetime
    rows: list[Row]


# Made at import: the first use of a type by two threads at once crashes msgspec (0.22). It knows Row, too.
_CACHED = msgspec.json.Decoder(_Cached)


def read_cached(content: bytes) -> _Cached:
    """What a file of the cache holds. Raises msgspec.MsgspecError when it is none."""
    return _CACHED.decode(content)


class CachedLoader:
    """A loader that asks at most once in `max_age_s` seconds, and keeps the answer in a file of `folder`.

    `folder` is made when it is missing. The file can be read by this user only.
    """

    def __init__(self, loader: PriceLoader, folder: Path, clock: Clock, *, max_age_s: float = MAX_AGE_S) -> None:
        self._loader = loader
        self._folder = folder
        self._clock = clock
        self._max_age_s = max_age_s
        self.provider = loader.provider
        self.source = loader.source

    def load(self, gpu: str) -> list[Row]:
        """The cached prices if they are young enough, else fresh ones. Raises what the loader raises."""
        path = self._folder / f"{self.provider}-{re.sub(r'[^A-Za-z0-9-]', '_', gpu)}.json"
        rows = self._read(path)
        if rows is None:
            rows = self._loader.load(gpu)
            self._write(path, rows)
        return rows

    def _read(self, path: Path) -> list[Row] | None:
        """The rows of the file, or None where it must not be used."""
        try:
            cached = read_cached(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("The price cache %s is not used: %s", path, error)
            return None
        age = self._clock.now() - cached.saved_at
        # A negative age is a clock that was set back: nobody knows how old such an entry is.
        young = timedelta(0) <= age <= timedelta(seconds=self._max_age_s)
        return cached.rows if young and cached.source == self.source and cached.rows else None

    def _write(self, path: Path, rows: list[Row]) -> None:
        """Put the file in place whole. Prices that cannot be kept are still good prices, so this only warns."""
        data = msgspec.json.encode(_Cached(source=self.source, saved_at=self._clock.now(), rows=rows))
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=".prices-")  # mode 0600
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(path)
            except BaseException:
                with suppress(FileNotFoundError):
                    Path(temporary).unlink()
                raise
        except OSError as error:
            log.warning("The price cache %s cannot be written: %s", path, error)


def make_loader(provider: str, folder: Path, clock: Clock, settings: Mapping[str, Any]) -> CachedLoader:
    """That cloud's loader, behind its cache in `folder`, with the login that the configuration's section names."""
    module_name, class_name = LOADERS[provider].split(":")
    loader: PriceLoader = getattr(import_module(module_name), class_name).of_settings(clock, settings)
    return CachedLoader(loader, folder, clock)
