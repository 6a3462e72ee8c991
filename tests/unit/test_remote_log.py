"""`gpulaunch logs` of a rented machine: from the store as it comes, else what the console shows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import store_places
from makers import make_job, make_offer, make_spec
from scripted import Bench, ScriptedProvider

from launcher.agent import heartbeat
from launcher.cli import remote_log
from launcher.store.store import Store, open_store
from providers import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Machines:
    """A job on a rented machine, whose state a test moves on each time that the reader pauses."""

    def __init__(self, home: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bench = Bench(home)
        monkeypatch.setattr(ScriptedProvider, "machine_store", lambda *_: None, raising=False)
        offers = [make_offer(provider="local")]
        self.bench.add(make_job(spec=make_spec(store=store, resume=True), offers=offers, provider="local"))
        self.console = b""
        self.then: list[Callable[[], None]] = []
        monkeypatch.setattr(self.bench.clock, "sleep", lambda _: self.then.pop(0)())
        monkeypatch.setattr(registry, "load", lambda *_, **__: SimpleNamespace(heartbeat=lambda _: self.console))

    def show(self, *, follow: bool = True) -> None:
        """As the command does."""
        state: Any = SimpleNamespace(journal=self.bench.journal, clock=self.bench.clock, home=self.bench.home)
        remote_log.show(state, self.bench.job.id, follow=follow)

    def end(self) -> None:
        """The training finishes."""
        self.bench.provider.training_s = 0.0
        for box in self.bench.provider.boxes.values():
            box.finishes_at = self.bench.clock.now()
        self.bench.run()

    def preempt(self) -> None:
        """The cloud takes the machine back, and the job gets another."""
        box = next(iter(self.bench.provider.boxes.values()))
        box.last_word = {"state": "ended", "outcome": "preempted", "reason": "SPOT_NOTICE"}
        box.taken_at = self.bench.clock.now()
        self.bench.tick(3)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty store."""
    with store_places.moto() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server)
        yield open_store(f"s3://{store_places.make_bucket(server)}/runs")


def put(store: Store, path: str, content: bytes) -> None:
    """As a machine sends it."""
    store._bucket.put(f"j-tiny/{path}", content)


def test_chunks_are_shown_as_they_come(
    bucket: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each once, in order, over two machines; where it is from is said once for each."""
    lab = Machines(tmp_path, bucket.address, monkeypatch)
    lab.then = [
        lambda: lab.bench.tick(2),
        lambda: put(bucket, "1/log/000001", b"one\n"),
        lambda: [put(bucket, f"1/log/{n:06d}", b"more %d\n" % n) for n in (2, 3)],
        lab.preempt,
        lambda: put(bucket, "2/log/000001", b"two\n"),
        lab.end,
    ]
    lab.show()
    said = capsys.readouterr()

    assert said.out == "one\nmore 2\nmore 3\ntwo\n"
    assert said.err.splitlines() == [
        "tiny has printed nothing yet: planned.",
        f"From the store {bucket.address}:",
        f"From the store {bucket.address}, machine 2:",
    ]


def test_a_log_in_one_piece_is_shown_once(
    bucket: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a folder has it."""
    lab = Machines(tmp_path, bucket.address, monkeypatch)
    lab.bench.tick(2)
    put(bucket, "1/output.log", b"all of it\n")
    lab.then = [lambda: None, lab.end]
    lab.show()

    assert capsys.readouterr().out == "all of it\n"


def test_without_a_store_the_console_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The training's lines alone, each once, although each look gives the whole tail."""
    monkeypatch.setattr(remote_log, "ANCHOR_BYTES", 16)
    lab = Machines(tmp_path, "none", monkeypatch)
    lab.bench.tick(2)
    beat = heartbeat.encode(1, {"state": "running"}).encode()
    lab.console = b"[    0.0] Linux\r\n" + beat + b"\n| step 1\n"

    def more() -> None:
        lab.console += beat + b"\n| step 2\n| step 2\n| st"

    def rolled() -> None:
        lab.console = lab.console[-30:] + b"ep 3\n"

    lab.then = [more, rolled, lab.end]
    lab.show()
    said = capsys.readouterr()

    assert said.out == "step 1\nstep 2\nstep 2\nstep 3\n"
    assert said.err == "From the machine's console, which shows a part of it:\n"


def test_nothing_yet_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And without following, that is all."""
    lab = Machines(tmp_path, "none", monkeypatch)
    lab.show(follow=False)

    assert "tiny has printed nothing" in capsys.readouterr().err
