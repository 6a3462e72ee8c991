"""The fake over HTTP, on loopback: every request is checked against Google's discovery document, and kept."""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import gcp_resources as resources
from gcp_bill import Bill, bill
from gcp_catalogue import Prices
from gcp_check import Call, check_reply, check_request
from gcp_state import Cloud

if TYPE_CHECKING:
    from collections.abc import Iterator

SKUS = "/v1/services/6F81-5844-456A/skus"
PAGE = 2
"""So few that every listing has more than one page."""


class Refused(Exception):
    """An HTTP error in Google's shape."""

    def __init__(self, status: int, reason: str, message: str = "") -> None:
        super().__init__(message)
        text = message or reason
        self.status = status
        self.reply = {"error": {"code": status, "message": text, "errors": [{"message": text, "reason": reason}]}}


class FakeGcp:
    """A cloud, its prices, and what it was asked."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.prices = Prices()
        self.calls: list[Call] = []
        self.times: list[tuple[str, float, float]] = []
        """Method, and when its request came and its reply went, by the monotonic clock."""
        self.problems: list[str] = []
        """What was wrong with any request, or with any reply of ours."""
        self.reply_after_s = 0.0
        """Each reply takes that much longer: for benchmarks."""
        self.page_size = PAGE
        self.other: Any = None
        """Answers what Compute Engine and the catalogue do not: (method, path, query, body) -> reply or None."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def bill(self) -> Bill:
        """What all of it has cost."""
        with self.cloud.lock:
            return bill(self.cloud, self.prices)

    def count(self, method: str) -> int:
        """How often a method was called."""
        return sum(1 for call in self.calls if call.method == method)

    def names(self) -> list[str]:
        """The methods that were called, in order, without their common beginning."""
        return [call.method.removeprefix("compute.") for call in self.calls]

    # Answering

    def answer(self, http_method: str, target: str, body: Any) -> tuple[int, Any, bool]:
        """Status and document for a request, and whether the reply is lost on its way."""
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        if path == SKUS:
            return self._catalogue(query)
        call = check_request(http_method, target, body)
        if self.other is not None and not call.method:
            return self.other(http_method, path, query, body)  # type: ignore[no-any-return]
        with self.cloud.lock:
            self.calls.append(call)
            self.problems += [f"{call.method or target}: {problem}" for problem in call.problems]
            zone = call.path.get("zone", "")
            rule = self.cloud.faults.take(call.method, zone, "http", "lost_reply", "lost_request")
            if rule is not None and rule.kind == "lost_request":
                return 0, None, True
            try:
                if call.problems:
                    raise Refused(400, "invalid", "; ".join(call.problems))
                if rule is not None and rule.kind == "http":
                    raise Refused(rule.status, rule.reason)
                self.cloud.look()
                reply = self._reply(call)
            except Refused as refused:
                return refused.status, refused.reply, False
            self.problems += [f"{call.method}: {problem}" for problem in check_reply(call.method, reply)]
            return 200, reply, rule is not None

    def _catalogue(self, query: dict[str, list[str]]) -> tuple[int, Any, bool]:
        if not self.prices.answers:
            return 403, Refused(403, "accessNotConfigured").reply, False
        return 200, self.prices.page(query.get("pageToken", [""])[0]), False

    def _reply(self, call: Call) -> dict[str, Any]:
        """What a valid call gets."""
        name = call.method.removeprefix("compute.").replace(".", "_")
        answer = getattr(self, "_" + re.sub("([A-Z])", r"_\1", name).lower())
        reply: dict[str, Any] = answer(call)
        return reply

    def _instances_insert(self, call: Call) -> dict[str, Any]:
        zone, name = call.path["zone"], call.body["name"]
        request_id = call.query.get("requestId", "")
        known = any(request_id and each.request_id == request_id for each in self.cloud.operations)
        if zone not in self.cloud.zones:
            raise Refused(404, "notFound", f"no zone {zone}")
        if not known and ((zone, name) in self.cloud.instances or (zone, name) in self.cloud.disks):
            raise Refused(409, "alreadyExists", f"{name} already exists")
        return resources.operation(self.cloud, self.cloud.make(zone, call.body, request_id))

    def _instances_get(self, call: Call) -> dict[str, Any]:
        return resources.instance(self.cloud, self._instance(call))

    def _instances_delete(self, call: Call) -> dict[str, Any]:
        operation = self.cloud.order_delete(self._instance(call), at=self.cloud.now(), user="me@example.com")
        return resources.operation(self.cloud, operation)

    def _instances_aggregated_list(self, call: Call) -> dict[str, Any]:
        listed = [(each.zone, resources.instance(self.cloud, each)) for each in self.cloud.instances.values()]
        page = _paged(_labelled(listed, call), call, self.page_size)
        return _aggregated("instances", page, self.cloud.unreachable)

    def _instances_get_serial_port_output(self, call: Call) -> dict[str, Any]:
        instance = self._instance(call)
        console = instance.agent.console(self.cloud.now())
        start = int(call.query.get("start", "0"))
        return {"contents": console[start:].decode(), "start": str(start), "next": str(max(len(console), start))}

    def _disks_get(self, call: Call) -> dict[str, Any]:
        return resources.disk(self.cloud, self._disk(call))

    def _disks_delete(self, call: Call) -> dict[str, Any]:
        disk = self._disk(call)
        if (disk.zone, disk.name) in self.cloud.instances:
            raise Refused(400, "resourceInUseByAnotherResource")
        return resources.operation(self.cloud, self.cloud.order_disk_deleted(disk))

    def _disks_aggregated_list(self, call: Call) -> dict[str, Any]:
        listed = [(each.zone, resources.disk(self.cloud, each)) for each in self.cloud.disks.values()]
        return _aggregated("disks", _paged(_labelled(listed, call), call, self.page_size))

    def _zone_operations_get(self, call: Call) -> dict[str, Any]:
        for each in self.cloud.kept_operations():
            if each.name == call.path["operation"]:
                return resources.operation(self.cloud, each)
        raise Refused(404, "notFound")

    def _zone_operations_list(self, call: Call) -> dict[str, Any]:
        wanted = re.fullmatch('targetLink eq "(.*)"', call.query["filter"])
        assert wanted, f"the fake does not know this filter: {call.query['filter']}"
        all_of_zone = [each for each in self.cloud.kept_operations() if each.zone == call.path["zone"]]
        items = [resources.operation(self.cloud, each) for each in all_of_zone]
        return _paged([each for each in items if re.fullmatch(wanted[1], each["targetLink"])], call, self.page_size)

    def _projects_get(self, _: Call) -> dict[str, Any]:
        return resources.project(self.cloud)

    def _regions_list(self, call: Call) -> dict[str, Any]:
        return _paged(resources.regions(self.cloud), call, self.page_size)

    def _firewalls_list(self, call: Call) -> dict[str, Any]:
        return _paged(resources.firewalls(self.cloud), call, self.page_size)

    def _firewalls_insert(self, call: Call) -> dict[str, Any]:
        if any(each["name"] == call.body["name"] for each in self.cloud.rules):
            raise Refused(409, "alreadyExists", f"{call.body['name']} already exists")
        return resources.operation(self.cloud, self.cloud.make_rule(call.body))

    def _accelerator_types_aggregated_list(self, call: Call) -> dict[str, Any]:
        listed = list(zip(self.cloud.zones, resources.accelerators(self.cloud), strict=True))
        return _aggregated("acceleratorTypes", _paged(listed, call, self.page_size))

    def _instance(self, call: Call) -> Any:
        found = self.cloud.instances.get((call.path["zone"], call.path["instance"]))
        if found is None:
            raise Refused(404, "notFound", f"{call.path['instance']} was not found")
        return found

    def _disk(self, call: Call) -> Any:
        found = self.cloud.disks.get((call.path["zone"], call.path["disk"]))
        if found is None:
            raise Refused(404, "notFound", f"{call.path['disk']} was not found")
        return found


