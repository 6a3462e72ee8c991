"""The boot data of each kind of machine: templates, the packed agent and its orders in one document.

AWS and Azure: cloud-init's `#cloud-config`, gzipped whole, whose `bootcmd` runs our script at every boot. GCP: the same
script as it is, since the startup script runs at every boot too.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from launcher.boot import pack, strip
from launcher.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# EC2: the limit of user data, before base64 (ec2/latest/userguide, "Instance user data"). Azure: of customData, decoded
# (the VM's resource reference). GCP: of one metadata value.
LIMIT_BYTES = {"aws": 16_384, "azure": 65_535, "gcp": 262_144}
GZIPPED = ("aws", "azure")
UNITS = ("deadline.timer", "deadline.service", "end.service", "agent.service.j2")
WORKDIR = "/var/lib/gpulaunch/workspace"
# The serial port that all three clouds let the launcher read; where there is none, the kernel's console.
CONSOLE = ("/dev/ttyS0", "/dev/console")


def is_rented(provider: str) -> bool:
    """Whether its machines are rented: booted with boot data, and gone with all that is on them."""
    return provider in LIMIT_BYTES


def build(provider: str, orders: dict[str, Any], rest_url: str | Callable[[], str] = "") -> bytes:
    """The boot data for a machine of this provider.

    `rest_url` is where the machine can fetch `packed_rest()`, should it have no room in the boot data; a function is
    called in that case only. Raises
    UsageError for a job that a rented machine cannot run or whose boot data is too large, and jinja2.UndefinedError for
    a template that asks for more than there is.
    """
    if provider not in LIMIT_BYTES:
        return _local(provider, orders)
    if orders["image"] is None:
        raise UsageError(
            "The job has no image.",
            "On a rented machine the training runs in a container, which keeps it from the machine's own identity.",
            "Set `image:` in the job file, for example `image: pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime`.",
        )
    for modules, rest in _choices(orders, rest_url):
        data = _rented(provider, {**orders, "rest": rest}, modules)
        if len(data) <= LIMIT_BYTES[provider]:
            return data
    raise UsageError(
        f"The job is too large to be sent to {provider}: {len(data):,} bytes of boot data, "
        f"{LIMIT_BYTES[provider]:,} are allowed.",
        "The job's command and variables travel in it with the agent, whose metric readers come from a store if any.",
        "Set `store:` in the job file, or take early_stop and stall.no_progress out of it; put long values into files.",
    )


def _choices(
    orders: dict[str, Any], rest_url: str | Callable[[], str]
) -> Iterator[tuple[tuple[str, ...], dict[str, str] | None]]:
    """What of the agent could travel, the best first: its modules, and what is then fetched."""
    whole = tuple(name for name in pack.sources() if orders["store"] or name not in pack.FOR_A_STORE)
    yield whole, None
    url = rest_url if isinstance(rest_url, str) else rest_url()
    if url:
        digest = hashlib.sha256(pack.packed_rest()).hexdigest()
        yield pack.CORE, {"url": url, "sha256": digest, "needs": "gpulaunch_agent/watch.py"}
    elif not orders["early_stop"] and not orders["stall"]["no_progress_s"] and not orders["store"]:
        yield pack.CORE, None


def _rented(provider: str, orders: dict[str, Any], modules: tuple[str, ...]) -> bytes:
    machine = {
        **orders,
        "workdir": WORKDIR,
        "ending": "/etc/gpulaunch/end",
        "prepare": "/opt/gpulaunch/prepare.sh",
        "console": CONSOLE,
    }
    content = {
        **pack.modules(modules),
        "agent.py": strip.text(strip.strip(_read("machine", "agent.py"))),
        "prepare.sh": _script("machine", "prepare.sh"),
        "orders.json": json.dumps(machine, ensure_ascii=False),
    }
    values = {key: int(orders[key]) for key in ("hard_at", "hard_after_s", "notice_s")}  # numbers, and nothing else
    boot = _render(
        _script("machine", "boot.sh.j2"),
        version=version("gpulaunch"),
        end=_script(provider, "end.sh"),
        deadline=_render(_script("machine", "deadline.sh.j2"), **values),
        units={name.removesuffix(".j2"): _render(_read("machine", name), **values).strip() for name in UNITS},
        pack=base64.b64encode(pack.pack(content)).decode("ascii"),
    )
    document = _render(_read(provider, "boot.j2"), boot=boot).encode()
    return gzip.compress(document, 9, mtime=0) if provider in GZIPPED else document


def _local(provider: str, orders: dict[str, Any]) -> bytes:
    encoded = base64.b64encode(json.dumps(orders).encode()).decode("ascii")
    text = _render(
        _read(provider, "boot.py.j2"), version=version("gpulaunch"), agent=pack.packed_agent(), orders=encoded
    )
    return text.encode()


def _read(*path: str) -> str:
    return files("templates").joinpath(*path).read_text(encoding="utf-8")


def _script(*path: str) -> str:
    """A shell script without its comments: they stay in the repository."""
    lines = _read(*path).splitlines()
    return "\n".join(line for line in lines if line.startswith("#!") or not line.lstrip().startswith("#"))


def _render(template: str, **values: Any) -> str:
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)  # noqa: S701 - a script, not HTML
    environment.filters["json"] = json.dumps
    return environment.from_string(template).render(**values)
