"""Checks requests to Compute Engine against Google's own discovery document, and replies of the fake as well.

What the document cannot say (a GPU cannot be moved, a limit is 30 s at least) is checked by documented rules.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import UUID

DOCUMENT = Path(__file__).with_name("gcp_schema") / "compute.v1.json"
ROOT = "/compute/v1/"
Schema = dict[str, Any]


@dataclass(frozen=True)
class Method:
    """One method of the API."""

    id: str
    http_method: str
    pattern: re.Pattern[str]
    description: Schema


@dataclass(frozen=True)
class Call:
    """A request that was found in the document, taken apart; `problems` is empty when it is valid."""

    method: str
    path: dict[str, str]
    query: dict[str, str]
    body: Any
    problems: tuple[str, ...]


@cache
def document() -> Schema:
    """The discovery document."""
    return json.loads(DOCUMENT.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@cache
def methods() -> tuple[Method, ...]:
    """Every method that there is."""
    found = []
    for resource in document()["resources"].values():
        for description in resource["methods"].values():
            pattern = re.sub(r"\{\+?(\w+)\}", r"(?P<\1>[^/]+)", description["path"])
            found.append(Method(description["id"], description["httpMethod"], re.compile(pattern), description))
    return tuple(found)


def check_request(http_method: str, target: str, body: Any) -> Call:
    """A request as a call of the API, with everything that is wrong with it."""
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    for method in methods():
        match = method.pattern.fullmatch(parts.path.removeprefix(ROOT)) if parts.path.startswith(ROOT) else None
        if match and method.http_method == http_method:
            path = {name: unquote(value) for name, value in match.groupdict().items()}
            problems = [*_parameters(method, path, query), *_body(method, body)]
            if method.id == "compute.instances.insert" and isinstance(body, dict):
                problems += insert_rules(body)
            return Call(method.id, path, query, body, tuple(problems))
    return Call("", {}, query, body, (f"there is no method {http_method} {parts.path}",))


def check_reply(method_id: str, reply: Any) -> list[str]:
    """What is wrong with a reply of the fake."""
    method = next(each for each in methods() if each.id == method_id)
    return list(_value(reply, method.description["response"], "reply"))


def _parameters(method: Method, path: dict[str, str], query: dict[str, str]) -> list[str]:
    known = {**document()["parameters"], **method.description["parameters"]}
    problems = [f"query {name}: unknown" for name in query if name not in known]
    for name, value in {**path, **query}.items():
        if name in known:
            problems += _value(value, _loose(known[name]), name)
    if "requestId" in query:
        try:
            zero = UUID(query["requestId"]).int == 0
        except ValueError:
            zero = True
        problems += ["requestId: not a UUID other than zero"] if zero else []
    return problems


def _loose(schema: Schema) -> Schema:
    """A parameter is text, whatever its type."""
    if schema.get("type") == "boolean":
        return {"type": "string", "enum": ["true", "false"]}
    return schema


def _body(method: Method, body: Any) -> list[str]:
    if "request" not in method.description:
        return ["a body, where none is taken"] if body else []
    if body is None:
        return ["no body"]
    return list(_value(body, method.description["request"], ""))


def _value(value: Any, schema: Schema, path: str) -> list[str]:
    """What is wrong with a value."""
    if "$ref" in schema:
        schema = document()["schemas"][schema["$ref"]]
    kind = schema.get("type", "object")
    if kind == "object":
        return _object(value, schema, path)
    if kind == "array":
        if not isinstance(value, list):
            return [f"{path}: not a list"]
        return [p for i, each in enumerate(value) for p in _value(each, schema["items"], f"{path}[{i}]")]
    problem = _scalar(value, schema, kind)
    return [f"{path}: {value!r} {problem}"] if problem else []


def _object(value: Any, schema: Schema, path: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{path}: not an object"]
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    problems = []
    for name, each in value.items():
        where = f"{path}.{name}".lstrip(".")
        if name in known:
            problems += _value(each, known[name], where)
        elif others is not None:
            problems += _value(each, others, where)
        else:
            problems.append(f"{where}: {schema.get('id', 'the object')} has no such field")
    return problems


def _scalar(value: Any, schema: Schema, kind: str) -> str:
    if kind == "boolean":
        return "" if isinstance(value, bool) else "is not true or false"
    if kind == "integer":
        return _number(value, schema)
    if kind == "number":
        return "" if isinstance(value, int | float) and not isinstance(value, bool) else "is not a number"
    if kind == "any":
        return ""
    if schema.get("format") in ("int64", "uint64"):
        return "" if re.fullmatch(r"-?\d+", str(value)) and isinstance(value, str) else "is not a number as text"
    if not isinstance(value, str):
        return "is not text"
    if "enum" in schema and value not in schema["enum"]:
        return f"is none of {', '.join(schema['enum'])}"
    if "pattern" in schema and not re.fullmatch(schema["pattern"], value):
        return f"does not match {schema['pattern']}"
    return ""


def _number(value: Any, schema: Schema) -> str:
    if isinstance(value, bool) or not re.fullmatch(r"-?\d+", str(value)):
        return "is not a whole number"
    number = int(value)
    if not int(schema.get("minimum", -(2**31))) <= number <= int(schema.get("maximum", 2**32 - 1)):
        return "is out of range"
    return ""


def insert_rules(body: dict[str, Any]) -> list[str]:
    """Documented rules for a new machine that the discovery document cannot express."""
    problems = [f"{name}: needed" for name in ("machineType", "disks", "networkInterfaces") if not body.get(name)]
    if sum(bool(disk.get("boot")) for disk in body.get("disks", ())) != 1:
        problems.append("disks: exactly one must be the boot disk")
    problems += _scheduling_rules(body)
    for name, value in body.get("labels", {}).items():
        if not re.fullmatch("[a-z][a-z0-9_-]{0,62}", name) or not re.fullmatch("[a-z0-9_-]{0,63}", value):
            problems.append(f"labels.{name}: lower case, digits, - and _, 63 at most")
    items = body.get("metadata", {}).get("items", [])
    sizes = [len(str(item.get("value", "")).encode()) for item in items]
    if any(size > 262_144 for size in sizes) or sum(sizes) > 524_288:
        problems.append("metadata: 256 KiB for each value, 512 KiB in all")
    return problems


def _scheduling_rules(body: dict[str, Any]) -> list[str]:
    scheduling = body.get("scheduling", {})
    spot = scheduling.get("provisioningModel") == "SPOT"
    limit = scheduling.get("maxRunDuration", {}).get("seconds")
    problems = []
    if body.get("guestAccelerators") and scheduling.get("onHostMaintenance") != "TERMINATE":
        problems.append("scheduling.onHostMaintenance: a machine with a GPU needs TERMINATE")
    if spot and scheduling.get("automaticRestart", True):
        problems.append("scheduling.automaticRestart: must be false for a spot machine")
    if limit is not None and not 30 <= int(limit) <= 10_368_000:
        problems.append("scheduling.maxRunDuration: 30 seconds to 120 days")
    if limit is not None and scheduling.get("terminationTime"):
        problems.append("scheduling: maxRunDuration or terminationTime, not both")
    if scheduling.get("instanceTerminationAction") and not (spot or limit or scheduling.get("terminationTime")):
        problems.append("scheduling.instanceTerminationAction: needs spot or a limit")
    return problems
