"""What a machine says last: how its training ended, and how much it has sent out of the cloud."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from makers import make_job, make_offer, make_spec
from scripted import Bench

if TYPE_CHECKING:
    from pathlib import Path

ENDED = {"state": "ended", "outcome": "finished", "reason": "EXIT_0", "exit_code": 0}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A job whose machine reserves nine cents for what leaves it."""
    bench = Bench(tmp_path)
    bench.add(make_job(spec=make_spec(), offers=[make_offer(egress_usd_per_gb=Decimal("0.09"))]))
    return bench


def lived(bench: Bench, beat: dict[str, Any] | None) -> None:
    """The machine runs, says that with its last breath, and is gone."""
    bench.tick(2)
    box = next(iter(bench.provider.boxes.values()))
    box.last_word, box.taken_at = beat, bench.clock.now()
    bench.run()


def compute_usd(bench: Bench) -> Decimal:
    """What is not egress."""
    return bench.attempt.cost_usd(bench.clock.now()) - bench.attempt.egress_usd


def test_what_was_counted_is_what_is_paid(bench: Bench) -> None:
    """Not the whole reserve; and the cost is then known."""
    lived(bench, {**ENDED, "egress_bytes": 100_000_000})

    assert (bench.attempt.egress_usd, bench.attempt.confirmed) == (Decimal("0.009"), True)
    assert compute_usd(bench) > 0


def test_more_than_the_reserve_is_paid_as_well(bench: Bench) -> None:
    """The ledger never tells less than what was."""
    lived(bench, {**ENDED, "egress_bytes": 1_200_000_000})

    assert bench.attempt.egress_usd == Decimal("0.108")


@pytest.mark.parametrize("beat", [{"state": "running", "egress_bytes": 1}, ENDED, {**ENDED, "egress_bytes": "1"}])
def test_what_nobody_counted_to_its_end_is_the_whole_reserve(bench: Bench, beat: dict[str, Any]) -> None:
    """An upper bound, which is not confirmed."""
    lived(bench, beat)

    assert (bench.attempt.egress_usd, bench.attempt.confirmed) == (Decimal("0.09"), False)


def test_a_silent_console_is_made_up_for_by_the_store(bench: Bench) -> None:
    """The result that the agent has left there tells the outcome, the exit code and what left the machine."""
    bench.stores.results["j-tiny-1"] = {"outcome": "failed", "reason": "EXIT_3", "exit_code": 3, "egress_bytes": 0}
    lived(bench, {"state": "running"})

    assert (bench.job.outcome, bench.job.reason, bench.job.exit_code) == ("failed", "EXIT_3", 3)
    assert bench.attempt.egress_usd == 0


def test_the_console_has_the_first_word(bench: Bench) -> None:
    """What was said there is not asked for again."""
    bench.stores.results["j-tiny-1"] = {"outcome": "failed", "reason": "EXIT_3"}
    lived(bench, ENDED)

    assert (bench.job.outcome, bench.job.reason) == ("finished", "EXIT_0")
