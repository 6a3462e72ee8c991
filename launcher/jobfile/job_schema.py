"""The job file's keys: what each means, its kind, its default. The one table for reading and for the JSON Schema."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from msgspec import Struct

from launcher.jobfile.document import Mapping, Problems, dotted
from launcher.jobfile.job_kinds import (
    EXPRESSION,
    GPU,
    IMAGE,
    INSIDE,
    NAME,
    REGION,
    SECRET_NAME,
    Command,
    Environment,
    Folder,
    Store,
)
from launcher.jobfile.kinds import BOOLEAN, DOLLARS, DURATION, choice, decimal, duration, real, text, whole
from launcher.jobfile.schema import Items, Key, Section
from providers.registry import USER_PROVIDERS

METRIC_FORMATS = ("auto", "hf", "lightning", "keras", "nanogpt", "llmc", "jsonl", "tensorboard", "regex")

_WATTS = decimal("the watts that this computer draws, such as 150", most=100_000)
_PER_KWH = decimal("dollars per kilowatt-hour, such as 0.15", most=1_000)
_PER_HOUR = decimal("dollars per hour, such as 0.05", most=1_000_000)
_METRIC_NAME = text("the name of a metric, such as val_loss", longest=100)


class Resources(Struct, frozen=True, kw_only=True):
    """The machine to rent."""

    gpu: Annotated[str | None, Key(GPU, "The GPU, or none for a machine without one.")] = "T4"
    disk_gb: Annotated[int, Key(whole(1, 65_536), "Size of the machine's disk in GB.")] = 100
    spot: Annotated[bool, Key(BOOLEAN, "Take a spot machine: cheaper, and the cloud may take it back.")] = False
    providers: Annotated[
        tuple[str, ...],
        Key(
            Items(choice(*USER_PROVIDERS), "[local]"),
            "Where machines may come from; absent means any that can be used.",
        ),
    ] = ()
    regions: Annotated[
        tuple[str, ...], Key(Items(REGION, "[us-east-1]"), "Regions that may be used; absent means any.")
    ] = ()


class EarlyStop(Struct, frozen=True, kw_only=True):
    """When more training no longer pays. The names and their meaning are those of PyTorch Lightning's EarlyStopping."""

    monitor: Annotated[str, Key(_METRIC_NAME, "The metric to watch, as the training prints it.", required=True)]
    mode: Annotated[str, Key(choice("min", "max"), "Whether the metric should fall (min) or rise (max).")] = "min"
    patience: Annotated[
        int, Key(whole(0, 1_000_000), "Stop after this many values in a row that are no improvement.")
    ] = 3
    min_delta: Annotated[float, Key(real(least=0), "A smaller change than this is no improvement.")] = 0.0
    stopping_threshold: Annotated[
        float | None, Key(real(), "Stop as soon as the metric is better than this: the goal is met.")
    ] = None
    divergence_threshold: Annotated[
        float | None, Key(real(), "Stop as soon as the metric is worse than this: the run is lost.")
    ] = None
    check_finite: Annotated[bool, Key(BOOLEAN, "Stop when the metric is nan or infinite.")] = True
    strict: Annotated[bool, Key(BOOLEAN, "Fail the job when the metric never appears, instead of warning.")] = False
    start_from_step: Annotated[
        int | None, Key(whole(0, 10**15), "Ignore values before this step; for runs with a long warm-up.")
    ] = None
    baseline: Annotated[
        float | None, Key(real(), "A value that the metric must beat to count as an improvement at all.")
    ] = None
    patience_usd: Annotated[
        Decimal | None, Key(DOLLARS, "Stop after spending this many dollars without an improvement.")
    ] = None


class Stall(Struct, frozen=True, kw_only=True):
    """When a run counts as stuck."""

    no_output_s: Annotated[
        float | None, Key(DURATION, "Stop when the training prints nothing for this long.", "no_output")
    ] = None
    no_progress_s: Annotated[
        float | None, Key(DURATION, "Stop when no new step and no new metric appears for this long.", "no_progress")
    ] = None


class MetricRegex(Struct, frozen=True, kw_only=True):
    """One metric that is found by a regular expression."""

    name: Annotated[str, Key(_METRIC_NAME, "The name to give the metric.", required=True)]
    regex: Annotated[
        str, Key(EXPRESSION, "A Python regular expression; its one group holds the number.", required=True)
    ]


class Metrics(Struct, frozen=True, kw_only=True):
    """Where the training's numbers are read."""

    format: Annotated[str, Key(choice(*METRIC_FORMATS), "The format of the training's output; auto recognises it.")] = (
        "auto"
    )
    files: Annotated[
        tuple[str, ...],
        Key(Items(INSIDE, "[logs/metrics.csv]"), "Metric files to read besides those under their usual names."),
    ] = ()
    regex: Annotated[
        tuple[MetricRegex, ...],
        Key(
            Items(Section(MetricRegex), "[{name: loss, regex: 'loss=(\\S+)'}]"),
            "Expressions for an output of your own.",
        ),
    ] = ()


