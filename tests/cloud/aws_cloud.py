"""AWS in small: moto's server, with what moto lacks in front of it, and the hands of a person inside the cloud.

    cloud = AwsCloud().start()          # cloud.endpoint: give it to boto3 as AWS_ENDPOINT_URL
    python tests/cloud/aws_cloud.py     # prints its endpoint, and serves until its stdin is closed

In front of moto: ClientToken as EC2 keeps it, `resolve:ssm:` images, regions, prices, quotas, consoles, wrong keys, and
faults by rule. Every call is recorded. Hands: `power_off` (a guest that ends itself), `interrupt` (spot),
`fire_schedules`, `put_console`, `user_data`; `left` says what is still there.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import socket
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl, urlencode
from xml.sax.saxutils import escape

os.environ.setdefault("MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION", "1")
os.environ.setdefault("MOTO_ENABLE_AMI_VALIDATION", "1")

import botocore.loaders
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.ec2.models.instances import StateReason
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.scheduler.models import scheduler_backends
from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Reply = tuple[int, str, bytes]

REGIONS = ("us-east-1", "us-east-2", "us-west-2", "eu-west-1")
ON_DEMAND_USD = {"us-east-1": "0.526", "us-east-2": "0.526", "us-west-2": "0.526", "eu-west-1": "0.587"}
INSTANCE_TYPE = "g4dn.xlarge"
WRONG_KEY = "WRONG"
"""An access key that starts with this is not known to the cloud."""
OBJECT_HEADERS = ("Content-Length", "Content-Range", "ETag", "Last-Modified")
"""What S3's readers look at."""
XML, JSON = "text/xml", "application/x-amz-json-1.1"
EC2_NS = 'xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"'
_SIGNED = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/aws4_request")


@dataclass
class Call:
    """One call, as the cloud got it."""

    service: str
    action: str
    region: str
    key: str
    params: dict[str, str]
    began_s: float = 0.0
    ended_s: float = 0.0

    @property
    def name(self) -> str:
        """Such as `ec2:RunInstances`."""
        return f"{self.service}:{self.action}"

    @property
    def changes(self) -> bool:
        """Whether it makes or ends something."""
        return not self.action.startswith(("Describe", "Get", "List", "Head"))

    @property
    def zone(self) -> str:
        """The zone's id that a RunInstances asks for, by its subnet."""
        subnet = self.params.get("NetworkInterface.1.SubnetId", "")
        backend = ec2_backends[DEFAULT_ACCOUNT_ID][self.region]
        return str(backend.get_subnet(subnet)._availability_zone.zone_id) if subnet else ""


@dataclass
class Fault:
    """What happens to the next `times` calls that fit: refused with `code`, or their connection is cut.

    An empty `action`, `region`, `zone` or `key` fits all.
    """

    action: str
    code: str = ""
    status: int = 400
    message: str = "as the test wants it"
    region: str = ""
    zone: str = ""
    key: str = ""
    """Only calls that are signed with this access key."""
    lost: str = ""
    """`request`: the connection is cut before the call is carried out; `reply`: after."""
    times: int = 1_000_000
    skip: int = 0
    """So many calls that fit are let through first."""
    does: Callable[[], None] | None = None
    """Called before the connection is cut, such as to kill a process at this very moment."""

    def fits(self, call: Call) -> bool:
        """Whether this call is meant."""
        return (
            self.times > 0
            and self.action in ("", call.action)
            and self.region in ("", call.region)
            and self.key in ("", call.key)
            and (not self.zone or self.zone == call.zone)
        )


@cache
def the_cloud() -> AwsCloud:
    """One for all tests of this process: setting moto up takes longer than most of them do.

    So does reading the SDK's own descriptions of EC2, megabytes of them: they are read once too.
    """
    botocore.loaders.create_loader = cache(botocore.loaders.create_loader)
    return AwsCloud().start()


