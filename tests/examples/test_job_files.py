"""Every job file of every example is valid, and sends what its program needs."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import yaml

from launcher.job import load_job
from launcher.store.archive import pack_workdir
from providers.registry import USER_PROVIDERS

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
JOB_FILES = sorted(EXAMPLES.glob("*/*.yaml"))
IDS = [str(path.relative_to(EXAMPLES)) for path in JOB_FILES]


def test_there_are_job_files_for_every_place() -> None:
    """GPT-2 for each cloud and for one's own computer, and at least one job file in every example."""
    assert {"aws.yaml", "azure.yaml", "gcp.yaml", "local.yaml", "trial.yaml"} == {
        path.name for path in JOB_FILES if path.parent.name == "gpt2-124m"
    }
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == {path.parent.name for path in JOB_FILES}


@pytest.mark.parametrize("path", JOB_FILES, ids=IDS)
def test_a_job_file_is_valid(path: Path) -> None:
    """It passes the schema, has a cap, and runs a program of its folder."""
    wanted = yaml.safe_load(path.read_text(encoding="utf-8"))["resources"].get("providers", [])
    if missing := set(wanted) - set(USER_PROVIDERS):
        pytest.skip(f"this version has no provider {', '.join(sorted(missing))}")
    job = load_job(path)

    assert job.budget_usd is not None
    assert Path(job.workdir) == path.parent
    program = " ".join(job.command).split("python ")[-1].split(" ")[0]
    assert (path.parent / program).is_file()
    assert job.checkpoints is not None
    assert (job.image is None) == (job.resources.gpu is None)


def test_every_program_says_what_it_needs() -> None:
    """A requirements.txt and a README beside each."""
    for folder in {path.parent for path in JOB_FILES}:
        assert (folder / "requirements.txt").is_file()
        assert (folder / "README.md").is_file()


def test_the_dockerfile_begins_with_the_job_files_image() -> None:
    """One PyTorch for both ways, named with its version."""
    folder = EXAMPLES / "gpt2-124m"
    [image] = {
        yaml.safe_load((folder / f"{cloud}.yaml").read_text(encoding="utf-8"))["image"]
        for cloud in ("aws", "azure", "gcp")
    }
    assert f"FROM {image}" in (folder / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert not image.endswith(":latest")


def test_the_prepared_text_is_sent_and_the_text_and_the_checkpoints_are_not(tmp_path: Path) -> None:
    """What git leaves out of gpt2-124m is sent where the program needs it."""
    for name in ("Dockerfile", ".gitignore", ".dockerignore", "train.py", "requirements.txt"):
        (tmp_path / name).write_bytes((EXAMPLES / "gpt2-124m" / name).read_bytes())
    for name in ("corpus.txt", "data/tokens.bin", "data/meta.json", "data-trial/meta.json", "checkpoints/x.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x", encoding="utf-8")
    (tmp_path / ".git").mkdir()

    with pack_workdir(tmp_path) as archive, tarfile.open(fileobj=archive.file) as tar:
        names = {member.name for member in tar.getmembers() if member.isfile()}

    assert {"data/tokens.bin", "data/meta.json", "train.py", "requirements.txt"} <= names
    assert not names & {"corpus.txt", "data-trial/meta.json", "checkpoints/x.bin"}
