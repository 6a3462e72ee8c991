"""YAML files: text stays text, lines are known, and no file can hang the reader or slip past it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.core.errors import UsageError
from launcher.jobfile.document import Mapping, Problems, Scalar, Sequence, quote
from launcher.jobfile.yamlfile import MAX_BYTES, load_yaml


def read(path: Path) -> tuple[Mapping | None, list[str]]:
    """The mapping of a file, and its problems as `line: message`."""
    problems = Problems("f.yaml", path.parent)
    root = load_yaml(path, problems, kind="job file")
    return root, [str(problem).removeprefix("f.yaml:") for problem in problems.sorted()]


def read_text(tmp_path: Path, content: str | bytes) -> tuple[Mapping | None, list[str]]:
    """The same of a file with that content."""
    path = tmp_path / "f.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read(path)


@pytest.mark.parametrize("text", ["1e-4", "1:30", "no", "0123", "2026-11-21", "0x10", ".inf", "=", "on", "5.00"])
def test_scalars_are_text(tmp_path: Path, text: str) -> None:
    """What YAML would turn into a number, a date or a truth value means what it says."""
    root, problems = read_text(tmp_path, f"a: {text}\n")
    assert ([], Mapping(1, {"a": Scalar(1, text)}, {"a": 1})) == (problems, root)


@pytest.mark.parametrize(("text", "null"), [("~", True), ("null", True), ("", True), ("'null'", False), ("''", False)])
def test_null_is_only_what_is_not_quoted(tmp_path: Path, text: str, null: bool) -> None:
    """An empty value and `null` mean absent; in quotes they are text."""
    root, _ = read_text(tmp_path, f"a: {text}\n")
    assert root is not None
    value = root.entries["a"]
    assert isinstance(value, Scalar)
    assert null == value.null


def test_every_node_knows_its_line(tmp_path: Path) -> None:
    """Keys, items and values carry the line on which they stand."""
    root, problems = read_text(tmp_path, "# a comment\na:\n  b: 1\n  c:\n    - x\n    - y\n")
    c = Sequence(5, (Scalar(5, "x"), Scalar(6, "y")))
    inner = Mapping(3, {"b": Scalar(3, "1"), "c": c}, {"b": 3, "c": 4})
    assert ([], Mapping(2, {"a": inner}, {"a": 2})) == (problems, root)


def test_aliases_are_expanded(tmp_path: Path) -> None:
    """An alias stands for what its anchor names."""
    root, problems = read_text(tmp_path, "a: &x [1, 2]\nb: *x\n")
    assert root is not None
    assert problems == []
    assert root.entries["a"] == root.entries["b"]


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{chr(ord(name) - 1)}'] * 10)}]\n" for name in "bcdefghi"
)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a: 1\na: 2\n", ["2: a: given twice; it is in line 1 already"]),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", ["4: a.b: given twice; it is in line 2 already"]),
        ("a: 1\na: 2\na: 3\n",
         ["2: a: given twice; it is in line 1 already", "3: a: given twice; it is in line 1 already"]),
        ("[1, 2]\n", ["1: the top level must be a mapping, such as `name: my-job`"]),
        ("just words\n", ["1: the top level must be a mapping, such as `name: my-job`"]),
        ("a: 1\n\tb: 2\n", ["2: not valid YAML: a tab where a space belongs; YAML indents with spaces only"]),
        ("a: b: c\n", ["1: not valid YAML: mapping values are not allowed here"]),
        ("a: [1, 2\nb: 3\n", ["2: not valid YAML: expected ',' or ']', but got ':' (while parsing a flow sequence)"]),
        ("a: 'x\n", ["2: not valid YAML: found unexpected end of stream (while scanning a quoted scalar)"]),
        ("a: 1\n---\nb: 2\n", ["2: a second document starts here; keep one and remove this `---`"]),
        ("a: 1\nb: \xff".encode("latin-1"), ["2: this is not text in UTF-8; save the file as UTF-8"]),
        ("a: 1".encode("utf-16"), ["1: this is not text in UTF-8; save the file as UTF-8"]),
        ("a: 1\nb: \0\n", ["2: this is a binary file, not YAML"]),
        ("a: 1\nb: \x07\n", ["2: the character U+0007 is not allowed in a text file"]),
        ('a: "\\ud800"\n', ["1: a: half of a surrogate pair is not text; write the whole character"]),
        ("a: !!python/name:os.system x\n",
         ["1: a: tags such as '!!python/name:os.system' are not supported; remove it"]),
        ("a: !!python/object/new:os [x]\n",
         ["1: a: tags such as '!!python/object/new:os' are not supported; remove it"]),
        ("a: !!set {x: y}\n", ["1: a: tags such as '!!set' are not supported; remove it"]),
        ("a: !secret x\n", ["1: a: tags such as '!secret' are not supported; remove it"]),
        ("a: &x {b: 1}\nc: {<<: *x}\n", ["2: c: merge keys (`<<`) are not supported; write the keys out"]),
        ("? [a]\n: 1\n", ["1: a key must be a plain name, not a list or a mapping"]),
        ("a: *x\n", ["1: not valid YAML: found undefined alias 'x'"]),
        ("a: &a [*a]\n", ["1: refused: an alias contains itself"]),
        ("a: &a {b: *a}\n", ["1: refused: an alias contains itself"]),
        ("a: " + "[" * 40 + "]" * 40, ["1: refused: nested deeper than 32 levels"]),
        ("a: " + "[" * 100_000, ["1: refused: nested deeper than 32 levels"]),
        ("a:\n" + "- x\n" * 10_001, ["9999: refused: more than 10,000 values"]),
        (LAUGHS, ["1: refused: with its aliases, more than 10,000 values"]),
    ],
)  # fmt: skip
def test_each_problem_is_told_with_its_line(tmp_path: Path, content: str | bytes, expected: list[str]) -> None:
    """What is wrong in a file is found, and told with the line to fix."""
    _, problems = read_text(tmp_path, content)
    assert expected == problems


@pytest.mark.parametrize("content", ["", "\n\n", "# only a comment\n", "---\n", "~\n"])
def test_an_empty_file_is_no_mapping_and_no_problem(tmp_path: Path, content: str) -> None:
    """Whether a file may be empty is for the caller to say."""
    assert read_text(tmp_path, content) == (None, [])


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    """Some editors put one at the start."""
    root, problems = read_text(tmp_path, b"\xef\xbb\xbfa: 1\n")
    assert ([], Mapping(1, {"a": Scalar(1, "1")}, {"a": 1})) == (problems, root)


def test_a_missing_file_is_told_with_the_way_out(tmp_path: Path) -> None:
    """A path that does not exist names `gpulaunch init`."""
    with pytest.raises(UsageError) as caught:
        read(tmp_path / "none.yaml")
    assert f"There is no job file {tmp_path / 'none.yaml'}." == caught.value.what
    assert caught.value.fix == "Check the path, or run `gpulaunch init` to write one."


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder is no file."""
    with pytest.raises(UsageError, match="is a folder, not a job file"):
        read(tmp_path)


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    """Opening a pipe that nobody writes to would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is not a regular file"):
        read(tmp_path / "pipe")


def test_a_file_beyond_the_bound_is_refused(tmp_path: Path) -> None:
    """A huge file is refused before it is parsed."""
    with pytest.raises(UsageError, match="is larger than 1 MiB"):
        read_text(tmp_path, b"#" * (MAX_BYTES + 1))


def test_a_path_with_a_nul_is_refused(tmp_path: Path) -> None:
    """A path that no file can have is a usage error."""
    with pytest.raises(UsageError):
        read(tmp_path / "a\0b")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_told_with_the_command(tmp_path: Path) -> None:
    """A file without the right to read it names the chmod."""
    path = tmp_path / "f.yaml"
    path.write_text("a: 1\n")
    path.chmod(0)
    with pytest.raises(UsageError) as caught:
        read(path)
    assert f"Run: chmod u+r {str(path)!r}" == caught.value.fix


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "'plain'"),
        ("it's", '"it\'s"'),
        ("a\nb\x1b[31m", "'a\\nb\\x1b[31m'"),
        ("\u202egnp", "'\\u202egnp'"),
        ("x" * 300, "'" + "x" * 57 + "…'"),
    ],
)
def test_an_echo_is_short_and_harmless(text: str, expected: str) -> None:
    """What was found is shown in quotes, at most 60 characters, without control characters."""
    assert expected == quote(text)
