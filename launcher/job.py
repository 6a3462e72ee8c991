"""The job file: find it, read it, let flags win over it, publish its schema."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from launcher.core.errors import UsageError
from launcher.jobfile.document import FileProblems, Node, Problem, Problems, Scalar, Sequence
from launcher.jobfile.job_kinds import valid_name
from launcher.jobfile.job_schema import (
    JOB,
    Archive,
    Checkpoints,
    EarlyStop,
    JobSpec,
    Local,
    MetricRegex,
    Metrics,
    Resources,
    Stall,
)
from launcher.jobfile.schema import Section

__all__ = [
    "JOB_FILE",
    "Archive",
    "Checkpoints",
    "EarlyStop",
    "JobFileError",
    "JobSpec",
    "Local",
    "MetricRegex",
    "Metrics",
    "Problem",
    "Resources",
    "Stall",
    "find_job_file",
    "json_schema",
    "load_job",
    "spec_from_json",
    "spec_to_json",
    "with_flags",
]

JOB_FILE = "gpulaunch.yaml"
_RESOURCES = Section(Resources)


class JobFileError(FileProblems):
    """The job file has problems: `problems` lists them all, str() shows one in each line."""


def find_job_file(start: Path) -> Path:
    """The `gpulaunch.yaml` in this folder or the nearest one above it.

    The search ends at the repository's root (a folder with `.git`) or at the file system's. Raises UsageError, naming
    where it looked.
    """
    folder = _absolute(start)
    last = folder
    for last in (folder, *folder.parents):
        if os.path.lexists(last / JOB_FILE):
            return last / JOB_FILE
        if os.path.lexists(last / ".git"):
            break
    raise UsageError(
        f"There is no {JOB_FILE} here.",
        f"Looked in {folder}{'' if last == folder else f' and the folders above it, up to {last}'}.",
        "Run `gpulaunch init` to write one, or name a job file: gpulaunch up JOBFILE",
    )


def load_job(path: Path) -> JobSpec:
    """Read and check a job file.

    Raises JobFileError with all the problems of its content, UsageError when it cannot be read at all.
    """
    from launcher.jobfile.yamlfile import load_yaml

    file = _absolute(path)
    problems = Problems(str(path), file.parent)
    root = load_yaml(path, problems, kind="job file")
    if root is None and not problems.sorted():
        problems.add(1, "", "the file is empty; delete it and run `gpulaunch init` to write one to start from")
    values = None if root is None else JOB.values(root, "", problems)
    if values is None or problems.sorted():
        found = problems.sorted()
        raise JobFileError(
            f"The job file has {len(found)} problem{'s' if len(found) > 1 else ''}:",
            found,
            "Change these lines. `gpulaunch init --schema` prints every key and what it allows.",
        )
    defaults = {"name": valid_name(file.parent.name), "workdir": str(file.parent)}
    return JobSpec(**{**defaults, **values}, path=str(file))


def _absolute(path: Path) -> Path:
    """The absolute path, as text that can be written down."""
    try:
        absolute = os.path.abspath(path)  # noqa: PTH100 (Path.absolute keeps `..`, resolve follows links)
        absolute.encode()
    except FileNotFoundError:
        raise UsageError("The current folder no longer exists.", fix="Run: cd ~") from None
    except UnicodeEncodeError:
        raise UsageError(f"The path {str(path)!r} is not UTF-8.", fix="Rename the folder or the file.") from None
    return Path(absolute)


def with_flags(
    spec: JobSpec,
    *,
    budget: str | None = None,
    name: str | None = None,
    max_duration: str | None = None,
    spot: bool | None = None,
    regions: tuple[str, ...] = (),
    providers: tuple[str, ...] = (),
    store: str | None = None,
) -> JobSpec:
    """The job with what the flags say; a flag that is not given changes nothing.

    The checks are those of the file. Raises UsageError, naming each flag that is wrong.
    """
    problems = Problems("", Path())
    for_job = _read_flags(
        JOB,
        {
            "budget": ("--budget", _one(budget)),
            "name": ("--name", _one(name)),
            "max_duration": ("--max-duration", _one(max_duration)),
            "store": ("--store", _one(store)),
        },
        problems,
    )
    for_resources = _read_flags(
        _RESOURCES,
        {"regions": ("--region", _several(regions)), "providers": ("--provider", _several(providers))},
        problems,
    )
    if spot is not None:
        for_resources["spot"] = spot
    if found := problems.sorted():
        raise UsageError("\n".join(str(problem) for problem in found), fix="`gpulaunch up --help` describes the flags.")
    resources = msgspec.structs.replace(spec.resources, **for_resources)
    return msgspec.structs.replace(spec, **for_job, resources=resources)


def _one(value: str | None) -> Node | None:
    return None if value is None else Scalar(0, value)


def _several(values: tuple[str, ...]) -> Node | None:
    return Sequence(0, tuple(Scalar(0, value) for value in values)) if values else None


def _read_flags(section: Section, flags: dict[str, tuple[str, Node | None]], problems: Problems) -> dict[str, Any]:
    """What the flags give, by the names of the section's fields; each flag stands for the key it is listed under."""
    read = {}
    for name, (flag, node) in flags.items():
        if node is not None:
            field, key = section.keys()[name]
            read[field] = key.kind.read(node, flag, problems)
    return read


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the job file (draft 2020-12), with descriptions; docs/job.schema.json publishes it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gpulaunch job file",
        "description": "One training job on a rented GPU, under a hard cap in dollars.",
        **JOB.json(),
    }


# Made at import: the first use of a type by two threads at once crashes msgspec (0.22).
_SPEC = msgspec.json.Decoder(JobSpec)


def spec_to_json(spec: JobSpec) -> str:
    """The job as one JSON document, for the journal; money as text, so that no digit is lost."""
    return msgspec.json.encode(spec).decode()


def spec_from_json(document: str) -> JobSpec:
    """The job from `spec_to_json`'s document. Raises msgspec.ValidationError if it is none."""
    return _SPEC.decode(document)
