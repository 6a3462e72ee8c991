"""What agents leave in the stores of their jobs, asked for over HTTP."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import store_places
from makers import make_attempt, make_job, make_spec

from launcher import job_stores
from launcher.job_stores import JobStores
from launcher.store.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from launcher.records import Attempt, Job


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A store with the result and the heartbeat of the first machine of job j-tiny."""
    with store_places.moto() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server)
        address = f"s3://{store_places.make_bucket(server)}/runs"
        open_store(address)._bucket.put("j-tiny/1/result.json", b'{"outcome": "finished"}')
        open_store(address)._bucket.put("j-tiny/1/heartbeat", b"GPULAUNCH1 7")
        yield address


def machine(store: str | None, provider: str = "aws", number: int = 1) -> tuple[Job, Attempt]:
    """A machine of a job with that store."""
    return make_job(spec=make_spec(store=store)), make_attempt(number, provider=provider)


def asked(store: str | None, provider: str = "aws", number: int = 1) -> dict[str, Any] | None:
    """What is found of the end of a machine."""
    return JobStores().result(*machine(store, provider, number))


def test_the_result_of_a_rented_machine_is_read(bucket: str) -> None:
    """Nothing is known of one that left none, of a job without a store, or of this computer, whose files lie here."""
    assert asked(bucket) == {"outcome": "finished"}
    assert (asked(bucket, number=2), asked("none"), asked(None), asked(bucket, provider="local")) == (None,) * 4


def test_a_store_that_cannot_be_asked_says_nothing(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The guard's log has why."""
    assert asked("s3://no-such-bucket/x") is None
    assert "does not exist" in capsys.readouterr().err


def test_a_store_that_hangs_is_not_waited_for(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other machines are."""
    monkeypatch.setattr(job_stores, "LIMIT_S", 0.0)

    assert asked(bucket) is None


def heard(stores: JobStores, store: str | None, **which: Any) -> bytes:
    """What is heard of a machine at the second look: the first only asks."""
    first = stores.beat(*machine(store, **which))
    for question in stores._questions.values():
        question.join()
    assert first == b""
    return stores.beat(*machine(store, **which))


def test_a_heartbeat_is_heard_at_the_next_look(bucket: str) -> None:
    """The first look asks; nothing is heard of one that sent none, of a job without a store, or of this computer."""
    assert heard(JobStores(), bucket) == b"GPULAUNCH1 7"
    assert heard(JobStores(), bucket, number=2) == b""
    assert heard(JobStores(), None) == b""
    assert heard(JobStores(), bucket, provider="local") == b""


def test_a_store_that_hangs_is_asked_no_second_time(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it has answered; and so many of them at one time, and no more."""
    answered = threading.Event()
    begun: list[str] = []

    def hangs(address: str, settings: Any) -> Any:
        begun.append(address)
        answered.wait(60.0)
        return open_store(address)

    monkeypatch.setattr(job_stores, "job_store", hangs)
    stores = JobStores()
    for number in range(1, job_stores.MOST_QUESTIONS + 3):
        stores.beat(*machine(bucket, number=number))
    stores.beat(*machine(bucket))
    asked_at_once = len(begun)
    answered.set()
    for question in stores._questions.values():
        question.join()

    assert asked_at_once == job_stores.MOST_QUESTIONS
    assert stores.beat(*machine(bucket)) == b"GPULAUNCH1 7"
