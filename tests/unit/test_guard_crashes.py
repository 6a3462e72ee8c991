"""The guard killed at every effect: whatever the moment, its successor goes on from the journal and leaves nothing."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from makers import make_job, make_offer, make_spec
from scripted import Bench

from launcher.journal import Journal
from launcher.outcome import State
from providers.base import AmbiguousOutcome, CapacityError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOUR_S = 3600.0
PREEMPTED_AFTER = timedelta(seconds=200)


class Killed(BaseException):
    """`kill -9`: nothing of the process runs any more."""


class Fuse:
    """Counts the effects of the guards, and kills at those with these numbers."""

    def __init__(self, *at: int) -> None:
        self.at = at
        self.count = 0

    def burn(self) -> None:
        """One more effect."""
        self.count += 1
        if self.count in self.at:
            raise Killed(f"at effect {self.count}")


class FusedJournal(Journal):
    """A journal in which a guard can die before a transaction, before its commit, and after it."""

    def __init__(self, home: Path, fuse: Fuse) -> None:
        super().__init__(home)
        self._fuse = fuse

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        self._fuse.burn()
        with super()._transaction() as db:
            yield db
            self._fuse.burn()
        self._fuse.burn()


class Story:
    """A job that meets a full zone, a lost answer and a preemption, and then finishes: under guards that may die."""

    def __init__(self, home: Path, fuse: Fuse, *, down_s: float, **script: Any) -> None:
        self.bench = Bench(home, training_s=400.0, poll_s=100.0, heartbeat_s=100.0, **script)
        self.fuse = fuse
        self.down_s = down_s
        self.lost_answers = 1
        self.bench.provider.before, self.bench.provider.after = self.before, self.after
        zones = [make_offer("r1", "full"), make_offer("r1", "free")]
        self.bench.add(make_job(spec=make_spec(resume=True), offers=zones))

    def before(self, call: str, subject: str) -> None:
        """The first zone has no machine; and a guard can die before each call."""
        self.fuse.burn()
        if call == "create" and self.bench.attempt.zone == "full":
            raise CapacityError("Full.", next_scope="zone")

    def after(self, call: str, subject: str) -> None:
        """The first machine's answer is lost, and it is taken back later; and a guard can die after each call."""
        self.fuse.burn()
        boxes = self.bench.provider.boxes
        if call == "create" and not self.bench.provider.buried and boxes:
            self.bench.box.taken_at = self.bench.box.born_at + PREEMPTED_AFTER
            self.bench.box.last_word = {"state": "ended", "outcome": "preempted", "reason": "SPOT_NOTICE"}
        if call == "create" and self.lost_answers:
            self.lost_answers -= 1
            raise AmbiguousOutcome("No answer.")

    def play(self) -> None:
        """Until no job is left. Who dies is replaced after `down_s` seconds."""
        self.revive()
        while True:
            try:
                self.bench.run(most=500)
            except Killed:
                self.bench.clock.advance(self.down_s)
                self.revive()
            else:
                return

    def revive(self) -> None:
        """The first or the next guard, which may die while it takes over, too."""
        while True:
            try:
                self.bench.restart(FusedJournal, fuse=self.fuse)
            except Killed:
                continue
            return

    def check(self) -> None:
        """What must hold at the end, whatever happened. At most one machine at once is asserted by the cloud itself."""
        bench = self.bench
        assert bench.provider.boxes == {}, "a machine lives on"
        assert State.GONE == bench.job.state
        assert all(attempt.state == State.GONE for attempt in bench.journal.attempts("j-tiny"))
        assert bench.provider.cost_usd() <= bench.spend_usd() <= bench.job.cap_usd
        assert bench.job.spend_usd == bench.spend_usd()


def effects(home: Path, **script: Any) -> int:
    """How many effects the story has when nobody dies."""
    story = Story(home, Fuse(), **script)
    story.play()
    story.check()
    assert ("finished", 1) == (story.bench.job.outcome, len(story.bench.provider.buried) - 1)
    return story.fuse.count


def play_all(tmp_path: Path, fuses: Iterator[Fuse], **script: Any) -> set[str | None]:
    """The story with each of these fuses. Returns how the jobs ended."""
    outcomes = set()
    for fuse in fuses:
        story = Story(tmp_path / f"killed-at-{fuse.at}", fuse, **script)
        story.play()
        story.check()
        assert fuse.count >= min(fuse.at), "the guard was killed"
        outcomes.add(story.bench.job.outcome)
        story.bench.journal.close()
    return outcomes


@pytest.mark.parametrize("evidence", [True, False], ids=["evidence", "no evidence"])
def test_killed_at_any_effect_the_job_finishes_all_the_same(tmp_path: Path, evidence: bool) -> None:
    """The next guard comes at once; only guards end machines here, no agent and no timer."""
    script = {"down_s": 0.0, "keeps_evidence": evidence, "deadlines_held": False}
    count = effects(tmp_path / "whole", **script)

    assert {"finished"} == play_all(tmp_path, (Fuse(n) for n in range(1, count + 1)), **script)
    assert count > 80


def test_killed_again_in_the_middle_of_recovery_changes_nothing(tmp_path: Path) -> None:
    """The successor dies a few effects later, and so does the one after it."""
    script = {"down_s": 0.0, "deadlines_held": False}
    count = effects(tmp_path / "whole", **script)

    assert {"finished"} == play_all(tmp_path, (Fuse(n, n + 3, n + 5, n + 12) for n in range(1, count + 1, 2)), **script)


@pytest.mark.parametrize("evidence", [True, False], ids=["evidence", "no evidence"])
def test_killed_at_any_effect_and_revived_too_late(tmp_path: Path, evidence: bool) -> None:
    """Nobody watches until long after the deadline: the machine ended itself, and what it cost is not forgotten."""
    script = {"down_s": 12 * HOUR_S, "keeps_evidence": evidence}
    count = effects(tmp_path / "whole", **script)

    play_all(tmp_path, (Fuse(n) for n in range(1, count + 1)), **script)
