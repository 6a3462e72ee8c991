"""The cloud of these tests over HTTP, in a thread of the test's own process.

Beside Resource Manager it serves the list of retail prices (`/prices`) and serial logs (`/serial/…`).
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from datetime import UTC
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from azure_checker import problems_with
from azure_replies import error
from azure_routes import Routes
from azure_world import SIZE, World

if TYPE_CHECKING:
    from azure_faults import Rule

REGIONS = ("centralus", "eastus", "eastus2", "northcentralus", "southcentralus", "westus", "westus2", "westus3")


@dataclass
class Call:
    """One request as a benchmark sees it; times of the monotonic clock, in seconds."""

    name: str
    changes: bool
    began_s: float
    ended_s: float = 0.0


class AzureServer:
    """Serves a world on a port of this computer until it is closed. `delay_s`: what each answer takes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lock = threading.RLock()
        self.delay_s = 0.0
        self.calls: list[Call] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.azure = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self.routes = Routes(world, self.url)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        """What makes gpulaunch speak to it."""
        return {"GPULAUNCH_AZURE_ENDPOINT": self.url, "GPULAUNCH_AZURE_PRICES_ENDPOINT": f"{self.url}/prices"}

    def start(self) -> AzureServer:
        """Begin to serve."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Serve no more."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def prices(self) -> dict[str, Any]:
        """The price list, with the rows that must be left out."""
        base = {
            "currencyCode": "USD",
            "armSkuName": SIZE,
            "unitOfMeasure": "1 Hour",
            "type": "Consumption",
            "productName": "Virtual Machines NCasT4 v3 Series",
        }
        usual = self.world.prices
        rows = []
        for region in REGIONS:
            here = {**base, "armRegionName": region}
            on_demand = usual.on_demand if region == "eastus" else usual.on_demand * 2
            for meter, usd in (
                ("NC4as T4 v3", on_demand),
                ("NC4as T4 v3 Spot", usual.spot),
                ("NC4as T4 v3 Low Priority", usual.spot),
            ):
                rows.append({**here, "meterName": meter, "skuName": meter, "retailPrice": float(usd)})
            rows.append(
                {
                    **here,
                    "meterName": "NC4as T4 v3",
                    "skuName": "NC4as T4 v3",
                    "retailPrice": 0.7,
                    "productName": "Virtual Machines NCasT4 v3 Series Windows",
                }
            )
        return {"Items": rows, "NextPageLink": None}


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The cloud's own clock, not this computer's."""
        del timestamp
        return format_datetime(self._server.world.clock.now().astimezone(UTC), usegmt=True)

    @property
    def _server(self) -> AzureServer:
        return self.server.azure  # type: ignore[attr-defined, no-any-return]

    def _do(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        kind = self.path.partition("?")[0].split("/")[-2]
        call = Call(f"{self.command} {kind}", self.command != "GET", time.perf_counter())
        self._server.calls.append(call)
        if self._server.delay_s:
            time.sleep(self._server.delay_s)
        with self._server.lock:
            reply = self._answer(body)
        call.ended_s = time.perf_counter()
        if reply is None:
            self.close_connection = True
            return
        self._send(*reply)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = _do  # noqa: N815 - the base class's names

    def _answer(self, body: Any) -> tuple[int, dict[str, str], Any] | None:
        world = self._server.world
        world.look()
        path = self.path.partition("?")[0]
        if path == "/prices":
            return 200, {}, self._server.prices()
        if path.startswith("/serial/"):
            vm = world.consoles.get(path.removeprefix("/serial"))
            return (200, {}, world.console_of(vm)) if vm else (404, {}, b"")
        return self._arm(path, body)

    def _arm(self, path: str, body: Any) -> tuple[int, dict[str, str], Any] | None:
        world = self._server.world
        world.requests.append((self.command, self.path, body))
        if self.headers.get("Authorization"):
            world.problems.append("a credential was sent over plain http")
        if "/operations/" not in path:
            found = problems_with(self.command, self.path, body)
            if found:
                world.problems += [f"{self.command} {path}: {problem}" for problem in found]
                return error(400, "InvalidRequestContent", "; ".join(found))
        fault = world.faults.meet(self.command, path)
        if fault is not None and fault.kind in ("refuse", "drop", "kill"):
            return self._refused(fault)
        reply = self._server.routes.answer(self.command, self.path, self.headers, body, fault)
        world.look()  # what takes no time has happened by now
        if fault is not None and fault.kind in ("lose", "kill_after"):
            if fault.kind == "kill_after":
                fault.strike()
            return None
        return reply

    def _refused(self, fault: Rule) -> tuple[int, dict[str, str], Any] | None:
        if fault.kind == "refuse":
            status, _, body = error(fault.status, fault.code)
            return status, fault.headers, body
        if fault.kind == "kill":
            fault.strike()
        return None

    def _send(self, status: int, headers: dict[str, str], body: Any) -> None:
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
