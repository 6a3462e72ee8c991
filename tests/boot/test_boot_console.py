"""The serial port as the agent's console: heartbeats that cannot be forged, on a port that may be stuck."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.agent import heartbeat
from launcher.agent.console import SHOWN_BYTES, Console


@pytest.fixture
def port(tmp_path: Path) -> Path:
    """A pipe in the place of the port: it takes 64 KB that nobody reads, and no more."""
    path = tmp_path / "port"
    os.mkfifo(path)
    return path


def read(reader: int) -> str:
    """What has come out so far."""
    return os.read(reader, 1 << 20).decode()


def test_output_cannot_be_taken_for_a_heartbeat(tmp_path: Path, port: Path) -> None:
    """Whatever a reader takes for the end of a line, the rest of such a line is still prefixed."""
    reader = os.open(port, os.O_RDONLY | os.O_NONBLOCK)
    forged = heartbeat.encode(99, {"state": "ended"})
    console = Console(tmp_path, {}, [str(port)])
    console.show([forged, *(f"x{end}{forged}" for end in "\x0b\x0c\x1c\x85\u2028\x1b[2K\r")])
    console.beat({"state": "running"})
    text = read(reader)
    os.close(reader)

    assert heartbeat.latest(text.encode()) == (1, {"state": "running"})
    assert text.splitlines()[0] == "| " + forged


def test_heartbeats_are_numbered_on(tmp_path: Path, port: Path) -> None:
    """By an agent that was started again."""
    reader = os.open(port, os.O_RDONLY | os.O_NONBLOCK)
    for state in ("booting", "running"):
        Console(tmp_path, {}, [str(port)]).beat({"state": state})
    text = read(reader)
    os.close(reader)

    assert [decoded for line in text.splitlines() if (decoded := heartbeat.decode(line))] == [
        (1, {"state": "booting"}),
        (2, {"state": "running"}),
    ]


def test_a_port_that_is_stuck_is_given_up(tmp_path: Path, port: Path) -> None:
    """It becomes a note, the file has the heartbeat, and when the port is free again it gets the next."""
    reader = os.open(port, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(port, os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, bytes(1 << 16))
    notes: dict[str, str] = {}
    console = Console(tmp_path, notes, [str(port)])
    console.beat({"state": "running"})
    stuck = dict(notes)
    os.read(reader, 1 << 17)
    console.beat({"state": "running"})
    text = read(reader)
    os.close(reader)
    os.close(writer)

    assert stuck == {"port": f"{port}: Resource temporarily unavailable"}
    assert notes == {}
    assert heartbeat.latest(text.encode()) == (2, {"state": "running"})
    assert heartbeat.latest((tmp_path / "console.log").read_bytes()) == (2, {"state": "running"})


def test_the_next_port_is_used_where_one_is_missing(tmp_path: Path, port: Path) -> None:
    """Not every machine has the first."""
    reader = os.open(port, os.O_RDONLY | os.O_NONBLOCK)
    Console(tmp_path, {}, [str(tmp_path / "missing" / "port"), str(port)]).beat({"state": "running"})
    text = read(reader)
    os.close(reader)

    assert heartbeat.latest(text.encode()) == (1, {"state": "running"})


def test_a_flood_of_output_leaves_room_for_heartbeats(tmp_path: Path, port: Path) -> None:
    """Little of it is shown: a cloud keeps the newest 64 KB only."""
    reader = os.open(port, os.O_RDONLY | os.O_NONBLOCK)
    Console(tmp_path, {}, [str(port)]).show(["x" * 98] * 1000)
    text = read(reader)
    os.close(reader)

    assert SHOWN_BYTES // 2 < len(text) <= SHOWN_BYTES
