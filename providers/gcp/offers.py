"""What could be had: quotas first, then the zones that have T4s, each with its whole rate."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from providers.base import InvalidRequest, Offer, OfferRequest
from providers.gcp.errors import GLOBAL_GPUS, quota_error
from providers.gcp.network import rules_of
from providers.gcp.requests import ACCELERATORS
from providers.prices.market import offer_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from launcher.core.clock import Clock
    from providers.base import QuotaError
    from providers.gcp.client import Compute
    from providers.prices.table import PricedShape

# From the create call until a training usually starts: placing, booting Ubuntu, docker. An estimate of ours, until it
# is measured; the pull of the training's image comes on top.
BOOT_S = 150.0
# Quotas and zones are asked for again after this long.
FACTS_AGE_S = 300.0
QUOTA = "NVIDIA_T4_GPUS"
SPOT_QUOTA = "PREEMPTIBLE_NVIDIA_T4_GPUS"


class Facts:
    """What a project may have and what its network lets in, asked once, and all at the same time."""

    def __init__(self, compute: Compute, clock: Clock) -> None:
        self._compute = compute
        self._clock = clock
        self._asked_at: float | None = None
        self.project: Any = None
        self.zones: list[str] = []
        self.rules: list[Any] | None = None
        self._quotas: dict[str, dict[str, tuple[float, float]]] = {}

    def ask(self) -> None:
        """Ask, unless the answers are young. Raises AuthError and its kin."""
        now_s = self._clock.monotonic()
        if self._asked_at is not None and now_s - self._asked_at < FACTS_AGE_S:
            return
        compute = self._compute
        compute.load()
        with ThreadPoolExecutor(4) as pool:
            project = pool.submit(compute.describe_project)
            regions = pool.submit(compute.regions)
            zones = pool.submit(compute.zones_with, ACCELERATORS["T4"])
            rules = pool.submit(rules_of, compute)
        self.project = project.result()  # first: it says who we are and what we may
        self._quotas = {region.name: _quotas(region) for region in regions.result()}
        self.zones, self.rules = zones.result(), rules.result()
        self._asked_at = now_s

    @property
    def regions(self) -> set[str]:
        """Every region of this project."""
        return set(self._quotas)

    def everywhere(self) -> tuple[float, float]:
        """Limit and use of the quota for GPUs in all regions together; new projects have a limit of zero."""
        return _quotas(self.project).get(GLOBAL_GPUS, (1.0, 0.0))

    def in_region(self, region: str, *, spot: bool) -> tuple[str, float, float]:
        """The quota that holds in a region: its name, its limit, and what is used of it.

        Spot machines use the standard quota where none of their own was granted
        (compute/docs/instances/create-use-spot, "Spot VMs and preemptible quota").
        """
        quotas = self._quotas.get(region, {})
        name = SPOT_QUOTA if spot and quotas.get(SPOT_QUOTA, (0.0, 0.0))[0] > 0 else QUOTA
        limit, used = quotas.get(name, (0.0, 0.0))
        return name, limit, used


def offers(request: OfferRequest, shapes: Iterable[PricedShape], facts: Facts, project: str) -> list[Offer]:
    """Every zone with a T4 that the quotas leave room for. Raises QuotaError, InvalidRequest."""
    unknown = [region for region in request.regions if region not in facts.regions]
    if unknown:
        raise InvalidRequest(
            f"There is no region {unknown[0]!r} in Google Cloud.",
            "The project does not know it.",
            f"Choose among: {', '.join(sorted({zone.rpartition('-')[0] for zone in facts.zones}))}.",
            code="UNKNOWN_REGION",
        )
    limit, used = facts.everywhere()
    if limit - used < 1:
        raise quota_error(project, GLOBAL_GPUS, where="all regions together", limit=limit, next_scope="provider")
    found: list[Offer] = []
    refused: QuotaError | None = None
    for shape in shapes:
        metric, limit, used = facts.in_region(shape.region, spot=shape.spot)
        if limit - used < 1:
            refused = refused or quota_error(project, metric, where=shape.region, limit=limit, next_scope="region")
            continue
        found += [offer_of(shape, boot_s=BOOT_S, zone=zone) for zone in _zones_of(shape, facts.zones)]
    if not found and refused is not None:
        raise refused
    return found


def _zones_of(shape: PricedShape, zones: list[str]) -> list[str]:
    """A price holds in a whole region, or in one zone of it."""
    if shape.zone is not None:
        return [shape.zone] if shape.zone in zones else []
    return [zone for zone in zones if zone.rpartition("-")[0] == shape.region]


def _quotas(owner: Any) -> dict[str, tuple[float, float]]:
    return {quota.metric: (quota.limit, quota.usage) for quota in owner.quotas}