class AwsCloud:
    """The whole cloud. `now` is its clock: it stands in the Date of each reply."""

    def __init__(self, *, regions: Iterable[str] = REGIONS) -> None:
        self.regions = tuple(regions)
        self.account_id = DEFAULT_ACCOUNT_ID
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.RLock()
        self.endpoint = ""
        self.reset()

    def reset(self) -> None:
        """A new account: nothing was ever made in it. `clear` is faster, and does for most tests."""
        moto_api_backend.reset()
        self._forget()

    def clear(self) -> None:
        """End and remove whatever was made, and forget what a test said. The terminated instances stay."""
        with self._lock:
            for instance in self.alive():
                self.instances()[instance].terminate()
            for _, group, schedule in self.schedules():
                del group.schedules[schedule.name]
            for region in self.regions:
                for groups in _ec2(region).groups.values():
                    for group in list(groups.values()):
                        group.ingress_rules.clear()
                        if group.name != "default":
                            del groups[group.id]
            self._forget()

    def _forget(self) -> None:
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        self.delay_s = 0.0
        self.no_default_vpc: set[str] = set()
        self.on_demand_usd = dict(ON_DEMAND_USD)
        self.spot_usd: dict[str, str] = {}
        self.quotas: dict[tuple[str, str], float] = {}
        self._consoles: dict[str, str] = {}
        self._tokens: dict[tuple[str, str], tuple[str, str, bytes]] = {}
        self._accounts: dict[str, str] = {}

    def start(self) -> AwsCloud:
        """Serve on a free port of the loopback."""
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=_Quiet)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def stop(self) -> None:
        """Serve no more: connections are refused."""
        self._server.shutdown()
        self._server.server_close()

    def variables(self, key: str = "K") -> dict[str, str]:
        """What a program's environment needs, so that it speaks to this cloud with that access key."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": "S",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    # What a test says and sees

    def fault(self, action: str, code: str = "", **how: Any) -> Fault:
        """Add a fault; the first that fits a call holds."""
        self.faults.append(Fault(action, code, **how))
        return self.faults[-1]

    def names(self, *, changing: bool = False) -> list[str]:
        """The names of all calls so far, in order; only of those that change something, if `changing`."""
        return [call.name for call in self.calls if call.changes or not changing]

    def instances(self) -> dict[str, Any]:
        """Every instance that was ever made, by id, as moto has it."""
        return {i.id: i for region in self.regions for r in _ec2(region).reservations.values() for i in r.instances}

    def alive(self) -> list[str]:
        """The ids of the instances that are not terminated."""
        return sorted(i.id for i in self.instances().values() if i.state != "terminated")

    def region_of(self, instance: str) -> str:
        """Where an instance is."""
        return str(self.instances()[instance].ec2_backend.region_name)

    def user_data(self, instance: str) -> bytes:
        """What its machine is to run, as its maker sent it."""
        return base64.b64decode(str(self.instances()[instance].user_data))

    def put_console(self, instance: str, text: str) -> None:
        """What its serial console shows from now on."""
        self._consoles[instance] = text

    def power_off(self, instance: str, *, tells_when: bool = False) -> None:
        """The machine switches itself off. EC2 does not always say when that was."""
        self._end(instance, "Client.InstanceInitiatedShutdown", "Instance initiated shutdown", tells_when=tells_when)

    def interrupt(self, instance: str) -> None:
        """The cloud takes a spot machine back."""
        self._end(instance, "Server.SpotInstanceTermination", "Spot instance termination", tells_when=True)

    def fail_to_start(self, instance: str, code: str) -> None:
        """It was accepted, and ends before it runs."""
        self._end(instance, code, code, tells_when=False)

    def _end(self, instance: str, code: str, why: str, *, tells_when: bool) -> None:
        with self._lock:
            found = self.instances()[instance]
            if found.state == "terminated":
                return
            assert found.instance_initiated_shutdown_behavior == "terminate", "it would be stopped, and its disk billed"
            found.terminate()
            found.state_reason = StateReason(f"{code}: {why}", code)
            found._reason = f"{why} ({self.now():%Y-%m-%d %H:%M:%S} GMT)" if tells_when else ""

    def schedules(self) -> list[Any]:
        """Every schedule, as moto has it."""
        found = []
        for region in self.regions:
            for group in scheduler_backends[DEFAULT_ACCOUNT_ID][region].schedule_groups.values():
                found += [(region, group, schedule) for schedule in group.schedules.values()]
        return found

    def fire_schedules(self) -> None:
        """Carry out every schedule whose time has come; like the real ones, they then delete themselves."""
        with self._lock:
            for _, group, schedule in self.schedules():
                at = datetime.strptime(schedule.schedule_expression, "at(%Y-%m-%dT%H:%M:%S)").replace(tzinfo=UTC)
                if self.now() >= at:
                    for instance in json.loads(schedule.target["Input"])["InstanceIds"]:
                        if instance in self.alive():
                            self.instances()[instance].terminate()
                    del group.schedules[schedule.name]

    def left(self) -> list[str]:
        """All that is still there and was made by somebody: instances, volumes, interfaces, groups, schedules."""
        found = [f"instance {each}" for each in self.alive()]
        for region in self.regions:
            backend = _ec2(region)
            found += [f"volume {each}" for each in backend.volumes]
            found += [f"network interface {each}" for each in backend.enis]
            groups = (group for by_id in backend.groups.values() for group in by_id.values())
            found += [f"security group {group.name}" for group in groups if group.name != "default"]
        return found + [f"schedule {schedule.name}" for _, _, schedule in self.schedules()]

    # Serving

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        call = _read_call(environ, body)
        call.began_s = time.monotonic()
        with self._lock:
            self.calls.append(call)
            fault = next((fault for fault in self.faults if fault.fits(call)), None)
            if fault is not None and fault.skip:
                fault.skip, fault = fault.skip - 1, None
            if fault is not None:
                fault.times -= 1
        if fault is not None and fault.lost == "request":
            _cut(environ, fault)
        if self.delay_s:
            time.sleep(self.delay_s)
        if fault is not None and fault.code:
            status, kind, reply = _error(call, fault.code, fault.status, fault.message)
        else:
            with self._lock:
                status, kind, reply = self._answer(call, environ, body)
        if fault is not None and fault.lost == "reply":
            _cut(environ, fault)
        call.ended_s = time.monotonic()
        stamp = self.now().strftime("%a, %d %b %Y %H:%M:%S GMT")
        told: dict[str, str] = environ.get("moto.headers", {})
        length = told.pop("Content-Length", str(len(reply)))
        length = length if environ["REQUEST_METHOD"] == "HEAD" else str(len(reply))
        headers = [("Content-Type", kind), ("Content-Length", length), ("Date", stamp), *told.items()]
        if call.service == "s3" and call.action.startswith("Head"):
            headers.append(("x-amz-bucket-region", call.region))
        start_response(f"{status} said", headers)
        return [reply]

    def _answer(self, call: Call, environ: dict[str, Any], body: bytes) -> Reply:
        if call.key.startswith(WRONG_KEY):
            code = "AuthFailure" if call.service == "ec2" else "InvalidClientTokenId"
            return _error(call, code, 401 if call.service == "ec2" else 403, "The security token is invalid.")
        special = getattr(self, f"_{call.service}_{call.action}".replace("-", "_"), None)
        if special is not None:
            found: Reply | None = special(call, environ)
            if found is not None:
                return found
        if call.service == "ec2":
            body = urlencode(call.params).encode()  # with what was changed in them
        return self._ask_moto(environ, body)

    def _ask_moto(self, environ: dict[str, Any], body: bytes) -> Reply:
        said: dict[str, Any] = {}

        def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
            said["status"] = int(status.split(maxsplit=1)[0])
            said["kind"] = next((value for name, value in headers if name.lower() == "content-type"), XML)
            known = {name.lower(): value for name, value in headers}
            environ["moto.headers"] = {name: known[name.lower()] for name in OBJECT_HEADERS if name.lower() in known}

        inner = {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        inner.pop("wsgi.input_terminated", None)
        reply = b"".join(self._moto(inner, start_response))
        return said["status"], said["kind"], reply

    # What moto does not have, or not as AWS does it

    def _sts_GetCallerIdentity(self, call: Call, environ: dict[str, Any]) -> Reply | None:  # noqa: N802 - AWS's name
        account = self._accounts.get(call.key, self.account_id)
        text = (
            '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
            f"<Arn>arn:aws:iam::{account}:user/test</Arn><UserId>AIDA</UserId><Account>{account}</Account>"
            "</GetCallerIdentityResult></GetCallerIdentityResponse>"
        )
        return 200, XML, text.encode()

    def give_account(self, key: str, account: str) -> None:
        """An access key belongs to another account, as far as STS says."""
        self._accounts[key] = account

    def _ec2_DescribeRegions(self, call: Call, environ: dict[str, Any]) -> Reply | None:  # noqa: N802
        rows = "".join(
            f"<item><regionName>{region}</regionName><optInStatus>opt-in-not-required</optInStatus></item>"
            for region in self.regions
        )
        return _ec2_reply("DescribeRegions", f"<regionInfo>{rows}</regionInfo>")

    def _ec2_DescribeSubnets(self, call: Call, environ: dict[str, Any]) -> Reply | None:  # noqa: N802
        return _ec2_reply("DescribeSubnets", "<subnetSet/>") if call.region in self.no_default_vpc else None

    def _ec2_RunInstances(self, call: Call, environ: dict[str, Any]) -> Reply | None:  # noqa: N802
        token = call.params.get("ClientToken", "")
        asked = json.dumps(call.params, sort_keys=True)
        known = self._tokens.get((call.region, token))
        if known is not None:
            before, instance, reply = known
            if before != asked:
                return _error(call, "IdempotentParameterMismatch", 400, "The token was used for another request.")
            if self.instances()[instance].state == "terminated":
                return _error(call, "IdempotentInstanceTerminated", 400, "The instance has been terminated.")
            return 200, XML, reply
        if len(base64.b64decode(call.params.get("UserData", ""))) > 16_384:
            return _error(call, "InvalidParameterValue", 400, "User data is limited to 16384 bytes")
        if call.params["ImageId"].startswith("resolve:ssm:/aws/service/deeplearning/"):
            call.params["ImageId"] = _an_image(call.region)
        status, kind, reply = self._ask_moto(environ, urlencode(call.params).encode())
        if status == 200 and token:
            instance = re.search(rb"<instanceId>(i-[0-9a-f]+)</instanceId>", reply)[1].decode()  # type: ignore[index]
            self._tokens[call.region, token] = (asked, instance, reply)
        return status, kind, reply

    def _ec2_DescribeInstances(self, call: Call, environ: dict[str, Any]) -> Reply | None:  # noqa: N802
        if call.params.get("Filter.1.Name") != "client-token":
            return None
        known = self._tokens.get((call.region, call.params["Filter.1.Value.1"]))
        if known is None:
            return _ec2_reply("DescribeInstances", "<reservationSet/>")
        call.params.update({"Filter.1.Name": "instance-id", "Filter.1.Value.1": known[1]})
        return None

    def _ec2_TerminateInstances(self, call: Call, environ: dict[str, Any]) -> Reply | None:  # noqa: N802
        """The second time moto fails over an interface that is gone already; EC2 does not."""
        instance = self.instances().get(call.params["InstanceId.1"])
        if instance is None or instance.state != "terminated":
            return None
        state = "<code>48</code><name>terminated</name>"
        row = f"<instanceId>{instance.id}</instanceId><currentState>{state}</currentState>"
        row = f"<item>{row}<previousState>{state}</previousState></item>"
        return _ec2_reply("TerminateInstances", f"<instancesSet>{row}</instancesSet>")

    def _ec2_GetConsoleOutput(self, call: Call, environ: dict[str, Any]) -> Reply | None:  # noqa: N802
        instance = call.params["InstanceId"]
        if instance not in self.instances():
            return _error(call, "InvalidInstanceID.NotFound", 400, f"The instance ID '{instance}' does not exist")
        said = base64.b64encode(self._consoles.get(instance, "").encode()[-65_536:]).decode()
        row = f"<instanceId>{instance}</instanceId><timestamp>{_iso(self.now())}</timestamp><output>{said}</output>"
        return _ec2_reply("GetConsoleOutput", row)

    def _ec2_DescribeSpotPriceHistory(self, call: Call, environ: dict[str, Any]) -> Reply | None:  # noqa: N802
        since = datetime.fromisoformat(call.params["StartTime"]) - timedelta(hours=1)
        price = self.spot_usd.get(call.region, str(Decimal(self.on_demand_usd[call.region]) / 2))
        rows = "".join(
            f"<item><instanceType>{INSTANCE_TYPE}</instanceType><productDescription>Linux/UNIX</productDescription>"
            f"<spotPrice>{price}</spotPrice><timestamp>{_iso(since)}</timestamp><availabilityZone>{zone.name}"
            f"</availabilityZone><availabilityZoneId>{zone.zone_id}</availabilityZoneId></item>"
            for zone in _ec2(call.region).describe_availability_zones()
        )
        return _ec2_reply("DescribeSpotPriceHistory", f"<spotPriceHistorySet>{rows}</spotPriceHistorySet>")

    def _pricing_GetProducts(self, call: Call, environ: dict[str, Any]) -> Reply | None:  # noqa: N802
        products = [
            json.dumps(
                {
                    "product": {"attributes": {"regionCode": region, "instanceType": INSTANCE_TYPE}},
                    "terms": {
                        "OnDemand": {"T": {"priceDimensions": {"D": {"unit": "Hrs", "pricePerUnit": {"USD": usd}}}}}
                    },
                }
            )
            for region, usd in self.on_demand_usd.items()
        ]
        return 200, JSON, json.dumps({"FormatVersion": "aws_v1", "PriceList": products}).encode()

    def _servicequotas_GetServiceQuota(self, call: Call, environ: dict[str, Any]) -> Reply | None:  # noqa: N802
        code = call.params["QuotaCode"]
        value = self.quotas.get((call.region, code), 8.0)
        return 200, JSON, json.dumps({"Quota": {"ServiceCode": "ec2", "QuotaCode": code, "Value": value}}).encode()


class _Quiet(WSGIRequestHandler):
    """Connections that stay open, and no talk."""

    protocol_version = "HTTP/1.1"

    def send_response(self, code: int, message: str | None = None) -> None:
        """Without a Date of its own: the cloud has a clock."""
        self.send_response_only(code, message)

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's name
        """Nothing."""


def _ec2(region: str) -> Any:
    return ec2_backends[DEFAULT_ACCOUNT_ID][region]


def _an_image(region: str) -> str:
    """An image of moto's with the root device of the Deep Learning image."""
    images = _ec2(region).amis.values()
    return str(
        next(image.id for image in images if image.root_device_name == "/dev/sda1" and image.platform != "windows")
    )


