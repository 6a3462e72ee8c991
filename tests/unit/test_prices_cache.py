"""The cache that stands before every price loader."""

from __future__ import annotations

from decimal import Decimal
from stat import S_IMODE
from typing import TYPE_CHECKING

import pytest

from launcher.core.clock import VirtualClock
from providers.prices.live import CachedLoader
from providers.prices.table import load_table

if TYPE_CHECKING:
    from pathlib import Path

    from providers.prices.rows import Row


class Asked:
    """A loader that counts how often it is asked."""

    provider = "azure"

    def __init__(self, source: str = "here") -> None:
        self.source = source
        self.times = 0

    def load(self, gpu: str) -> list[Row]:
        """The shipped Azure rows."""
        self.times += 1
        return [row for row in load_table().rows if row.provider == "azure" and row.gpu == gpu]


def test_cache_is_used_while_young(tmp_path: Path) -> None:
    """Within its age the cache answers, with the same rows; after it the loader is asked again."""
    clock, asked = VirtualClock(), Asked()
    cached = CachedLoader(asked, tmp_path, clock, max_age_s=60)
    first = cached.load("T4")
    clock.advance(60)
    assert (first, 1) == (cached.load("T4"), asked.times)
    clock.advance(1)
    assert (first, 2) == (cached.load("T4"), asked.times)


def test_cache_outlives_the_process(tmp_path: Path) -> None:
    """Another loader of the same source finds the file."""
    clock, asked = VirtualClock(), Asked()
    CachedLoader(Asked(), tmp_path, clock).load("T4")
    rows = CachedLoader(asked, tmp_path, clock).load("T4")
    assert (0, Asked().load("T4")) == (asked.times, rows)


def test_cache_keeps_money_exact(tmp_path: Path) -> None:
    """A price comes back from the cache as the decimal that went in."""
    cached = CachedLoader(Asked(), tmp_path, VirtualClock())
    cached.load("T4")
    assert Decimal("0.062699") in {row.usd for row in cached.load("T4")}


def test_cache_of_another_source_is_not_used(tmp_path: Path) -> None:
    """Prices of a test server are never taken for the cloud's."""
    clock, asked = VirtualClock(), Asked("there")
    CachedLoader(Asked("here"), tmp_path, clock).load("T4")
    CachedLoader(asked, tmp_path, clock).load("T4")
    assert asked.times == 1


def test_cache_from_the_future_is_not_used(tmp_path: Path) -> None:
    """After the clock was set back nobody knows how old an entry is."""
    clock, asked = VirtualClock(), Asked()
    cached = CachedLoader(asked, tmp_path, clock)
    cached.load("T4")
    clock.step(-10)
    cached.load("T4")
    assert asked.times == 2


def test_cache_file_is_private_and_alone(tmp_path: Path) -> None:
    """The file is its user's only, and no temporary file is left beside it."""
    CachedLoader(Asked(), tmp_path / "new", VirtualClock()).load("T4")
    (path,) = (tmp_path / "new").iterdir()
    assert (path.name, S_IMODE(path.stat().st_mode)) == ("azure-T4.json", 0o600)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"rows": []}', b"\x00" * 100])
def test_damaged_cache_is_replaced(tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A cache that cannot be read is said and asked for anew."""
    asked = Asked()
    cached = CachedLoader(asked, tmp_path, VirtualClock())
    (tmp_path / "azure-T4.json").write_bytes(damage)
    cached.load("T4")
    assert "is not used" in caplog.text
    cached.load("T4")
    assert asked.times == 1


def test_cache_with_a_price_of_zero_is_not_used(tmp_path: Path) -> None:
    """A cache is checked as strictly as an answer: no price in it can be zero."""
    asked = Asked()
    cached = CachedLoader(asked, tmp_path, VirtualClock())
    cached.load("T4")
    path = tmp_path / "azure-T4.json"
    path.write_text(path.read_text().replace('"0.526"', '"0"'))
    cached.load("T4")
    assert asked.times == 2


def test_unwritable_cache_does_not_lose_the_prices(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Prices that cannot be kept are still good; the reason is said."""
    (tmp_path / "folder").write_text("a file in the way")
    rows = CachedLoader(Asked(), tmp_path / "folder", VirtualClock()).load("T4")
    assert Asked().load("T4") == rows
    assert "cannot be written" in caplog.text
