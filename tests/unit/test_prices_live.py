"""Live prices: Azure's price list over HTTP."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from launcher.core.clock import VirtualClock
from launcher.core.errors import Exit, UsageError
from providers.base import PriceUnknown, ProviderUnavailable
from providers.prices import azure_retail
from providers.prices.azure_retail import AzureRetailPrices
from providers.prices.live import LOADERS, CachedLoader, make_loader
from providers.prices.rows import Row, Sure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIZE = "Standard_NC4as_T4_v3"


class PriceServer(ThreadingHTTPServer):
    """Answers each request with what `answer` makes of its path, and keeps the paths."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.paths: list[str] = []
        self.answer: Callable[[str], tuple[int, dict[str, str], bytes]] = lambda _: page([])
        self.hold = threading.Event()
        """While set, a request gets no answer until it is cleared by `released`."""
        self.released = threading.Event()

    @property
    def url(self) -> str:
        """Where the price list is."""
        return f"http://127.0.0.1:{self.server_port}/api/retail/prices"


class _Handler(BaseHTTPRequestHandler):
    server: PriceServer

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        if self.server.hold.is_set():
            self.server.released.wait(60)
            return
        code, headers, body = self.server.answer(self.path)
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[PriceServer]:
    """A price list on this computer."""
    with PriceServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.released.set()
        running.shutdown()
        thread.join()


def meter(usd: float = 0.526, **changes: Any) -> dict[str, Any]:
    """One entry of the price list, with the fields that the API sends."""
    return {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": usd,
        "unitPrice": usd,
        "armRegionName": "eastus",
        "location": "US East",
        "effectiveStartDate": "2026-01-01T00:00:00Z",
        "meterId": "00000000-0000-0000-0000-000000000000",
        "meterName": "NC4as T4 v3",
        "productId": "DZH318Z0BQ35",
        "skuId": "DZH318Z0BQ35/0000",
        "productName": "Virtual Machines NCasT4_v3 Series",
        "skuName": "NC4as T4 v3",
        "serviceName": "Virtual Machines",
        "serviceFamily": "Compute",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": SIZE,
        **changes,
    }


def spot(usd: float, **changes: Any) -> dict[str, Any]:
    """A spot price."""
    return meter(usd, **{"skuName": "NC4as T4 v3 Spot", "meterName": "NC4as T4 v3 Spot", **changes})


def page(items: list[dict[str, Any]], next_link: str | None = None) -> tuple[int, dict[str, str], bytes]:
    """One page of the price list."""
    body = {"BillingCurrency": "USD", "Items": items, "NextPageLink": next_link, "Count": len(items)}
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def azure(server: PriceServer, **options: Any) -> AzureRetailPrices:
    """The loader, asking that server."""
    return AzureRetailPrices(VirtualClock(), endpoint=server.url, **options)


def priced(rows: list[Row]) -> list[tuple[str, bool | None, str]]:
    """Region, spot and price of each row."""
    return [(row.region, row.spot, str(row.usd)) for row in rows]


def test_prices_are_read_exactly(server: PriceServer) -> None:
    """On-demand and spot prices arrive as the decimals that were sent, as live prices of now."""
    server.answer = lambda _: page([meter(0.526), spot(0.062699), meter(0.594, armRegionName="centralus")])
    rows = azure(server).load("T4")
    expected = [("centralus", False, "0.594"), ("eastus", False, "0.526"), ("eastus", True, "0.062699")]
    assert expected == priced(rows)
    assert {(True, Sure.VENDOR, VirtualClock().now())} == {(row.live, row.sure, row.as_of) for row in rows}


def test_request_names_the_machine(server: PriceServer) -> None:
    """The filter asks for this size, by consumption, in the spelling that the API is strict about."""
    server.answer = lambda _: page([meter()])
    azure(server).load("T4")
    query = parse_qs(urlsplit(server.paths[0]).query)
    wanted = f"serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and armSkuName eq '{SIZE}'"
    assert {"api-version": ["2023-01-01-preview"], "$filter": [wanted]} == query


