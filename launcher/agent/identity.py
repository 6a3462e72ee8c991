"""The machine's own identity, as the cloud's metadata service gives it: short-lived, kept until shortly before its end.

EC2: the instance role's credentials by IMDSv2 (ec2/latest/userguide, "Retrieve security credentials from instance
metadata"). GCE: the service account's token (compute/docs/access/authenticate-workloads). Azure: the managed identity's
token (entra/identity/managed-identities-azure-resources/how-to-use-vm-token).
"""

from __future__ import annotations

import json
import threading
import urllib.request
from datetime import datetime
from typing import Any
from urllib.parse import quote

from . import clock

METADATA = "http://169.254.169.254"
TIMEOUT_S = 5.0
EARLY_S = 300.0
"""What must be left of it when it is used."""
STORAGE = "https://storage.azure.com/"


def ask(path: str, headers: dict[str, str], method: str = "GET") -> bytes:
    """One question to the metadata service, whatever proxy the environment names. Raises OSError."""
    request = urllib.request.Request(METADATA + path, headers=headers, method=method)  # noqa: S310 - our own address
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=TIMEOUT_S) as reply:
        data: bytes = reply.read()
    return data


def ask_ec2(path: str) -> bytes:
    """The same on EC2, where a session comes first (IMDSv2)."""
    session = ask("/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "300"}, "PUT")
    return ask(f"/latest/meta-data/{path}", {"X-aws-ec2-metadata-token": session.decode()})


class Identity:
    """Who this machine is to its store: `get` gives `{"id", "secret", "token"}` on EC2, elsewhere the token alone."""

    def __init__(self, kind: str, client_id: str = "") -> None:
        self.read = {"s3": self._role, "gcs": self._account, "blob": self._managed}[kind]
        self.client_id = client_id
        self.known: dict[str, str] = {}
        self.until = 0.0
        self.lock = threading.Lock()

    def get(self, renew: bool = False) -> dict[str, str]:
        """What is valid now; `renew` asks for new ones, since these were refused. Raises OSError."""
        with self.lock:
            if renew or clock.wall() > self.until - EARLY_S:
                try:
                    self.known, self.until = self.read()
                except (ValueError, KeyError) as error:
                    raise OSError(f"the metadata service gives no identity: {error!r}") from error
            return self.known

    def _role(self) -> tuple[dict[str, str], float]:
        names = ask_ec2("iam/security-credentials/").decode().split()
        if not names:
            raise ValueError("this machine has no role")
        found: dict[str, Any] = json.loads(ask_ec2(f"iam/security-credentials/{names[0]}"))
        until = datetime.fromisoformat(found["Expiration"].replace("Z", "+00:00")).timestamp()  # noqa: FURB162 - Python 3.10
        return {"id": found["AccessKeyId"], "secret": found["SecretAccessKey"], "token": found["Token"]}, until

    def _account(self) -> tuple[dict[str, str], float]:
        path = "/computeMetadata/v1/instance/service-accounts/default/token"
        return _token(ask(path, {"Metadata-Flavor": "Google"}))

    def _managed(self) -> tuple[dict[str, str], float]:
        path = f"/metadata/identity/oauth2/token?api-version=2018-02-01&resource={quote(STORAGE, '')}"
        which = f"&client_id={quote(self.client_id, '')}" if self.client_id else ""
        return _token(ask(path + which, {"Metadata": "true"}))


def _token(reply: bytes) -> tuple[dict[str, str], float]:
    found: dict[str, Any] = json.loads(reply)
    return {"token": found["access_token"]}, clock.wall() + float(found["expires_in"])
