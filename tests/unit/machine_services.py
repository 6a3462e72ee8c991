"""What a cloud offers to its machines, on loopback: the metadata services, and stores that check who asks.

S3 is moto's server behind a door that checks each signature with botocore's own signer. Google's store is the same
server (see store_places.py) behind a door that wants the token. Azure's is a small store of our own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

ROLE = {"AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": "wJalrXUtnFEMI", "Token": "a/session+token=="}
TOKEN = "ya29.token"


class Door(BaseHTTPRequestHandler):
    """The part of a handler that all of these share. `server.state` is the test's."""

    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """One reply."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        """What came with the request."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    @property
    def state(self) -> Any:
        """What the test has given the server."""
        return self.server.state  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def serving(handler: type[Door], state: Any = None) -> Iterator[str]:
    """A server for this handler; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.state = state  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Metadata:
    """What the metadata services say; a test changes it."""

    def __init__(self) -> None:
        self.role: dict[str, Any] = dict(ROLE)
        self.lasts_s = 3600
        self.spot: dict[str, str] | None = None
        self.preempted = "FALSE"
        self.events: list[dict[str, Any]] = []
        self.asked: list[str] = []


class MetadataDoor(Door):
    """The metadata services of the three clouds, with the headers that each demands."""

    def do_PUT(self) -> None:
        """EC2's session token."""
        self.body()
        right = self.path == "/latest/api/token" and self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        self.answer(200 if right else 400, b"imds-token")

    def do_GET(self) -> None:
        """Everything else."""
        told: Metadata = self.state
        path, _, query = self.path.partition("?")
        told.asked.append(path)
        google, azure = self.headers.get("Metadata-Flavor") == "Google", self.headers.get("Metadata") == "true"
        if path.startswith("/latest/meta-data/"):
            if self.headers.get("X-aws-ec2-metadata-token") != "imds-token":
                return self.answer(401)
            return self._ec2(told, path.removeprefix("/latest/meta-data/"))
        token = {"access_token": TOKEN, "expires_in": told.lasts_s, "token_type": "Bearer"}
        if google and path == "/computeMetadata/v1/instance/service-accounts/default/token":
            return self.answer(200, json.dumps(token).encode())
        if google and path == "/computeMetadata/v1/instance/preempted":
            return self.answer(200, told.preempted.encode())
        if azure and path == "/metadata/identity/oauth2/token":
            assert parse_qs(query)["resource"] == ["https://storage.azure.com/"]
            return self.answer(200, json.dumps({**token, "expires_in": str(told.lasts_s)}).encode())
        if azure and path == "/metadata/scheduledevents":
            return self.answer(200, json.dumps({"DocumentIncarnation": 1, "Events": told.events}).encode())
        return self.answer(404)

    def _ec2(self, told: Metadata, path: str) -> None:
        if path == "iam/security-credentials/":
            return self.answer(200, b"machine-role")
        if path == "iam/security-credentials/machine-role":
            until = datetime.now(UTC) + timedelta(seconds=told.lasts_s)
            return self.answer(200, json.dumps({**told.role, "Expiration": f"{until:%Y-%m-%dT%H:%M:%SZ}"}).encode())
        if path == "spot/instance-action" and told.spot:
            return self.answer(200, json.dumps(told.spot).encode())
        return self.answer(404)


class Gate:
    """What stands before a store: where it really is, and what a test wants of it."""

    def __init__(self, url: str, right: str) -> None:
        self.url = url
        self.right = right
        self.asked: list[tuple[str, str]] = []
        self.fail: list[int] = []
        """Statuses with which the next requests are answered."""
        self.forbid = ""
        """A method that is refused."""
        self.secret = ROLE["SecretAccessKey"]
        self.cut_at = -1
        """How many requests are let through before none is; -1: all."""
        self.largest = 0


