"""Which providers a job may use, and the plan with the cheapest of their machines. Creates nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from launcher import boot, launch
from launcher.config import cloud_settings, local_settings
from launcher.core.errors import ClockWrong, GpulaunchError
from launcher.environment import training_environment
from launcher.local_checks import check_local
from launcher.plan import Plan, make_plan, rank, rank_key
from launcher.workdir import for_rented
from providers import registry
from providers.base import OfferRequest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal
    from pathlib import Path

    from launcher.core.clock import Clock
    from launcher.job import JobSpec
    from launcher.jobfile.config_schema import Config
    from providers.base import Provider

# The launcher's clock against the cloud's: shown above the first, refused above the second (DESIGN, section 3).
SHOWN_SKEW_S = 30.0
REFUSED_SKEW_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The plan, the provider that it begins with, and where else the job may go."""

    spec: JobSpec
    """The job, with the configuration's store where it names none and needs one."""
    plan: Plan
    provider: Provider
    settings: dict[str, Any]
    elsewhere: dict[str, Any]
    """The other providers: name to `{"account": …, "settings": …}`."""
    notes: tuple[str, ...]

    @property
    def rents(self) -> bool:
        """Whether a machine of this job may be a rented one."""
        return any(map(boot.is_rented, (self.plan.offer.provider, *self.elsewhere)))


@dataclass(frozen=True, kw_only=True)
class _Place:
    spec: JobSpec
    notes: tuple[str, ...]
    provider: Provider
    settings: dict[str, Any]
    plan: Plan


def choose(
    spec: JobSpec, config: Config, cap_usd: Decimal, *, environ: Mapping[str, str], home: Path, clock: Clock
) -> Choice:
    """Ask every provider that the job may use, and plan with the cheapest machine of all.

    One that fails is told of, and the others are used; raises what the first one raised when none is left.
    """
    names, notes = _names(spec, config, environ)
    places: list[_Place] = []
    errors: list[GpulaunchError] = []
    for name in names:
        try:
            places.append(_place(name, spec, config, cap_usd, environ=environ, home=home, clock=clock))
        except GpulaunchError as error:
            errors.append(error)
            notes.append(f"{name} is left out: {error}")
    if not places:
        raise errors[0]
    best = min(places, key=lambda place: rank_key(place.plan.offer))
    notes += [note for place in places if (note := _skew_note(place.provider))]
    notes += best.notes
    others = [offer for place in places if place is not best for offer in (place.plan.offer, *place.plan.others)]
    plan = replace(best.plan, others=tuple(rank([*best.plan.others, *others])))
    return Choice(
        spec=best.spec,
        plan=plan,
        provider=best.provider,
        settings=best.settings,
        elsewhere={
            place.provider.name: {"account": place.provider.account, "settings": place.settings}
            for place in places
            if place is not best
        },
        notes=tuple(notes),
    )


def _names(spec: JobSpec, config: Config, environ: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The providers to ask, and a word to the user where it was not their choice."""
    if spec.resources.providers:
        return list(spec.resources.providers), []
    able = [name for name in registry.clouds() if registry.has_credentials(name, environ, cloud_settings(name, config))]
    if not able:
        return ["local"], ["No cloud is set up here: using this computer (provider local)."]
    if spec.image is None:
        return ["local"], ["The job has no image, so it runs on this computer (provider local)."]
    return able, []


def _place(
    name: str,
    spec: JobSpec,
    config: Config,
    cap_usd: Decimal,
    *,
    environ: Mapping[str, str],
    home: Path,
    clock: Clock,
) -> _Place:
    settings: dict[str, Any]
    if name == "local":
        check_local(spec, environ)
        settings = {**local_settings(spec, config), "environment": training_environment(environ)}
    else:
        settings = dict(cloud_settings(name, config))
    if boot.is_rented(name):
        spec = for_rented(spec, config, name)
    provider = registry.load(name, clock=clock, home=str(home), settings=settings)
    backstop = provider.preflight()
    _check_skew(provider)
    wanted = spec.resources
    offers = provider.offers(
        OfferRequest(
            gpu=wanted.gpu,
            disk_gb=wanted.disk_gb,
            spot=wanted.spot,
            regions=wanted.regions,
            has_image=spec.image is not None,
            settings=settings,
        )
    )
    plan = make_plan(spec, offers, provider, backstop=backstop, cap_usd=cap_usd)
    settings = {**settings, **provider.binding}
    notes = launch.rehearse(spec, plan, provider, settings, clock.now())
    return _Place(spec=spec, provider=provider, settings=settings, plan=plan, notes=notes)


def _check_skew(provider: Provider) -> None:
    if abs(provider.skew_s) > REFUSED_SKEW_S:
        raise ClockWrong(
            f"This computer's clock is {abs(provider.skew_s):.0f} s {_direction(provider)} that of {provider.name}.",
            "Deadlines would be wrong by as much.",
            "Set the clock (for example: sudo timedatectl set-ntp true), then run the command again.",
        )


def _skew_note(provider: Provider) -> str:
    if abs(provider.skew_s) <= SHOWN_SKEW_S:
        return ""
    off = f"{abs(provider.skew_s):.0f} s {_direction(provider)} that of {provider.name}"
    return f"This computer's clock is {off}; the deadlines follow the cloud's."


def _direction(provider: Provider) -> str:
    return "ahead of" if provider.skew_s > 0 else "behind"
