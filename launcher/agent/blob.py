"""Azure Blob Storage, with the token of the machine's managed identity.

https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api
"""

from __future__ import annotations

import base64
import time
from typing import Any
from xml.etree import ElementTree as ET

from .identity import Identity
from .objects import Objects, md5
from .s3 import encoded, query
from .web import Headers, Web

VERSION = "2021-12-02"


class Blob(Objects):
    """One container."""

    def __init__(self, store: dict[str, Any]) -> None:
        self.prefix: str = store["prefix"].strip("/")
        self.identity = Identity("blob", store.get("client_id", ""))
        endpoint = store.get("endpoint")  # a stand-in has the account in the path
        base = f"{endpoint}/{store['account']}" if endpoint else f"https://{store['account']}.blob.core.windows.net"
        self.container = f"/{encoded(store['container'])}"
        self.web = Web(base, self.sign)

    def sign(self, method: str, target: str, headers: Headers, now: float, renew: bool) -> Headers:
        """The headers with our token."""
        del method, target
        at = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now))
        token = self.identity.get(renew)["token"]
        return {**headers, "x-ms-version": VERSION, "x-ms-date": at, "Authorization": f"Bearer {token}"}

    def _name(self, path: str) -> str:
        return f"{self.prefix}/{path}" if self.prefix else path

    def _at(self, path: str) -> str:
        return f"{self.container}/{encoded(self._name(path), '/')}"

    def put(self, path: str, data: bytes) -> None:
        """Write a small blob."""
        self.web.ask("PUT", self._at(path), data, {"x-ms-blob-type": "BlockBlob", "Content-MD5": md5(data)})

    def claim(self, path: str) -> None:
        """Write an empty blob that is not there yet."""
        self.web.ask("PUT", self._at(path), b"", {"x-ms-blob-type": "BlockBlob", "If-None-Match": "*"})

    def begin(self, path: str) -> str:
        """Nothing is begun: blocks wait at the blob's own name, each named by its number."""
        del path
        return ""

    def part(self, path: str, upload: str, number: int, data: bytes) -> str:
        """Send one block; its name."""
        del upload
        block = base64.b64encode(f"{number:08d}".encode()).decode()
        self.web.ask("PUT", self._at(path) + query(blockid=block, comp="block"), data, {"Content-MD5": md5(data)})
        return block

    def finish(self, path: str, upload: str, parts: list[str]) -> None:
        """Make the blob of its blocks."""
        del upload
        listed = "".join(f"<Latest>{block}</Latest>" for block in parts)
        body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listed}</BlockList>'.encode()
        self.web.ask("PUT", self._at(path) + query(comp="blocklist"), body)

    def abort(self, path: str, upload: str) -> None:
        """Blocks that no blob was made of go by themselves, after a week."""

    def get(self, path: str, start: int = 0, size: int = 0) -> bytes:
        """A blob, or a part of it."""
        wanted = {"x-ms-range": f"bytes={start}-{start + size - 1}"} if size else {}
        return self.web.ask("GET", self._at(path), headers=wanted).body

    def below(self, path: str) -> list[str]:
        """All blobs below a path."""
        prefix = self._name(path) + "/"
        asked: dict[str, str | int] = {"restype": "container", "comp": "list", "prefix": prefix}
        found: list[str] = []
        while True:
            body = self.web.ask("GET", self.container + query(**asked)).body
            try:
                reply = ET.fromstring(body.decode("utf-8-sig"))  # noqa: S314 - the store's own reply
            except (ET.ParseError, ValueError) as error:
                raise OSError(f"the store's reply cannot be read: {error}") from error
            found += [each.findtext("Name") or "" for each in reply.iter("Blob")]
            asked["marker"] = reply.findtext("NextMarker") or ""
            if not asked["marker"]:
                return [name.removeprefix(prefix) for name in found]

    def remove(self, path: str) -> None:
        """Remove a blob; one that is not there is removed."""
        try:
            self.web.ask("DELETE", self._at(path))
        except FileNotFoundError:
            return
