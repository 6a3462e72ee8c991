"""Changing the user's configuration file by the line, so that their comments and their order stay. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def with_section(text: str, section: str, values: Mapping[str, str], top: Mapping[str, str]) -> str:
    """The file's text with these keys set in a section, and these keys at the top where they are missing.

    A section in braces on one line is written anew as a block. What else stands in the file stays as it is.
    """
    lines = text.splitlines()
    for key, value in top.items():
        if not any(re.match(rf"{re.escape(key)}\s*:", line) for line in lines):
            lines.append(f"{key}: {_quoted(value)}")
    if not values:
        return _joined(lines)
    at = next((n for n, line in enumerate(lines) if re.match(rf"{re.escape(section)}\s*:", line)), None)
    if at is None:
        return _joined([*lines, f"{section}:", *(f"  {key}: {_quoted(value)}" for key, value in values.items())])
    inline = re.fullmatch(rf"{re.escape(section)}\s*:\s*\{{(.*)\}}\s*(#.*)?", lines[at])
    body = [f"  {part.strip()}" for part in inline[1].split(",") if part.strip()] if inline else []
    end = at + 1
    while end < len(lines) and (not lines[end].strip() or lines[end][0] in " #"):
        end += 1
    block = [*body, *lines[at + 1 : end]]
    kept = [line for line in block if not any(re.match(rf"\s+{re.escape(key)}\s*:", line) for key in values)]
    indent = next((line[: len(line) - len(line.lstrip())] for line in kept if line[:1] == " "), "  ")
    made = [f"{indent}{key}: {_quoted(value)}" for key, value in values.items()]
    return _joined([*lines[:at], f"{section}:", *made, *kept, *lines[end:]])


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[A-Za-z0-9_./@-]+(:[A-Za-z0-9_./@:-]+)?", value) else json.dumps(value)


def _joined(lines: list[str]) -> str:
    return "\n".join(lines) + "\n" if lines else ""
