"""Live Azure prices from the Azure Retail Prices API, which needs no login.

https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import queue
import threading
import urllib.error
import urllib.request
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from launcher.core.errors import UsageError
from providers.base import PriceUnknown, ProviderUnavailable
from providers.prices.rows import Kind, Row, Sure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from email.message import Message

    from launcher.core.clock import Clock

ENDPOINT = "https://prices.azure.com/api/retail/prices"
ENDPOINT_VARIABLE = "GPULAUNCH_AZURE_PRICES_ENDPOINT"
API_VERSION = "2023-01-01-preview"
"""From this version on the values of a filter are case-sensitive."""
SIZES = {"T4": "Standard_NC4as_T4_v3"}
TIMEOUT_S = 5.0
"""For connecting and for each read."""
TOTAL_S = 20.0
"""For all pages together, looking up the name included, which has no timeout of its own."""
MAX_PAGES = 20
"""One size has about six meters in each of some fifty regions; a page holds 100 or more."""
MAX_PAGE_BYTES = 8 * 1024 * 1024


class _Item(msgspec.Struct, frozen=True, rename="camel"):
    """One meter. A field that is missing makes the answer malformed."""

    currency_code: str
    retail_price: Decimal
    arm_region_name: str
    arm_sku_name: str
    sku_name: str
    product_name: str
    meter_name: str
    unit_of_measure: str
    type: str


class _Page(msgspec.Struct, frozen=True, rename="pascal"):
    items: list[_Item]
    next_page_link: str | None = None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could lead anywhere, so it is an error: urllib raises HTTPError for it."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        """Never."""
        del req, fp, code, msg, headers, newurl


class AzureRetailPrices:
    """Prices of Azure's GPU machines, on demand and spot, in every region that names one.

    `endpoint` must be https; plain http is for loopback only. Raises UsageError otherwise.
    """

    provider = "azure"

    def __init__(
        self, clock: Clock, *, endpoint: str | None = None, timeout_s: float = TIMEOUT_S, total_s: float = TOTAL_S
    ) -> None:
        self._clock = clock
        self.source = endpoint or os.environ.get(ENDPOINT_VARIABLE) or ENDPOINT
        self._timeout_s = timeout_s
        self._total_s = total_s
        self._origin = _origin(self.source)
        on_this_computer = _is_safe(self.source)
        # A proxy is for the internet, never for this computer.
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if on_this_computer:
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    @classmethod
    def of_settings(cls, clock: Clock, settings: Mapping[str, Any]) -> AzureRetailPrices:
        """It needs no login, so no setting changes it."""
        del settings
        return cls(clock)

    def load(self, gpu: str) -> list[Row]:
        """Compute prices in USD per hour. Raises ProviderUnavailable within seconds, or PriceUnknown."""
        size = SIZES.get(gpu)
        if size is None:
            raise PriceUnknown(f"Which Azure machine has a {gpu} is not known.", next_scope="provider")
        query = {
            "api-version": API_VERSION,
            "$filter": f"serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and armSkuName eq '{size}'",
        }
        first = f"{self.source}?{urlencode(query, quote_via=quote, safe='$')}"
        items = self._bounded(lambda: self._all_pages(first))
        rows = self._rows(items, gpu, size)
        if not rows:
            raise PriceUnknown(
                f"Azure names no price for {size}.",
                f"None of its {len(items)} prices is for a Linux machine by the hour.",
            )
        return rows

    def _bounded(self, work: Callable[[], list[_Item]]) -> list[_Item]:
        """Do the work in a thread, so that neither a slow name server nor a trickle of bytes can hold us."""
        done: queue.SimpleQueue[list[_Item] | Exception] = queue.SimpleQueue()

        def run() -> None:
            try:
                done.put(work())
            except Exception as error:  # noqa: BLE001 - raised again below, in the caller's thread
                done.put(error)

        threading.Thread(target=run, name="azure-retail-prices", daemon=True).start()
        try:
            result = done.get(timeout=self._total_s)
        except queue.Empty:
            raise self._unavailable(f"It did not answer in full within {self._total_s:g} seconds.") from None
        if isinstance(result, Exception):
            raise result
        return result

    def _all_pages(self, first: str) -> list[_Item]:
        items: list[_Item] = []
        url: str | None = first
        seen: set[str] = set()
        while url:
            if url in seen or len(seen) == MAX_PAGES:
                raise self._unavailable(f"Its pages did not end after {len(seen)}.")
            seen.add(url)
            page = self._page(url)
            items += page.items
            url = self._checked(page.next_page_link) if page.next_page_link else None
        return items

    def _checked(self, url: str) -> str:
        """The next page's address, made safe to send. It must be where the first one was."""
        if _origin(url) != self._origin:
            raise self._unavailable(f"Its next page is elsewhere: {url}")
        return quote(url, safe="%/:=&?~#+!$,;'@()*[]")

    def _page(self, url: str) -> _Page:
        request = urllib.request.Request(url, headers={"Accept": "application/json", "User-Agent": "gpulaunch"})  # noqa: S310 - the scheme was checked
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                body = response.read(MAX_PAGE_BYTES + 1)
        except urllib.error.HTTPError as error:
            error.close()
            hint = " Redirects are not followed." if 300 <= error.code < 400 else ""
            raise self._unavailable(f"It answered {error.code} {error.reason}.{hint}") from error
        except urllib.error.URLError as error:
            reason = getattr(error.reason, "strerror", None) or error.reason
            raise self._unavailable(f"{reason}.") from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unavailable(f"{type(error).__name__}: {error}.") from error
        if len(body) > MAX_PAGE_BYTES:
            raise self._unavailable(f"One page is larger than {MAX_PAGE_BYTES} bytes.")
        try:
            return msgspec.json.decode(body, type=_Page)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._unavailable(f"Its answer is not a list of prices: {error}.") from error

    def _rows(self, items: list[_Item], gpu: str, size: str) -> list[Row]:
        """The highest price for each region and way of paying; a meter can come more than once."""
        now = self._clock.now()
        highest: dict[tuple[str, bool], Decimal] = {}
        for item in items:
            if item.arm_sku_name == size and _is_linux_by_the_hour(item):
                key = (item.arm_region_name, "Spot" in f"{item.sku_name} {item.meter_name}")
                highest[key] = max(item.retail_price, highest.get(key, item.retail_price))
        return [
            Row(
                kind=Kind.COMPUTE,
                provider=self.provider,
                region=region,
                item=size,
                gpu=gpu,
                spot=spot,
                usd=usd,
                unit="USD/h",
                as_of=now,
                sure=Sure.VENDOR,
                source="Azure Retail Prices API",
                live=True,
            )
            for (region, spot), usd in sorted(highest.items())
        ]

    def _unavailable(self, why: str) -> ProviderUnavailable:
        return ProviderUnavailable(
            f"Azure's price list at {self.source} cannot be read.",
            why,
            "Leave out --live to use the dated table.",
        )