class Checkpoints(Struct, frozen=True, kw_only=True):
    """What is kept of the training's state."""

    path: Annotated[str, Key(INSIDE, "The folder the training saves to: relative, or below /workspace.", required=True)]
    every_s: Annotated[float, Key(DURATION, "How often new checkpoints are copied to the store.", "every")] = 600.0
    keep: Annotated[int, Key(whole(1, 1_000), "How many copies the store keeps; the oldest go first.")] = 3


class Local(Struct, frozen=True, kw_only=True):
    """What this computer costs while a job runs (provider local). None: not given."""

    watts: Annotated[Decimal | None, Key(_WATTS, "What this computer draws while a job runs, in watts.")] = None
    usd_per_kwh: Annotated[Decimal | None, Key(_PER_KWH, "What a kilowatt-hour costs, in dollars.")] = None
    price_per_hour: Annotated[
        Decimal | None, Key(_PER_HOUR, "Dollars per hour, outright; watts and usd_per_kwh then do not count.")
    ] = None


def _check_early_stop(values: dict[str, Any], node: Mapping, key: str, problems: Problems) -> None:
    goal, lost = values.get("stopping_threshold"), values.get("divergence_threshold")
    if goal is None or lost is None:
        return
    if goal >= lost if values.get("mode", "min") == "min" else goal <= lost:
        problems.add(
            node.lines["divergence_threshold"],
            dotted(key, "divergence_threshold"),
            f"{lost:g} together with stopping_threshold {goal:g} stops the run at every value",
        )


def _check_metrics(values: dict[str, Any], node: Mapping, key: str, problems: Problems) -> None:
    if values.get("format") == "regex" and "regex" not in values:
        problems.add(node.lines["format"], dotted(key, "format"), "'regex' needs the expressions: add the key regex")


def _check_job(values: dict[str, Any], node: Mapping, key: str, problems: Problems) -> None:
    for name in values.get("secrets") or ():
        if name in (values.get("env") or {}):
            problems.add(node.lines["secrets"], dotted(key, "secrets"), f"{name} is in env too; keep one of the two")


class Archive(Struct, frozen=True, kw_only=True):
    """A packed working folder in the store. Sizes in bytes."""

    path: str
    sha256: str
    bytes: int
    content_bytes: int
    files: int


class JobSpec(Struct, frozen=True, kw_only=True):
    """A job as the user asked for it. Times are in seconds, money in USD."""

    name: Annotated[
        str, Key(NAME, "The job's name; by default the folder's. Lower-case letters, digits and '-', at most 40.")
    ]
    command: Annotated[
        tuple[str, ...],
        Key(
            Command(),
            "What to run: a list of words, or one text to be split into words. No shell runs it: for pipes or "
            "variables write [bash, -c, '…'].",
            required=True,
        ),
    ]
    image: Annotated[str | None, Key(IMAGE, "The container image; none (or absent) runs the command directly.")] = None
    workdir: Annotated[
        str,
        Key(
            Folder(), "The folder to run in, sent to the machine; relative to this file's folder, which is the default."
        ),
    ]
    env: Annotated[
        dict[str, str], Key(Environment(), "Variables for the training. No secrets: these travel as they are.")
    ] = {}
    secrets: Annotated[
        tuple[str, ...],
        Key(Items(SECRET_NAME, "[HF_TOKEN]"), "Names of variables whose values come from the cloud's secret store."),
    ] = ()
    resources: Annotated[Resources, Key(Section(Resources), "The machine to rent.")] = Resources()
    budget_usd: Annotated[
        Decimal | None,
        Key(DOLLARS, "The cap in US dollars: the job's whole bill never passes it. --budget wins over it.", "budget"),
    ] = None
    max_duration_s: Annotated[
        float | None, Key(DURATION, "Stop the job after this long, such as 8h or 1h30m.", "max_duration")
    ] = None
    egress_gb: Annotated[
        Decimal,
        Key(
            decimal("a number of GB, such as 1", most=1_000_000, zero=True),
            "GB that may leave the cloud; their price is reserved inside the cap.",
        ),
    ] = Decimal(1)
    early_stop: Annotated[
        EarlyStop | None, Key(Section(EarlyStop, _check_early_stop), "When more training no longer pays.")
    ] = None
    stall: Annotated[Stall, Key(Section(Stall), "When a run counts as stuck.")] = Stall()
    metrics: Annotated[Metrics, Key(Section(Metrics, _check_metrics), "Where the training's numbers are read.")] = (
        Metrics()
    )
    checkpoints: Annotated[Checkpoints | None, Key(Section(Checkpoints), "What is kept of the training's state.")] = (
        None
    )
    store: Annotated[
        str | None,
        Key(Store(), "Where checkpoints, logs and the result go: s3://…, gs://…, az://…, a folder, or none."),
    ] = None
    resume: Annotated[
        bool, Key(BOOLEAN, "Go on from the last checkpoint on another machine after preemption, under the same cap.")
    ] = False
    grace_s: Annotated[
        float, Key(duration(zero=True), "From SIGTERM to SIGKILL: the time to save a last checkpoint.", "grace")
    ] = 60.0
    local: Annotated[Local, Key(Section(Local), "What this computer costs while a job runs.")] = Local()
    path: str
    """The file the job is from."""
    archive: Archive | None = None
    """The working folder as it was packed for rented machines."""


JOB = Section(JobSpec, _check_job)
