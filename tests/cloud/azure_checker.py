"""Checks one request against what Microsoft has published: method, path, api-version, query and body.

`azure_schema/README.md` says where the descriptions are from. What they cannot express and Azure's documents say (a
machine without a key, boot data that is not base64) is in `_machine_rules`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).with_name("azure_schema")
MOST_BOOT_BYTES = 65_535
_VERSION = re.compile(r"\d{4}-\d\d-\d\d(-preview)?")
_GROUP = re.compile(r"/subscriptions/[^/]+/resourcegroups/[^/]+", re.IGNORECASE)
_RESOURCE = re.compile(
    r"(/subscriptions/[^/]+/resourcegroups/[^/]+)/providers/(Microsoft\.\w+)/(\w+)/[^/]+", re.IGNORECASE
)
# A published enumeration that has not grown for years, while Azure's sizes did.
_OPEN = ("hardwareProfile.vmSize",)
_LATER = ("provisioningState", "timeCreated", "vmId", "instanceView", "principalId", "resourceGuid", "etag", "id")


def problems_with(method: str, url: str, body: Any) -> list[str]:
    """What is wrong with a request; nothing when it is as Microsoft describes it."""
    parts = urlsplit(url)
    query = parse_qs(parts.query, keep_blank_values=True)
    route = _route(method, parts.path)
    if route is None:
        return [f"there is no operation {method} {parts.path}"]
    found = list(_query_problems(route, query))
    if method in ("PUT", "PATCH", "POST"):
        found += _body_problems(method, parts.path, route, body)
    elif body is not None:
        found.append(f"{method} takes no body")
    return found


# Routes


@cache
def _routes() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    rows = json.loads((FOLDER / "routes.json").read_text()) + _written()["routes"]
    return [(_pattern(row["path"]), row) for row in rows]


def _pattern(path: str) -> re.Pattern[str]:
    parts = [
        ("(?:.+)" if part == "{scope}" else "[^/]+") if part[:1] == "{" else re.escape(part) for part in path.split("/")
    ]
    return re.compile("/".join(parts), re.IGNORECASE)


@cache
def _written() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "written_here.json").read_text())
    return found


def _route(method: str, path: str) -> dict[str, Any] | None:
    """The operation, the one with the most literal path first."""
    found = [row for pattern, row in _routes() if row["method"] == method and pattern.fullmatch(path)]
    return min(found, key=lambda row: row["path"].count("{"), default=None)


def _query_problems(route: dict[str, Any], query: dict[str, list[str]]) -> Iterator[str]:
    [version] = query.get("api-version", [""])
    if not _VERSION.fullmatch(version):
        yield f"query api-version: {version!r} is none"
    elif version > route["apiVersion"]:
        yield f"query api-version: {version} is newer than the newest known, {route['apiVersion']}"
    known = {name.lower() for name in route["query"]} | {"$skiptoken"}  # as a page's own link has it
    for name in query:
        if name.lower() not in known:
            yield f"query {name}: unknown"


# Bodies


def _body_problems(method: str, path: str, route: dict[str, Any], body: Any) -> list[str]:
    schema, definitions = _schema(path, route)
    if schema is None:
        return [] if body is None else ["no body is known for this operation"]
    if not isinstance(body, dict):
        return ["the body is no JSON object"]
    found = list(_check(body, schema, "", definitions))
    if method == "PATCH":
        return [problem for problem in found if not problem.endswith(": required")]
    is_machine = "/virtualmachines/" in path.lower()
    return found + (list(_machine_rules(body)) if method == "PUT" and is_machine else [])


def _schema(path: str, route: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    if "body" in route:
        return _written()["definitions"][route["body"]], _written()["definitions"]
    kind = "Microsoft.Resources.resourceGroups" if _GROUP.fullmatch(path) else ""
    if match := _RESOURCE.fullmatch(path):
        kind = f"{match[2]}.{match[3]}"
    files = [file for file in FOLDER.glob("Microsoft.*.json") if file.name.lower().startswith(f"{kind.lower()}.")]
    return _published(max(files)) if kind and files else (None, {})


@cache
def _published(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A template's schema as that of a request: name, type and version travel in the address."""
    document = json.loads(file.read_text())
    resource = document["resource"]
    in_address = {"name", "type", "apiVersion", "resources"}
    resource["properties"] = {key: value for key, value in resource["properties"].items() if key not in in_address}
    needed = {"location"} | set(resource.get("required", [])) - in_address
    resource["required"] = sorted(needed - {"properties"} if "resourceGroups" in file.name else needed)
    return resource, document["definitions"]


