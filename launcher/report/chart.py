"""Numbers as text: a chart of a metric against dollars, and a sparkline. Pure."""

from __future__ import annotations

from math import isfinite, log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
# For terminals that cannot show blocks.
ASCII_LEVELS = "_.-=*#"
NOT_FINITE = "!"
POINT = "*"
# Values that span more than this are charted on a logarithmic scale: a diverging loss would flatten all the rest.
LOG_FROM_RATIO = 1000


def sparkline(values: Sequence[float], width: int, levels: str = BLOCKS) -> str:
    """The newest shape of a series in at most `width` characters, lowest to highest of `levels`.

    A longer series is thinned to the last value of each share. A value that is no finite number shows as `!`.
    """
    count = min(len(values), max(width, 0))
    shown = [values[(index + 1) * len(values) // count - 1] for index in range(count)]
    finite = [value for value in shown if isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)

    def mark(value: float) -> str:
        if not isfinite(value):
            return NOT_FINITE
        return levels[round(_share(value, low, high) * (len(levels) - 1))]

    return "".join(mark(value) for value in shown)


def bar(share: float, width: int, full: str = "█", empty: str = "░") -> str:
    """A share from 0 to 1 as a bar of `width` characters; what is beyond counts as the end."""
    filled = int(min(max(share, 0.0), 1.0) * width)
    return full * filled + empty * (width - filled)


def dollar_chart(points: Sequence[tuple[float, float]], width: int = 64, height: int = 12) -> list[str]:
    """The lines of a chart of (USD spent, value): dollars to the right from zero, the value upwards. ASCII only.

    `width` and `height` are those of the plot without its labels. Values that are no finite numbers are marked `!` on
    the top line. No points, no lines.
    """
    if not points:
        return []
    finite = [value for _, value in points if isfinite(value)]
    scale = _scale(finite)
    low, high = (min(map(scale, finite)), max(map(scale, finite))) if finite else (0.0, 0.0)
    most_usd = max(usd for usd, _ in points)
    grid = [[" "] * width for _ in range(height)]
    for usd, value in points:
        column = round(_share(usd, 0.0, most_usd) * (width - 1))
        row = round((1 - _share(scale(value), low, high)) * (height - 1)) if isfinite(value) else 0
        grid[row][column] = POINT if isfinite(value) else NOT_FINITE
    labels = ["" for _ in grid]
    if finite:
        labels[0], labels[-1] = f"{max(finite):.4g}", f"{min(finite):.4g}"
    return _framed(grid, labels, _dollars(most_usd), is_log=scale is log10)


def _framed(grid: list[list[str]], labels: list[str], most: str, *, is_log: bool) -> list[str]:
    width, margin = len(grid[0]), max(map(len, labels))
    lines = [f"{label:>{margin}} |{''.join(row)}".rstrip() for label, row in zip(labels, grid, strict=True)]
    lines.append(" " * margin + " +" + "-" * width)
    lines.append(" " * (margin + 2) + "$0" + most.rjust(width - 2))
    return [*lines, " " * (margin + 2) + "(logarithmic scale)"] if is_log else lines


def _scale(values: Sequence[float]) -> Callable[[float], float]:
    if values and min(values) > 0 and max(values) / min(values) > LOG_FROM_RATIO:
        return log10
    return float


def _share(value: float, low: float, high: float) -> float:
    """Where a value lies between two others, from 0 to 1; in the middle when they are the same."""
    # Halves, because the distance of two very large numbers can be beyond what a float holds.
    distance = high / 2 - low / 2
    return (value / 2 - low / 2) / distance if distance > 0 else 0.5


def _dollars(usd: float) -> str:
    return f"${usd:.2f}" if usd >= 1 else f"${usd:.4f}" if usd >= 0.01 else f"${usd:.6f}"
