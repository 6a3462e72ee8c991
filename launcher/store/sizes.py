"""Sizes for the screen."""

from __future__ import annotations


def size_text(size: int) -> str:
    """A size in bytes, in decimal units: `512 bytes`, `3.4 MB`, `2.1 GB`."""
    if size < 1000:
        return f"{size} byte{'' if size == 1 else 's'}"
    value = float(size)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"
