"""The installed command, in a home of its own, against AWS in small."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from command_lab import Lab, assert_no_traceback

if TYPE_CHECKING:
    from aws_cloud import AwsCloud
    from command_lab import Done

UP = ("up", "--provider", "aws", "--budget", "5", "--no-store", "--yes", "--detach")
IN_ONE_REGION = (*UP, "--region", "us-east-1")


class AwsCommands(Lab):
    """A home of its own whose commands speak to the cloud with an access key of their own."""

    def __init__(self, folder: Path, cloud: AwsCloud, key: str = "K") -> None:
        super().__init__(folder)
        self.cloud = cloud
        self.key = key
        self.env |= cloud.variables(key)
        self.write_job(["python", "train.py"], image="busybox")

    def configure(self, text: str) -> None:
        """The user's configuration."""
        Path(self.env["GPULAUNCH_CONFIG"]).write_text(text, encoding="utf-8")

    def up(self, *args: str, how: tuple[str, ...] = IN_ONE_REGION, code: int = 0) -> Done:
        """Launch."""
        done = self.run(*how, *args)
        assert_no_traceback([done.out, done.err])
        assert (code, done.code) == (done.code, code), done.err
        return done

    def made(self) -> list[str]:
        """The names of the changing calls of these commands, in order."""
        return [call.name for call in self.cloud.calls if call.key == self.key and call.changes]
