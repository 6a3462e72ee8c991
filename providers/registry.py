"""Provider names to classes, as strings: a cloud's SDK is imported on first use only."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from providers.base import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from launcher.core.clock import Clock
    from providers.base import Provider

    class Account(Protocol):
        """What `gpulaunch init CLOUD` makes, once, in the user's account."""

        def document(self) -> str:
            """All that `apply` would make, as text that the cloud's own tools take. Calls nothing that changes."""

        def apply(self, tell: Callable[[str], None]) -> dict[str, str]:
            """Make what is missing; safe to repeat. Returns the keys of this cloud's section of the configuration."""


PROVIDERS = {
    "aws": "providers.aws.provider:AwsProvider",
    "azure": "providers.azure.provider:AzureProvider",
    "gcp": "providers.gcp.provider:GcpProvider",
    "local": "providers.local.provider:LocalProvider",
    "simulated": "providers.simulated.provider:SimulatedProvider",
}

# What a user may name; `simulated` lives in the memory of one process, so no command can use it.
USER_PROVIDERS = ("local", "aws", "gcp", "azure")


def clouds() -> tuple[str, ...]:
    """The rented machines that a user may name."""
    return tuple(name for name in USER_PROVIDERS if name != "local")


def has_credentials(name: str, environ: Mapping[str, str], settings: Mapping[str, Any]) -> bool:
    """Whether there seem to be credentials for this cloud: by files and variables alone, without SDK and network."""
    credentials = import_module(f"providers.{name}.credentials")
    return bool(credentials.are_there(environ, settings))


def account(name: str, *, clock: Clock, settings: Mapping[str, Any], store: str | None) -> Account:
    """What `gpulaunch init` would make in this cloud, for the store that the user named (None: one is proposed)."""
    made: Account = import_module(f"providers.{name}.account").CloudAccount(clock=clock, settings=settings, store=store)
    return made


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
