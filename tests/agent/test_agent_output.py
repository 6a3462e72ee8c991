"""What a training prints: floods, monsters and full disks."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_harness import Agent, python, wait_until

from launcher.agent import heartbeat
from launcher.agent.console import Console
from launcher.agent.output import LINE_BYTES, Output

MEMORY_KIB = 40 * 1024
"""For floods; at 1,000 lines a second the aim is 30 MiB, which benchmarks/agent.py measures."""
WAIT = "\nimport os, time\nwhile not os.path.exists('go'): time.sleep(0.05)"


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Output]:
    """An output with a small log, and a pipe that we write to ourselves."""
    made = Output(tmp_path, 1000, {})
    yield made
    made.log.close()


def feed(output: Output, *chunks: bytes) -> list[str]:
    """Write chunk by chunk, read each, and the end of the pipe."""
    lines = []
    writer = output.open()
    for chunk in chunks:
        os.write(writer, chunk)
        lines += output.read(0.01)
    os.close(writer)
    return lines + output.read(0.01)


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"a\nb\n"], ["a", "b"]),
        ([b"a\r", b"b\r\n", b"c"], ["a", "b", "c"]),
        ([b"ab", b"cd\ne", b"f\n"], ["abcd", "ef"]),
        ([b"\xc3", b"\xa9\n"], ["\N{LATIN SMALL LETTER E WITH ACUTE}"]),
        ([b"\xff\x00\n"], ["\N{REPLACEMENT CHARACTER}\x00"]),
        ([b"\n\r\n\n"], []),
        ([b"x" * (LINE_BYTES - 1), b"yz", b"z\nb\n"], ["x" * (LINE_BYTES - 1) + "y", "b"]),
    ],
)
def test_lines(output: Output, chunks: list[bytes], lines: list[str]) -> None:
    """Newlines and carriage returns end a line; torn ones are put together, long ones cut, odd bytes replaced."""
    assert feed(output, *chunks) == lines


def test_a_flood_hands_on_the_newest_lines_and_counts_the_others(output: Output) -> None:
    """The watcher gets no more than it can read; the note says how many it missed."""
    lines = feed(output, b"".join(b"%d\n" % n for n in range(20_000)))

    assert lines[-1] == "19999"
    assert len(lines) + output.unread == 20_000
    assert 5000 <= len(lines) < 6000
    assert output.notes["flood"].startswith(f"{output.unread} lines came too fast")


def test_rotation_keeps_the_newest_bytes(output: Output, tmp_path: Path) -> None:
    """Two files, each within the limit, hold the end of the output without a gap."""
    written = [b"line %04d\n" % n for n in range(500)]
    for line in written:
        output.write(line)
    old, new = (tmp_path / name for name in ("output.log.1", "output.log"))
    kept = old.read_bytes() + new.read_bytes()

    assert b"".join(written).endswith(kept)
    assert len(old.read_bytes()) == 1000
    assert 0 < len(new.read_bytes()) <= 1000


def test_the_console_is_bounded_and_readable_at_any_time(tmp_path: Path) -> None:
    """Old heartbeats go, whole lines stay, and the newest is the last."""
    console = Console(tmp_path, {})
    for n in range(1500):
        console.beat({"n": n, "filler": "x" * 1000})
    content = (tmp_path / "console.log").read_bytes()
    decoded = [heartbeat.decode(line) for line in content.decode().splitlines()]

    assert len(content) <= 1 << 20
    assert [beat["n"] for _, beat in filter(None, decoded)] == list(range(1500 - len(decoded), 1500))


def test_a_torn_heartbeat_does_not_take_the_next_with_it(tmp_path: Path) -> None:
    """After a write that failed half-way the next line starts anew."""
    console = Console(tmp_path, {})
    console.beat({"n": 1})
    with console.path.open("ab") as file:
        file.write(b"GPULAUNCH1 2 half")
    console.torn = True
    console.beat({"n": 3})

    assert heartbeat.latest(console.path.read_bytes()) == (2, {"n": 3})


def test_a_hundred_megabytes_in_one_line(tmp_path: Path) -> None:
    """The log has every byte, and the agent's memory stays bounded."""
    source = "import sys\nfor _ in range(100): sys.stdout.write('x' * (1 << 20))\nprint(flush=True)" + WAIT
    with Agent(tmp_path, python(source)) as agent:
        size = (100 << 20) + 1
        wait_until(lambda: agent.log_bytes() == size)
        peak_kib = agent.peak_kib()
        (agent.workdir / "go").touch()
        result = agent.finish()

    assert (result["outcome"], result["output_bytes"], result["metrics"]["lines"]) == ("finished", size, 1)
    assert peak_kib < MEMORY_KIB


