"""Who launches: a short hash that every machine carries, so that other people's machines are left alone."""

from __future__ import annotations

import getpass
import platform
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.jobfile.config_schema import Config


def owner_name() -> str:
    """This user on this computer: the owner where none is configured."""
    return f"{getpass.getuser()}@{platform.node()}"


def owner_hash(config: Config) -> str:
    """The configured `owner`, else this user on this computer, as twelve hexadecimal digits."""
    who = config.owner or owner_name()
    return sha256(who.encode()).hexdigest()[:12]
