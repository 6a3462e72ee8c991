"""Amazon S3 and, by its XML interface, Google's store: the same words, another signature.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
https://cloud.google.com/storage/docs/xml-api/reference-methods
"""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_plus, urlsplit
from xml.etree import ElementTree as ET

from .identity import Identity
from .objects import READ_BYTES, Objects, md5, version
from .web import Headers, Web

UNSIGNED = "UNSIGNED-PAYLOAD"
"""The body is checked by its Content-MD5, and kept from others by TLS."""
LARGEST_POST = 5_000_000_000
"""https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html: 5 GB, in one request."""


def encoded(text: str, safe: str = "") -> str:
    """As RFC 3986 and both signatures have it."""
    return quote(text, safe + "-_.~")


def query(**values: str | int) -> str:
    """A query whose names are in order, as the signature wants it."""
    return "?" + "&".join(f"{encoded(name)}={encoded(str(values[name]))}" for name in sorted(values))


def signature(method: str, target: str, headers: Headers, now: float, region: str, who: dict[str, str]) -> Headers:
    """The headers of a request with those of Signature Version 4; `target` is encoded, its query in order."""
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    scope = f"{at[:8]}/{region}/s3/aws4_request"
    full = {**headers, "x-amz-date": at, "x-amz-content-sha256": UNSIGNED, "x-amz-security-token": who["token"]}
    low = {name.lower(): value.strip() for name, value in full.items() if name != "Content-Length"}
    names = ";".join(sorted(low))
    path, _, asked = target.partition("?")
    lines = [method, path, asked, *(f"{name}:{low[name]}" for name in sorted(low)), "", names, UNSIGNED]
    told = "\n".join(["AWS4-HMAC-SHA256", at, scope, hashlib.sha256("\n".join(lines).encode()).hexdigest()])
    key = ("AWS4" + who["secret"]).encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    signed = hmac.digest(key, told.encode(), "sha256").hex()
    given = f"AWS4-HMAC-SHA256 Credential={who['id']}/{scope}, SignedHeaders={names}, Signature={signed}"
    return {**full, "Authorization": given}


class S3(Objects):
    """Amazon S3, with the credentials of the instance's role."""

    only_new = ("If-None-Match", "*")

    def __init__(self, store: dict[str, Any]) -> None:
        self.bucket: str = store["bucket"]
        self.region: str = store.get("region") or "us-east-1"
        self.prefix: str = store["prefix"].strip("/")
        self.identity = Identity(store["kind"])
        self.web = Web(store.get("endpoint") or self.usual(), self.sign)
        # The bucket is a part of the host's name, unless that is another's or has dots that no certificate covers.
        self.base = "" if self.web.host.startswith(f"{self.bucket}.") else f"/{encoded(self.bucket)}"

    def usual(self) -> str:
        """Where the bucket is reached when the orders do not say so."""
        suffix = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        own = "" if "." in self.bucket else f"{self.bucket}."
        return f"https://{own}s3.{self.region}.{suffix}"

    def sign(self, method: str, target: str, headers: Headers, now: float, renew: bool) -> Headers:
        """The headers with our signature."""
        return signature(method, target, headers, now, self.region, self.identity.get(renew))

    def _key(self, path: str) -> str:
        return f"{self.prefix}/{path}" if self.prefix else path

    def _at(self, path: str) -> str:
        return f"{self.base}/{encoded(self._key(path), '/')}"

    def put(self, path: str, data: bytes) -> None:
        """Write a small object."""
        self.web.ask("PUT", self._at(path), data, {"Content-MD5": md5(data)})

    def claim(self, path: str) -> None:
        """Write an empty object that is not there yet."""
        name, value = self.only_new
        self.web.ask("PUT", self._at(path), b"", {name: value})

    def begin(self, path: str) -> str:
        """Begin an object in parts."""
        reply = self.web.ask("POST", self._at(path) + "?uploads=")
        return _texts(reply.body, "UploadId")[0]

    def part(self, path: str, upload: str, number: int, data: bytes) -> str:
        """Send one part; its tag."""
        target = self._at(path) + query(partNumber=number, uploadId=upload)
        return str(self.web.ask("PUT", target, data, {"Content-MD5": md5(data)}).headers["ETag"])

    def finish(self, path: str, upload: str, parts: list[str]) -> None:
        """Make the object of its parts. An error may come with status 200, since it may take long."""
        listed = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>" for number, tag in enumerate(parts, 1)
        )
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        reply = self.web.ask("POST", self._at(path) + query(uploadId=upload), body)
        if codes := _texts(reply.body, "Code"):
            raise OSError(f"the store answers {codes[0]}")

    def abort(self, path: str, upload: str) -> None:
        """Take the parts back."""
        self.web.ask("DELETE", self._at(path) + query(uploadId=upload))

    def get(self, path: str, start: int = 0, size: int = 0) -> bytes:
        """An object, or a part of it."""
        wanted = {"Range": f"bytes={start}-{start + size - 1}"} if size else {}
        return self.web.ask("GET", self._at(path), headers=wanted).body

    def below(self, path: str) -> list[str]:
        """All objects below a path."""
        prefix = self._key(path) + "/"
        asked: dict[str, str | int] = {"list-type": 2, "prefix": prefix, "encoding-type": "url"}
        found: list[str] = []
        while True:
            reply = self.web.ask("GET", (self.base or "/") + query(**asked)).body
            found += [unquote_plus(key) for key in _texts(reply, "Key")]
            more = _texts(reply, "NextContinuationToken")
            if not more:
                return [key.removeprefix(prefix) for key in found]
            asked["continuation-token"] = more[0]

    def remove(self, path: str) -> None:
        """Remove an object; one that is not there is removed."""
        try:
            self.web.ask("DELETE", self._at(path))
        except FileNotFoundError:
            return


