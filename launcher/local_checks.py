"""What can be known before a job starts on this computer: refused here, nothing is created."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launcher.job import JobSpec


def check_local(spec: JobSpec, environ: Mapping[str, str]) -> None:
    """Raise UsageError for a job that cannot run on this computer."""
    if not Path(spec.workdir).is_dir():
        raise UsageError(f"The job's workdir {spec.workdir} is not a folder.", fix=f"Change `workdir` in {spec.path}.")
    if spec.secrets:
        raise UsageError(
            "The provider `local` has no secret store, and `secrets` are never passed any other way.",
            fix=f"Take `secrets` out of {spec.path}, and let the training read them from its own files.",
        )
    if spec.store is not None and "://" in spec.store:
        raise UsageError(
            f"The store {spec.store} is a bucket; on this computer the store is a folder.",
            fix="Name a folder under `store`, or leave it out: what the training writes stays in its workdir.",
        )
    path = environ.get("PATH", "")
    if spec.image is not None:
        if shutil.which("docker", path=path) is None:
            raise UsageError(
                f"The job has an image ({spec.image}), and there is no docker on this computer.",
                "A container needs the docker command and its engine.",
                f"Install docker, or take `image` out of {spec.path} to run the command directly.",
            )
        return
    program = spec.command[0]
    found = shutil.which(Path(spec.workdir, program).as_posix()) if "/" in program else shutil.which(program, path=path)
    if found is None:
        raise UsageError(
            f"The command {program[:60]!r} does not exist on this computer, or cannot be executed.",
            f"Looked in {spec.workdir}." if "/" in program else "Looked along PATH.",
            f"Change `command` in {spec.path}.",
        )