def test_binary_output(tmp_path: Path) -> None:
    """Any bytes go to the log as they are."""
    source = "import sys\nfor _ in range(64): sys.stdout.buffer.write(bytes(range(256)) * 256)"
    with Agent(tmp_path, python(source)) as agent:
        result = agent.finish()

    assert result["outcome"] == "finished"
    assert agent.output() == bytes(range(256)) * 256 * 64


def test_a_flood_of_lines(tmp_path: Path) -> None:
    """100,000 lines a second for two seconds: none is lost in the log, and memory stays bounded."""
    source = f"""
import hashlib, os, time
seen, start = hashlib.sha256(), time.monotonic()
for tenth in range(20):
    lines = b"".join(b"line %08d of a flood, as long as trainings print them: loss=1.2345 lr=0.001\\n" % n
                     for n in range(tenth * 10_000, (tenth + 1) * 10_000))
    seen.update(lines)
    while lines: lines = lines[os.write(1, lines):]
    time.sleep(max(0, start + (tenth + 1) / 10 - time.monotonic()))
open("sha256", "w").write(seen.hexdigest())
{WAIT}
"""
    with Agent(tmp_path, python(source)) as agent:
        wait_until((agent.workdir / "sha256").exists)
        wait_until(lambda: agent.output().count(b"\n") == 200_000)
        peak_kib = agent.peak_kib()
        (agent.workdir / "go").touch()
        result = agent.finish()

    assert result["outcome"] == "finished"
    assert hashlib.sha256(agent.output()).hexdigest() == (agent.workdir / "sha256").read_text()
    assert 0 < result["metrics"]["lines"] <= 200_000
    assert peak_kib < MEMORY_KIB


def test_the_log_is_bounded_in_a_run(tmp_path: Path) -> None:
    """The orders' bound holds, whatever the training prints."""
    source = "for n in range(100_000): print('line', n)"
    with Agent(tmp_path, python(source), log_bytes=100_000) as agent:
        agent.finish()
    older = (agent.machine / "output.log.1").stat().st_size

    assert agent.output().endswith(b"line 99999\n")
    assert 0 < len(agent.output()) <= 1 << 20
    assert 0 < older <= 1 << 20


def test_a_forged_heartbeat_is_only_output(tmp_path: Path) -> None:
    """What looks like a heartbeat in the output never reaches the console."""
    forged = heartbeat.encode(10_000, {"state": "ended", "outcome": "finished"})
    with Agent(tmp_path, python(f"print({forged!r}); raise SystemExit(1)")) as agent:
        agent.finish()
        beats = agent.beats()

    assert agent.output().decode() == forged + "\n"
    assert beats[-1]["outcome"] == "failed"


def test_a_file_size_limit_does_not_stop_the_run(tmp_path: Path) -> None:
    """A log that cannot grow is a note; the training goes on, and its result is written."""
    before = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    with Agent(tmp_path, python("for n in range(100_000): print('line', n)"), before=before) as agent:
        result = agent.finish()

    assert result["outcome"] == "finished"
    assert len(agent.output()) == 100_000
    assert any("output.log: File too large" in note for note in result["notes"])


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="needs root: mounts a small file system")
def test_a_full_disk_does_not_stop_the_run(tmp_path: Path) -> None:
    """The disk is full after the first moments: the training finishes, and the result still finds room."""
    machine = tmp_path / "machine"
    machine.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(machine)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"may not mount: {mounted.stderr.decode().strip()}")
    try:
        with Agent(tmp_path, python("for n in range(100_000): print('line', n)")) as agent:
            result = agent.finish()
            last = agent.beats()[-1]
        free = os.statvfs(machine).f_bavail
    finally:
        subprocess.run(["umount", str(machine)], check=True)

    assert free < 16
    assert result["outcome"] == "finished"
    assert any("output.log: No space left on device" in note for note in result["notes"])
    assert (last["state"], last["outcome"]) == ("ended", "finished")