class Gcs(S3):
    """Google's store, with the token of the machine's service account."""

    only_new = ("x-goog-if-generation-match", "0")

    def usual(self) -> str:
        """The one address of all buckets."""
        return "https://storage.googleapis.com"

    def sign(self, method: str, target: str, headers: Headers, now: float, renew: bool) -> Headers:
        """The headers with our token."""
        del method, target, now
        return {**headers, "Authorization": f"Bearer {self.identity.get(renew)['token']}"}


class Post(S3):
    """A form that may be sent to S3 until the hard deadline: it writes below the prefix, and can do nothing else.

    For machines without a role: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTForms.html
    """

    readable = False

    def __init__(self, store: dict[str, Any]) -> None:
        super().__init__({**store, "endpoint": "{0.scheme}://{0.netloc}".format(urlsplit(store["post"]["url"]))})
        self.target = urlsplit(store["post"]["url"]).path or "/"
        self.fields: dict[str, str] = store["post"]["fields"]

    def sign(self, method: str, target: str, headers: Headers, now: float, renew: bool) -> Headers:
        """The form itself has the signature."""
        del method, target, now, renew
        return headers

    def put(self, path: str, data: bytes) -> None:
        """Write a small object."""
        self._post(path, lambda: iter([data]), len(data))

    def send(self, path: str, source: Path) -> dict[str, Any] | None:
        """Send one file in one request, as it is read."""
        before = version(source.stat())
        if before[0] > LARGEST_POST:
            raise OSError(f"{source.name} has more than 5 GB, which a form cannot hold")
        digest = hashlib.sha256()

        def read() -> Iterator[bytes]:
            nonlocal digest
            digest = hashlib.sha256()
            left = before[0]
            with source.open("rb") as file:
                while left and (data := file.read(min(left, READ_BYTES))):
                    left -= len(data)
                    digest.update(data)
                    yield data
            while left:  # it became shorter, and its length was promised
                yield bytes(min(left, READ_BYTES))
                left -= min(left, READ_BYTES)

        self._post(path, read, before[0])
        if version(source.stat()) != before:
            return None
        return {"size": before[0], "mtime_ns": before[1], "sha256": digest.hexdigest()}

    def _post(self, path: str, read: Any, size: int) -> None:
        edge = uuid.uuid4().hex
        fields = {**self.fields, "key": self._key(path)}
        head = "".join(
            f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        )
        head += f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n\r\n'
        tail = f"\r\n--{edge}--\r\n".encode()

        def body() -> Iterator[bytes]:
            yield head.encode()
            yield from read()
            yield tail

        kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        self.web.ask("POST", self.target, body, kind, len(head.encode()) + size + len(tail))


def _texts(document: bytes, name: str) -> list[str]:
    """The texts of all elements of that name, whatever their name space. Raises OSError for what is no XML."""
    if not document.strip():
        return []
    try:
        return [each.text or "" for each in ET.fromstring(document).iter() if each.tag.rpartition("}")[2] == name]  # noqa: S314 - the store's own reply
    except ET.ParseError as error:
        raise OSError(f"the store's reply cannot be read: {error}") from error
