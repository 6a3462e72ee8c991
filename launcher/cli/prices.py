"""`gpulaunch prices`: what a machine costs by the hour, everywhere, with the whole bill and not only compute."""

from __future__ import annotations

import json
import os
import textwrap
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launcher.core.clock import SystemClock, rfc3339
from launcher.core.errors import UsageError
from launcher.core.money import usd_json
from providers.base import AuthError, ProviderError
from providers.prices.table import DISK_GB, PricedShape, Table, load_table

if TYPE_CHECKING:
    from launcher.core.clock import Clock
    from providers.prices.rows import Row

COLUMNS = 80
FOUR_DECIMALS = Decimal("0.0001")
LINE = "{:<6}{:<24}{:<14}{:<7}{:>7}{:>7}{:>8}{:>7}"

EXPLANATION = (
    "$/h: the whole rate as expected, in US dollars. worst: what a cap is computed with; for spot, the highest bid, "
    "or the on-demand price where there are no bids. rest: a disk of 100 GB and a public IPv4 address. Of each region "
    "the cheapest zone is shown; --json has every zone, part and source. Azure shapes are written without Standard_."
)


@click.command()
@click.option("--gpu", default="T4", show_default=True, help="The GPU that the machine must have.")
@click.option("--live", is_flag=True, help="Ask the clouds that need no login or have one; others keep the table.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def prices(gpu: str, *, live: bool, as_json: bool) -> None:
    """Show what a machine costs by the hour, cheapest first.

    The rate is the whole one: compute, a disk of 100 GB and a public IPv4 address. Without --live no network is
    used: the prices are those of the dated table that came with this version.
    """
    table = load_table()
    gpu = known_gpu(gpu, table)
    clock = SystemClock()
    if live:
        table = table.with_live(_ask(gpu, clock))
    shapes = table.shapes(gpu)
    if as_json:
        click.echo(json.dumps(document(gpu, shapes, clock), indent=2))
    else:
        click.echo("\n".join(screen(shapes, clock)))


def known_gpu(gpu: str, table: Table) -> str:
    """The GPU as the table spells it. Raises UsageError, naming what is known, for any other."""
    by_lower_case = {name.lower(): name for name in table.gpus()}
    found = by_lower_case.get(gpu.strip().lower())
    if found is None:
        known = ", ".join(sorted(by_lower_case.values()))
        raise UsageError(f"No price is known for a GPU called {gpu!r}.", f"Known: {known}.", "Choose one with --gpu.")
    return found


def _ask(gpu: str, clock: Clock) -> list[Row]:
    """What the clouds say that answer; the others keep the table. A fault is told; raises when none answers."""
    rows: list[Row] = []
    refused: list[ProviderError] = []
    for loader in _loaders(clock):
        try:
            rows += loader.load(gpu)
        except ProviderError as error:
            refused.append(error)
    if refused and not rows:  # a fault says more than a login that was never made
        raise min(refused, key=lambda error: isinstance(error, AuthError))
    for fault in refused:
        if not isinstance(fault, AuthError):
            click.echo(f"{fault} Its prices are those of the table.", err=True)
    return rows


def _loaders(clock: Clock) -> list[Any]:
    """Those of the clouds that answer without a login, and of those for which there is one here."""
    from launcher.config import cloud_settings, load_config
    from providers import registry
    from providers.prices.live import LOADERS, NEEDS_LOGIN, make_loader

    config = load_config(os.environ)
    settings = {name: cloud_settings(name, config) for name in LOADERS}
    return [
        make_loader(name, _cache_folder(), clock, settings[name])
        for name in LOADERS
        if name not in NEEDS_LOGIN or registry.has_credentials(name, os.environ, settings[name])
    ]


def _cache_folder() -> Path:
    """Beside the state where GPULAUNCH_HOME names a place for it, else in the user's cache folder."""
    home = os.environ.get("GPULAUNCH_HOME")
    if home:
        return Path(home) / "prices"
    from platformdirs import user_cache_path

    return user_cache_path("gpulaunch") / "prices"


def document(gpu: str, shapes: list[PricedShape], clock: Clock) -> dict[str, Any]:
    """The JSON document; docs/prices.md describes each field."""
    return {
        "gpu": gpu,
        "disk_gb": DISK_GB,
        "printed_at": rfc3339(clock.now()),
        "shapes": [_shape_json(shape) for shape in shapes],
    }


def _shape_json(shape: PricedShape) -> dict[str, Any]:
    return {
        "provider": shape.provider,
        "region": shape.region,
        "zone": shape.zone,
        "instance_type": shape.instance_type,
        "gpu": shape.gpu,
        "spot": shape.spot,
        "expected_usd_per_hour": usd_json(shape.expected_usd_per_hour),
        "worst_usd_per_hour": usd_json(shape.rate_usd_per_hour),
        "parts": [
            {
                "name": part.name,
                "expected_usd_per_hour": usd_json(part.expected_usd_per_hour),
                "worst_usd_per_hour": usd_json(part.worst_usd_per_hour),
                "source": part.source,
            }
            for part in shape.parts
        ],
        "egress_usd_per_gb": usd_json(shape.egress_usd_per_gb),
        "one_time": [{"name": c.name, "usd": usd_json(c.usd), "source": c.source} for c in shape.one_time],
        "source": shape.source,
        "sure": shape.sure,
        "live": shape.live,
        "as_of": rfc3339(shape.as_of),
    }


def screen(shapes: list[PricedShape], clock: Clock) -> list[str]:
    """Lines of at most 80 columns: one for the cheapest zone of each region, then where the prices are from."""
    cheapest: dict[tuple[str, str, str, bool], PricedShape] = {}
    for shape in shapes:
        cheapest.setdefault((shape.provider, shape.region, shape.instance_type, shape.spot), shape)
    header = LINE.format("cloud", "region", "shape", "buy", "$/h", "worst", "compute", "rest")
    return [header, *(_line(shape) for shape in cheapest.values()), "", *_legend(list(cheapest.values()), clock)]


def _line(shape: PricedShape) -> str:
    compute = next(part.expected_usd_per_hour for part in shape.parts if part.name == "compute")
    return LINE.format(
        shape.provider,
        shape.region,
        shape.instance_type.removeprefix("Standard_"),
        "spot" if shape.spot else "demand",
        _four(shape.expected_usd_per_hour),
        _four(shape.rate_usd_per_hour),
        _four(compute),
        _four(shape.expected_usd_per_hour - compute),
    )


def _four(usd: Decimal) -> str:
    return f"{usd.quantize(FOUR_DECIMALS, rounding=ROUND_CEILING):f}"


def _legend(shapes: list[PricedShape], clock: Clock) -> list[str]:
    notes = [EXPLANATION, *(f"{p}: {_from(p, shapes, clock)}" for p in sorted({s.provider for s in shapes}))]
    return [line for note in notes for line in textwrap.wrap(note, COLUMNS, subsequent_indent="  ")]


def _from(provider: str, shapes: list[PricedShape], clock: Clock) -> str:
    """Where a cloud's compute prices are from, how old they are and how sure."""
    of_provider = [shape for shape in shapes if shape.provider == provider]
    oldest, newest = min(s.as_of for s in of_provider), max(s.as_of for s in of_provider)
    if all(shape.live for shape in of_provider):
        minutes = int((clock.now() - oldest).total_seconds() // 60)
        age = "just now" if minutes < 1 else f"{minutes} minutes ago"
        whole = all(part.source.startswith("live ") for shape in of_provider for part in shape.parts)
        rest = "" if whole else "; the rest from the table, plus 10 % in worst"
        return f"{'all' if whole else 'compute'} asked from the cloud {age}{rest}."
    dates = sorted({f"{oldest:%Y-%m-%d}", f"{newest:%Y-%m-%d}"})
    how_sure = ", ".join(sorted({shape.sure for shape in of_provider}))
    return f"table of {' to '.join(dates)}, plus 10 % in worst. How sure: {how_sure}."
