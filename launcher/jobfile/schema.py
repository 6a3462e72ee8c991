"""What a file may say: each key with its kind of value, its meaning and its default.

A section of a file is a msgspec Struct; each of its fields carries a `Key`. The same table reads a file
(`Section.read`) and publishes itself as JSON Schema (`Section.json`), so the two cannot drift apart.

A kind reads one node and returns the value. Where the node is wrong it adds a problem and returns None.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Protocol, get_type_hints

import msgspec

from launcher.jobfile.document import Mapping, Node, Problems, Scalar, Sequence, closest, dotted, quote

Json = dict[str, Any]
Check = Callable[[dict[str, Any], Mapping, str, Problems], None]


class Kind(Protocol):
    """A kind of value."""

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """The value of the node, or None after adding a problem."""

    def json(self) -> Json:
        """Its JSON Schema, without a description."""

    def show(self, value: Any) -> Any:
        """A value as one would write it in the file, for the published default."""


class Key:
    """One key of a section: its kind, what it means, and its name in the file where the field's differs."""

    def __init__(self, kind: Kind, about: str, name: str | None = None, *, required: bool = False) -> None:
        self.kind = kind
        self.about = about
        self.name = name
        self.required = required


class Value:
    """One scalar.

    `parse` makes the value of the text. It raises ValueError with the end of the sentence that the text begins
    (`'-5'` "must be above zero"), or with nothing: then the text "is not" what `allowed` says.
    """

    def __init__(
        self, parse: Callable[[str], Any], allowed: str, json: Json, show: Callable[[Any], Any] = lambda value: value
    ) -> None:
        self.parse = parse
        self.allowed = allowed
        self._json = json
        self._show = show

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """The value of the scalar."""
        if not isinstance(node, Scalar):
            problems.add(node.line, key, f"{shape(node)} is not {self.allowed}")
            return None
        try:
            return self.parse(node.text)
        except ValueError as error:
            problems.add(node.line, key, f"{quote(node.text)} {str(error) or f'is not {self.allowed}'}")
            return None

    def json(self) -> Json:
        """Its JSON Schema."""
        return dict(self._json)

    def show(self, value: Any) -> Any:
        """The value as one would write it."""
        return self._show(value)


class Items:
    """A list, read as a tuple. An item that is given twice counts once."""

    def __init__(self, kind: Kind, example: str) -> None:
        self._kind = kind
        self._example = example

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """The items that are right."""
        if not isinstance(node, Sequence):
            problems.add(node.line, key, f"{shape(node)} is not a list, such as {self._example}")
            return None
        items = [read_item(item, self._kind, key, problems) for item in node.items]
        return tuple(dict.fromkeys(item for item in items if item is not None))

    def json(self) -> Json:
        """Its JSON Schema."""
        return {"type": "array", "items": self._kind.json()}

    def show(self, value: Any) -> Any:
        """The items as one would write them."""
        return [self._kind.show(item) for item in value]


class Section:
    """A mapping with known keys, read as a Struct. `check` looks at what concerns several keys at once."""

    def __init__(self, struct: type[msgspec.Struct], check: Check | None = None) -> None:
        self._struct = struct
        self._check = check

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """The section as its Struct."""
        values = self.values(node, key, problems)
        return None if values is None else self._struct(**values)

    def values(self, node: Node, key: str, problems: Problems) -> dict[str, Any] | None:
        """What the section gives, by the names of its fields; a null value counts as not given."""
        if not isinstance(node, Mapping):
            problems.add(node.line, key, f"{shape(node)} is not a mapping with keys of: {', '.join(self.names())}")
            return None
        values: dict[str, Any] = {}
        meant = set()
        for name, entry in node.entries.items():
            if name not in self.names():
                guess = closest(name, self.names())
                meant.add(guess)
                problems.add(node.lines[name], dotted(key, name), self._unknown(name, guess))
            elif not (isinstance(entry, Scalar) and entry.null):
                field, field_key = self.keys()[name]
                values[field] = field_key.kind.read(entry, dotted(key, name), problems)
        for name, (field, field_key) in self.keys().items():
            if field_key.required and field not in values:
                values[field] = None
                if name not in meant:
                    about = field_key.about.split(". ")[0].rstrip(".")
                    problems.add(node.line, dotted(key, name), f"missing; it is required ({about})")
        if self._check is not None:
            self._check(values, node, key, problems)
        return values

    def json(self) -> Json:
        """Its JSON Schema, the sections below it included."""
        defaults = {field.name: field.default for field in msgspec.structs.fields(self._struct)}
        properties = {}
        for name, (field, key) in self.keys().items():
            allowed = key.kind.json() if key.required else _or_null(key.kind.json())
            properties[name] = {**allowed, "description": key.about}
            default = defaults[field]
            if default is not msgspec.NODEFAULT and default not in (None, ()) and not isinstance(key.kind, Section):
                properties[name]["default"] = key.kind.show(default)
        required = [name for name, (_, key) in self.keys().items() if key.required]
        schema: Json = {"type": "object", "properties": properties, "additionalProperties": False}
        return {**schema, "required": required} if required else schema

    def show(self, value: Any) -> Any:
        """Sections have no default of their own to publish."""
        return value

    def names(self) -> list[str]:
        """The keys of the section, as they stand in the file."""
        return list(self.keys())

    def key_names(self, prefix: str = "") -> list[str]:
        """The dotted names of all keys, those of the sections below included."""
        found = []
        for name, (_, key) in self.keys().items():
            found.append(dotted(prefix, name))
            if isinstance(key.kind, Section):
                found += key.kind.key_names(dotted(prefix, name))
        return found

    def keys(self) -> dict[str, tuple[str, Key]]:
        """The section's keys by their name in the file, each with the name of its field in the Struct."""
        return _keys_of(self._struct)

    def _unknown(self, name: str, guess: str | None) -> str:
        elsewhere = [known for known in self.key_names() if known.endswith(f".{name}")]
        meant = guess or (elsewhere[0] if elsewhere else None)
        hint = f"did you mean {meant!r}? " if meant else ""
        return f"unknown key; {hint}known here: {', '.join(self.names())}"


def read_item(item: Node, kind: Kind, key: str, problems: Problems) -> Any:
    """One item of a list. An empty one is refused: nobody can tell what it was meant to be."""
    if isinstance(item, Scalar) and item.null:
        problems.add(item.line, key, "an item is empty; remove it, or put it in quotes if it is meant as text")
        return None
    return kind.read(item, key, problems)


def shape(node: Node) -> str:
    """What a node is, for a message."""
    if isinstance(node, Sequence):
        return "a list"
    return "a mapping" if isinstance(node, Mapping) else quote(node.text)


@cache
def _keys_of(struct: type[msgspec.Struct]) -> dict[str, tuple[str, Key]]:
    keys = {}
    for field, hint in get_type_hints(struct, include_extras=True).items():
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, Key):
                keys[mark.name or field] = (field, mark)
    return keys


def _or_null(schema: Json) -> Json:
    """The schema, with null allowed: a null value means that the key is absent."""
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], None]}
    allowed = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return {**schema, "type": [*allowed, "null"]}
