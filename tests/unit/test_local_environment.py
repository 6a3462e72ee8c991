"""What a training on this computer sees of the shell that launched it."""

from __future__ import annotations

from launcher.environment import training_environment


def test_a_training_is_given_where_programs_are() -> None:
    """The guard that starts it may have been started from another shell."""
    shell = {"PATH": "/bin", "VIRTUAL_ENV": "/venv", "CUDA_VISIBLE_DEVICES": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    assert training_environment(shell) == shell


def test_a_training_is_given_no_credentials() -> None:
    """Nothing that was not named in the job file, and nothing of gpulaunch's own."""
    shell = {
        "AWS_SECRET_ACCESS_KEY": "x",
        "AZURE_CLIENT_SECRET": "x",
        "GOOGLE_APPLICATION_CREDENTIALS": "/key.json",
        "HF_TOKEN": "x",
        "WANDB_API_KEY": "x",
        "SSH_AUTH_SOCK": "/agent",
        "GPULAUNCH_HOME": "/state",
    }

    assert training_environment(shell) == {}
