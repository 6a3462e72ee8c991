"""A way from a machine's network to one port of this computer, and nothing else: a Unix socket between two namespaces.

In the machine's namespace, `boot_relay.py PORT SOCKET` listens on 127.0.0.1 at PORT; `Relay` stands at the socket's
other end and calls the same port here. So a service has one address for both.
"""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from pathlib import Path


def join(one: socket.socket, other: socket.socket, cut: threading.Event | None = None) -> None:
    """Pass on what either says, until both are done; once it is `cut`, nothing arrives, and nobody is told."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 18):
                if cut is None or not cut.is_set():
                    target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            for each in (source, target):
                each.close()

    back = threading.Thread(target=pump, args=(other, one), daemon=True)
    back.start()
    pump(one, other)
    back.join()
    one.close()
    other.close()


class Relay:
    """The end on this computer. Once `cut` is set nothing gets through, as on a line that is dead."""

    def __init__(self, path: Path, port: int) -> None:
        self.cut = threading.Event()
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                join(self.request, socket.create_connection(("127.0.0.1", port)), outer.cut)

        self._server = socketserver.ThreadingUnixStreamServer(str(path), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take it away."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class There(socketserver.BaseRequestHandler):
    """The end in the machine's namespace."""

    def handle(self) -> None:
        """One connection."""
        other = socket.socket(socket.AF_UNIX)
        other.connect(sys.argv[2])
        join(self.request, other)


def main() -> None:
    """Serve until killed."""
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    server = socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), There)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
