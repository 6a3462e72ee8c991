"""The simulated world as a state machine: Hypothesis chooses what happens, and shrinks what breaks."""

from __future__ import annotations

import random
from contextlib import ExitStack
from functools import partial

import misfortunes
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from launching import light_boot_data
from runner import finish
from scenario import ANY_CALL, FOR_EVER_S, draw_job
from world import World

from providers.base import ProviderUnavailable, RateLimited
from providers.simulated.faults import Crash, Delayed, Duplicated, Fault, HangingDelete, LostReply, Refuse, Slow, Stale
from providers.simulated.shapes import SHAPES

SECONDS = st.one_of(st.floats(0, 120), st.floats(0, 3600), st.floats(0, 50_000))
PAUSES = st.one_of(st.floats(0, 600), st.floats(0, 20_000), st.just(FOR_EVER_S))
FAULTS: list[Fault] = [
    Crash(after_effect=False),
    Crash(after_effect=True),
    LostReply(),
    Refuse(RateLimited),
    Refuse(ProviderUnavailable),
    Slow(5.0),
]
CALL_FAULTS = st.one_of(
    st.tuples(st.sampled_from(ANY_CALL), st.sampled_from(FAULTS)),
    st.tuples(st.just("create"), st.sampled_from([Delayed(60.0), Duplicated()])),
    st.tuples(st.just("delete"), st.sampled_from([HangingDelete(30.0), HangingDelete(7200.0)])),
    st.tuples(st.sampled_from(("get", "list")), st.just(Stale(120.0))),
)
HAPPENINGS = ("down", "its up dies", "its agent dies", "it is preempted")


class WorldMachine(RuleBasedStateMachine):
    """Every rule is something that may happen; the world itself holds its invariants after each."""

    def __init__(self) -> None:
        super().__init__()
        self.open = ExitStack()
        self.open.enter_context(light_boot_data())

    @initialize(shape=st.sampled_from(sorted(SHAPES)), seed=st.integers(0, 1000), poll_s=st.sampled_from([15.0, 60.0]))
    def begin(self, shape: str, seed: int, poll_s: float) -> None:
        """A cloud and a laptop."""
        self.world = World(seed, SHAPES[shape], poll_s=poll_s)
        self.launched = 0

    @precondition(lambda self: self.launched < 3)
    @rule(seed=st.integers(0, 10_000))
    def up(self, seed: int) -> None:
        """A job is launched."""
        self.world.launch(draw_job(random.Random(seed), self.world.cloud.shape, self.launched))
        self.launched += 1

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        """The guard looks, the cloud goes on."""
        self.world.pass_until(self.world.now_s + seconds)

    @rule(pause_s=PAUSES)
    def guard_dies(self, pause_s: float) -> None:
        """Kill -9 of the guard."""
        self.world.kill_guard(pause_s)

    @rule(met=CALL_FAULTS)
    def one_call_fails(self, met: tuple[str, Fault]) -> None:
        """The next call of that name meets a fault."""
        self.world.faults.once(*met)

    @rule(seconds=SECONDS)
    def laptop_sleeps(self, seconds: float) -> None:
        """The lid is closed."""
        self.world.suspend(seconds)

    @rule(seconds=st.floats(-50_000, 50_000))
    def wall_clock_steps(self, seconds: float) -> None:
        """The wall clock is set."""
        self.world.step_wall_clock(seconds)

    @rule(seconds=SECONDS)
    def api_is_down(self, seconds: float) -> None:
        """No call is answered."""
        self.world.outage(seconds)

    @rule(share=st.sampled_from([0.0, 0.2]))
    def writes_are_dangerous(self, share: float) -> None:
        """The guard may die at each write."""
        self.world.journal.crash_share = share

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), what=st.sampled_from(HAPPENINGS))
    def something_befalls_a_job(self, data: st.DataObject, what: str) -> None:
        """It is cancelled, its agent dies, its machine is taken back, or its `up` is killed."""
        job_id = data.draw(st.sampled_from(sorted(self.world.jobs)))
        crash_share, self.world.journal.crash_share = self.world.journal.crash_share, 0.0
        {
            "down": self.world.down,
            "its up dies": self.world.launcher_dies,
            "its agent dies": partial(misfortunes.kill_agent, self.world),
            "it is preempted": partial(misfortunes.preempt, self.world),
        }[what](job_id)
        self.world.journal.crash_share = crash_share

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), share=st.sampled_from([0.8, 1.0, 1.05, 1.2]))
    def spot_price_moves(self, data: st.DataObject, share: float) -> None:
        """The market turns."""
        misfortunes.move_spot_price(self.world, data.draw(st.sampled_from(sorted(self.world.jobs))), share)

    def teardown(self) -> None:
        """Everything ends, once nothing goes wrong any more."""
        try:
            if hasattr(self, "world"):
                finish(self.world)
        finally:
            self.open.close()


WorldMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestWorldMachine = WorldMachine.TestCase
