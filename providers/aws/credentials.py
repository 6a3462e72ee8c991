"""Whether there seem to be credentials for AWS: by variables and files alone, without SDK and network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
# In a profile of the configuration file: ways to get credentials (AWS SDKs and Tools reference guide).
_WAYS = re.compile(
    r"(?m)^\s*(aws_access_key_id|sso_session|sso_start_url|role_arn|credential_process|web_identity_token_file"
    r"|login_session)\s*="
)


def are_there(environ: Mapping[str, str], settings: Mapping[str, Any]) -> bool:
    """Whether a variable, a profile or a file of AWS's tools speaks of credentials."""
    if settings.get("profile") or any(environ.get(name) for name in VARIABLES):
        return True
    folder = Path(environ.get("HOME") or Path.home()) / ".aws"
    files = (
        environ.get("AWS_SHARED_CREDENTIALS_FILE") or folder / "credentials",
        environ.get("AWS_CONFIG_FILE") or folder / "config",
    )
    return any(_WAYS.search(_text(Path(file))) for file in files)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