def _check(value: Any, schema: dict[str, Any], path: str, definitions: dict[str, Any]) -> Iterator[str]:
    """What of a value is not as its schema says."""
    if "$ref" in schema:
        reference = schema["$ref"]
        if reference.startswith("#/definitions/"):
            yield from _check(value, definitions[reference.rpartition("/")[2]], path, definitions)
        return  # a template's expression: a request has none
    choices = [c for key in ("oneOf", "anyOf") for c in schema.get(key, []) if not _is_expression(c)]
    if choices:
        tried = [list(_check(value, choice, path, definitions)) for choice in choices]
        yield from min(tried, key=len)
        return
    for part in schema.get("allOf", []):
        yield from _check(value, part, path, definitions)
    kind = schema.get("type", "object" if "properties" in schema else None)
    if not _is_of_kind(value, kind):
        yield f"{path or 'body'}: expected {kind}, got {value!r}"
    elif kind == "object":
        yield from _check_object(value, schema, path, definitions)
    elif kind == "array":
        for index, each in enumerate(value):
            yield from _check(each, schema.get("items", {}), f"{path}[{index}]", definitions)
    else:
        yield from _check_scalar(value, schema, path)


def _is_expression(schema: dict[str, Any]) -> bool:
    return str(schema.get("$ref", "")).endswith("/definitions/expression")


def _is_of_kind(value: Any, kind: str | None) -> bool:
    if kind in ("integer", "number"):
        return isinstance(value, int if kind == "integer" else (int, float)) and not isinstance(value, bool)
    kinds: dict[str | None, type] = {"object": dict, "array": list, "boolean": bool, "string": str}
    return isinstance(value, kinds.get(kind, object))


def _check_object(
    value: dict[str, Any], schema: dict[str, Any], path: str, definitions: dict[str, Any]
) -> Iterator[str]:
    known = schema.get("properties", {})
    others = schema.get("additionalProperties")
    for key, each in value.items():
        where = f"{path}.{key}" if path else key
        if key in known:
            yield from _check(each, known[key], where, definitions)
        elif isinstance(others, dict):
            yield from _check(each, others, where, definitions)
        elif known and others is not True:
            yield f"{where}: {'read-only' if key in _LATER else 'unknown'}"
    for key in schema.get("required", []):
        if key not in value:
            yield f"{path + '.' if path else ''}{key}: required"


def _check_scalar(value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
    allowed = schema.get("enum")
    if allowed and not path.endswith(_OPEN) and str(value).lower() not in [str(each).lower() for each in allowed]:
        yield f"{path}: {value!r} is none of {allowed}"
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{path}: {value!r} does not match {schema['pattern']}"
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            yield f"{path}: {len(value)} characters"
    elif isinstance(value, (int, float)) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{path}: {value} is out of bounds"


# What Azure refuses beyond its schemas


def _machine_rules(body: dict[str, Any]) -> Iterator[str]:
    """Of a new machine ("Virtual Machines - Create Or Update", learn.microsoft.com)."""
    properties = body.get("properties", {})
    for part in ("hardwareProfile", "storageProfile", "networkProfile", "osProfile"):
        if part not in properties:
            yield f"properties.{part}: required"
    for part in ("evictionPolicy", "billingProfile"):
        if part in properties and properties.get("priority") != "Spot":
            yield f"properties.{part}: for spot machines only"
    login = properties.get("osProfile", {})
    for part in ("computerName", "adminUsername"):
        if not login.get(part):
            yield f"properties.osProfile.{part}: required"
    if not login.get("linuxConfiguration", {}).get("ssh", {}).get("publicKeys"):
        yield "properties.osProfile.linuxConfiguration.ssh.publicKeys: required where there is no password"
    try:
        if len(base64.b64decode(login.get("customData", ""), validate=True)) > MOST_BOOT_BYTES:
            yield f"properties.osProfile.customData: more than {MOST_BOOT_BYTES} bytes"
    except (binascii.Error, ValueError):
        yield "properties.osProfile.customData: not base64"
