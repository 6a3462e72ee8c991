"""The provider contract, held by every provider: providers/base.py says what, this says that it is so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from harness import HARNESSES, OWNER, Harness

from launcher.agent import heartbeat
from providers.base import InvalidRequest, MachineNotFound, MachineState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONSOLE_LIMIT_BYTES = 65_536
# Longer than any agent waits between two heartbeats, with the console's own delay.
HEARD_AGAIN_S = 90.0
# A busy computer may take that long to notice its deadline.
AGENT_LATE_S = 5.0


@pytest.fixture(params=sorted(HARNESSES))
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """Each provider in turn, and nothing of it left afterwards."""
    made = HARNESSES[request.param](tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_a_provider_declares_its_facts(harness: Harness) -> None:
    """The guard and the arithmetic of the cap stand on these, so none may be missing or senseless."""
    provider = harness.provider

    assert provider.name
    assert provider.account.startswith(provider.name)
    assert provider.billing.granularity_s > 0
    assert provider.billing.floor_s >= 0
    assert provider.billing.billed_states
    assert provider.billing.source
    assert provider.worst_lateness_s >= 0
    assert provider.shutdown_notice_s >= 0
    assert min(provider.poll_s, provider.heartbeat_s, provider.boot_timeout_s) > 0


def test_preflight_says_whether_the_backstop_is_armed(harness: Harness) -> None:
    """What is not armed is named together with what arms it."""
    backstop = harness.provider.preflight()

    assert backstop.what
    assert backstop.armed or backstop.fix


def test_every_part_of_every_offer_is_priced(harness: Harness) -> None:
    """A price of zero would make the cap endless, and one below the expected price would break it."""
    offers = harness.provider.offers(harness.request())

    assert offers
    for offer in offers:
        assert offer.provider == harness.provider.name
        assert offer.rate_usd_per_hour > 0
        assert offer.expected_usd_per_hour > 0
        assert all(part.worst_usd_per_hour >= part.expected_usd_per_hour > 0 for part in offer.parts)
        assert all(part.source for part in offer.parts)
        assert offer.price_as_of


def test_a_dry_run_names_the_calls_of_a_create(harness: Harness) -> None:
    """The user sees what would be made, and nothing is."""
    assert harness.provider.calls(harness.offer())
    assert harness.existing() == set()


def test_offers_keep_to_the_regions_asked_for(harness: Harness) -> None:
    """A user who names a region pays nowhere else."""
    region = harness.offer().region

    assert {offer.region for offer in harness.provider.offers(harness.request(regions=(region,)))} == {region}


def test_an_unknown_region_is_an_error_that_says_what_to_do(harness: Harness) -> None:
    """Every error carries what happened, why, the fix, and a code."""
    with pytest.raises(InvalidRequest) as caught:
        harness.provider.offers(harness.request(regions=("atlantis-1",)))

    error = caught.value
    assert "atlantis-1" in error.what
    assert error.why
    assert error.fix
    assert error.code


def test_create_does_not_wait_for_the_boot(harness: Harness) -> None:
    """The machine is accepted, placed and described; its agent has not been heard of by waiting for it."""
    intent = harness.intent()
    machine = harness.provider.create(intent)

    assert machine.id in harness.existing()
    assert machine.token == intent.token
    assert machine.region == intent.offer.region
    assert machine.state in {MachineState.PENDING, MachineState.RUNNING}
    assert machine.billing_ended_at is None


def test_create_is_idempotent_on_the_token(harness: Harness) -> None:
    """A replay of the frozen request finds the machine that the first call made."""
    intent = harness.intent()
    first = harness.provider.create(intent)
    again = harness.provider.create(intent)

    assert again.id == first.id
    assert harness.existing() == {first.id}


def test_create_finds_its_machine_again_once_it_runs(harness: Harness) -> None:
    """A launcher that died right after the call may replay it much later."""
    intent = harness.intent()
    first = harness.provider.create(intent)
    harness.wait_until_up(first.id)

    assert harness.provider.create(intent).id == first.id
    assert harness.existing() == {first.id}


def test_a_token_serves_one_request_only(harness: Harness) -> None:
    """The same token on another request is refused, and makes nothing."""
    intent = harness.intent()
    machine = harness.provider.create(intent)
    with pytest.raises(InvalidRequest) as caught:
        harness.provider.create(harness.another_request(intent))

    assert caught.value.code == "IdempotentParameterMismatch"
    assert harness.existing() == {machine.id}


def test_a_token_makes_no_second_machine_after_the_first_is_gone(harness: Harness) -> None:
    """A late replay must not bring a finished attempt back to life; it is told how the first one ended."""
    intent = harness.intent()
    machine = harness.provider.create(intent)
    harness.provider.delete(machine.id)
    harness.wait_until_gone(machine.id)
    with pytest.raises(MachineNotFound) as caught:
        harness.provider.create(intent)
    evidence = caught.value.machine

    assert caught.value.code == "IdempotentInstanceTerminated"
    assert (evidence is not None) == harness.keeps_evidence
    assert evidence is None or evidence.id == machine.id
    assert harness.existing() == set()


def test_a_request_whose_deadline_has_passed_makes_nothing(harness: Harness) -> None:
    """Its backstop could only be armed in the past."""
    harness.hard_after_s = -1.0
    with pytest.raises(InvalidRequest):
        harness.provider.create(harness.intent())

    assert harness.existing() == set()


def test_get_and_list_agree(harness: Harness) -> None:
    """Listings may lag, and then show the same machine."""
    machine = harness.provider.create(harness.intent())
    harness.wait_until(lambda: machine.id in harness.listed(), within_s=harness.up_within_s, what="the listing")
    harness.wait_until_up(machine.id)
    harness.wait_until(
        lambda: harness.provider.list(OWNER)[0].state == harness.provider.get(machine.id).state,
        within_s=harness.up_within_s,
        what="one state",
    )
    [listed] = harness.provider.list(OWNER)
    got = harness.provider.get(machine.id)

    assert (listed.id, listed.token, listed.region, listed.tags) == (got.id, got.token, got.region, got.tags)
    assert got.state == MachineState.RUNNING


def test_the_tags_come_back(harness: Harness) -> None:
    """Any computer can account for a machine by its tags alone."""
    intent = harness.intent()
    machine = harness.provider.create(intent)
    harness.wait_until(lambda: machine.id in harness.listed(), within_s=harness.up_within_s, what="the listing")

    assert harness.provider.get(machine.id).tags == intent.tags
    assert [listed.tags for listed in harness.provider.list(OWNER)] == [intent.tags]


def test_list_shows_one_owner_only(harness: Harness) -> None:
    """Another user of the same account is left alone."""
    mine = harness.provider.create(harness.intent("job-1-1"))
    theirs = harness.provider.create(harness.intent("job-2-1", owner="owner-2"))
    harness.wait_until(lambda: harness.listed() == {mine.id}, within_s=harness.up_within_s, what="my machine")
    harness.wait_until(
        lambda: harness.listed("owner-2") == {theirs.id}, within_s=harness.up_within_s, what="their machine"
    )

    assert harness.listed("owner-3") == set()


def test_two_tokens_make_two_machines(harness: Harness) -> None:
    """Deleting one leaves the other."""
    first = harness.provider.create(harness.intent("job-1-1"))
    second = harness.provider.create(harness.intent("job-1-2"))
    harness.provider.delete(first.id)
    harness.wait_until_gone(first.id)

    assert harness.existing() == {second.id}
    assert harness.provider.get(second.id).id == second.id


def test_a_deleted_machine_goes_with_all_that_was_made_for_it(harness: Harness) -> None:
    """Not found is the proof of teardown: from then on nothing may be left."""
    machine = harness.provider.create(harness.intent())
    harness.wait_until_up(machine.id)
    harness.provider.delete(machine.id)
    harness.wait_until_gone(machine.id)

    assert harness.existing() == set()
    harness.wait_until(lambda: harness.listed() == set(), within_s=harness.gone_within_s, what="an empty listing")


def test_a_machine_can_be_deleted_before_it_is_up(harness: Harness) -> None:
    """A user who changes their mind pays for no boot."""
    machine = harness.provider.create(harness.intent())
    harness.provider.delete(machine.id)
    harness.wait_until_gone(machine.id)

    assert harness.existing() == set()


def test_a_machine_that_is_gone_stays_gone(harness: Harness) -> None:
    """What was written down as gone must never be seen again."""
    machine = harness.provider.create(harness.intent())
    harness.provider.delete(machine.id)
    harness.wait_until_gone(machine.id)

    assert harness.is_gone(machine.id)
    assert harness.existing() == set()


def test_delete_can_be_repeated(harness: Harness) -> None:
    """Twice at once, again while it ends, and once more when it is gone: each is success."""
    machine = harness.provider.create(harness.intent())
    harness.wait_until_up(machine.id)
    harness.provider.delete(machine.id)
    harness.provider.delete(machine.id)
    harness.wait_until_gone(machine.id)
    harness.provider.delete(machine.id)

    assert harness.existing() == set()


def test_deleting_what_never_was_is_success(harness: Harness) -> None:
    """The aim is that it is not there, and it is not."""
    harness.provider.delete(_never_made(harness))

    assert harness.existing() == set()


def test_what_never_was_is_not_found(harness: Harness) -> None:
    """An unknown id is told apart from an API that fails."""
    with pytest.raises(MachineNotFound) as caught:
        harness.provider.get(_never_made(harness))

    assert caught.value.what
    assert caught.value.code
    assert caught.value.machine is None


def test_heartbeats_are_lines_that_decode(harness: Harness) -> None:
    """The console is empty at first; then its tail holds whole heartbeats with rising numbers."""
    machine = harness.provider.create(harness.intent())
    harness.wait_until_up(machine.id)
    console = harness.provider.heartbeat(machine.id)
    beats = [heartbeat.decode(line) for line in console.decode().splitlines()]
    numbers = [beat[0] for beat in beats if beat is not None]

    assert len(console) <= CONSOLE_LIMIT_BYTES
    assert None not in beats
    assert numbers == sorted(set(numbers))


def test_heartbeats_go_on(harness: Harness) -> None:
    """A live agent is heard again and again."""
    machine = harness.provider.create(harness.intent())
    harness.wait_until_up(machine.id)
    first = _newest(harness, machine.id)
    harness.wait_until(lambda: _newest(harness, machine.id) > first, within_s=HEARD_AGAIN_S, what="a later heartbeat")


def test_the_console_can_be_read_after_the_end(harness: Harness) -> None:
    """The last heartbeat says how the job ended, and the guard may come late."""
    machine = harness.provider.create(harness.intent())
    harness.wait_until_up(machine.id)
    harness.provider.delete(machine.id)
    harness.wait_until_gone(machine.id)

    assert heartbeat.latest(harness.provider.heartbeat(machine.id)) is not None


def test_the_agent_keeps_the_hard_deadline_by_itself(harness: Harness) -> None:
    """No guard is there, and the training does not end: at the deadline the machine starts to die, or has died."""
    machine = harness.provider.create(harness.intent())

    def ends() -> bool:
        try:
            return harness.provider.get(machine.id).state in {MachineState.STOPPING, MachineState.STOPPED}
        except MachineNotFound:
            return True

    harness.wait_until(ends, within_s=harness.hard_after_s + AGENT_LATE_S, what="the agent to end its machine")


def test_the_backstop_acts_when_agent_and_guard_are_dead(harness: Harness) -> None:
    """The cloud's own timer is armed when create returns, and it is no later than declared."""
    machine = harness.provider.create(harness.intent())
    harness.wait_until_up(machine.id)
    harness.kill_agent(machine.id)
    _wait_until_ended_by_itself(harness, machine.id)

    assert harness.is_gone(machine.id)


