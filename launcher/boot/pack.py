"""The agent, packed for its journey.

Boot data has a limit (16,384 bytes on EC2), so the agent is in parts. The core arms, runs, follows and ends, and it
always travels. The rest reads metrics and keeps checkpoints: a machine without it still runs the job and ends on time.
"""

from __future__ import annotations

import ast
import base64
import bz2
import json
import lzma
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from launcher.boot import strip

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CORE = (
    "__init__",
    "clock",
    "console",
    "deadlines",
    "egress",
    "ending",
    "files",
    "heartbeat",
    "main",
    "output",
    "processes",
    "run",
    "training",
)
# Without a store nothing asks for these.
FOR_A_STORE = (
    "blob",
    "bring",
    "bucket",
    "checkpoints",
    "folder",
    "log_chunks",
    "objects",
    "s3",
    "store",
    "web",
)
# What only a rented machine runs.
FOR_A_CLOUD = ("blob", "bring", "gpu", "identity", "notices", "s3")


@cache
def sources() -> dict[str, str]:
    """The agent's modules as they stand in the repository."""
    folder = files("launcher.agent")
    entries = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".py")), key=lambda entry: entry.name)
    return {entry.name.removesuffix(".py"): entry.read_text(encoding="utf-8") for entry in entries}


@cache
def packed_agent() -> str:
    """The agent as text, for this computer: `{module: source}` as JSON, compressed, in base 85."""
    modules = {name: ast.unparse(strip.strip(source)) for name, source in sources().items() if name not in FOR_A_CLOUD}
    packed = lzma.compress(json.dumps(modules).encode(), format=lzma.FORMAT_ALONE, preset=9 | lzma.PRESET_EXTREME)
    return base64.b85encode(packed).decode("ascii")


@cache
def small() -> dict[str, str]:
    """Every module of the agent, as small as it can be made while it does the same."""
    trees = {name: strip.strip(source) for name, source in sources().items()}
    kept = strip.keywords(trees.values())
    return {
        name: strip.text(strip.short_names(strip.without_annotation_imports(tree), kept))
        for name, tree in trees.items()
    }


def modules(names: Iterable[str]) -> dict[str, str]:
    """The named modules as files of the agent's folder on the machine."""
    return {f"gpulaunch_agent/{name}.py": small()[name] for name in names}


def pack(content: Mapping[str, str]) -> bytes:
    """Paths and contents in turn, each ended by a NUL, compressed. bzip2 packs short programs 4 % tighter than xz."""
    assert not any("\0" in text for item in content.items() for text in item), "the NUL is what parts them"
    return bz2.compress("\0".join(text for item in content.items() for text in item).encode())


@cache
def packed_rest() -> bytes:
    """All but the core: what a machine fetches when its boot data has no room for it. Named by its SHA-256."""
    return pack(modules(name for name in sources() if name not in CORE))


def packed_core() -> bytes:
    """What must always fit."""
    return pack(modules(CORE))
