"""The command `prices`: what it prints, in text and in JSON, with and without a network."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from launcher.cli import prices as command
from launcher.cli.prices import prices
from launcher.core.clock import VirtualClock
from launcher.core.errors import Exit, GpulaunchError, UsageError
from launcher.core.money import usd_json
from providers.base import ProviderUnavailable
from providers.prices.azure_retail import ENDPOINT_VARIABLE
from providers.prices.table import load_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHAPE_KEYS = {
    "provider",
    "region",
    "zone",
    "instance_type",
    "gpu",
    "spot",
    "expected_usd_per_hour",
    "worst_usd_per_hour",
    "parts",
    "egress_usd_per_gb",
    "one_time",
    "source",
    "sure",
    "live",
    "as_of",
}
WAYS = {"spot", "demand"}
METER = {
    "currencyCode": "USD",
    "armRegionName": "westeurope",
    "armSkuName": "Standard_NC4as_T4_v3",
    "skuName": "NC4as T4 v3",
    "productName": "Virtual Machines NCasT4_v3 Series",
    "meterName": "NC4as T4 v3",
    "unitOfMeasure": "1 Hour",
    "type": "Consumption",
    "retailPrice": 0.605,
}


@pytest.fixture(autouse=True)
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    """A clock of our own, a state folder of our own, and no way to Azure's price list."""
    monkeypatch.setenv("GPULAUNCH_HOME", str(tmp_path))
    monkeypatch.setenv(ENDPOINT_VARIABLE, "http://127.0.0.1:1/")
    monkeypatch.setenv("HOME", str(tmp_path))  # nobody is logged in anywhere
    virtual = VirtualClock()
    monkeypatch.setattr(command, "SystemClock", lambda: virtual)
    return virtual


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Azure's price list on this computer, with one region; the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = json.dumps({"Items": [METER], "NextPageLink": None}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv(ENDPOINT_VARIABLE, f"http://127.0.0.1:{server.server_port}/")
        yield asked
        server.shutdown()
        thread.join()


def run(*arguments: str) -> str:
    """What the command prints to stdout. Raises what it raises."""
    result = CliRunner().invoke(prices, list(arguments), catch_exceptions=False, standalone_mode=False)
    if isinstance(result.exception, GpulaunchError):
        raise result.exception
    assert result.stderr == ""
    return result.stdout


def test_text_fits_eighty_columns() -> None:
    """Off a terminal too, no line is wider than 80 columns, and there are no control characters."""
    lines = run().splitlines()
    assert [line for line in lines if len(line) > 80 or not line.isprintable()] == []


def test_text_names_every_region_once_each_way() -> None:
    """Each cloud's region has one line for spot and one on demand, where both are known."""
    header, *lines = [line.split() for line in run().splitlines()]
    assert header == ["cloud", "region", "shape", "buy", "$/h", "worst", "compute", "rest"]
    shown = [tuple(words[:4]) for words in lines if len(words) == 8 and words[3] in WAYS]
    expected = {
        (s.provider, s.region, s.instance_type.removeprefix("Standard_"), "spot" if s.spot else "demand")
        for s in load_table().shapes("T4")
    }
    assert len(shown) == len(set(shown))
    assert expected == set(shown)


def test_text_is_sorted_and_adds_up() -> None:
    """The cheapest whole rate comes first, and a line's rate is its machine plus the rest, to a rounding."""
    lines = [line.split() for line in run().splitlines()]
    numbers = [[Decimal(number) for number in words[4:]] for words in lines if len(words) == 8 and words[3] in WAYS]
    assert len(numbers) > 100
    rates = [rate for rate, *_ in numbers]
    assert sorted(rates) == rates
    assert [n for n in numbers if abs(n[0] - n[2] - n[3]) > Decimal("0.0001") or n[1] < n[0]] == []


def test_text_says_where_and_when() -> None:
    """The date of the table and its margin are on the screen, for each cloud."""
    printed = run()
    for provider in ("aws", "azure", "gcp"):
        assert f"{provider}: table of 20" in printed
    assert "plus 10 % in worst" in printed


