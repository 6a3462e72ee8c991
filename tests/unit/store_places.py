"""Places that a store can be in: a folder, and the three clouds' object stores as they speak over HTTP on loopback.

S3 is moto's server. Google's store is the same server: obstore uses the XML interface there, which is S3's own apart
from how it is signed (https://cloud.google.com/storage/docs/interoperability). Azure's is Azurite, where there is one.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import re
import shutil
import subprocess
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from launcher.store.bucket import open_bucket
from launcher.store.store import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

BOUND_S = 60.0
# The account and key that every Azurite has: https://github.com/Azure/Azurite#default-storage-account
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Place:
    """An address, the environment that leads there, and a way to put a folder's content into it."""

    def __init__(self, url: str, environ: dict[str, str] | None = None) -> None:
        self.url = url
        self.environ = environ or {}
        self.bucket = open_bucket(url, self.environ)

    def store(self) -> Store:
        """The store at this address."""
        return open_store(self.url, self.environ)

    def send(self, folder: Path) -> None:
        """Put every file of a folder there, under its path."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.bucket.put(path.relative_to(folder).as_posix(), path.read_bytes())


@contextlib.contextmanager
def moto() -> Iterator[str]:
    """A server that speaks S3; its address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


def make_bucket(url: str) -> str:
    """A new bucket on that server; its name. No dash: obstore sends one to Google encoded, and moto keeps that."""
    name = f"bucket{uuid4().hex[:8]}"
    with urllib.request.urlopen(urllib.request.Request(f"{url}/{name}", method="PUT"), timeout=BOUND_S) as answer:
        assert answer.status == 200
    return name


def s3(url: str) -> Place:
    """A new bucket as S3."""
    return Place(f"s3://{make_bucket(url)}/some/prefix", {"AWS_ENDPOINT_URL": url})


def gcs(url: str) -> Place:
    """A new bucket as Google Cloud Storage."""
    return Place(f"gs://{make_bucket(url)}/some/prefix", {"STORAGE_EMULATOR_HOST": url})


@contextlib.contextmanager
def azurite(folder: Path, *more: str) -> Iterator[str]:
    """A server that speaks Azure Blob Storage; its address. Skips the test where there is none."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite-blob is not installed (npm install -g azurite)")
    log = folder / "azurite.log"
    with log.open("wb") as output:
        options = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--skipApiVersionCheck"]
        argv = [program, *options, "--disableTelemetry", *more]
        server = subprocess.Popen(argv, cwd=folder, stdout=output, stderr=output)
    try:
        until = time.monotonic() + BOUND_S
        while not (found := re.search(r"listens on (https?://\S+)", log.read_text())):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until, "Azurite did not start"
            time.sleep(0.05)
        yield found[1]
    finally:
        server.kill()
        server.wait()


def azure(url: str) -> Place:
    """A new container in Azurite."""
    name = f"container-{uuid4().hex[:8]}"
    # https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
    at = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    version = "2023-11-03"
    resource = f"/{AZURITE_ACCOUNT}/{AZURITE_ACCOUNT}/{name}\nrestype:container"
    text = "PUT" + "\n" * 12 + f"x-ms-date:{at}\nx-ms-version:{version}\n{resource}"
    signature = base64.b64encode(hmac.digest(base64.b64decode(AZURITE_KEY), text.encode(), hashlib.sha256)).decode()
    headers = {
        "x-ms-date": at,
        "x-ms-version": version,
        "Authorization": f"SharedKey {AZURITE_ACCOUNT}:{signature}",
        "Content-Length": "0",
    }
    address = f"{url}/{AZURITE_ACCOUNT}/{name}?restype=container"
    request = urllib.request.Request(address, method="PUT", headers=headers)
    with urllib.request.urlopen(request, timeout=BOUND_S) as answer:
        assert answer.status == 201
    environ = {
        "AZURE_STORAGE_ACCOUNT": AZURITE_ACCOUNT,
        "AZURE_STORAGE_KEY": AZURITE_KEY,
        "AZURE_STORAGE_ENDPOINT": url,
    }
    return Place(f"az://{name}/some/prefix", environ)
