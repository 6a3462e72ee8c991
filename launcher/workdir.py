"""What a rented machine needs of this computer: its working folder, by way of the store, and a store to save to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from launcher.core.errors import UsageError
from launcher.job import Archive

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import BinaryIO

    from launcher.job import JobSpec
    from launcher.jobfile.config_schema import Config
    from launcher.store.archive import Archive as Packed
    from launcher.store.store import Store


def for_rented(spec: JobSpec, config: Config, provider: str) -> JobSpec:
    """The job as a rented machine can run it: with the configuration's store, where the job file names none.

    Raises UsageError for what is missing, or can not be had there.
    """
    if spec.secrets:
        raise UsageError(
            f"The job names secrets ({', '.join(spec.secrets)}), which cannot be brought to a machine of {provider}.",
            "They are never sent with the boot data, through the store, or by any other way that others could read.",
            f"Take `secrets` out of {spec.path}, and let the training do without them.",
        )
    if spec.store is not None or config.store is not None:
        return msgspec.structs.replace(spec, store=spec.store or config.store)
    raise UsageError(
        f"The job has no store, and what it trains on a machine of {provider} dies with that machine.",
        "The working folder, the checkpoints, the log and the result all travel through the store.",
        f"Run: gpulaunch init {provider} --apply, which makes a bucket; or name one (`store:` in {spec.path}); or say "
        "that nothing is to be kept: --no-store",
    )


def job_store(url: str, settings: Mapping[str, Any], region: str | None = None) -> Store:
    """The store of a job, spoken to with the credentials that the job's cloud is spoken to with."""
    from launcher.store.store import open_store

    own = {
        "AWS_PROFILE": settings.get("profile"),
        "AWS_REGION": region,
        "AZURE_STORAGE_ACCOUNT": settings.get("storage_account"),
    }
    return open_store(url, {**os.environ, **{name: value for name, value in own.items() if value}})


def pack(spec: JobSpec) -> tuple[JobSpec, BinaryIO | None]:
    """Pack the working folder of a job that has a store: the job that names the archive, and the archive.

    Raises UsageError for a folder that must not or cannot be sent.
    """
    from launcher.store.archive import pack_workdir
    from launcher.store.store import archive_path

    if spec.store in (None, "none"):
        return spec, None
    packed = pack_workdir(Path(spec.workdir))
    named = Archive(
        path=archive_path(packed.sha256),
        sha256=packed.sha256,
        bytes=packed.bytes,
        content_bytes=packed.content_bytes,
        files=packed.files,
    )
    return msgspec.structs.replace(spec, archive=named), packed.file


def send(spec: JobSpec, file: BinaryIO, settings: Mapping[str, Any]) -> bool:
    """Send the archive, unless the store has it; whether it was sent. Raises StoreError."""
    from launcher.store.archive import Archive as Stored

    named = spec.archive
    assert named is not None, "what was packed has a name"
    packed: Packed = Stored(
        sha256=named.sha256, bytes=named.bytes, content_bytes=named.content_bytes, files=named.files, file=file
    )
    return job_store(str(spec.store), settings).put_archive(packed)