class GateDoor(Door):
    """Lets a request through that is signed as the cloud wants it, and was sent whole."""

    def pass_on(self) -> None:
        """Check, and hand on to the real store."""
        gate: Gate = self.state
        body = self.body()
        gate.largest = max(gate.largest, len(body))
        gate.asked.append((self.command, self.path))
        if gate.fail:
            return self.answer(gate.fail.pop(0))
        if gate.cut_at == 0:
            self.close_connection = True
            return None
        gate.cut_at -= 1
        if gate.forbid == self.command or not self._is_right(gate):
            return self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        told = self.headers.get("Content-MD5")
        if told and base64.b64decode(told) != hashlib.md5(body).digest():
            return self.answer(400, b"<Error><Code>BadDigest</Code></Error>")
        kept = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "authorization")}
        # Moto asks for a signature, but does not check it.
        if "X-Amz-Signature" not in self.path:
            kept["Authorization"] = "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/s3/aws4_request, Signature=0"
        only_new = kept.pop("x-goog-if-generation-match", None)
        if only_new:
            kept["If-None-Match"] = "*"
        request = urllib.request.Request(gate.url + self.path, data=body or None, headers=kept, method=self.command)
        if body and "Content-Type" not in kept:
            request.add_unredirected_header("Content-Type", "application/octet-stream")
        try:
            with urllib.request.urlopen(request) as reply:
                return self.answer(reply.status, reply.read(), self._kept(reply.headers))
        except urllib.error.HTTPError as error:
            return self.answer(error.code, error.read(), self._kept(error.headers))

    do_GET = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815 - http.server's own names

    @staticmethod
    def _kept(headers: Any) -> dict[str, str]:
        return {name: headers[name] for name in ("ETag", "Content-Type") if headers[name]}

    def _is_right(self, gate: Gate) -> bool:
        if gate.right == "bearer":
            return self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if gate.right == "form":
            return self.command == "POST"
        return self.headers.get("Authorization") == self._signed(gate)

    def _signed(self, gate: Gate) -> str:
        """The signature as botocore makes it, for the time that the request names."""
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        given = self.headers.get("Authorization") or ""
        names = re.search("SignedHeaders=([^,]*)", given)
        wanted = {name: self.headers[name] for name in (names[1].split(";") if names else ()) if name in self.headers}
        request = AWSRequest(self.command, f"http://{self.headers['Host']}{self.path}", wanted)
        at = datetime.strptime(self.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        request.context.update(timestamp=self.headers["x-amz-date"], payload_signing_enabled=False)
        signer = S3SigV4Auth(Credentials(ROLE["AccessKeyId"], gate.secret, ROLE["Token"]), "s3", "us-east-1")
        assert abs((datetime.now(UTC) - at).total_seconds()) < 900, "RequestTimeTooSkewed"
        text = signer.canonical_request(request)
        return (
            f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={names[1] if names else ''}, "
            f"Signature={signer.signature(signer.string_to_sign(request, text), request)}"
        )


class BlobDoor(Door):
    """Azure's store: Put Blob, Put Block, Put Block List, Get Blob, List Blobs, Delete Blob, as documented.

    https://learn.microsoft.com/rest/api/storageservices/operations-on-blobs
    """

    def handle_one(self) -> None:
        """Check what every request must have, and do it."""
        gate: Gate = self.state
        body = self.body()
        gate.largest = max(gate.largest, len(body))
        gate.asked.append((self.command, self.path))
        if gate.fail:
            return self.answer(gate.fail.pop(0))
        if gate.cut_at == 0:
            self.close_connection = True
            return None
        gate.cut_at -= 1
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}" and self.headers.get("x-ms-version")
        if gate.forbid == self.command or not known or not self.headers.get("x-ms-date"):
            return self.answer(403, headers={"x-ms-error-code": "AuthorizationPermissionMismatch"})
        told = self.headers.get("Content-MD5")
        if told and base64.b64decode(told) != hashlib.md5(body).digest():
            return self.answer(400, headers={"x-ms-error-code": "Md5Mismatch"})
        parts = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        account, container, *rest = parts.path.removeprefix("/").split("/", 2)
        assert (account, container) == ("account", "box")
        return self._do(self.server.blobs, unquote(rest[0]) if rest else "", asked, body)  # type: ignore[attr-defined]

    do_GET = do_PUT = do_DELETE = handle_one  # noqa: N815 - http.server's own names

    def _do(self, blobs: dict[str, Any], name: str, asked: dict[str, str], body: bytes) -> None:
        if self.command == "PUT" and asked.get("comp") == "block":
            blobs.setdefault(f"\0{name}", {})[asked["blockid"]] = body
            return self.answer(201)
        if self.command == "PUT" and asked.get("comp") == "blocklist":
            blocks = blobs.pop(f"\0{name}")
            blobs[name] = b"".join(blocks[each] for each in re.findall("<Latest>([^<]*)</Latest>", body.decode()))
            return self.answer(201)
        if self.command == "PUT":
            assert self.headers["x-ms-blob-type"] == "BlockBlob"
            if self.headers.get("If-None-Match") == "*" and name in blobs:
                return self.answer(409, headers={"x-ms-error-code": "BlobAlreadyExists"})
            blobs[name] = body
            return self.answer(201)
        if asked.get("comp") == "list":
            return self._list(blobs, asked)
        if name not in blobs:
            return self.answer(404, headers={"x-ms-error-code": "BlobNotFound"})
        if self.command == "DELETE":
            del blobs[name]
            return self.answer(202)
        data: bytes = blobs[name]
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("x-ms-range") or ""):
            return self.answer(206, data[int(wanted[1]) : int(wanted[2]) + 1])
        return self.answer(200, data)

    def _list(self, blobs: dict[str, Any], asked: dict[str, str]) -> None:
        assert asked["restype"] == "container"
        names = sorted(n for n in blobs if n.startswith(asked["prefix"]) and n > asked.get("marker", ""))
        page = names[:30]  # Azure's own pages hold 5,000; of these there are several
        listed = "".join(f"<Blob><Name>{_xml(name)}</Name></Blob>" for name in page)
        more = page[-1] if len(names) > len(page) else ""
        text = f"<EnumerationResults><Blobs>{listed}</Blobs><NextMarker>{_xml(more)}</NextMarker></EnumerationResults>"
        self.answer(200, b"\xef\xbb\xbf" + b'<?xml version="1.0" encoding="utf-8"?>' + text.encode())


def _xml(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def encoded(text: str) -> str:
    """As a path of an address."""
    return quote(text, safe="/-_.~")
