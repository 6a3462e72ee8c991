"""The live table of `status --watch`. The only place that imports rich."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from launcher.cli.screen import ending, metric_line, money
from launcher.core.errors import Exit
from launcher.outcome import State, exit_code
from launcher.report.chart import ASCII_LEVELS, BLOCKS, bar, sparkline
from launcher.report.plain_text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from launcher.cli.watch import Seen

GAP = 2
# From this many columns on, cells say more.
WIDE = 120
# From these shares of the cap on, its bar is yellow, and red.
WARM, HOT = 0.8, 0.95


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its title, and how soon it is dropped on a narrow terminal (0: never; the highest goes first)."""

    title: str
    rank: int
    most: int
    """Characters beyond which a cell is cut off."""


COLUMNS = (
    Column(title="JOB", rank=0, most=24),
    Column(title="STATE", rank=0, most=36),
    Column(title="PROVIDER", rank=8, most=16),
    Column(title="$/H", rank=7, most=12),
    Column(title="SPENT", rank=1, most=12),
    Column(title="CAP", rank=4, most=12),
    Column(title="USED", rank=2, most=16),
    Column(title="LEFT", rank=3, most=12),
    Column(title="ENDS BY", rank=6, most=20),
    Column(title="METRIC", rank=3, most=48),
    Column(title="", rank=5, most=32),
)
USED = 6


def show(moments: Iterable[Sequence[Seen]]) -> None:
    """Draw each moment over the one before; the last one stays."""
    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        for seen in moments:
            live.update(draw(seen, console.width, blocks=console.encoding.startswith("utf")), refresh=True)


def draw(seen: Sequence[Seen], width: int, *, blocks: bool) -> Group | Text:
    """The table for a terminal of `width` columns, with the remarks below it. Without `blocks`: ASCII only."""
    if not seen:
        return Text("No job is live, and none ended within a day. Earlier ones: gpulaunch status --all")
    rows = [cells(each, wide=width >= WIDE, blocks=blocks) for each in seen]
    chosen = fitting(rows, width)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, show_edge=False)
    for index in chosen:
        column = COLUMNS[index]
        table.add_column(column.title, max_width=column.most, no_wrap=True, overflow="ellipsis" if blocks else "crop")
    for row in rows:
        table.add_row(*(row[index] for index in chosen))
    remarks = [Text(f"{each.view['name']}: {text}", style="yellow") for each in seen for text in each.remarks]
    last = "Ctrl-C leaves this view; the jobs go on." if any(each.live for each in seen) else "No job is live any more."
    return Group(table, *remarks, Text(last, style="dim"))


def fitting(rows: Sequence[Sequence[Text]], width: int) -> list[int]:
    """The columns that fit, in their order: the least important go first. Columns without content go anyway."""
    widths = [
        min(max((row[index].cell_len for row in rows), default=0), column.most) for index, column in enumerate(COLUMNS)
    ]
    kept = [index for index in range(len(COLUMNS)) if widths[index]]
    while _total(kept, widths) > width and any(COLUMNS[index].rank for index in kept):
        kept.remove(max(kept, key=lambda index: COLUMNS[index].rank))
    return kept


def _total(kept: Sequence[int], widths: Sequence[int]) -> int:
    return sum(max(widths[index], len(COLUMNS[index].title)) + GAP for index in kept) - GAP


def cells(seen: Seen, *, wide: bool, blocks: bool) -> tuple[Text, ...]:
    """One job's row: a cell for each of COLUMNS."""
    view = seen.view
    share = float(Decimal(view["spend_usd"]) / Decimal(view["cap_usd"]))
    bar_width, spark_width = (10, 24) if wide else (8, 8)
    filled = bar(share, bar_width) if blocks else bar(share, bar_width, "#", ".")
    texts = (
        view["name"],
        _state(seen, wide=wide),
        view["provider"],
        money(view["rate_usd_per_hour"]) if view["rate_usd_per_hour"] else "",
        money(view["spend_usd"]),
        money(view["cap_usd"]),
        f"{filled} {share:.0%}" if wide else filled,
        seen.left,
        (view["soft_deadline"] or "") if seen.live else "",
        _metric(view, wide=wide),
        sparkline(seen.values, spark_width, BLOCKS if blocks else ASCII_LEVELS),
    )
    row = [Text(text) for text in texts]
    row[1].stylize(_state_style(seen))
    row[USED].stylize("red" if share >= HOT else "yellow" if share >= WARM else "green", 0, bar_width)
    return tuple(row)


def _metric(view: dict[str, Any], *, wide: bool) -> str:
    line = plain(metric_line(view, most=1))
    return line if wide else line.split(" (step ")[0]


def _state(seen: Seen, *, wide: bool) -> str:
    if seen.live:
        return str(seen.view["state"])
    return plain(ending(seen.view) if wide else seen.view["outcome"])


def _state_style(seen: Seen) -> str:
    if seen.view["state"] == State.DELETING:
        return "bold red"
    if seen.live:
        return "bold"
    return "green" if _went_well(seen.view) else "red"


def _went_well(view: dict[str, Any]) -> bool:
    """Whether an ended job gets exit code 0."""
    return exit_code(view["state"], view["outcome"], view["reason"]) == Exit.OK
