"""Boot data for rented machines: small enough, the deadline first, and the user's words as data."""

from __future__ import annotations

import base64
import bz2
import dis
import gzip
import hashlib
import importlib.util
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import make_spec
from test_boot import EVIL, make_orders

from launcher import boot
from launcher.agent import heartbeat
from launcher.boot import pack, strip
from launcher.core.errors import UsageError
from launcher.job import EarlyStop

if TYPE_CHECKING:
    from collections.abc import Iterator

CLOUDS = ("aws", "azure", "gcp")
IMAGE = "pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime"
REST_URL = "https://bucket.s3.us-east-1.amazonaws.com/jobs/agent?X-Amz-Signature=" + "0" * 64
LARGEST_CORE = 9 * 1024
TEMPLATES = Path(__file__).parents[2] / "templates"


def orders_for(cloud: str, **changes: Any) -> dict[str, Any]:
    """Orders of a usual job: an image, a command, a variable, early stop."""
    usual: dict[str, Any] = {
        "image": IMAGE,
        "command": ("python", "train.py", "--steps", "5000"),
        "env": {"WANDB_MODE": "offline"},
        "early_stop": EarlyStop(monitor="val_loss", patience=5),
    }
    return make_orders(make_spec(**(usual | changes)), provider=cloud, notice_s=30.0)


def script_of(cloud: str, data: bytes) -> str:
    """The script in a machine's boot data, read as the cloud's own software reads it."""
    if cloud == "gcp":
        return data.decode()
    document = yaml.safe_load(gzip.decompress(data))
    [[shell, option, script]] = document["bootcmd"]
    assert [shell, option] == ["sh", "-c"]
    return str(script)


def files_of(script: str) -> dict[str, str]:
    """What the script unpacks."""
    encoded = script.partition("' <<'EOF'\n")[2].partition("\nEOF")[0]
    parts = iter(bz2.decompress(base64.b64decode(encoded)).decode().split("\0"))
    return dict(zip(parts, parts, strict=True))


def orders_in(cloud: str, data: bytes) -> dict[str, Any]:
    """The orders that arrive on the machine."""
    found: dict[str, Any] = json.loads(files_of(script_of(cloud, data))["orders.json"])
    return found


def test_the_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    """The core of the agent is held under 9 KB, and a usual job under the limit of each cloud."""
    core, rest = len(boot.packed_core()), len(boot.packed_rest())
    sizes = {cloud: len(boot.build(cloud, orders_for(cloud), REST_URL)) for cloud in CLOUDS}
    with capsys.disabled():
        print(f"\nthe packed agent: core {core:,} bytes, rest {rest:,} bytes; boot data of a usual job: {sizes}")

    assert core < LARGEST_CORE
    assert [cloud for cloud in CLOUDS if sizes[cloud] > boot.LIMIT_BYTES[cloud]] == []


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_deadline_is_armed_before_all_else(cloud: str) -> None:
    """What stands above it needs sh and systemd only, and is written before anything is unpacked or fetched."""
    script = script_of(cloud, boot.build(cloud, orders_for(cloud), REST_URL))
    armed, _, rest = script.partition("systemctl enable --now --no-block gpulaunch-deadline.timer")

    assert "python3 -I -c" in rest
    assert [line for line in armed.splitlines() if line.startswith(("python", "curl", "apt", "docker"))] == []
    assert "-ge 160 ] ||" in armed
    assert "-ge 1800000000 ]" in armed


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_script_is_one_for_sh(cloud: str, tmp_path: Path) -> None:
    """As it is sent: comments taken off, numbers put in."""
    script = script_of(cloud, boot.build(cloud, orders_for(cloud), REST_URL))
    texts = {"boot": script, "prepare": files_of(script)["prepare.sh"]}
    for name in ("end", "deadline"):
        texts[name] = script.partition(f"cat >{name} <<'EOF'\n")[2].partition("\nEOF")[0]
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")

    assert [subprocess.run(["sh", "-n", str(tmp_path / name)]).returncode for name in texts] == [0, 0, 0, 0]
    assert all(texts.values())


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_job_full_of_traps_arrives(cloud: str) -> None:
    """Read back as cloud-init and the script read it; a heredoc's end in a command ends nothing."""
    words = (*EVIL[:-1], "\x1b[31m\x7f", "EOF\nEOF\n")
    found = orders_in(cloud, boot.build(cloud, orders_for(cloud, command=words, env={"A": "EOF"}), REST_URL))

    assert list(words) == found["command"]
    assert {"A": "EOF"} == found["env"]


