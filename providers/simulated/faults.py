"""What can go wrong between a launcher and a cloud, one class for each.

A fault meets one API call. `before` and `after` run around the call's effect and raise what the caller sees; some
faults change the effect itself, and the cloud looks at their fields.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from providers.base import (
    AmbiguousOutcome,
    AuthError,
    CapacityError,
    InvalidRequest,
    PriceUnknown,
    ProviderError,
    ProviderUnavailable,
    QuotaError,
    RateLimited,
)

if TYPE_CHECKING:
    from launcher.core.clock import Clock

ANY = "*"
"""Matches every call."""


class Call(NamedTuple):
    """One call as the cloud's API saw it: the time in seconds on the cloud's axis."""

    at_s: float
    name: str
    about: str


class SimulatedCrash(BaseException):
    """The calling process dies here. No `except Exception` may catch it."""


class Fault:
    """One thing that goes wrong with one call."""

    __slots__ = ()

    @property
    def kind(self) -> str:
        """Its name when faults are counted."""
        return type(self).__name__

    def before(self, call: Call, clock: Clock) -> None:
        """Act before the effect."""
        del call, clock

    def after(self, call: Call) -> None:
        """Act after the effect."""
        del call


# what happened, why, the fix
_REFUSALS: dict[type[ProviderError], tuple[str, str, str]] = {
    AuthError: ("The cloud refused the credentials.", "They have expired.", "Sign in again."),
    QuotaError: ("The account may have no more machines of this kind.", "The quota is used up.", "Ask for more quota."),
    CapacityError: ("The cloud has no such machine free.", "All of them are in use.", "Try another zone or region."),
    PriceUnknown: ("The price is not known.", "The price list did not answer.", "Try again later."),
    RateLimited: ("The cloud asked for fewer calls.", "Too many calls in a short time.", "Wait, then try again."),
    ProviderUnavailable: ("The cloud's API failed.", "The fault is on its side.", "Try again later."),
    InvalidRequest: ("The cloud refused the request.", "A value in it is not allowed.", "Change the request."),
}


@dataclass(frozen=True, slots=True)
class Refuse(Fault):
    """The call is refused and has no effect."""

    error: type[ProviderError]
    code: str = ""
    next_scope: str | None = None

    @property
    def kind(self) -> str:
        """Its name when faults are counted."""
        return f"Refuse:{self.error.__name__}"

    def before(self, call: Call, clock: Clock) -> None:
        """Refuse."""
        del call, clock
        what, why, fix = _REFUSALS[self.error]
        raise self.error(what, why, fix, code=self.code, next_scope=self.next_scope)


@dataclass(frozen=True, slots=True)
class LostReply(Fault):
    """The call takes effect, and its answer never arrives."""

    def after(self, call: Call) -> None:
        """Lose the answer."""
        raise lost_reply(call.name)


@dataclass(frozen=True, slots=True)
class Delayed(Fault):
    """A create is accepted, its answer is lost, and its machine appears only so many seconds later.

    Where the cloud's timer counts from the moment when the machine runs, the deadline moves with it; so does billing.
    """

    seconds: float

    def after(self, call: Call) -> None:
        """Lose the answer."""
        raise lost_reply(call.name)


@dataclass(frozen=True, slots=True)
class Duplicated(Fault):
    """The request is delivered twice."""


@dataclass(frozen=True, slots=True)
class HangingDelete(Fault):
    """A delete is accepted, and nothing happens for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class StuckTeardown(Fault):
    """A delete destroys the machine, and what is around it only so many seconds later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Stale(Fault):
    """`get` and `list` show what was so many seconds ago."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Slow(Fault):
    """The call takes so many seconds, then goes on as usual."""

    seconds: float

    def before(self, call: Call, clock: Clock) -> None:
        """Take time."""
        del call
        clock.sleep(self.seconds)


@dataclass(frozen=True, slots=True)
class Crash(Fault):
    """The calling process dies, before the effect or after it."""

    after_effect: bool

    @property
    def kind(self) -> str:
        """Its name when faults are counted."""
        return "Crash:after" if self.after_effect else "Crash:before"

    def before(self, call: Call, clock: Clock) -> None:
        """Die before the effect."""
        del clock
        if not self.after_effect:
            raise SimulatedCrash(call.name)

    def after(self, call: Call) -> None:
        """Die after the effect."""
        raise SimulatedCrash(call.name)


def lost_reply(name: str) -> ProviderError:
    """What a caller sees when the answer to a call is lost: after a create its fate is unknown."""
    error = AmbiguousOutcome if name in ("create", "arm") else ProviderUnavailable
    return error(
        f"The cloud did not answer the call `{name}`.",
        "The connection broke after the request was sent.",
        "Repeat the same call.",
        code="ReplyLost",
    )


class Faults:
    """The plan of what goes wrong, and the count of what did.

    For one call the first that applies wins: the API is down, a one-shot fault, a rule, a rate.
    """

    def __init__(self, seed: int | str = 0) -> None:
        self.injected: Counter[str] = Counter()
        self._random = random.Random(f"faults {seed}")  # noqa: S311 - a repeatable simulation, no secret
        self._once: dict[str, deque[Fault]] = {}
        self._rules: list[tuple[str, Fault, Callable[[Call], bool]]] = []
        self._rates: list[tuple[str, Fault, float]] = []
        self._down: list[tuple[float, float, str]] = []

    def once(self, name: str, *faults: Fault) -> None:
        """The next call of that name meets this fault; of several, each meets one call, in order."""
        self._once.setdefault(name, deque()).extend(faults)

    def every(self, name: str, fault: Fault, when: Callable[[Call], bool] = lambda _: True) -> None:
        """Every call of that name for which `when` is true meets this fault."""
        self._rules.append((name, fault, when))

    def rate(self, name: str, fault: Fault, probability: float) -> None:
        """Each call of that name meets this fault with that probability, decided by the seed."""
        self._rates.append((name, fault, probability))

    def down(self, from_s: float, until_s: float, name: str = ANY) -> None:
        """The API does not answer in that time, on the cloud's axis."""
        self._down.append((from_s, until_s, name))

    def clear(self) -> None:
        """From now on nothing goes wrong."""
        for plan in (self._once, self._rules, self._rates, self._down):
            plan.clear()

    def draw(self, call: Call) -> Fault | None:
        """The fault that this call meets, if any."""
        fault = self._pick(call)
        if fault is not None:
            self.injected[fault.kind] += 1
        return fault

    def _pick(self, call: Call) -> Fault | None:
        names = (call.name, ANY)
        for from_s, until_s, name in self._down:
            if from_s <= call.at_s < until_s and name in names:
                return Refuse(ProviderUnavailable, code="ApiDown")
        for name in names:
            if self._once.get(name):
                return self._once[name].popleft()
        for name, fault, when in self._rules:
            if name in names and when(call):
                return fault
        for name, fault, probability in self._rates:
            if name in names and self._random.random() < probability:
                return fault
        return None
