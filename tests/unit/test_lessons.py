"""What went wrong in other tools, and must not here: how machines are asked for, and who watches them.

Each test has the name of the report that it comes from.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from makers import PROVIDER, make_job, make_offer, make_spec
from scripted import Bench
from simulated_lab import FOR_EVER, OWNER, Lab, gone

from launcher.core.errors import Exit
from launcher.guard import Guard
from launcher.job import Resources
from launcher.journal import Journal
from launcher.launch import thaw
from launcher.outcome import State
from launcher.plan import make_plan
from launcher.views import job_exit_code, job_view
from providers.base import (
    AmbiguousOutcome,
    AuthError,
    Backstop,
    CapacityError,
    InvalidRequest,
    OfferRequest,
    ProviderError,
    ProviderUnavailable,
    QuotaError,
)
from providers.simulated.faults import (
    Crash,
    Delayed,
    LostReply,
    Refuse,
    SimulatedCrash,
)
from providers.simulated.script import Script
from providers.simulated.shapes import AWS, AZURE, GCP, Shape

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from launcher.records import Attempt, Job
    from providers.simulated.machine import SimMachine

HOUR_S = 3600.0
DOWN = ProviderUnavailable("The API does not answer.")
CLOUDS = (AWS, GCP, AZURE)


class Rented:
    """Jobs on a simulated cloud, under the real plan, journal and guard. The guard looks only when told."""

    def __init__(self, home: Path, shape: Shape, script: Any = FOR_EVER) -> None:
        self.lab = Lab(shape, script)
        self.lab.cloud.name = self.lab.provider.name = PROVIDER  # what the launcher makes boot data for
        self.clock, self.cloud, self.provider = self.lab.clock, self.lab.cloud, self.lab.provider
        self.home = home
        self.open()

    def open(self) -> None:
        """A new guard on a new connection."""
        self.journal = Journal(self.home)
        self.journal._db.execute("PRAGMA synchronous = OFF")  # here nobody pulls the plug
        writer = self.journal.writer(self.provider.account, 1)
        self.guard = Guard(writer, self.provider, self.clock, launcher_alive=lambda job: True)

    def launch(self, name: str = "tiny", *, cap: str = "1", spot: bool = False) -> Job:
        """Plan a job and write it down, as `up` does; its machine is made by the guard's next look."""
        spec = make_spec(name=name, budget_usd=Decimal(cap), resources=Resources(disk_gb=100, spot=spot))
        offers = self.lab.cloud_offers(OfferRequest(gpu="T4", disk_gb=100, spot=spot))
        timer = Backstop(armed=True, what="a timer")
        plan = make_plan(spec, offers, self.provider, backstop=timer, cap_usd=Decimal(cap))
        changes = {"account": self.provider.account, "cap_usd": plan.cap_usd, "owner": OWNER}
        job = make_job(name, spec=spec, offers=[plan.offer, *plan.others], **changes)
        self.journal.add_job(job, now=self.clock.now())
        return job

    def down(self, name: str = "tiny") -> None:
        """Somebody types `gpulaunch down`."""
        assert self.journal.request_cancel(f"j-{name}", now=self.clock.now(), by="a test")

    def tick(self) -> bool:
        """Look once and wait for the guard's own pause; False when no job is left."""
        wait_s = self.guard.tick()
        self.clock.advance(wait_s or 0.0)
        return wait_s is not None

    def reach(self, state: State, name: str = "tiny") -> None:
        """Look until the attempt stands there."""
        for _ in range(2000):
            if self.journal.attempts(f"j-{name}") and self.attempt(name).state == state:
                return
            assert self.tick(), f"{name} ended before it was {state}"
        raise AssertionError(f"{name} is never {state}")

    def run(self) -> None:
        """Look until no job is left."""
        for _ in range(5000):
            if not self.tick():
                return
        raise AssertionError("a job still lives")

    def job(self, name: str = "tiny") -> Job:
        """The job as it stands."""
        return self.journal.job(f"j-{name}")

    def attempt(self, name: str = "tiny") -> Attempt:
        """Its last attempt."""
        return self.journal.attempts(f"j-{name}")[-1]

    def machine(self, name: str = "tiny") -> SimMachine:
        """The only machine that was ever made for it."""
        (machine,) = self.cloud.machines(f"j-{name}")
        return machine


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A journal and a cloud whose machines never end by themselves: only the guard is left."""
    return Bench(tmp_path, deadlines_held=False)


def failing(error: Exception, *calls: str) -> Callable[[str, str], None]:
    """A script in which these calls fail; all of them, if none is named."""

    def script(call: str, subject: str) -> None:
        if call in calls or not calls:
            raise error

    return script


def fine(call: str, subject: str) -> None:
    """A script in which every call works."""


def cancel(bench: Bench) -> None:
    """Somebody types `gpulaunch down`."""
    assert bench.journal.request_cancel(bench.job.id, now=bench.clock.now(), by="a test")


def exit_of(bench: Bench) -> Exit:
    """How the job stands, as an exit code."""
    return job_exit_code(bench.job, bench.journal.attempts(bench.job.id))


@pytest.mark.parametrize("after_effect", [False, True])
def test_dstack_3453_crash_between_create_and_commit(tmp_path: Path, after_effect: bool) -> None:
    """A crash in the create call left an orphan; here the intent is on disk first, and the next guard goes on."""
    rented = Rented(tmp_path, AWS)
    rented.launch()
    rented.lab.faults.once("create", Crash(after_effect=after_effect))
    with pytest.raises(SimulatedCrash):
        rented.guard.tick()
    rented.journal.close()
    rented.open()
    frozen = rented.attempt()
    assert (State.CREATING, "j-tiny-1") == (frozen.state, thaw(frozen).token)

    rented.reach(State.RUNNING)
    assert rented.machine().id == rented.attempt().machine_id
    rented.down()
    rented.run()
    assert ("cancelled", []) == (rented.job().outcome, rented.cloud.existing())


def test_dstack_2068_tpi_142_interrupt_while_provisioning(bench: Bench) -> None:
    """Ctrl-C in the create call left a machine; here what is being made is recorded first, then torn down."""

    def interrupted(call: str, subject: str) -> None:
        if call == "create" and bench.job.cancel_at is None:
            cancel(bench)
            raise AmbiguousOutcome("No answer.")

    bench.provider.after = interrupted
    bench.add()
    bench.run()

    assert ["cancelled", "cancelled"] == [bench.job.outcome, bench.attempt.outcome]
    assert ("m-j-tiny-1", {}) == (bench.attempt.machine_id, bench.provider.boxes)
    assert bench.provider.cost_usd() <= bench.spend_usd()


def test_dstack_2114_skypilot_4433_credentials_expire(tmp_path: Path) -> None:
    """Expired credentials let machines run on; here the machine ends by itself, and the user is told what to do."""
    rented = Rented(tmp_path, GCP)
    rented.launch()
    rented.reach(State.RUNNING)
    rented.lab.faults.every("*", Refuse(AuthError, code="ExpiredToken"))
    machine_id, attempt = rented.machine().id, rented.attempt()
    while rented.clock.monotonic() < rented.lab.start_s + attempt.hard_after_s + attempt.lateness_s:
        rented.tick()

    assert ([], True) == (rented.cloud.existing(), rented.cloud.bill() <= rented.job().cap_usd)
    view = job_view(rented.job(), [rented.attempt()], rented.clock.now())
    assert ("deleting", True) == (view["state"], "Sign in again." in view["trouble"])
    rented.lab.faults.clear()
    rented.run()
    assert (State.GONE, True) == (rented.attempt().state, gone(rented.lab, machine_id))


def test_skypilot_4873_5946_deadline_lost_in_a_status_refresh(bench: Bench) -> None:
    """A status refresh lost the armed end; here neither looks, nor views, nor a new guard move a deadline."""
    bench.started()

    def terms() -> tuple[object, ...]:
        shown = job_view(bench.job, [bench.attempt], bench.clock.now())
        at = bench.attempt
        return at.intent, at.soft_after_s, at.hard_after_s, shown["soft_deadline"], shown["hard_deadline"]

    before = terms()
    for calls in ((), ("list",), ("get", "list"), ("heartbeat",)):
        bench.provider.before = failing(DOWN, *calls) if calls else fine
        bench.restart()
        bench.tick(20)
        assert before == terms()

    bench.provider.before = fine
    deadline_s = bench.attempt.hard_after_s
    bench.run()
    assert deadline_s <= bench.lived_s() <= deadline_s + bench.provider.worst_lateness_s


def test_skypilot_aws_instance_py_no_client_token(tmp_path: Path) -> None:
    """A create that timed out leaked a machine; here it is repeated with its token, and makes one machine only."""
    rented = Rented(tmp_path, AWS, Script(finishes_after_s=600))
    rented.launch()
    rented.lab.faults.once("create", Delayed(100), LostReply(), LostReply())
    rented.run()

    asked = [call.about for call in rented.cloud.calls if call.name == "create"]
    assert (["j-tiny-1"] * len(asked), True) == (asked, len(asked) >= 4)
    assert ("finished", "j-tiny-1") == (rented.job().outcome, rented.machine().intent.token)


@pytest.mark.parametrize(
    ("error", "zones", "code"),
    [
        (CapacityError("Full.", next_scope="zone"), ["r1a", "r1b", "r2a"], Exit.UNAVAILABLE),
        (QuotaError("None left.", next_scope="region"), ["r1a", "r2a"], Exit.UNAVAILABLE),
        (AuthError("Expired."), ["r1a"], Exit.CREDENTIALS),
        (InvalidRequest("No such image."), ["r1a"], Exit.USAGE),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, ProviderError) else None,
)
def test_skypilot_aws_every_error_is_no_capacity(
    bench: Bench, error: ProviderError, zones: list[str], code: Exit
) -> None:
    """Every error was read as "no capacity"; here each kind leads elsewhere, and has its exit code."""
    bench.provider.before = failing(error, "create")
    bench.add(make_job(offers=[make_offer("r1", "a"), make_offer("r1", "b"), make_offer("r2", "a")]))
    bench.run()

    tried = [f"{attempt.region}{attempt.zone}" for attempt in bench.journal.attempts("j-tiny")]
    assert (zones, len(zones)) == (tried, bench.count("create"))
    assert (code, "launch_failed") == (exit_of(bench), bench.job.outcome)


def test_skypilot_1268_walks_through_zero_quota_regions(bench: Bench) -> None:
    """Zones without any quota were tried one by one; here one refusal rules its whole region out."""
    r1 = [make_offer("r1", zone) for zone in "abcdef"]
    bench.provider.training_s = 600.0

    def no_quota_in_r1(call: str, subject: str) -> None:
        if call == "create" and bench.attempt.region == "r1":
            raise QuotaError("The quota is 0.", next_scope="region")

    bench.provider.before = no_quota_in_r1
    bench.add(make_job(offers=[*r1, make_offer("r2", "a", usd_per_hour="4")]))
    bench.run()

    assert ["r1", "r2"] == [attempt.region for attempt in bench.journal.attempts("j-tiny")]
    assert ("finished", 2) == (bench.job.outcome, bench.count("create"))