@settings(max_examples=25, deadline=None)
@given(words=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1))
def test_any_command_arrives(words: list[str]) -> None:
    """Whatever characters it is made of; a NUL, no command can hold."""
    data = boot.build("gcp", orders_for("gcp", command=tuple(words)))

    assert words == orders_in("gcp", data)["command"]


def test_where_there_is_room_the_whole_agent_travels() -> None:
    """On GCP and Azure; what only a store needs stays away from a job that has none."""
    names = [set(files_of(script_of(cloud, boot.build(cloud, orders_for(cloud))))) for cloud in ("gcp", "azure")]
    modules = {f"gpulaunch_agent/{name}.py" for name in pack.sources() if name not in pack.FOR_A_STORE}

    assert [modules | {"agent.py", "prepare.sh", "orders.json"}] * 2 == names


def test_every_module_imports_with_python_alone(tmp_path: Path) -> None:
    """As it is sent: made small, with what the standard library has."""
    for path, content in pack.modules(pack.sources()).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content, encoding="utf-8")
    names = [f"gpulaunch_agent.{name}" for name in pack.sources() if name != "__init__"]
    program = f"import sys; sys.path.insert(0, '.'); import {', '.join(names)}; print('launcher' in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, cwd=tmp_path, timeout=60)

    assert (b"False\n", b"") == (done.stdout, done.stderr)


def test_on_ec2_the_rest_of_the_agent_is_fetched() -> None:
    """The boot data names the address and the checksum."""
    data = boot.build("aws", orders_for("aws"), REST_URL)
    rest = orders_in("aws", data)["rest"]

    assert (REST_URL, hashlib.sha256(boot.packed_rest()).hexdigest()) == (rest["url"], rest["sha256"])
    assert rest["needs"] not in files_of(script_of("aws", data))


def test_on_ec2_without_a_store_a_job_without_rules_goes_with_the_core() -> None:
    """Nothing that it asks for is missing."""
    found = orders_in("aws", boot.build("aws", orders_for("aws", early_stop=None)))

    assert found["rest"] is None


@pytest.mark.parametrize(("rest_url", "variables"), [("", 0), (REST_URL, 120)])
def test_a_job_too_large_for_ec2_is_refused(rest_url: str, variables: int) -> None:
    """Before anything is created, with the way out; noise cannot be made smaller."""
    noise = {f"NOISE{n}": hashlib.sha512(str(n).encode()).hexdigest() for n in range(variables)}
    with pytest.raises(UsageError) as refused:
        boot.build("aws", orders_for("aws", env=noise), rest_url)

    assert "16,384 are allowed" in refused.value.what
    assert "store:" in refused.value.fix


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_job_without_an_image_is_refused(cloud: str) -> None:
    """A process on the machine could use the machine's identity."""
    with pytest.raises(UsageError) as refused:
        boot.build(cloud, orders_for(cloud, image=None), REST_URL)

    assert "image:" in refused.value.fix


def steps(code: CodeType) -> list[tuple[str, Any]]:
    """What a compiled program does, its locals known by the order of their first use and not by their names."""
    numbers: dict[str, int] = {}
    found: list[tuple[str, Any]] = [(code.co_name, code.co_argcount + code.co_kwonlyargcount)]
    for each in dis.get_instructions(code):
        if each.opname in ("MAKE_CELL", "LOAD_CLOSURE"):
            continue  # they come in the order of the names
        if each.opcode in dis.haslocal or each.opcode in dis.hasfree:
            found.append((each.opname, numbers.setdefault(each.argval, len(numbers))))
        elif isinstance(each.argval, CodeType):
            found += steps(each.argval)
        else:
            found.append((each.opname, each.argval))
    return found


