"""What a rented machine tells of itself: what has left it, whether it is to be taken back, and how its card is."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from machine_services import Metadata, MetadataDoor, serving

from launcher.agent import egress, identity, notices
from launcher.agent.egress import Egress
from launcher.agent.gpu import Gpu
from launcher.agent.notices import Notices

LIMITS = {"bytes": 1000, "store_is_free": True}


class Counters:
    """The kernel's, in a test's hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out = self.contained = 0
        monkeypatch.setattr(egress, "counters", lambda: (self.out, self.contained))


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> Counters:
    """Nothing was sent yet."""
    return Counters(monkeypatch)


def saved(counted: Egress) -> None:
    """As the agent does with each heartbeat."""
    import json

    counted.path.write_text(json.dumps(counted.known))


def test_the_kernels_counters_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the interface that the default route names, and of docker's bridge."""
    texts = {
        "/proc/net/dev": (
            "Inter-|   Receive                                                |  Transmit\n"
            " face |bytes    packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls\n"
            "    lo:     7       1    0    0    0     0          0         0        7       1    0    0    0     0\n"
            "  ens5: 90000     300    0    0    0     0          0         0     1234      20    0    0    0     0\n"
            "docker0:  555       5    0    0    0     0          0         0    80000     100    0    0    0     0\n"
        ),
        "/proc/net/route": (
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
            "ens5\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
            "ens5\t0000000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
            "docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
        ),
    }
    monkeypatch.setattr(Path, "read_text", lambda self, *_: texts[str(self)])

    assert egress.counters() == (1234, 555)


def test_a_free_store_is_taken_off_with_what_the_network_adds(counters: Counters, tmp_path: Path) -> None:
    """What the machine sent before the training began counts in full."""
    counted = Egress(LIMITS, tmp_path)
    counters.out = 100
    counted.look(0, 0)
    counted.begin()
    counters.out = 100 + 212 + 50
    counted.look(200, 0)

    assert (counted.used, counted.left(), counted.is_spent()) == (150, 850, False)


def test_what_the_container_sent_counts_whatever_the_rest_leaves(counters: Counters, tmp_path: Path) -> None:
    """An upload whose bytes are not on the wire yet hides nothing of it."""
    counted = Egress(LIMITS, tmp_path)
    counted.begin()
    counters.out, counters.contained = 1200, 1000
    counted.look(5000, 0)

    assert (counted.used, counted.is_spent()) == (1000, True)


def test_a_store_that_is_not_free_has_room_kept_for_it(counters: Counters, tmp_path: Path) -> None:
    """The training ends while the last upload still fits; one that never would does not end it."""
    counted = Egress({"bytes": 1000, "store_is_free": False}, tmp_path)
    counters.out = 700
    found = []
    for kept in (0, 299, 300, 1000):
        counted.look(600, kept)
        found.append(counted.is_spent())

    assert counted.used == 700
    assert found == [False, False, True, False]
    assert counted.refused(301, periodic=False) == "0 MB are more than the egress reserve has room for"
    assert counted.refused(300, periodic=False) == ""


def test_an_agent_that_was_started_again_counts_on(counters: Counters, tmp_path: Path) -> None:
    """With what the one before it had sent to the store."""
    first = Egress(LIMITS, tmp_path)
    first.begin()
    counters.out = 106 + 10
    first.look(100, 0)
    saved(first)
    second = Egress(LIMITS, tmp_path)
    counters.out += 106
    second.look(100, 0)

    assert (first.used, second.used) == (10, 10)


def test_a_reboot_keeps_what_was_counted(counters: Counters, tmp_path: Path) -> None:
    """The kernel begins anew."""
    first = Egress(LIMITS, tmp_path)
    counters.out = 400
    first.look(0, 0)
    first.known["boot"] = "another boot"
    saved(first)
    counters.out = 50
    second = Egress(LIMITS, tmp_path)

    assert second.used == 450


def test_where_nothing_is_billed_nothing_is_counted(tmp_path: Path) -> None:
    """As on this computer."""
    counted = Egress(None, tmp_path)
    counted.look(10**12, 10**12)
    counted.begin()

    assert (counted.left(), counted.is_spent(), counted.refused(10**12, periodic=True)) == (float("inf"), False, "")