def _is_linux_by_the_hour(item: _Item) -> bool:
    """Whether this is a price that our machine would pay: no Windows, no low priority, no contract, no free entry."""
    names = f"{item.product_name} {item.sku_name} {item.meter_name}"
    return (
        item.type == "Consumption"
        and item.unit_of_measure == "1 Hour"
        and item.currency_code == "USD"
        and item.retail_price > 0
        and bool(item.arm_region_name)
        and not any(word in names for word in ("Windows", "Low Priority", "Dedicated"))
    )


def _origin(url: str) -> str:
    """Scheme, host and port, with the port always said: the API's own links name it, its address does not."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
        return f"{parts.scheme}://{parts.hostname}:{port}"
    except ValueError:
        return f"unreadable address {url!r}"


def _is_safe(endpoint: str) -> bool:
    """Whether it is on this computer. Raises UsageError when it is neither that nor https."""
    try:
        parts = urlsplit(endpoint)
    except ValueError:
        parts = urlsplit("")
    host = parts.hostname or ""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if host and (parts.scheme == "https" or (parts.scheme == "http" and loopback)):
        return loopback
    raise UsageError(
        f"Prices cannot be asked from {endpoint!r}.",
        "The address must be https; plain http is for this computer only.",
        f"Correct or unset {ENDPOINT_VARIABLE}.",
    )