@pytest.mark.parametrize("name", sorted(pack.sources()))
def test_short_names_change_names_of_locals_only(name: str) -> None:
    """The compiled program does the same, step by step."""
    before = strip.text(strip.without_annotation_imports(strip.strip(pack.sources()[name])))
    after = pack.small()[name]

    assert steps(compile(before, name, "exec")) == steps(compile(after, name, "exec"))


def test_names_that_others_use_are_kept() -> None:
    """A keyword's, a global's, a builtin's, an attribute's, an import's and a nested function's."""
    source = (
        "import os\n"
        "limit = 5\n"
        "def work(self, amount, wanted, *rest):\n"
        "    import json\n"
        "    total = amount + limit + wanted\n"
        "    def inner(each):\n"
        "        nonlocal total\n"
        "        total += each\n"
        "    [inner(each) for each in rest]\n"
        "    return max(total, os.getpid(), json.loads('1'), self.total)\n"
        "work(0, amount=1, wanted=2)\n"
    )
    tree = strip.strip(source)
    text = strip.text(strip.short_names(tree, strip.keywords([tree])))

    assert "def work(self, amount, wanted, *a):" in text
    assert "total = amount + limit + wanted" in text
    assert "def inner(b):" in text
    assert "max(total, os.getpid(), json.loads('1'), self.total)" in text


def test_the_core_runs_a_job_to_its_end_alone(tmp_path: Path) -> None:
    """Without the rest there are no metrics and no store; heartbeats, log, result and the exit code are there."""
    for path, content in pack.modules(pack.CORE).items():
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(content, encoding="utf-8")
    folder = tmp_path / "machine"
    folder.mkdir()
    spec = make_spec(command=("sh", "-c", "echo hello; exit 3"), workdir=str(tmp_path))
    (tmp_path / "orders.json").write_text(json.dumps({**make_orders(spec), "hard_at": None}))
    program = "import json, sys; from gpulaunch_agent.main import main; main(json.load(open('orders.json')), 'machine')"
    run = [sys.executable, "-c", f"import sys; sys.path.insert(0, '.'); {program}"]
    done = subprocess.run(run, capture_output=True, cwd=tmp_path, timeout=60)
    result = json.loads((folder / "result.json").read_text())
    beats = [heartbeat.decode(line) for line in (folder / "console.log").read_text().splitlines()]

    assert (0, b"") == (done.returncode, done.stderr)
    assert ("failed", "EXIT_3", 3) == (result["outcome"], result["reason"], result["exit_code"])
    assert ["no metrics and no early stop: this machine was sent no readers for them"] == result["notes"]
    assert (folder / "output.log").read_text().endswith("hello\n")
    assert None not in beats


@pytest.fixture
def served() -> Iterator[str]:
    """The address of a server that gives the rest of the agent."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(boot.packed_rest())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("right", [True, False])
def test_the_rest_is_taken_only_with_its_checksum(
    served: str, right: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anything else is left alone, and the machine goes on without it."""
    known = importlib.util.spec_from_file_location("starter", TEMPLATES / "machine" / "agent.py")
    assert known is not None
    assert known.loader is not None
    starter = importlib.util.module_from_spec(known)
    known.loader.exec_module(starter)
    monkeypatch.setattr(starter, "HERE", tmp_path)
    monkeypatch.setattr(starter.time, "sleep", lambda _: None)
    (tmp_path / "gpulaunch_agent").mkdir()
    digest = hashlib.sha256(boot.packed_rest() if right else b"other").hexdigest()
    starter.fetch({"url": served, "sha256": digest})

    assert (tmp_path / "gpulaunch_agent" / "watch.py").exists() == right
