"""Whose credentials are used, and for which project: from variables and files alone, without SDK and network.

Application Default Credentials as `gcloud auth application-default login` leaves them. The metadata server is never
asked: where there is none, that question takes seconds to fail.
"""

from __future__ import annotations

import json
import warnings
from importlib import import_module
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from providers.base import AuthError, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDPOINT = "GPULAUNCH_GCP_ENDPOINT"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
LOGIN = "gcloud auth application-default login"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where credentials are taken from, and what they are for. Holds no secret."""

    project: str
    path: str
    """The credentials' file; empty where there is none, and for a cloud on this computer."""
    label: str
    """A name for the source, part of the account's name."""
    endpoint: str
    """A cloud on this computer, such as http://127.0.0.1:8080; empty for Google's own."""

    @property
    def is_there(self) -> bool:
        """Whether there is anything to speak with, and for."""
        return bool((self.path or self.endpoint) and self.project)

    @property
    def account(self) -> str:
        """`gcp/project/source`, with the endpoint where it is not Google's."""
        where = f"/{urlsplit(self.endpoint).netloc}" if self.endpoint else ""
        return f"gcp/{self.project or 'none'}/{self.label or 'none'}{where}"


def are_there(environ: Mapping[str, str], settings: Mapping[str, Any]) -> bool:
    """Whether there seem to be credentials and a project, by files and variables alone."""
    return find(environ, settings).is_there


def find(environ: Mapping[str, str], settings: Mapping[str, Any]) -> Source:
    """The source to use. What `settings` bind goes before the environment: a guard speaks for its job's account.

    Raises InvalidRequest for an endpoint that is not a plain one on this computer.
    """
    endpoint = loopback(str(settings.get("endpoint") or environ.get(ENDPOINT) or ""))
    path = "" if endpoint else str(settings.get("credentials") or _file(environ))
    said = _read(path) if path else {}
    project = (
        settings.get("project")
        or environ.get("GOOGLE_CLOUD_PROJECT")
        or said.get("project_id")
        or said.get("quota_project_id")
        or ""
    )
    label = "anonymous" if endpoint else _label(path, said, environ)
    return Source(project=str(project), path=path, label=label, endpoint=endpoint)


def check(source: Source) -> None:
    """Raise AuthError, with the command that helps, where something is missing."""
    if not (source.path or source.endpoint):
        raise AuthError(
            "There are no credentials for Google Cloud.",
            "Neither GOOGLE_APPLICATION_CREDENTIALS nor gcloud's application default credentials name any.",
            f"Log in: {LOGIN}",
            code="NO_CREDENTIALS",
        )
    if not source.project:
        raise AuthError(
            "There is no Google Cloud project to work in.",
            "Neither GOOGLE_CLOUD_PROJECT nor gcp.project of the configuration nor the credentials name one.",
            "Name it: export GOOGLE_CLOUD_PROJECT=your-project",
            code="NO_PROJECT",
        )


def installed(module: str) -> Any:
    """A module of Google's SDK. Raises InvalidRequest, with what installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise InvalidRequest(
            "Google's SDK is not installed.",
            f"{error}.",
            "Run: pip install 'gpulaunch[gcp]'",
            code="SdkMissing",
            next_scope="provider",
        ) from error


def load(source: Source) -> Any:
    """The SDK's credentials. Raises AuthError; the only network it may later use is Google's token server."""
    check(source)
    installed("google.auth")
    import google.auth
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import GoogleAuthError

    if source.endpoint:
        return AnonymousCredentials()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            # The SDK warns of files from strangers; this one is the user's own, of whatever kind gcloud wrote.
            warnings.simplefilter("ignore", DeprecationWarning)
            credentials, _ = google.auth.load_credentials_from_file(source.path, scopes=[SCOPE])  # type: ignore[no-untyped-call]
    except GoogleAuthError as error:
        raise AuthError(
            f"The credentials in {source.path} cannot be used.",
            f"{error}.",
            f"Log in again: {LOGIN}",
            code="CREDENTIALS",
        ) from error
    return credentials


def loopback(endpoint: str) -> str:
    """The endpoint, checked: plain http to this computer, where nothing is asked for credentials; nothing else."""
    if not endpoint:
        return ""
    parts = urlsplit(endpoint)
    if parts.scheme == "http" and _is_loopback(parts.hostname or "") and not parts.username and parts.path in ("", "/"):
        return f"http://{parts.netloc}"
    raise InvalidRequest(
        f"{ENDPOINT} must be a plain http address of this computer, such as http://127.0.0.1:8080.",
        "Elsewhere it would send requests unencrypted, or your credentials to a stranger.",
        f"Unset it: unset {ENDPOINT}",
        code="ENDPOINT",
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _file(environ: Mapping[str, str]) -> str:
    """The file of the Application Default Credentials, if there is one."""
    named = environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if named:
        return str(Path(named).absolute())
    known = _well_known(environ)
    return str(known) if known.is_file() else ""


def _well_known(environ: Mapping[str, str]) -> Path:
    """Where gcloud puts them on Linux and macOS (docs/authentication/application-default-credentials)."""
    folder = environ.get("CLOUDSDK_CONFIG")
    home = environ.get("HOME")
    base = Path(folder) if folder else (Path(home) if home else Path.home()) / ".config" / "gcloud"
    return base / "application_default_credentials.json"


def _read(path: str) -> dict[str, Any]:
    """What the file says of itself; nothing when it cannot be read: whoever uses it then says why."""
    try:
        said = json.loads(Path(path).read_bytes())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _label(path: str, said: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    if said.get("client_email"):
        return str(said["client_email"])
    if path and Path(path) == _well_known(environ):
        return "adc"
    return path.strip("/").replace("/", ":")
