"""The services that a cloud offers to its machines, with the documented answers.

Run in a network namespace of its own, as `boot_gateway.py FOLDER`. It serves the metadata services of the three clouds,
names (UDP 53), the two APIs by which a machine deletes itself (TLS, with FOLDER/key.pem), a web server that any
container may reach, and a registry that never answers. What was asked of it goes to FOLDER/requests, one JSON document
in each line. FOLDER/user-data is what EC2 gives to the machine, and FOLDER/refusals how many deletes are refused first.
"""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

METADATA = "169.254.169.254"
WIRESERVER = "168.63.129.16"
HERE = "10.0.0.1"
TOKEN = "secret-token"
FOLDER = Path(sys.argv[1])
ZONE = "projects/12345/zones/us-central1-a"

EC2 = {
    "meta-data/": b"instance-id\nlocal-hostname\nplacement/",
    "meta-data/instance-id": b"i-0123456789abcdef0",
    "meta-data/local-hostname": b"ip-10-0-0-2",
    "meta-data/placement/": b"availability-zone",
    "meta-data/placement/availability-zone": b"us-east-1a",
    "meta-data/iam/security-credentials/": b"machine-role",
    "meta-data/iam/security-credentials/machine-role": json.dumps(
        {"AccessKeyId": "AKID", "SecretAccessKey": "secret", "Token": TOKEN, "Expiration": "2099-01-01T00:00:00Z"}
    ).encode(),
}
# What a test has these say, once it does: FOLDER/<name>.
SAID = {
    "latest/meta-data/spot/instance-action": "spot",
    "computeMetadata/v1/instance/preempted": "preempted",
    "metadata/scheduledevents": "events",
}
GCP = {
    "service-accounts/default/token": json.dumps({"access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer"}),
    "preempted": "FALSE",
    "zone": ZONE,
    "name": "gl-machine-1",
}
AZURE = {
    "instance/compute": json.dumps(
        {
            "location": "eastus",
            "resourceGroupName": "gpulaunch-j-1",
            "resourceId": "/subscriptions/sub-1/resourceGroups/gpulaunch-j-1/providers/x",
            "subscriptionId": "sub-1",
            "tags": "resourceGroupName:wrong",
        }
    ),
    "scheduledevents": json.dumps({"DocumentIncarnation": 1, "Events": []}),
    "identity/oauth2/token": json.dumps({"access_token": TOKEN, "client_id": "c", "token_type": "Bearer"}),
}


class Handler(BaseHTTPRequestHandler):
    """Answers, and writes down what was asked."""

    def answer(self, status: int, body: str | bytes = b"") -> None:
        """One reply."""
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def note(self) -> None:
        """Write down what was asked, and when."""
        said = {
            "at": time.time(),
            "to": self.connection.getsockname()[0],
            "from": self.client_address[0],
            "method": self.command,
            "host": self.headers.get("Host"),
            "path": self.path,
            "authorization": self.headers.get("Authorization"),
        }
        with (FOLDER / "requests").open("a") as file:
            file.write(json.dumps(said) + "\n")

    def do_PUT(self) -> None:
        """EC2's session token (IMDSv2)."""
        self.note()
        self.answer(200 if self.path == "/latest/api/token" else 404, "imds-token")

    def do_GET(self) -> None:
        """Metadata."""
        self.note()
        path = self.path.partition("?")[0].removeprefix("/")
        if path in SAID and (FOLDER / SAID[path]).exists():
            return self.answer(200, (FOLDER / SAID[path]).read_bytes())
        if path.startswith("computeMetadata/v1/instance/"):
            found = GCP.get(path.removeprefix("computeMetadata/v1/instance/"))
            allowed = self.headers.get("Metadata-Flavor") == "Google"
        elif path.startswith("metadata/"):
            found = AZURE.get(path.removeprefix("metadata/"))
            allowed = self.headers.get("Metadata") == "true" and "api-version=" in self.path
        else:
            _, _, rest = path.partition("/")
            found = (FOLDER / "user-data").read_bytes() if rest == "user-data" else EC2.get(rest)
            allowed = True  # cloud-init asks without a token where the hardware is not EC2's
        if not allowed:
            return self.answer(401)
        if found is None:
            return self.answer(200 if self.server.server_port == 8080 else 404, "hello")
        return self.answer(200, found)

    def do_DELETE(self) -> None:
        """An API's delete, refused at first where the test says so."""
        self.note()
        refusals = int((FOLDER / "refusals").read_text())
        (FOLDER / "refusals").write_text(str(max(refusals - 1, 0)))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" or refusals:
            self.answer(403)
        else:
            self.answer(202)

    def log_message(self, *_: object) -> None:
        """Nothing: `note` has it."""


class Names(socketserver.BaseRequestHandler):
    """A name server that knows one answer for every name."""

    def handle(self) -> None:
        """One question of type A; others get an empty answer."""
        question, port = self.request
        name = question[12 : question.index(b"\0", 12)]
        kind = question[12 + len(name) + 1 : 12 + len(name) + 3]
        is_a = kind == b"\0\1"
        head = question[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0"
        asked = question[12 : 12 + len(name) + 5]
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(HERE) if is_a else b""
        port.sendto(head + asked + answer, self.client_address)


class Silent(socketserver.BaseRequestHandler):
    """A registry that takes the call and never says a word."""

    def handle(self) -> None:
        """Write down that it was called, and wait until the caller goes."""
        with (FOLDER / "requests").open("a") as file:
            file.write(json.dumps({"at": time.time(), "to": HERE, "method": "CALL", "path": ":5000"}) + "\n")
        while self.request.recv(1 << 16):
            pass


def main() -> None:
    """Serve until killed."""
    servers: list[socketserver.BaseServer] = [
        ThreadingHTTPServer((address, port), Handler)
        for address, port in ((METADATA, 80), (WIRESERVER, 80), (WIRESERVER, 32526), (HERE, 8080), (HERE, 443))
    ]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(FOLDER / "key.pem")
    api = servers[-1]
    assert isinstance(api, ThreadingHTTPServer)
    api.socket = context.wrap_socket(api.socket, server_side=True)
    servers.append(socketserver.ThreadingUDPServer((METADATA, 53), Names))
    servers.append(socketserver.ThreadingTCPServer((HERE, 5000), Silent))
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    (FOLDER / "ready").touch()
    threading.Event().wait()


if __name__ == "__main__":
    main()