def test_every_page_is_read(server: PriceServer) -> None:
    """The next page's link is followed until there is none, spaces in it included."""
    regions = ["eastus", "westus2", "westeurope"]

    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        number = int(parse_qs(urlsplit(path).query).get("$skip", ["0"])[0])
        more = f"{server.url}?$filter=serviceName eq 'Virtual Machines'&$skip={number + 1}" if number < 2 else None
        return page([meter(armRegionName=regions[number])], more)

    server.answer = answer
    assert sorted(regions) == [row.region for row in azure(server).load("T4")]
    assert len(regions) == len(server.paths)


def test_same_place_with_its_port_said() -> None:
    """The API's own links name port 443, which its address leaves out: that is the same place."""
    loader = AzureRetailPrices(VirtualClock())
    link = "https://prices.azure.com:443/api/retail/prices?$skip=100"
    assert link == loader._checked(link)


@pytest.mark.parametrize(
    "other",
    [
        meter(0.9, productName="Virtual Machines NCasT4_v3 Series Windows"),
        meter(0.9, skuName="NC4as T4 v3 Low Priority", meterName="NC4as T4 v3 Low Priority"),
        meter(0.9, productName="NCasT4_v3 Series Dedicated Host"),
        meter(0.9, type="Reservation"),
        meter(0.9, type="DevTestConsumption"),
        meter(0.9, unitOfMeasure="1 Month"),
        meter(0.9, currencyCode="EUR"),
        meter(0.9, armSkuName="Standard_NC8as_T4_v3"),
        meter(0, armRegionName="freeland"),
        meter(0.9, armRegionName=""),
    ],
    ids=["windows", "low priority", "dedicated", "reserved", "dev/test", "monthly", "euro", "size", "free", "nowhere"],
)
def test_other_meters_are_dropped(server: PriceServer, other: dict[str, Any]) -> None:
    """What our machine would not pay is not its price."""
    server.answer = lambda _: page([other, meter(0.526)])
    assert priced(azure(server).load("T4")) == [("eastus", False, "0.526")]


def test_higher_of_two_meters_is_taken(server: PriceServer) -> None:
    """A region that is named twice costs the higher price."""
    server.answer = lambda _: page([meter(0.526), meter(0.6), meter(0.55)])
    assert priced(azure(server).load("T4")) == [("eastus", False, "0.6")]


def test_spot_is_told_by_either_name(server: PriceServer) -> None:
    """A spot price must never pass for an on-demand price."""
    server.answer = lambda _: page([spot(0.06, skuName="NC4as T4 v3"), meter()])
    assert priced(azure(server).load("T4")) == [("eastus", False, "0.526"), ("eastus", True, "0.06")]


def test_no_price_is_refused(server: PriceServer) -> None:
    """An answer without a usable price is not an empty list."""
    server.answer = lambda _: page([meter(type="Reservation")])
    with pytest.raises(PriceUnknown, match="names no price"):
        azure(server).load("T4")


def test_unknown_gpu_is_refused_unasked(server: PriceServer) -> None:
    """A GPU that the loader does not know costs no request."""
    with pytest.raises(PriceUnknown, match="H100"):
        azure(server).load("H100")
    assert server.paths == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"Items": null}',
        b'{"Items": [{"retailPrice": 0.5}]}',
        json.dumps({"Items": [meter("0.5 USD")]}).encode(),  # type: ignore[arg-type]
        b'{"Items": [], "NextPageLink": 5}',
        b"\xff\xfe",
        json.dumps({"Items": [meter()]}).encode()[:-20],
    ],
)
def test_malformed_answer_is_unavailable(server: PriceServer, body: bytes) -> None:
    """An answer that is not a list of prices is an error with a reason, never a guess."""
    server.answer = lambda _: (200, {}, body)
    with pytest.raises(ProviderUnavailable) as caught:
        azure(server).load("T4")
    assert "not a list of prices" in caught.value.why


@pytest.mark.parametrize("code", [400, 403, 429, 500, 503])
def test_error_code_is_named(server: PriceServer, code: int) -> None:
    """An error of the server is passed on with its code."""
    server.answer = lambda _: (code, {}, b"")
    with pytest.raises(ProviderUnavailable) as caught:
        azure(server).load("T4")
    assert f"It answered {code} " in caught.value.why
    assert caught.value.exit_code == Exit.UNAVAILABLE


