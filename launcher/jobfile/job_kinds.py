"""The kinds of values that only the job file has: its name, command, environment, image, paths and store."""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
import warnings
from pathlib import Path, PurePosixPath
from typing import Any

from launcher.jobfile.document import Mapping, Node, Problems, Scalar, Sequence, dotted
from launcher.jobfile.kinds import matching
from launcher.jobfile.schema import Json, Value, read_item, shape

LONGEST_NAME = 40
WORKSPACE = PurePosixPath("/workspace")
_NAME = "[a-z]([a-z0-9-]{0,38}[a-z0-9])?"
_ENV_NAME = "[A-Za-z_][A-Za-z0-9_]*"
_OWN_PREFIX = "GPULAUNCH_"
_SHELL_WORDS = {"&&", "||", "|", ";", "&", ">", ">>", "<", "2>", "2>&1"}
_TOP = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
# The grammar of the distribution project's reference package (registry/path:tag@digest), in short.
_IMAGE = (
    rf"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]+)?/)?{_TOP}(?:/{_TOP})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_BUCKET = r"(?:s3|gs|az)://[a-z0-9][a-z0-9._-]+(?:/[^\s\\?#]*)?"
_SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|API_?KEY|ACCESS_KEY)$", re.IGNORECASE)
# The published prefixes of tokens: Hugging Face, OpenAI and Anthropic, AWS, GitHub, GitLab, Google, Slack, PEM keys.
_SECRET_VALUE = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}|\bsk-[A-Za-z0-9_-]{16,}|\b(AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[oprsu]_[A-Za-z0-9]{20,}"
    r"|\bgithub_pat_[A-Za-z0-9_]{20,}|\bglpat-[A-Za-z0-9_-]{16,}|\bAIza[A-Za-z0-9_-]{30,}|\bxox[abeprs]-[A-Za-z0-9-]{10,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
)


def valid_name(text: str) -> str:
    """The closest valid job name: `My_Model 2` becomes `my-model-2`."""
    plain = unicodedata.normalize("NFKD", text[:200]).encode("ascii", "ignore").decode().lower()
    name = re.sub("[^a-z0-9]+", "-", plain).strip("-")
    if not name[:1].isalpha():
        name = f"job-{name}"
    return name[:LONGEST_NAME].strip("-")


def _name(found: str) -> str:
    if not re.fullmatch(_NAME, found):
        raise ValueError(f"is not {NAME.allowed}; try {valid_name(found)!r}")
    return found


def _none_or(kind: Value) -> Value:
    """The same, where the word `none` says that there is none."""

    def parse(found: str) -> Any:
        return None if found == "none" else kind.parse(found)

    return Value(parse, f"{kind.allowed}, or none", kind.json(), kind.show)


def _gpu(found: str) -> str:
    """GPUs are named in upper case everywhere, but seldom typed so."""
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9-]{0,39}", found):
        raise ValueError
    return found.upper()


def _inside(found: str) -> str:
    """A path below the job's folder, as relative or as the container sees it."""
    path = PurePosixPath(found)
    relative = path.relative_to(WORKSPACE) if path.is_relative_to(WORKSPACE) else path
    if not found or not found.isprintable() or relative.is_absolute() or ".." in path.parts:
        raise ValueError
    if relative == PurePosixPath():
        raise ValueError("is the whole working folder; name a folder or a file in it")
    return found