def _read_call(environ: dict[str, Any], body: bytes) -> Call:
    """Which call this is, by its signature and its protocol."""
    signed = _SIGNED.search(environ.get("HTTP_AUTHORIZATION", ""))
    key, region, service = signed.groups() if signed else ("", "", "s3")
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        params = {name: str(value) for name, value in json.loads(body or b"{}").items()}
        return Call(service, target.rpartition(".")[2], region, key, params)
    form = dict(parse_qsl(body.decode("utf-8", "replace"))) if service in ("ec2", "sts", "iam") else {}
    if "Action" in form:
        return Call(service, form["Action"], region, key, form)
    verbs = {"POST": "Create", "PUT": "Put", "DELETE": "Delete", "GET": "Get", "HEAD": "Head"}
    things = {"scheduler": "Schedule", "s3": "Object"}
    action = f"{verbs.get(environ['REQUEST_METHOD'], '')}{things.get(service, '')}"
    return Call(service, action, region, key, {"path": environ["PATH_INFO"]})


def _error(call: Call, code: str, status: int, message: str) -> Reply:
    """An error as the service's protocol has it."""
    if call.service == "ec2":
        said = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
        return status, XML, f"<Response><Errors>{said}</Errors></Response>".encode()
    if call.service in ("sts", "iam", "s3"):
        text = f"<ErrorResponse><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error></ErrorResponse>"
        return status, XML, text.encode()
    return status, JSON, json.dumps({"__type": code, "Message": message, "message": message}).encode()


def _ec2_reply(action: str, inner: str) -> Reply:
    return 200, XML, f"<{action}Response {EC2_NS}><requestId>r</requestId>{inner}</{action}Response>".encode()


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _cut(environ: dict[str, Any], fault: Fault) -> NoReturn:
    """End the connection without a word."""
    if fault.does is not None:
        fault.does()
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError("as the test wants it")


def main() -> None:
    """Serve until stdin is closed."""
    cloud = AwsCloud().start()
    print(cloud.endpoint, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
