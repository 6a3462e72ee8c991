"""A store that keeps nothing: as much of S3 as an upload needs, and a machine's role, on one port of the loopback.

    python benchmarks/sink.py        prints its address, and serves until its stdin is closed

It reads what it is sent as fast as it can, so that what is measured is the sender. `GET /manifests` says how many
manifests have come.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

READ_BYTES = 1 << 20
ROLE = {"AccessKeyId": "A", "SecretAccessKey": "S", "Token": "T", "Expiration": "2099-01-01T00:00:00Z"}
LIST = b"<ListBucketResult></ListBucketResult>"
UPLOAD = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"


class Sink(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    manifests = 0

    def _answer(self, body: bytes = b"") -> None:
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            left -= len(self.rfile.read(min(left, READ_BYTES)))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"e"')
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """A listing of nothing, the role, or the count."""
        if self.path == "/manifests":
            self._answer(str(Sink.manifests).encode())
        elif self.path.endswith("security-credentials/"):
            self._answer(b"role")
        elif self.path.endswith("security-credentials/role"):
            self._answer(json.dumps(ROLE).encode())
        else:
            self._answer(LIST)

    def do_PUT(self) -> None:
        """An object, a part, or the metadata service's session."""
        self._answer(b"session")
        Sink.manifests += "/manifest.json" in self.path

    def do_POST(self) -> None:
        """The begin or the end of an object in parts."""
        self._answer(UPLOAD if self.path.endswith("?uploads=") else b"")

    def do_DELETE(self) -> None:
        """Gone."""
        self._answer()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def main() -> None:
    """Serve until stdin is closed."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