def _expression(found: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's notes on odd expressions are not for our stderr
            groups = re.compile(found).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    if groups != 1:
        raise ValueError(f"has {groups} groups; it must have one, around the number. (?:…) does not count as a group")
    return found


class Folder(Value):
    """A folder on this computer; a relative one starts at the folder of the file that names it."""

    def __init__(self) -> None:
        super().__init__(str, "the path of a folder", {"type": "string", "minLength": 1})

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """The absolute path of the folder, which exists."""
        found = super().read(node, key, problems)
        if found is None:
            return None
        path = absolute(found, problems.folder)
        if path is None:
            problems.add(node.line, key, f"{shape(node)} is not {self.allowed}")
        elif not path.is_dir():
            problems.add(node.line, key, f"{shape(node)} is not a folder that exists")
        return None if path is None else str(path)


class Store(Value):
    """Where checkpoints, logs and the result go: a bucket's address, a folder, or none."""

    def __init__(self) -> None:
        super().__init__(
            str, "s3://bucket/prefix, gs://…, az://…, a folder, or none", {"type": "string", "minLength": 1}
        )

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """The address as it is, a folder as an absolute path, or the text `none`."""
        found = super().read(node, key, problems)
        if found is None or found == "none" or re.fullmatch(_BUCKET, found):
            return found
        path = None if re.match(r"[a-z0-9]+:/", found, re.IGNORECASE) else absolute(found, problems.folder)
        if path is None:
            problems.add(node.line, key, f"{shape(node)} is not {self.allowed}")
        elif path.exists() and not path.is_dir():
            problems.add(node.line, key, f"{shape(node)} is a file; a folder is needed")
        return None if path is None else str(path)


class Command:
    """What to run: a list of words, or one text that is split into words as a shell would, without being run by one."""

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """The words."""
        if isinstance(node, Mapping):
            problems.add(node.line, key, "a mapping is not a command, such as [python, train.py]")
            return None
        words = self._split(node, key, problems) if isinstance(node, Scalar) else self._listed(node, key, problems)
        if words is None:
            return None
        if not words or not words[0].strip():
            problems.add(node.line, key, "names no program; write one, such as [python, train.py]")
        elif any("\0" in word for word in words):
            problems.add(node.line, key, "holds a NUL character, which no program can be given")
        elif any(_SECRET_VALUE.search(word) for word in words):
            problems.add(node.line, key, f"holds what looks like a secret; {_HIDE_IT}")
        return tuple(words)

    def json(self) -> Json:
        """Its JSON Schema."""
        word = {"type": ["string", "number", "boolean"]}
        return {"type": ["array", "string"], "items": word, "minItems": 1, "minLength": 1}

    def show(self, value: Any) -> Any:
        """The words as a list."""
        return list(value)

    def _listed(self, node: Sequence, key: str, problems: Problems) -> list[str] | None:
        words = [read_item(item, _WORD, key, problems) for item in node.items]
        return None if None in words else words

    def _split(self, node: Scalar, key: str, problems: Problems) -> list[str] | None:
        try:
            words = shlex.split(node.text)
        except ValueError:
            problems.add(node.line, key, f"{shape(node)} has a quote that is not closed")
            return None
        shell = next((word for word in words if word in _SHELL_WORDS), None)
        if shell is not None:
            problems.add(node.line, key, f"{shell!r} needs a shell, and none runs it; write [bash, -c, '…']")
        return words


class Environment:
    """Names and values for the training's environment. No secrets: the values travel to the machine as they are."""

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """Values by name; a null value counts as not given."""
        if not isinstance(node, Mapping):
            problems.add(node.line, key, f"{shape(node)} is not a mapping of names to values, such as {{SEED: 1}}")
            return None
        found: dict[str, str] = {}
        for name, entry in node.entries.items():
            problem = None if isinstance(entry, Scalar) and entry.null else self._problem(name, entry)
            if problem:
                problems.add(node.lines[name], dotted(key, name), problem)
            elif isinstance(entry, Scalar) and not entry.null:
                found[name] = entry.text
        return found

    def json(self) -> Json:
        """Its JSON Schema."""
        value = {"type": ["string", "number", "boolean", "null"]}
        return {"type": "object", "propertyNames": {"pattern": f"^{_ENV_NAME}$"}, "additionalProperties": value}

    def show(self, value: Any) -> Any:
        """The mapping itself."""
        return value

    def _problem(self, name: str, entry: Node) -> str | None:
        if not re.fullmatch(_ENV_NAME, name):
            return "not a name for a variable; use letters, digits and '_', and no digit at the start"
        if name.startswith(_OWN_PREFIX):
            return f"names that start with {_OWN_PREFIX} are gpulaunch's own; choose another"
        if not isinstance(entry, Scalar):
            return f"{shape(entry)} is not one value"
        if "\0" in entry.text:
            return "the value holds a NUL character, which no environment can carry"
        if entry.text and (_SECRET_NAME.search(name) or _SECRET_VALUE.search(entry.text)):
            return f"looks like a secret; {_HIDE_IT}"
        return None


def absolute(found: str, folder: Path) -> Path | None:
    """The path as absolute, `~` expanded; None if the text cannot be a path."""
    if not found.strip() or not found.isprintable():
        return None
    try:
        return Path(os.path.abspath(folder / Path(found).expanduser()))  # noqa: PTH100 (a link stays as it was named)
    except (OSError, RuntimeError, ValueError):
        return None


_HIDE_IT = "what is written here can be read by others: list the variable's name under `secrets:` instead"
_WORD = Value(str, "one word of a command", {"type": "string"})
NAME = Value(
    _name,
    f"a name: 1 to {LONGEST_NAME} lower-case letters, digits and '-', a letter first and no '-' last",
    {"type": "string", "pattern": f"^{_NAME}$"},
)
SECRET_NAME = matching(_ENV_NAME, "the name of a variable, such as HF_TOKEN", longest=100)
IMAGE = _none_or(
    matching(_IMAGE, "a container image, such as pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime", longest=512)
)
GPU = _none_or(
    Value(_gpu, "the name of a GPU, such as T4", {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9-]*$"})
)
REGION = matching("[a-z][a-z0-9-]*", "the name of a region, such as us-east-1", longest=40)
INSIDE = Value(
    _inside,
    "a path inside the working folder: relative, or below /workspace, and without '..'",
    {"type": "string", "minLength": 1},
)
EXPRESSION = Value(_expression, "a regular expression with one group", {"type": "string", "minLength": 1})
