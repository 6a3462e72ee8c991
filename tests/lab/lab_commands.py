"""The installed `gpulaunch`, used as a person with an account in the lab's cloud uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from command_lab import Lab, assert_no_traceback, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from command_lab import Done
    from lab_cloud import LabCloud

BOUND_S = 200.0
IMAGE = "train:1"
"""What the machines' docker has imported: one program with a shell in it."""
TRAINING = """
busybox mkdir -p out
echo "started with: $(cat out/state 2>/dev/null || echo nothing)"
trap 'echo "saved on SIGTERM" >out/state; exit 0' TERM
n=0
while [ $n -lt $1 ]; do
    n=$((n + 1))
    echo "step $n of $1: val_loss=$((1000 / n))"
    [ $((n % 10)) = 1 ] && echo "step $n" >out/state
    sleep 0.5
done
echo done >out/state
: >ended
"""


class LabCommands(Lab):
    """A folder with a training in it."""

    def __init__(self, folder: Path, cloud: LabCloud) -> None:
        super().__init__(folder)
        self.cloud = cloud
        self.env |= cloud.aws.variables()

    def set_up(self) -> None:
        """What a user does once, and a job file."""
        done = self.run("init", "aws", "--apply")
        assert done.code == 0, done.err
        (self.work / "train.sh").write_text(TRAINING)

    def job(self, steps: int, **keys: Any) -> None:
        """A job file for a training of that many half seconds."""
        usual = {
            "image": IMAGE,
            "grace": "10s",
            "checkpoints": {"path": "out", "every": "1s"},
            "early_stop": {"monitor": "val_loss", "patience": 1000},
        }
        self.write_job(["sh", "train.sh", str(steps)], **(usual | keys))

    def up(self, *args: str) -> Done:
        """Launch, and return once the machine is accepted."""
        done = self.run("up", "--provider", "aws", "--region", "us-east-1", "--yes", "--detach", *args)
        assert_no_traceback([done.out, done.err])
        assert done.code == 0, done.err
        return done

    def gone(self) -> dict[str, Any]:
        """The job, once nothing of it is left."""
        return wait_until(self._gone, "the job to be gone", BOUND_S)  # type: ignore[no-any-return]

    def _gone(self) -> dict[str, Any] | None:
        [view] = self.views()
        return view if view["state"] == "gone" else None

    def pulled(self) -> dict[str, str]:
        """What `gpulaunch pull` brings."""
        done = self.run("pull", "job", "pulled")
        assert done.code == 0, done.err
        folder = self.work / "pulled"
        return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}
