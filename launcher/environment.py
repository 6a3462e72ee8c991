"""What a training on this computer sees of the shell that launched it: where programs are, never credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# The guard that starts the training may have been started from another shell, so `up` takes these along.
NAMES = frozenset(
    {
        "CONDA_DEFAULT_ENV",
        "CONDA_PREFIX",
        "CUDA_HOME",
        "CUDA_VISIBLE_DEVICES",
        "DOCKER_HOST",
        "DYLD_LIBRARY_PATH",
        "HF_HOME",
        "HOME",
        "LANG",
        "LD_LIBRARY_PATH",
        "LOGNAME",
        "MKL_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "PATH",
        "PYTHONPATH",
        "SHELL",
        "TMPDIR",
        "TZ",
        "USER",
        "VIRTUAL_ENV",
    }
)


def training_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that a training is given. Everything else is named in the job file under `env`."""
    return {name: value for name, value in environ.items() if name in NAMES or name.startswith("LC_")}
