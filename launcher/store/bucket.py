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
from datetime import timedelta
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

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
_NO_ENTRY = {
    "AccessDenied",
    "AuthenticationFailed",
    "AuthenticationRequired",
    "AuthorizationFailure",
    "AuthorizationPermissionMismatch",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidAuthenticationInfo",
    "InvalidToken",
    "SignatureDoesNotMatch",
}
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

    def __init__(self, address: str, make: Callable[[], ObjectStore], folder: Path | None = None) -> None:
        self.address = address
        self._make = make
        self._folder = folder

    @cached_property
    def _objects(self) -> ObjectStore:
        """Made when first used: credentials may have to be asked for, and looking for a folder must not make it."""
        return self._make()

    def folders(self, path: str = "") -> list[str]:
        """The names of the folders right below a path, sorted; none where there is no such path."""
        if self._folder is not None and not (self._folder / path).is_dir():
            return []
        with self._explained(path):
            found = self._objects.list_with_delimiter(path or None)["common_prefixes"]
        return sorted(each.rstrip("/").rpartition("/")[2] for each in found)

    def names(self, path: str) -> list[str]:
        """The names of the objects right below a path, sorted; none where there is no such path."""
        if self._folder is not None and not (self._folder / path).is_dir():
            return []
        with self._explained(path):
            found = self._objects.list_with_delimiter(path or None)["objects"]
        return sorted(each["path"].rpartition("/")[2] for each in found)

    def size(self, path: str) -> int:
        """The size of an object in bytes. Raises ObjectNotFound."""
        self._look(path)
        with self._explained(path):
            return self._objects.head(path)["size"]

    def get(self, path: str) -> bytes:
        """A whole small object. Raises ObjectNotFound."""
        self._look(path)
        with self._explained(path):
            return bytes(self._objects.get(path).bytes())

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

    def sign(self, path: str, for_s: float) -> str:
        """An address by which anybody can read that one object, for so many seconds. Asks nothing of the store."""
        from obstore import sign

        if self._folder is not None:
            raise UsageError(f"{self.address} is a folder of this computer: no machine can fetch from it.")
        with self._explained(path):
            objects: Any = self._objects
            return str(sign(objects, "GET", path, timedelta(seconds=for_s)))

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
        folder = Path(url).absolute()
        return Bucket(str(folder), lambda: _folder(folder), folder)
    maker = {"s3": _s3, "gs": _gcs, "az": _azure}.get(scheme)
    if maker is None:
        raise UsageError(f"{url} is not the address of a store.", fix="Use s3://, gs://, az:// or a folder.")
    name, _, prefix = rest.partition("/")
    return Bucket(url, maker(name, prefix.strip("/") or None, environ))


def _folder(folder: Path) -> ObjectStore:
    from obstore.store import LocalStore

    return LocalStore(folder, mkdir=True)


def _s3(name: str, prefix: str | None, environ: Mapping[str, str]) -> Callable[[], ObjectStore]:
    endpoint, how = _endpoint(environ, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    config: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    if environ.get("AWS_REGION"):
        config["region"] = environ["AWS_REGION"]

    def make() -> ObjectStore:
        from obstore.store import S3Store

        provider: Any = None
        if "AWS_ACCESS_KEY_ID" not in environ:
            if how["client_options"]["allow_http"] and "AWS_PROFILE" not in environ:
                config.update(access_key_id="none", secret_access_key="none")  # noqa: S106 - a stand-in takes any
            elif find_spec("boto3"):  # profiles and single sign-on, which it knows and obstore does not
                provider = _boto3_credentials(environ)
        return S3Store(name, prefix=prefix, credential_provider=provider, **config, **how)

    return make


def _boto3_credentials(environ: Mapping[str, str]) -> Any:
    from obstore.auth.boto3 import Boto3CredentialProvider

    refused: Any = import_module("botocore.exceptions").BotoCoreError
    try:
        return Boto3CredentialProvider(import_module("boto3").Session(profile_name=environ.get("AWS_PROFILE")))
    except (ValueError, refused) as error:
        raise StoreAuthError("There are no credentials for AWS.", str(error), "Run: aws configure") from error


def _gcs(name: str, prefix: str | None, environ: Mapping[str, str]) -> Callable[[], ObjectStore]:
    endpoint, how = _endpoint(environ, "STORAGE_EMULATOR_HOST")
    config: dict[str, Any] = {"base_url": endpoint, "bearer_token": "none"} if endpoint else {}

    def make() -> ObjectStore:
        from obstore.store import GCSStore

        return GCSStore(name, prefix=prefix, **config, **how)

    return make


def _azure(name: str, prefix: str | None, environ: Mapping[str, str]) -> Callable[[], ObjectStore]:
    account = environ.get("AZURE_STORAGE_ACCOUNT") or environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    if not account:
        raise UsageError(
            f"The store az://{name} is a container, and its storage account is not known.",
            fix="Run: export AZURE_STORAGE_ACCOUNT=<the account's name>",
        )
    endpoint, how = _endpoint(environ, "AZURE_STORAGE_ENDPOINT")
    config: dict[str, Any] = {"account_name": account}
    if endpoint:
        config["endpoint"] = f"{endpoint}/{account}"
    if environ.get("AZURE_STORAGE_KEY"):
        config["account_key"] = environ["AZURE_STORAGE_KEY"]
    elif not any(re.match("AZURE_(STORAGE_.*(KEY|TOKEN)|CLIENT_ID|FEDERATED)", each) for each in environ):
        config["use_azure_cli"] = True

    def make() -> ObjectStore:
        from obstore.store import AzureStore

        return AzureStore(name, prefix=prefix, **config, **how)

    return make


def _endpoint(environ: Mapping[str, str], *names: str) -> tuple[str, dict[str, Any]]:
    """The endpoint that one of these variables names, or nothing, and the bounds of each request there."""
    variable = next((name for name in names if environ.get(name)), "")
    endpoint = environ[variable].rstrip("/") if variable else ""
    plain = endpoint.startswith("http://")
    if plain and urlsplit(endpoint).hostname not in LOOPBACK:
        raise UsageError(
            f"{variable} is {endpoint}: plain http, which others can read.",
            "It is allowed for an endpoint on this computer only.",
            "Use https.",
        )
    options = {
        "allow_http": plain,
        "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
        "timeout": timedelta(seconds=REQUEST_TIMEOUT_S),
    }
    retry = {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_TIMEOUT_S)}
    return endpoint, {"client_options": options, "retry_config": retry}
