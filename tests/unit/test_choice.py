"""Which providers `up` asks, and with which of them a job begins."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from makers import make_offer, make_spec
from scripted import ScriptedProvider

from launcher import choice
from launcher.core.clock import VirtualClock
from launcher.core.errors import ClockWrong, UsageError
from launcher.job import Resources
from launcher.jobfile.config_schema import Config, Gcp
from providers import registry
from providers.base import AuthError, Backstop, InvalidRequest, Offer, StoreRequest

if TYPE_CHECKING:
    from pathlib import Path

    from launcher.job import JobSpec


class Cloud(ScriptedProvider):
    """A cloud with one machine on offer."""

    usd_per_hour = "0.5"
    error: Exception | None = None

    def preflight(self) -> Backstop:
        """Armed, unless its credentials are wrong."""
        if self.error is not None:
            raise self.error
        return Backstop(armed=True, what="a timer")

    def offers(self, request: Any) -> list[Offer]:
        """One machine in two zones."""
        return [make_offer("r", zone, usd_per_hour=self.usd_per_hour, provider=self.name) for zone in "ab"]


@pytest.fixture
def clouds(monkeypatch: pytest.MonkeyPatch) -> dict[str, Cloud]:
    """Two clouds with credentials: aws at 50 cents, gcp at 40."""
    made = {}
    for name, usd in (("aws", "0.5"), ("gcp", "0.4")):
        cloud = Cloud(VirtualClock(), name=name, account=f"{name}/account", binding={"bound": name})
        cloud.usd_per_hour = usd
        made[name] = cloud
    monkeypatch.setattr(registry, "clouds", lambda: tuple(made))
    monkeypatch.setattr(registry, "has_credentials", lambda name, environ, settings: name in made)
    monkeypatch.setattr(registry, "load", lambda name, clock, home, settings: made[name])
    return made


def choose(tmp_path: Path, config: Config | None = None, **spec: Any) -> choice.Choice:
    """The choice for a small job."""
    wanted: JobSpec = make_spec(**({"image": "pytorch", "store": "none"} | spec))
    return choice.choose(wanted, config or Config(), Decimal(5), environ={}, home=tmp_path, clock=VirtualClock())


def test_the_cheapest_cloud_with_credentials_begins(clouds: dict[str, Cloud], tmp_path: Path) -> None:
    """The others' machines follow in the order of their expected rate, and their accounts are known."""
    chosen = choose(tmp_path, Config(gcp=Gcp(project="p")))

    assert ("gcp", "a") == (chosen.plan.offer.provider, chosen.plan.offer.zone)
    assert [("gcp", "b"), ("aws", "a"), ("aws", "b")] == [(o.provider, o.zone) for o in chosen.plan.others]
    assert {"project": "p", "bound": "gcp"} == chosen.settings
    assert {"aws": {"account": "aws/account", "settings": {"bound": "aws"}}} == chosen.elsewhere


def test_a_named_provider_is_the_only_one(clouds: dict[str, Cloud], tmp_path: Path) -> None:
    """What the user names is what is used."""
    chosen = choose(tmp_path, resources=Resources(providers=("aws",)))

    assert ("aws", {}, ()) == (chosen.provider.name, chosen.elsewhere, chosen.notes)


def test_a_cloud_that_fails_is_left_out_and_said(clouds: dict[str, Cloud], tmp_path: Path) -> None:
    """An expired login of one cloud does not keep the job from another."""
    clouds["gcp"].error = AuthError("The login has expired.", fix="gcloud auth login")
    chosen = choose(tmp_path)

    assert "aws" == chosen.provider.name
    assert ("gcp is left out: The login has expired. gcloud auth login",) == chosen.notes


def test_when_every_cloud_fails_the_first_says_why(clouds: dict[str, Cloud], tmp_path: Path) -> None:
    """Nothing is launched elsewhere in silence."""
    for cloud in clouds.values():
        cloud.error = AuthError(f"{cloud.name} is closed.")

    with pytest.raises(AuthError, match="aws is closed"):
        choose(tmp_path)


def test_a_job_without_an_image_runs_here(
    clouds: dict[str, Cloud], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rented machine runs containers only, so no cloud is asked."""
    here = Cloud(VirtualClock())
    monkeypatch.setattr(registry, "load", lambda name, clock, home, settings: {"local": here}[name])
    monkeypatch.setattr(choice, "check_local", lambda spec, environ: None)
    chosen = choose(tmp_path, image=None)

    assert ("local", ("The job has no image, so it runs on this computer (provider local).",)) == (
        chosen.provider.name,
        chosen.notes,
    )


@pytest.mark.parametrize(("skew_s", "direction"), [(45.0, "ahead of"), (-45.0, "behind")])
def test_a_clock_that_is_a_little_wrong_is_said(
    clouds: dict[str, Cloud], tmp_path: Path, skew_s: float, direction: str
) -> None:
    """The deadlines follow the cloud's clock."""
    clouds["gcp"].skew_s = skew_s
    chosen = choose(tmp_path)

    assert (
        f"This computer's clock is 45 s {direction} that of gcp; the deadlines follow the cloud's.",
    ) == chosen.notes


def test_a_clock_that_is_very_wrong_is_refused(clouds: dict[str, Cloud], tmp_path: Path) -> None:
    """With the command that sets it; of several clouds each says the same."""
    for cloud in clouds.values():
        cloud.skew_s = 301.0

    with pytest.raises(ClockWrong, match=r"301 s ahead of that of aws.*timedatectl"):
        choose(tmp_path)


@pytest.mark.parametrize("spec", [{"store": None}, {"secrets": ("HF_TOKEN",)}, {"env": {"A": "x" * 2_000_000}}])
def test_what_a_rented_machine_cannot_run_is_refused(
    clouds: dict[str, Cloud], tmp_path: Path, spec: dict[str, Any]
) -> None:
    """Before anything is created: no store and no word about it, secrets, a job that is too large."""
    noise = {"env": {str(n): f"{n**99:x}" for n in range(3000)}} if "env" in spec else spec

    with pytest.raises(UsageError, match=r"dies with that machine|HF_TOKEN|too large"):
        choose(tmp_path, resources=Resources(providers=("aws",)), **noise)


def test_the_configured_store_serves_a_job_that_names_none(
    clouds: dict[str, Cloud], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cloud whose machines cannot reach it is left out, saying why."""
    asked = []

    def machine_store(request: StoreRequest) -> dict[str, Any]:
        asked.append(request)
        return {"kind": "gcs", "bucket": "b", "prefix": ""}

    def refused(request: StoreRequest) -> dict[str, Any]:
        raise InvalidRequest(f"{request.url} cannot be reached.")

    monkeypatch.setattr(clouds["gcp"], "machine_store", machine_store, raising=False)
    monkeypatch.setattr(clouds["aws"], "machine_store", refused, raising=False)
    chosen = choose(tmp_path, Config(store="gs://b"), store=None)

    assert ("gcp", "gs://b", True) == (chosen.provider.name, chosen.spec.store, chosen.rents)
    assert ("aws is left out: gs://b cannot be reached.",) == chosen.notes
    assert ["gs://b"] == [request.url for request in asked]


def test_a_clock_thirty_seconds_off_is_not_worth_a_word(clouds: dict[str, Cloud], tmp_path: Path) -> None:
    """Up to there it is what computers are."""
    clouds["gcp"].skew_s = 30.0

    assert () == choose(tmp_path).notes
