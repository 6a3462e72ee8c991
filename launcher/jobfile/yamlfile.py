"""Reads a YAML file into plain nodes that know their line. Nothing in the file is executed.

Scalars are read as text, so that `1e-4`, `1:30`, `no` and `0123` mean what they say: the schema decides the type.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import yaml

from launcher.core.errors import UsageError
from launcher.jobfile.document import Mapping, Node, Problems, Scalar, Sequence, dotted

MAX_BYTES = 1 << 20
# Far beyond any honest file. The bound is on nodes after aliases are expanded: it defuses a billion laughs.
MAX_NODES = 10_000
MAX_DEPTH = 32
_TAG = "tag:yaml.org,2002:"
_RESOLVER = yaml.resolver.Resolver()


def load_yaml(path: Path, problems: Problems, *, kind: str) -> Mapping | None:
    """Read the file's top-level mapping; None if the file is empty or has a problem that stops the reading.

    `kind` names the file in errors ("job file"). Problems of the content are added to `problems`. Raises UsageError
    when the file cannot be read at all.
    """
    text = _decode(_read(path, kind), problems)
    if text is None:
        return None
    loader = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None or root.tag == _TAG + "null":
            return None
        plain = _Plain(problems).convert(root, "")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problems.add(line, "", f"the character U+{int(error.character):04X} is not allowed in a text file")
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.add(mark.line + 1 if mark else 1, "", _syntax(error))
        return None
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(plain, Mapping):
        problems.add(plain.line, "", "the top level must be a mapping, such as `name: my-job`")
        return None
    return plain


def _read(path: Path, kind: str) -> bytes:
    """The file's bytes. A pipe or a device is refused, because opening one may wait for ever."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UsageError(f"{path} is a folder, not a {kind}.", fix="Name the file in it.")
        if not stat.S_ISREG(mode):
            raise UsageError(f"{path} is not a regular file.", fix=f"Save the {kind} as a file and name that.")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, kind, error) from error
    except ValueError as error:
        raise UsageError(f"{str(path)!r} is not a path: {error}.", fix=f"Name the {kind}.") from error
    if len(content) > MAX_BYTES:
        raise UsageError(
            f"{path} is larger than 1 MiB.", f"No {kind} is that large.", f"Check that it is the {kind} you meant."
        )
    return content


def _unreadable(path: Path, kind: str, error: OSError) -> UsageError:
    why = f"{error.strerror or error}."
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return UsageError(f"There is no {kind} {path}.", why, "Check the path, or run `gpulaunch init` to write one.")
    if error.errno == errno.EACCES:
        return UsageError(f"The {kind} {path} cannot be read.", why, f"Run: chmod u+r {os.fspath(path)!r}")
    return UsageError(f"The {kind} {path} cannot be read.", why, "Check the file and the disk it is on.")


def _decode(content: bytes, problems: Problems) -> str | None:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.add(line, "", "this is not text in UTF-8; save the file as UTF-8")
        return None
    if "\0" in text:
        problems.add(text.count("\n", 0, text.index("\0")) + 1, "", "this is a binary file, not YAML")
        return None
    return text


def _syntax(error: yaml.MarkedYAMLError) -> str:
    if isinstance(error, _Refused):
        return f"refused: {error.problem}"
    said = error.problem or error.context or "it cannot be read"
    if "'\\t'" in said:
        return "not valid YAML: a tab where a space belongs; YAML indents with spaces only"
    if "single document" in (error.context or ""):
        return "a second document starts here; keep one and remove this `---`"
    context = f" ({error.context})" if error.problem and error.context else ""
    return f"not valid YAML: {said}{context}"


class _Refused(yaml.MarkedYAMLError):
    """The file is YAML, but no file that anyone would write."""


class _Loader(yaml.SafeLoader):
    """PyYAML's composer, with bounds on depth and size, so that no file can exhaust the stack or the memory."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        self._depth += 1
        self._nodes += 1
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self._depth > MAX_DEPTH:
            raise _Refused(None, None, f"nested deeper than {MAX_DEPTH} levels", mark)
        if self._nodes > MAX_NODES:
            raise _Refused(None, None, f"more than {MAX_NODES:,} values", mark)
        node: yaml.Node | None = super().compose_node(parent, index)  # type: ignore[arg-type]
        self._depth -= 1
        return node


class _Plain:
    """Turns PyYAML's nodes into ours, expands aliases, and finds keys given twice."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._nodes = 0
        self._open: set[int] = set()

    def convert(self, node: yaml.Node, key: str) -> Node:
        line = node.start_mark.line + 1
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _Refused(None, None, f"with its aliases, more than {MAX_NODES:,} values", node.start_mark)
        if id(node) in self._open:
            raise _Refused(None, None, "an alias contains itself", node.start_mark)
        self._open.add(id(node))
        try:
            return self._node(node, key, line)
        finally:
            self._open.remove(id(node))

    def _node(self, node: yaml.Node, key: str, line: int) -> Node:
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, key, "seq")
            return Sequence(line, tuple(self.convert(item, key) for item in node.value))
        if isinstance(node, yaml.MappingNode):
            self._check_tag(node, key, "map")
            return self._mapping(node, key, line)
        # A plain scalar carries the tag that its text looks like (int, null, …); that is not a tag in the file.
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        if not plain or node.tag != _RESOLVER.resolve(yaml.ScalarNode, node.value, (True, False)):  # type: ignore[no-untyped-call]
            self._check_tag(node, key, "str")
        self._check_text(node.value, key, line)
        return Scalar(line, node.value, null=node.tag == _TAG + "null")

    def _mapping(self, node: yaml.MappingNode, key: str, line: int) -> Mapping:
        entries: dict[str, Node] = {}
        lines: dict[str, int] = {}
        for name_node, value in node.value:
            at = name_node.start_mark.line + 1
            name = name_node.value
            if not isinstance(name_node, yaml.ScalarNode):
                self._problems.add(at, key, "a key must be a plain name, not a list or a mapping")
            elif name_node.tag == _TAG + "merge":
                self._problems.add(at, key, "merge keys (`<<`) are not supported; write the keys out")
            elif name in entries:
                self._problems.add(at, dotted(key, name), f"given twice; it is in line {lines[name]} already")
            else:
                self._check_text(name, key, at)
                entries[name] = self.convert(value, dotted(key, name))
                lines[name] = at
        return Mapping(line, entries, lines)

    def _check_tag(self, node: yaml.Node, key: str, allowed: str) -> None:
        if node.tag != _TAG + allowed:
            tag = node.tag.replace(_TAG, "!!")
            self._problems.add(node.start_mark.line + 1, key, f"tags such as {tag!r} are not supported; remove it")

    def _check_text(self, text: str, key: str, line: int) -> None:
        if any("\ud800" <= char <= "\udfff" for char in text):
            self._problems.add(line, key, "half of a surrogate pair is not text; write the whole character")
