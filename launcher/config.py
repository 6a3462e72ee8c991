"""The user's configuration and where gpulaunch keeps its state. Everything has a default; no file is needed.

The keys are in launcher/config_schema.py, which is imported only when a file is read: `status` starts without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.jobfile.config_schema import Config
    from launcher.jobfile.job_schema import JobSpec

APP = "gpulaunch"


def state_home(env: Mapping[str, str]) -> Path:
    """The folder of the journal and the logs: GPULAUNCH_HOME, else the user's state folder. It may not exist yet."""
    if env.get("GPULAUNCH_HOME"):
        return Path(env["GPULAUNCH_HOME"]).absolute()
    from platformdirs import user_state_path

    return user_state_path(APP, appauthor=False)


def config_path(env: Mapping[str, str]) -> Path:
    """The configuration file: GPULAUNCH_CONFIG, else `config.yaml` in the user's config folder. It may not exist."""
    if env.get("GPULAUNCH_CONFIG"):
        return Path(env["GPULAUNCH_CONFIG"]).absolute()
    from platformdirs import user_config_path

    return user_config_path(APP, appauthor=False) / "config.yaml"


def load_config(env: Mapping[str, str]) -> Config:
    """Read the configuration; an absent or empty file means the defaults, unless GPULAUNCH_CONFIG names it.

    Raises ConfigError with all the problems of its content, UsageError when it cannot be read at all.
    """
    from launcher.jobfile.config_schema import CONFIG, Config, ConfigError
    from launcher.jobfile.document import Problems
    from launcher.jobfile.yamlfile import load_yaml

    path = config_path(env)
    if not env.get("GPULAUNCH_CONFIG") and not path.exists():
        return Config()
    problems = Problems(str(path), path.parent)
    root = load_yaml(path, problems, kind="configuration")
    values = {} if root is None else CONFIG.values(root, "", problems)
    if found := problems.sorted():
        raise ConfigError(
            f"The configuration has {len(found)} problem{'s' if len(found) > 1 else ''}:",
            found,
            f"Change these lines of {path}.",
        )
    return Config(**(values or {}))


def cloud_settings(name: str, config: Config) -> dict[str, str]:
    """The configuration's section for a cloud, as far as it is set."""
    section = getattr(config, name)
    values = {field: getattr(section, field) for field in section.__struct_fields__}
    return {field: value for field, value in values.items() if value is not None}


def local_settings(spec: JobSpec, config: Config) -> dict[str, str]:
    """What this computer costs, for providers/local: `watts`, `usd_per_kwh`, `price_per_hour`, as far as given.

    The job file wins over the configuration; a job that gives watts or usd_per_kwh also sets aside the
    configuration's price_per_hour. Amounts are text, so that they pass through the journal unchanged.
    """
    job = {field: getattr(spec.local, field) for field in spec.local.__struct_fields__}
    user = {field: getattr(config.local, field) for field in config.local.__struct_fields__}
    if any(value is not None for value in job.values()):
        user["price_per_hour"] = None
    merged = {field: user[field] if job[field] is None else job[field] for field in job}
    return {field: str(amount) for field, amount in merged.items() if amount is not None}