def test_redirect_is_refused(server: PriceServer) -> None:
    """A redirect is not followed, not even to the same server."""
    server.answer = lambda _: (302, {"Location": server.url + "?elsewhere"}, b"")
    with pytest.raises(ProviderUnavailable, match="Redirects are not followed"):
        azure(server).load("T4")
    assert len(server.paths) == 1


@pytest.mark.parametrize("link", ["http://192.0.2.1/api", "https://127.0.0.1/", "http://127.0.0.1:bad/", "file:///etc"])
def test_next_page_elsewhere_is_refused(server: PriceServer, link: str) -> None:
    """The next page must be where the first one was."""
    server.answer = lambda _: page([meter()], link)
    with pytest.raises(ProviderUnavailable, match="elsewhere"):
        azure(server).load("T4")
    assert len(server.paths) == 1


def test_same_page_again_is_refused(server: PriceServer) -> None:
    """A page that leads to itself ends the reading."""
    server.answer = lambda _: page([meter()], server.url + "?$skip=1")
    with pytest.raises(ProviderUnavailable, match="did not end"):
        azure(server).load("T4")


def test_endless_pages_are_refused(server: PriceServer) -> None:
    """However long the server goes on, the reading is bounded."""
    server.answer = lambda _: page([meter()], f"{server.url}?$skip={len(server.paths)}")
    with pytest.raises(ProviderUnavailable, match="did not end"):
        azure(server).load("T4")
    assert len(server.paths) == azure_retail.MAX_PAGES


def test_huge_page_is_refused(server: PriceServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is read up to a size, then given up."""
    monkeypatch.setattr(azure_retail, "MAX_PAGE_BYTES", 100)
    server.answer = lambda _: page([meter()])
    with pytest.raises(ProviderUnavailable, match="larger than 100 bytes"):
        azure(server).load("T4")


def test_silent_server_times_out(server: PriceServer) -> None:
    """A server that takes the request and says nothing is given up."""
    server.hold.set()
    with pytest.raises(ProviderUnavailable, match="timed out"):
        azure(server, timeout_s=0.1).load("T4")


def test_total_time_is_bounded(server: PriceServer) -> None:
    """Whatever holds the answer back, a slow name server included, the whole reading has an end."""
    server.hold.set()
    with pytest.raises(ProviderUnavailable, match=r"within 0\.1 seconds"):
        azure(server, total_s=0.1).load("T4")


def test_unreachable_server_gives_the_reason(server: PriceServer) -> None:
    """Where nothing listens, the system's reason and the way out are given."""
    closed = server.url.replace(str(server.server_port), "1")
    with pytest.raises(ProviderUnavailable) as caught:
        AzureRetailPrices(VirtualClock(), endpoint=closed).load("T4")
    assert "refused" in caught.value.why
    assert "--live" in caught.value.fix


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://prices.example/",
        "http://192.0.2.1/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "prices",
        "https://",
        "https://[x",
    ],
)
def test_unsafe_endpoint_is_refused(endpoint: str) -> None:
    """Only https may leave this computer."""
    with pytest.raises(UsageError, match="cannot be asked"):
        AzureRetailPrices(VirtualClock(), endpoint=endpoint)


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:1/", "http://localhost/", "http://[::1]/", "https://a.example/"]
)
def test_safe_endpoint_is_taken(endpoint: str) -> None:
    """Plain http is for loopback, https for everywhere."""
    assert endpoint == AzureRetailPrices(VirtualClock(), endpoint=endpoint).source


def test_failure_is_not_cached(tmp_path: Path, server: PriceServer) -> None:
    """After a failure the next call asks again."""
    cached = CachedLoader(azure(server), tmp_path, VirtualClock())
    server.answer = lambda _: (503, {}, b"")
    with pytest.raises(ProviderUnavailable):
        cached.load("T4")
    server.answer = lambda _: page([meter()])
    assert priced(cached.load("T4")) == [("eastus", False, "0.526")]


def test_every_named_loader_can_be_made(tmp_path: Path) -> None:
    """Each entry of the list of loaders leads to a class."""
    made = {name: make_loader(name, tmp_path, VirtualClock(), {}) for name in LOADERS}

    assert list(LOADERS) == [loader.provider for loader in made.values()]
