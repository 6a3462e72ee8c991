"""The heartbeat line: it arrives whole or not at all."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.agent import heartbeat

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(seq=st.integers(0, 10**17), beat=st.dictionaries(st.text(), JSON))
def test_a_line_is_read_as_it_was_written(seq: int, beat: dict[str, object]) -> None:
    """Whatever a heartbeat holds, it stays one line and comes back the same."""
    line = heartbeat.encode(seq, beat)
    assert 1 == len(line.splitlines())
    assert (seq, beat) == heartbeat.decode(line + "\n")


@given(at=st.integers(0, 60), by=st.characters(exclude_categories=("Cs",)))
def test_a_damaged_line_is_passed_over(at: int, by: str) -> None:
    """One wrong character anywhere and the line is not a heartbeat."""
    line = heartbeat.encode(7, {"state": "running", "age_s": 12.5, "output_bytes": 4096})
    damaged = line[:at] + by + line[at + 1 :]
    if damaged != line:
        assert None is heartbeat.decode(damaged)


DEEP = '{"a":' * 5000 + "1" + "}" * 5000


@pytest.mark.parametrize(
    "line",
    [
        "",
        f"GPULAUNCH1 1 {heartbeat._crc(1, DEEP)} {DEEP}",
        "GPULAUNCH1",
        "GPULAUNCH1 1 00000000 {}",
        "| " + heartbeat.encode(1, {"state": "ended"}),
        "GPULAUNCH1 " + "9" * 5000 + " 00000000 {}",
        "GPULAUNCH1 \u0661 00000000 {}",
        heartbeat.encode(1, {})[:-1],
    ],
)
def test_what_is_no_heartbeat_is_passed_over(line: str) -> None:
    """Training output, torn lines, and numbers nobody could have meant."""
    assert None is heartbeat.decode(line)


def test_a_value_that_json_does_not_know_is_refused() -> None:
    """NaN in a heartbeat would make it unreadable elsewhere."""
    with pytest.raises(ValueError, match="JSON"):
        heartbeat.encode(1, {"loss": math.nan})


def test_the_newest_heartbeat_of_a_console_is_found_among_other_lines() -> None:
    """A console holds kernel messages, binary, and a first line that was cut."""
    lines = [
        heartbeat.encode(1, {"n": 1})[20:],
        heartbeat.encode(2, {"n": 2}),
        "\udcff kernel: noise",
        heartbeat.encode(3, {"n": 3}),
        "| " + heartbeat.encode(9, {"n": 9}),
        heartbeat.encode(4, {"n": 4})[:-2],
    ]
    console = "\n".join(lines).encode("utf-8", "surrogateescape")
    assert (3, {"n": 3}) == heartbeat.latest(console)
    assert None is heartbeat.latest(b"")