def _labelled(listed: list[tuple[str, Any]], call: Call) -> list[tuple[str, Any]]:
    wanted = re.fullmatch(r"labels\.([a-z-]+)=(\S+)", call.query["filter"])
    assert wanted, f"the fake does not know this filter: {call.query['filter']}"
    return [(zone, each) for zone, each in listed if each["labels"].get(wanted[1]) == wanted[2]]


def _paged(items: list[Any], call: Call, size: int) -> dict[str, Any]:
    start = int(call.query.get("pageToken", "0"))
    following = start + size
    reply: dict[str, Any] = {"items": items[start:following]}
    return reply | ({"nextPageToken": str(following)} if following < len(items) else {})


def _aggregated(field: str, page: dict[str, Any], unreachable: str = "") -> dict[str, Any]:
    """By zone; a zone without any says so."""
    by_zone: dict[str, Any] = {
        "zones/us-west1-b": {"warning": {"code": "NO_RESULTS_ON_PAGE", "message": "There are no results."}}
    }
    if unreachable:
        by_zone[unreachable] = {"warning": {"code": "UNREACHABLE", "message": "It does not answer."}}
    for zone, each in page["items"]:
        by_zone.setdefault(f"zones/{zone}", {field: []})[field].append(each)
    return page | {"items": by_zone}


def _handler(fake: FakeGcp) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 1 << 16

        def log_message(self, *_: Any) -> None:
            """Silence."""

        def date_time_string(self, timestamp: float | None = None) -> str:
            """The cloud's own time."""
            return formatdate(fake.cloud.now().timestamp() if timestamp is None else timestamp, usegmt=True)

        def handle_one_request(self) -> None:
            """A client that has gone is no error."""
            try:
                super().handle_one_request()
            except ConnectionError:
                self.close_connection = True

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            began_s = time.monotonic()
            status, reply, lost = fake.answer(self.command, self.path, body)
            if fake.reply_after_s:
                time.sleep(fake.reply_after_s)
            fake.times.append((f"{self.command} {urlsplit(self.path).path}", began_s, time.monotonic()))
            if lost:
                self.close_connection = True
                return
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve  # noqa: N815 - the standard library's names

    return Handler


@contextmanager
def serving(cloud: Cloud) -> Iterator[FakeGcp]:
    """A fake that listens for a while."""
    fake = FakeGcp(cloud)
    try:
        yield fake
    finally:
        fake.close()
