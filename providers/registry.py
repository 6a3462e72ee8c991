"""Provider names to classes, as strings: a cloud's SDK is imported on first use only."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from providers.base import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launcher.core.clock import Clock
    from providers.base import Provider

PROVIDERS = {
    "local": "providers.local.provider:LocalProvider",
    "simulated": "providers.simulated.provider:SimulatedProvider",
}

# What a user may name; `simulated` lives in the memory of one process, so no command can use it.
USER_PROVIDERS = ("local",)


def load(name: str, *, clock: Clock, home: str, settings: Mapping[str, Any]) -> Provider:
    """The provider of that name. Raises InvalidRequest for an unknown name.

    `home` is the state directory; `settings` is the provider's section of the configuration.
    """
    try:
        module_name, class_name = PROVIDERS[name].split(":")
    except KeyError:
        raise InvalidRequest(
            f"There is no provider {name!r}.", fix=f"Choose one of: {', '.join(USER_PROVIDERS)}."
        ) from None
    factory = getattr(import_module(module_name), class_name)
    provider: Provider = factory(clock=clock, home=home, settings=settings)
    return provider
