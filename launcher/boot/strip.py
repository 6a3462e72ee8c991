"""Source code made small, without changing what it does: for a machine that nobody reads it on.

Docstrings, annotations and the imports that only annotations need are taken off. `short_names` also gives local
variables and parameters short names; a name is left alone as soon as anything outside its function could mean it.
"""

from __future__ import annotations

import ast
import builtins
import keyword
from itertools import chain, product
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# They are imported for annotations; NamedTuple alone is of use to a running program.
_FOR_ANNOTATIONS = {"__future__", "typing", "collections.abc"}
_OF_USE = {"NamedTuple"}


class _Bare(ast.NodeTransformer):
    """Takes docstrings, annotations and the imports for them off."""

    def _body(self, node: Any) -> Any:
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = node.body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])
        return self.generic_visit(node)

    visit_Module = _body  # noqa: N815 - ast.NodeVisitor's own name

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        """A class: its own fields keep their annotations, since a NamedTuple is made of them."""
        fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
        others = [each for each in node.body if not isinstance(each, ast.AnnAssign)]
        node.body = others
        bare: ast.ClassDef = self._body(node)
        bare.body = [*fields, *(each for each in bare.body if not (fields and isinstance(each, ast.Pass)))]
        return bare

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        """A function without its annotations."""
        node.returns = None
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        for argument in every:
            if argument is not None:
                argument.annotation = None
        bare: ast.FunctionDef = self._body(node)
        return bare

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """An assignment without its annotation."""
        if node.value is None:
            return ast.Pass()
        return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Text that stands alone describes what is above it."""
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else self.generic_visit(node)


def strip(source: str) -> ast.Module:
    """The program without docstrings, comments and annotations."""
    tree: ast.Module = _Bare().visit(ast.parse(source))
    return ast.fix_missing_locations(tree)


def without_annotation_imports(tree: ast.Module) -> ast.Module:
    """The program without the imports that only annotations needed; a class's fields are made of names it still has."""
    fields = {name.id for name in _walk(tree, ast.AnnAssign, ast.Name)}
    kept = _OF_USE | fields

    def is_needed(node: ast.stmt) -> bool:
        if not isinstance(node, ast.ImportFrom) or node.level or node.module not in _FOR_ANNOTATIONS:
            return True
        node.names = [each for each in node.names if each.name in kept]
        return bool(node.names)

    tree.body = [node for node in tree.body if is_needed(node)]
    return tree


def _walk(tree: ast.AST, outer: type[ast.AST], inner: type[Any]) -> Iterator[Any]:
    for node in ast.walk(tree):
        if isinstance(node, outer):
            yield from (each for each in ast.walk(node) if isinstance(each, inner))


def keywords(trees: Iterable[ast.Module]) -> set[str]:
    """Every name that is passed as a keyword anywhere: a parameter of that name keeps it."""
    return {node.arg for tree in trees for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg}


def short_names(tree: ast.Module, kept: set[str]) -> ast.Module:
    """Give the locals of each function short names, except those in `kept`."""
    outside = kept | set(dir(builtins)) | {"self"} | _bound_outside_functions(tree)
    for function in _functions(tree):
        _shorten(function, outside)
    return tree


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """The outermost functions; what is nested in them is renamed with them."""
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    return (node for node in chain.from_iterable(bodies) if isinstance(node, ast.FunctionDef))


def _bound_outside_functions(tree: ast.Module) -> set[str]:
    """The names of the module and of its classes, whatever binds them."""
    found: set[str] = set()
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
            continue  # what is inside is its own
        found |= _binds(node)
        pending += ast.iter_child_nodes(node)
    return found


def _binds(node: ast.AST) -> set[str]:
    """The names that this node itself binds, other than by a plain parameter or variable of a function."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(each.asname or each.name).split(".")[0] for each in node.names}
    if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
        return {node.name}
    if isinstance(node, (ast.Global, ast.Nonlocal)):
        return set(node.names)
    return {node.id} if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load) else set()


def _shorten(function: ast.FunctionDef, outside: set[str]) -> None:
    nodes = list(ast.walk(function))
    left = set(outside)
    for node in nodes:
        left |= _binds(node) if not isinstance(node, ast.Name) else set()
    names = [(node, field) for node in nodes if (field := _local(node))]
    bound = {getattr(node, field): None for node, field in names if _is_binding(node)}  # in order, each once
    used = left | {getattr(node, field) for node, field in names}
    short = (name for name in _short() if name not in used)
    new = {name: next(short) for name in bound if name not in left}
    for node, field in names:
        setattr(node, field, new.get(getattr(node, field), getattr(node, field)))


def _local(node: ast.AST) -> str:
    """The field in which this node holds the name of a variable or parameter."""
    if isinstance(node, ast.Name):
        return "id"
    if isinstance(node, ast.arg):
        return "arg"
    return "name" if isinstance(node, ast.ExceptHandler) and node.name else ""


def _is_binding(node: ast.AST) -> bool:
    return not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load)


def _short() -> Iterator[str]:
    """The names of one letter, then those of two."""
    return (
        name
        for name in chain(ascii_lowercase, map("".join, product(ascii_lowercase, repeat=2)))
        if not keyword.iskeyword(name)
    )


def text(tree: ast.Module) -> str:
    """The program as text, each step of indentation one space."""
    lines = ast.unparse(tree).split("\n")
    tripled = any('"""' in line or "'''" in line for line in lines)  # its lines are not ours to indent
    return "\n".join(lines if tripled else map(_narrow, lines))


def _narrow(line: str) -> str:
    code = line.lstrip(" ")
    return " " * ((len(line) - len(code)) // 4) + code