# Notices


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The services, which say nothing yet, asked without pause."""
    told = Metadata()
    monkeypatch.setattr(notices, "POLL_S", 0.01)
    with serving(MetadataDoor, told) as url:
        monkeypatch.setattr(identity, "METADATA", url)
        yield told


def in_s(seconds: float) -> datetime:
    """A time of the near future."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("cloud", "notice", "left_s"),
    [
        ("aws", {"spot": {"action": "terminate", "time": f"{in_s(100_120):%Y-%m-%dT%H:%M:%SZ}"}}, 100_115),
        ("gcp", {"preempted": "TRUE"}, 25),
        ("azure", {"events": [{"EventType": "Preempt", "NotBefore": ""}]}, 25),
        (
            "azure",
            {
                "events": [
                    {"EventType": "Reboot", "NotBefore": ""},
                    {"EventType": "Preempt", "NotBefore": f"{in_s(100_030):%a, %d %b %Y %H:%M:%S GMT}"},
                ]
            },
            100_025,
        ),
        ("aws", {"spot": {"action": "terminate", "time": "2020-01-01T00:00:00Z"}}, 1),
    ],
)
def test_a_notice_is_seen(metadata: Metadata, cloud: str, notice: dict[str, Any], left_s: float) -> None:
    """Once it is there, with what is left until then but for a margin; before that the service was asked in vain."""
    seen = threading.Event()
    told: list[float] = []
    Notices(cloud, lambda left: (told.append(left), seen.set())[1])
    while len(metadata.asked) < 3:
        seen.wait(0.01)
    before = list(told)
    for name, value in notice.items():
        setattr(metadata, name, value)

    assert seen.wait(60)
    assert before == []
    assert told[0] == pytest.approx(left_s, abs=1800)  # the times are of when the tests were collected


def test_a_service_that_fails_is_asked_again(metadata: Metadata) -> None:
    """Whatever it said before."""
    seen = threading.Event()
    metadata.spot = {"action": "terminate"}
    Notices("aws", lambda _: seen.set())
    while len(metadata.asked) < 3:
        seen.wait(0.01)
    assert not seen.is_set()
    metadata.spot = {"action": "terminate", "time": f"{in_s(60):%Y-%m-%dT%H:%M:%SZ}"}

    assert seen.wait(60)


# The card


def test_readings_of_one_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Energy is power over time; what a card does not tell is 0."""
    monkeypatch.setattr("shutil.which", lambda _: None)
    meter = Gpu()
    for at, line in ((0.0, "0, 30.00, 40, 0, 3, 15360"), (10.0, "0, 50.00, 60, 100, 9000, 15360")):
        meter.take(line, at)
    meter.take("0, [N/A], 50, [N/A], 9000, 15360", 20.0)

    assert meter.reading == {
        "count": 1.0,
        "watts": 0.0,
        "mean_watts": 32.5,
        "energy_wh": 0.181,
        "temperature_c": 50.0,
        "mean_temperature_c": 55.0,
        "max_temperature_c": 60.0,
        "utilisation_percent": 0.0,
        "memory_used_mib": 9000.0,
        "memory_total_mib": 15360.0,
    }


def test_readings_of_several_cards_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Power and memory do; the hottest and the busiest count."""
    monkeypatch.setattr("shutil.which", lambda _: None)
    meter = Gpu()
    for at in (0.0, 10.0, 20.0):
        meter.take("0, 30, 40, 10, 1000, 15360", at)
        meter.take("1, 50, 70, 90, 2000, 15360", at)
    meter.take("a line that is none", 21.0)

    assert meter.reading is not None
    assert {key: meter.reading[key] for key in ("count", "watts", "energy_wh", "max_temperature_c")} == {
        "count": 2.0,
        "watts": 80.0,
        "energy_wh": 0.444,
        "max_temperature_c": 70.0,
    }
    assert (meter.reading["utilisation_percent"], meter.reading["memory_used_mib"]) == (90.0, 3000.0)


def test_one_program_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started once, and its lines are taken as they come."""
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\necho "$@" >"$0.asked"\necho "0, 30.5, 40, 5, 3, 15360"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    meter = Gpu()
    wait = threading.Event()
    while meter.reading is None:
        wait.wait(0.01)

    assert meter.reading["watts"] == 30.5
    assert "--format=csv,noheader,nounits -l 10" in (tmp_path / "nvidia-smi.asked").read_text()
