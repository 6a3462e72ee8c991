"""One bucket, or one folder in its place: list, read and write, each with bounded time and errors to act on.

    /a/folder              a folder of this computer
    s3://bucket/prefix     Amazon S3, and what speaks its language
    gs://bucket/prefix     Google Cloud Storage
    az://container/prefix  Azure Blob Storage, in the account that AZURE_STORAGE_ACCOUNT names

The bounds hold for the network; a folder on a file system that hangs hangs with it.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.core.errors import Exit, GpulaunchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import BinaryIO

    from obstore.store import ObjectStore

# One request moves at most one part: 8 MiB in a minute is slower than any line on which a checkpoint is of use.
PART_BYTES = 8 << 20
REQUEST_TIMEOUT_S = 60
CONNECT_TIMEOUT_S = 10
RETRIES = 4
RETRY_TIMEOUT_S = 60
LOOPBACK = ("127.0.0.1", "::1", "localhost")

# The clouds' own codes, as their answers hold them.
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList
# https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_NO_ENTRY = {"ExpiredToken", "InvalidToken", "AuthenticationFailed", "InvalidAuthenticationInfo"}
_CODE = re.compile(r"<Code>(\w+)</Code>")


class StoreError(GpulaunchError):
    """The root of what a store raises.

    GpulaunchError
    └── StoreError
        ├── StoreAuthError     who we are, or what we may do
        ├── StoreNotFound      no such bucket
        ├── ObjectNotFound     the bucket is there, the object is not
        ├── StoreUnavailable   it cannot be reached, or fails by a fault of its own
        └── StoreDamaged       what is there is not what was written
    """

    exit_code = Exit.UNAVAILABLE


class StoreAuthError(StoreError):
    """No credentials, expired credentials, or a missing right."""

    exit_code = Exit.CREDENTIALS


class StoreNotFound(StoreError):
    """There is no such bucket."""

    exit_code = Exit.USAGE


class ObjectNotFound(StoreError):
    """There is no such object."""


class StoreUnavailable(StoreError):
    """The store cannot be reached, or fails."""


class StoreDamaged(StoreError):
    """What lies in the store is not what was written."""

    exit_code = Exit.UNEXPECTED


class Bucket:
    """A place for objects, by their paths below it. `address` names it for the user."""

    def __init__(self, address: str, objects: ObjectStore, folder: Path | None = None) -> None:
        self.address = address
        self._objects = objects
        self._folder = folder

    def folders(self, path: str = "") -> list[str]:
        """The names of the folders right below a path, sorted; none where there is no such path."""
        if self._folder is not None and not (self._folder / path).is_dir():
            return []
        with self._explained(path):
            found = self._objects.list_with_delimiter(path or None)["common_prefixes"]
        return sorted(each.rstrip("/").rpartition("/")[2] for each in found)

    def size(self, path: str) -> int:
        """The size of an object in bytes. Raises ObjectNotFound."""
        self._look(path)
        with self._explained(path):
            return self._objects.head(path)["size"]

    def get(self, path: str) -> bytes:
        """A whole object. Raises ObjectNotFound."""
        return b"".join(self.parts(path, self.size(path)))

    def parts(self, path: str, size: int) -> Iterator[bytes]:
        """The first `size` bytes of an object, part by part. Raises ObjectNotFound, StoreDamaged when it is shorter."""
        self._look(path)
        for start in range(0, size, PART_BYTES):
            wanted = min(PART_BYTES, size - start)
            with self._explained(path):
                part = bytes(self._objects.get_range(path, start=start, length=wanted))
            if len(part) != wanted:
                raise StoreDamaged(f"{path} in {self.address} is shorter than the {size} bytes that were written.")
            yield part

    def put(self, path: str, content: bytes | BinaryIO) -> None:
        """Write an object, which a reader sees whole or not at all."""
        with self._explained(path):
            self._objects.put(path, content)

    def _look(self, path: str) -> None:
        """A folder that is missing is not an error of the store: nothing was written yet."""
        if self._folder is not None and not self._folder.is_dir():
            raise ObjectNotFound(f"There is no {path} in {self.address}.")

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, FileNotFoundError, ValueError) as error:
            raise explain(self.address, path, error) from error


def explain(address: str, path: str, error: Exception) -> StoreError:
    """The error for the user; classified by its class and by the cloud's own code."""
    from obstore.exceptions import InvalidPathError, PermissionDeniedError, UnauthenticatedError

    text = str(error)
    found = _CODE.search(text)
    code = found[1] if found else ""
    said = code or text.partition("\n")[0][:300]
    if code in _NO_BUCKET:
        return StoreNotFound(
            f"The store {address} does not exist.", f"It says {code}.", "Make the bucket, or change `store`."
        )
    if code in _NO_ENTRY or isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return StoreAuthError(
            f"The store {address} refuses us.",
            f"It says {said}.",
            "Sign in again, or ask for the right to list, read and write there; docs/store.md says what is looked for.",
        )
    if isinstance(error, FileNotFoundError):
        return ObjectNotFound(f"There is no {path} in {address}.")
    if isinstance(error, ValueError | InvalidPathError):
        return StoreDamaged(f"The store {address} holds a name that no store can hold.", said)
    return StoreUnavailable(
        f"The store {address} cannot be used now.",
        said,
        "Check the network, the address and the credentials (docs/store.md), then run the command again.",
    )


def open_bucket(url: str, environ: Mapping[str, str]) -> Bucket:
    """The bucket or folder at that address. Asks nothing of it yet.

    Raises UsageError for an address that is none, or whose endpoint is plain http beyond this computer.
    """
    scheme, marked, rest = url.partition("://")
    if not marked:
        from obstore.store import LocalStore

        folder = Path(url).absolute()
        return Bucket(str(folder), _lazily(lambda: LocalStore(folder, mkdir=True)), folder)
    if scheme not in _MAKERS:
        raise UsageError(f"{url} is not the address of a store.", fix="Use s3://, gs://, az:// or a folder.")
    bucket, _, prefix = rest.partition("/")
    return Bucket(url, _MAKERS[scheme](bucket, prefix.strip("/") or None, environ))


class _Lazy:
    """A folder's objects, made when first used: looking at a store must not make its folder."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)


def _lazily(make: Callable[[], Any]) -> Any:
    return _Lazy(make)