def test_json_is_one_document_with_the_whole_table() -> None:
    """Stdout is one JSON document with every zone, cheapest first."""
    document = json.loads(run("--json"))
    assert {"gpu", "disk_gb", "printed_at", "shapes"} == set(document)
    assert (document["gpu"], document["disk_gb"], document["printed_at"]) == ("T4", 100, "2026-11-21T12:00:00Z")
    shapes = load_table().shapes("T4")
    assert [usd_json(s.expected_usd_per_hour) for s in shapes] == [
        s["expected_usd_per_hour"] for s in document["shapes"]
    ]


def test_json_keys_and_types() -> None:
    """Every shape has the documented keys; money is text and times are RFC 3339."""
    shapes = json.loads(run("--json"))["shapes"]
    assert [set(keys) for keys in {frozenset(shape) for shape in shapes}] == [SHAPE_KEYS]
    parts = [part for shape in shapes for part in shape["parts"]]
    assert {frozenset({"name", "expected_usd_per_hour", "worst_usd_per_hour", "source"})} == {
        frozenset(p) for p in parts
    }
    money = [s[key] for s in shapes for key in ("expected_usd_per_hour", "worst_usd_per_hour", "egress_usd_per_gb")]
    assert [amount for amount in money if not (isinstance(amount, str) and Decimal(amount) > 0)] == []
    assert {"2025-03-02T00:00:00Z", "2026-11-21T00:00:00Z"} == {shape["as_of"] for shape in shapes}


def test_gpu_is_found_whatever_its_case() -> None:
    """`--gpu t4` means T4."""
    assert run("--gpu", "t4") == run()


def test_unknown_gpu_lists_what_is_known() -> None:
    """A GPU without prices is a wrong use, and the known ones are named."""
    with pytest.raises(UsageError) as caught:
        run("--gpu", "H100")
    assert (caught.value.exit_code, caught.value.why) == (Exit.USAGE, "Known: T4.")


def test_live_without_a_network_gives_the_reason() -> None:
    """Unreachable, `--live` prints no table; it says why, and the exit code says unavailable."""
    with pytest.raises(ProviderUnavailable) as caught:
        run("--live")
    assert caught.value.exit_code == Exit.UNAVAILABLE
    assert "refused" in caught.value.why


def test_live_prices_are_shown_as_live(azure: list[str]) -> None:
    """What Azure answers takes the place of its table rows; the other clouds keep the table."""
    shapes = json.loads(run("--live", "--json"))["shapes"]
    of_azure = [(s["region"], s["live"], s["as_of"], s["parts"][0]["worst_usd_per_hour"]) for s in shapes if s["live"]]
    assert of_azure == [("westeurope", True, "2026-11-21T12:00:00Z", "0.605")]
    assert {"aws", "gcp"} == {s["provider"] for s in shapes if not s["live"]}
    assert len(azure) == 1


class Broken:
    """A loader of a cloud that does not answer."""

    def load(self, gpu: str) -> list[Any]:
        """Never."""
        raise ProviderUnavailable("That cloud does not answer.")


def test_a_cloud_that_fails_keeps_the_table_and_is_told(azure: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One fault must not hide what the others say."""
    others = command._loaders
    monkeypatch.setattr(command, "_loaders", lambda clock: [Broken(), *others(clock)])
    result = CliRunner().invoke(prices, ["--live", "--json"], catch_exceptions=False)

    assert "That cloud does not answer. Its prices are those of the table." in result.stderr
    assert any(shape["live"] for shape in json.loads(result.stdout)["shapes"])


def test_young_cache_stands_in_for_the_network(azure: list[str], clock: VirtualClock) -> None:
    """A second `--live` within the hour asks nobody and says how old its prices are."""
    assert "asked from the cloud just now" in run("--live")
    clock.advance(timedelta(minutes=12).total_seconds())
    assert "asked from the cloud 12 minutes ago" in run("--live")
    assert len(azure) == 1


def test_old_cache_does_not(azure: list[str], clock: VirtualClock) -> None:
    """After its hour the cache is not used: the cloud is asked again."""
    run("--live")
    clock.advance(3601)
    assert "asked from the cloud just now" in run("--live")
    assert len(azure) == 2