def test_the_end_of_billing_is_told(harness: Harness) -> None:
    """The ledger closes with the cloud's own evidence, where the cloud keeps it."""
    machine = harness.provider.create(harness.intent())
    harness.wait_until_up(machine.id)
    harness.provider.delete(machine.id)
    harness.wait_until_gone(machine.id)
    with pytest.raises(MachineNotFound) as caught:
        harness.provider.get(machine.id)
    evidence = caught.value.machine

    assert (evidence is not None) == harness.keeps_evidence
    if evidence is not None:
        assert evidence.id == machine.id
        assert evidence.billing_ended_at is not None
        assert evidence.billed_s is not None or evidence.billing_started_at is not None


def _wait_until_ended_by_itself(harness: Harness, machine_id: str) -> None:
    """Nothing is left of the machine by its hard deadline and the declared lateness."""
    harness.wait_until(
        lambda: machine_id not in harness.existing(),
        within_s=harness.hard_after_s + harness.provider.worst_lateness_s,
        what="the machine's own end",
    )


def _newest(harness: Harness, machine_id: str) -> int:
    """The number of the newest heartbeat."""
    beat = heartbeat.latest(harness.provider.heartbeat(machine_id))
    assert beat is not None
    return beat[0]


def _never_made(harness: Harness) -> str:
    """An id that looks right and belongs to nothing."""
    machine = harness.provider.create(harness.intent("job-0-1"))
    harness.provider.delete(machine.id)
    harness.wait_until_gone(machine.id)
    return f"{machine.id[:-1]}{'0' if machine.id[-1] != '0' else '9'}"
