"""HTTP to a cloud's store: connections that stay open, and every request bounded and tried again.

A reply that refuses becomes an error of Python's own: PermissionError, FileNotFoundError, FileExistsError, else
OSError, with the store's own code in it and never an address, which may be a capability.
"""

from __future__ import annotations

import http.client
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from . import clock

TIMEOUT_S = 30.0
"""For each step of a request: to connect, to send a block, to be answered."""
WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Between the tries of one request."""
AGAIN = {408, 429, 500, 502, 503, 504}
_CODE = re.compile(rb"<Code>(\w+)</Code>")

Headers = dict[str, str]


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Web:
    """One service. `sign` gives the headers that say who asks, and is told when they were refused."""

    def __init__(self, base: str, sign: Callable[[str, str, Headers, float, bool], Headers]) -> None:
        parts = urlsplit(base)
        self.host, self.path, self.plain = parts.netloc, parts.path.rstrip("/"), parts.scheme == "http"
        self.sign = sign
        self.skew_s = 0.0
        """What the service's clock is ahead of this machine's: a signature must have the service's time."""
        self.sent = 0
        """Bytes that were sent, tries that failed included."""
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []

    def ask(
        self,
        method: str,
        target: str,
        body: bytes | Callable[[], Iterable[bytes]] = b"",
        headers: Headers | None = None,
        size: int = -1,
    ) -> Reply:
        """One request, until it is answered. Raises OSError.

        `target` is the path and the query below the base, encoded. A body may be a function, which gives it anew for
        each try; then `size` is its length.
        """
        length = str(len(body)) if isinstance(body, bytes) else str(size)
        renewed = False
        for wait_s in (*WAITS_S, None):
            try:
                reply = self._once(method, target, body, {**(headers or {}), "Content-Length": length}, renewed)
            except (OSError, http.client.HTTPException) as error:
                self.close()  # those that waited may be as dead
                if wait_s is None:
                    raise OSError(f"{type(error).__name__}: {error}") from error
            else:
                if reply.status < 300:
                    return reply
                refused = reply.status in (401, 403) or b"<Code>ExpiredToken</Code>" in reply.body
                if wait_s is None or not (reply.status in AGAIN or (refused and not renewed)):
                    raise _error(reply)
                renewed = renewed or refused
            time.sleep(wait_s)
        raise AssertionError

    def _once(
        self, method: str, target: str, body: bytes | Callable[[], Iterable[bytes]], headers: Headers, renew: bool
    ) -> Reply:
        target = self.path + target
        signed = self.sign(method, target, {**headers, "Host": self.host}, clock.wall() + self.skew_s, renew)
        connection = self._connection()
        try:
            connection.request(method, target, body if isinstance(body, bytes) else body(), signed)
            with self._lock:
                self.sent += int(headers["Content-Length"]) + len(target) + sum(map(len, signed.values()))
            answer = connection.getresponse()
            reply = Reply(answer.status, answer.headers, answer.read())
        except BaseException:
            connection.close()
            raise
        if answer.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.append(connection)
        if date := answer.headers["Date"]:
            self.skew_s = parsedate_to_datetime(date).timestamp() - clock.wall()
        return reply

    def _connection(self) -> http.client.HTTPConnection:
        """One that waits, or a new one, which its first request opens."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        if self.plain:
            made = http.client.HTTPConnection(self.host, timeout=TIMEOUT_S)
        else:
            made = http.client.HTTPSConnection(self.host, timeout=TIMEOUT_S, context=ssl.create_default_context())
        made.blocksize = 1 << 18
        return made

    def close(self) -> None:
        """Close what waits for another request."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def _error(reply: Reply) -> OSError:
    found = _CODE.search(reply.body)
    code = found[1].decode() if found else reply.headers["x-ms-error-code"] or http.client.responses.get(reply.status)
    said = f"the store answers {reply.status} {code}"
    if reply.status in (404, 409, 412):
        return FileNotFoundError(said) if reply.status == 404 else FileExistsError(said)
    return PermissionError(said) if reply.status in (401, 403) else OSError(said)
