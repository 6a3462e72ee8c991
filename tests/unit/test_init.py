"""`gpulaunch init`: the job file to start from, and the schema."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from launcher.cli.init import init, starter, write_new
from launcher.core.errors import Exit, UsageError
from launcher.job import json_schema, load_job
from launcher.jobfile.job_schema import JOB


def test_the_starter_is_written_and_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What init writes is a job file without a problem; the talk about it goes to stderr."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(init, [], catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "Wrote gpulaunch.yaml." in result.stderr
    assert load_job(tmp_path / "gpulaunch.yaml").command == ("python", "train.py")
    assert [path.name for path in tmp_path.iterdir()] == ["gpulaunch.yaml"]


def test_the_starter_loads_with_every_comment_taken_away(tmp_path: Path) -> None:
    """Each key that is shown behind a `#` is right as it stands."""
    path = tmp_path / "gpulaunch.yaml"
    path.write_text(re.sub(r"(?m)^(\s*)#(?=\S)", r"\1", starter()), encoding="utf-8")
    job = load_job(path)
    assert job.early_stop is not None
    assert (job.name, job.early_stop.monitor, job.grace_s) == ("my-job", "val_loss", 60.0)


def test_every_key_of_the_schema_is_in_the_starter() -> None:
    """A key that the starter does not show will not be found."""
    shown = re.findall(r"(?m)^\s*#?([a-z_]+):", starter())
    missing = [key for key in JOB.key_names() if key.rsplit(".", 1)[-1] not in shown]
    assert missing == []


def test_an_existing_file_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Init never overwrites, and says how to start anew."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpulaunch.yaml").write_text("mine")
    result = CliRunner().invoke(init, [])
    assert isinstance(result.exception, UsageError)
    assert result.exception.exit_code == Exit.USAGE
    assert result.exception.what == "gpulaunch.yaml exists already."
    assert result.exception.fix == "To start anew: mv gpulaunch.yaml gpulaunch.yaml.old && gpulaunch init"
    assert (tmp_path / "gpulaunch.yaml").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["gpulaunch.yaml"]


def test_a_dangling_link_is_left_alone(tmp_path: Path) -> None:
    """A link that leads nowhere has the name too."""
    target = tmp_path / "gpulaunch.yaml"
    target.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="exists already"):
        write_new(target, "x")
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A write that fails says why, and leaves nothing behind."""
    with pytest.raises(UsageError) as caught:
        write_new(tmp_path / "none" / "gpulaunch.yaml", "x")
    assert caught.value.why == "No such file or directory."
    assert list(tmp_path.iterdir()) == []


def test_without_hard_links_the_file_is_still_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that has no links a rename does it, and it does not overwrite either."""

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    path = tmp_path / "gpulaunch.yaml"
    write_new(path, "first")
    with pytest.raises(UsageError, match="exists already"):
        write_new(path, "second")
    assert path.read_text() == "first"
    assert [found.name for found in tmp_path.iterdir()] == ["gpulaunch.yaml"]


def test_the_schema_is_printed() -> None:
    """`--schema` prints the JSON Schema on stdout, nothing else, and writes no file."""
    result = CliRunner().invoke(init, ["--schema"], catch_exceptions=False)
    assert (result.exit_code, result.stderr) == (0, "")
    assert json_schema() == json.loads(result.stdout)
