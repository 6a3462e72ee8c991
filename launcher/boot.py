"""Boot data: what a machine runs when it starts. Opaque to providers.

The agent is packed from launcher/agent: comments, docstrings and annotations taken off, compressed. What the user
wrote travels inside the orders as encoded data, never spliced into a script.
"""

from __future__ import annotations

import ast
import base64
import json
import lzma
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from launcher.core.money import usd_json

if TYPE_CHECKING:
    from decimal import Decimal

    from launcher.budget import Deadlines
    from launcher.job import JobSpec

# How often the agent writes a heartbeat, by provider: a file costs nothing, a serial console little.
HEARTBEAT_S = {"local": 2.0}
DEFAULT_HEARTBEAT_S = 15.0


class _Bare(ast.NodeTransformer):
    """Takes docstrings and annotations off."""

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


def _stripped(source: str) -> str:
    bare = _Bare().visit(ast.parse(source))
    return ast.unparse(ast.fix_missing_locations(bare))


@cache
def packed_agent() -> str:
    """The agent as text: `{module: source}` as JSON, compressed, in base 85."""
    folder = files("launcher.agent")
    modules = {
        entry.name.removesuffix(".py"): _stripped(entry.read_text(encoding="utf-8"))
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".py")
    }
    packed = lzma.compress(json.dumps(modules).encode(), format=lzma.FORMAT_ALONE, preset=9 | lzma.PRESET_EXTREME)
    return base64.b85encode(packed).decode("ascii")


def make_orders(
    spec: JobSpec,
    *,
    provider: str,
    job: str,
    attempt: int,
    deadlines: Deadlines,
    rate_usd_per_hour: Decimal,
    spent_usd: Decimal,
    cap_usd: Decimal,
    hard_at: float | None,
    notice_s: float,
) -> dict[str, Any]:
    """The agent's orders; launcher/agent/__init__.py says what each means."""
    early_stop = None
    if spec.early_stop is not None:
        early_stop = json.loads(_as_json(spec.early_stop))
    return {
        "job": job,
        "name": spec.name,
        "attempt": attempt,
        "command": list(spec.command),
        "image": spec.image,
        "env": dict(spec.env),
        "workdir": spec.workdir,
        "soft_after_s": deadlines.soft_after_s,
        "soft_outcome": deadlines.outcome.value,
        "soft_reason": "CAP" if deadlines.outcome == "budget_reached" else "MAX_DURATION",
        "hard_after_s": deadlines.hard_after_s,
        "hard_at": hard_at,
        "grace_s": spec.grace_s,
        "notice_s": notice_s,
        "stall": json.loads(_as_json(spec.stall)),
        "metrics": json.loads(_as_json(spec.metrics)),
        "early_stop": early_stop,
        "rate_usd_per_hour": usd_json(rate_usd_per_hour),
        "spent_usd": usd_json(spent_usd),
        "cap_usd": usd_json(cap_usd),
        "checkpoints": json.loads(_as_json(spec.checkpoints)) if spec.checkpoints else None,
        "store": None if spec.store in (None, "none") else {"kind": "folder", "path": spec.store},
        "heartbeat_s": HEARTBEAT_S.get(provider, DEFAULT_HEARTBEAT_S),
        "ending": "exit",
    }


def _as_json(value: Any) -> bytes:
    import msgspec

    return msgspec.json.encode(value)


def build(provider: str, orders: dict[str, Any]) -> bytes:
    """The boot data for a machine of this provider. Raises jinja2.UndefinedError for a template that asks for more."""
    import jinja2

    template = files("templates").joinpath(provider, "boot.py.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)  # noqa: S701 - a script, not HTML
    encoded = base64.b64encode(json.dumps(orders).encode()).decode("ascii")
    text = environment.from_string(template).render(version=version("gpulaunch"), agent=packed_agent(), orders=encoded)
    return text.encode()
