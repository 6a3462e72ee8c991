"""The job file: what it gives, and what each mistake in it is told as."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from launcher.core.errors import UsageError
from launcher.job import (
    Checkpoints,
    EarlyStop,
    JobSpec,
    Local,
    MetricRegex,
    Metrics,
    Resources,
    Stall,
    find_job_file,
    json_schema,
    load_job,
    spec_from_json,
    spec_to_json,
    with_flags,
)
from launcher.jobfile.document import Problems, Scalar
from launcher.jobfile.job_kinds import valid_name
from launcher.jobfile.job_schema import JOB
from launcher.jobfile.kinds import duration_text, parse_duration
from providers.registry import USER_PROVIDERS

PROVIDERS = ", ".join(USER_PROVIDERS)
SCHEMA_FILE = Path(__file__).parents[2] / "docs" / "job.schema.json"

WHOLE = r"""
name: gpt2-124m
image: pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime
workdir: code
command: [python, train.py, --steps, "5000", --lr, 1e-4, --flag, no]
env: {WANDB_MODE: offline, SEED: 0123, EMPTY: "", UNSET: null, TOKENIZERS_PARALLELISM: false}
secrets: [HF_TOKEN, HF_TOKEN]
resources: {gpu: t4, disk_gb: 50, spot: yes, providers: [local], regions: [us-east-1]}
budget: $5.00
max_duration: 1h30m
egress_gb: 0.5
early_stop:
  monitor: val/loss
  mode: min
  patience: 5
  min_delta: 1e-3
  stopping_threshold: 3.0
  divergence_threshold: 20
  check_finite: off
  strict: true
  start_from_step: 100
  baseline: 9.5
  patience_usd: 0.50
stall: {no_output: 20m, no_progress: 2h}
metrics:
  format: regex
  files: [logs/a.csv, /workspace/b.csv]
  regex: [{name: val_loss, regex: 'v=(\S+)'}]
checkpoints: {path: /workspace/checkpoints, every: 45s, keep: 2}
store: s3://bucket/prefix
resume: true
grace: 0s
local: {watts: 300, usd_per_kwh: 0.40, price_per_hour: 0.12}
"""


def write(tmp_path: Path, content: str) -> Path:
    """A job file with that content, in a folder with a name fit for a job."""
    folder = tmp_path / "job-dir"
    (folder / "code").mkdir(parents=True, exist_ok=True)
    (folder / "train.py").touch()
    path = folder / "gpulaunch.yaml"
    path.write_text(content, encoding="utf-8")
    return path


def load(tmp_path: Path, content: str) -> JobSpec:
    """The job of that content."""
    return load_job(write(tmp_path, content))


def test_every_key_is_read(tmp_path: Path) -> None:
    """A file that uses every key gives every field, in seconds and Decimal dollars."""
    folder = tmp_path / "job-dir"
    expected = JobSpec(
        name="gpt2-124m",
        image="pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime",
        workdir=str(folder / "code"),
        command=("python", "train.py", "--steps", "5000", "--lr", "1e-4", "--flag", "no"),
        env={"WANDB_MODE": "offline", "SEED": "0123", "EMPTY": "", "TOKENIZERS_PARALLELISM": "false"},
        secrets=("HF_TOKEN",),
        resources=Resources(gpu="T4", disk_gb=50, spot=True, providers=("local",), regions=("us-east-1",)),
        budget_usd=Decimal("5.00"),
        max_duration_s=5400.0,
        egress_gb=Decimal("0.5"),
        early_stop=EarlyStop(
            monitor="val/loss",
            mode="min",
            patience=5,
            min_delta=0.001,
            stopping_threshold=3.0,
            divergence_threshold=20.0,
            check_finite=False,
            strict=True,
            start_from_step=100,
            baseline=9.5,
            patience_usd=Decimal("0.50"),
        ),
        stall=Stall(no_output_s=1200.0, no_progress_s=7200.0),
        metrics=Metrics(
            format="regex",
            files=("logs/a.csv", "/workspace/b.csv"),
            regex=(MetricRegex(name="val_loss", regex=r"v=(\S+)"),),
        ),
        checkpoints=Checkpoints(path="/workspace/checkpoints", every_s=45.0, keep=2),
        store="s3://bucket/prefix",
        resume=True,
        grace_s=0.0,
        local=Local(watts=Decimal(300), usd_per_kwh=Decimal("0.40"), price_per_hour=Decimal("0.12")),
        path=str(folder / "gpulaunch.yaml"),
    )
    assert expected == load(tmp_path, WHOLE)


def test_the_whole_example_uses_every_key() -> None:
    """The file that the other tests lean on leaves no key out."""
    missing = [key for key in JOB.key_names() if not re.search(rf"\b{key.rsplit('.', 1)[-1]}:", WHOLE)]
    assert missing == []


def test_the_command_alone_is_enough(tmp_path: Path) -> None:
    """All other keys have defaults; the name is the folder's, and the job runs in it."""
    folder = tmp_path / "job-dir"
    expected = JobSpec(
        name="job-dir", command=("python", "train.py"), workdir=str(folder), path=str(folder / "gpulaunch.yaml")
    )
    assert expected == load(tmp_path, "command: [python, train.py]\n")


@pytest.mark.parametrize(
    ("key", "field"),
    [("name", "name"), ("image", "image"), ("env", "env"), ("resources", "resources"), ("early_stop", "early_stop"),
     ("budget", "budget_usd"), ("grace", "grace_s"), ("stall", "stall"), ("store", "store"), ("workdir", "workdir")],
)  # fmt: skip
def test_null_means_absent(tmp_path: Path, key: str, field: str) -> None:
    """A key without a value is as if it were not there."""
    absent = load(tmp_path, "command: x\n")
    assert getattr(absent, field) == getattr(load(tmp_path, f"command: x\n{key}:\n"), field)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("command: python train.py --name 'a b'", ("python", "train.py", "--name", "a b")),
        ("command: |\n  python\n  train.py\n", ("python", "train.py")),
        ("command: [bash, -c, 'a && b | c']", ("bash", "-c", "a && b | c")),
        ('command: [python, "", "null"]', ("python", "", "null")),
    ],
)
def test_a_command_is_words(tmp_path: Path, line: str, expected: tuple[str, ...]) -> None:
    """A list is taken as it is; a text is split as a shell would split it."""
    assert expected == load(tmp_path, line).command


@pytest.mark.parametrize("image", ["ubuntu", "python:3.12-slim", "ghcr.io/org/my_app/x:latest", "localhost:5000/a/b",
                                   "nvcr.io/nvidia/pytorch:25.01-py3", "a@sha256:" + "0" * 64])  # fmt: skip
def test_image_references_are_taken(tmp_path: Path, image: str) -> None:
    """Registry, path, tag and digest in all their usual forms."""
    assert image == load(tmp_path, f"command: x\nimage: {image}\n").image


def test_none_means_no_image_and_no_gpu(tmp_path: Path) -> None:
    """The word `none` says so; for the store it stays, because it differs from saying nothing."""
    job = load(tmp_path, "command: x\nimage: none\nstore: none\nresources: {gpu: none}\n")
    assert (job.image, job.resources.gpu, job.store) == (None, None, "none")


@pytest.mark.parametrize(
    ("store", "expected"),
    [("out", "{folder}/out"), ("../out", "{parent}/out"), ("/data/out", "/data/out"), ("~/out", "{home}/out"),
     ("gs://my-bucket", "gs://my-bucket"), ("az://container/a/b", "az://container/a/b")],
)  # fmt: skip
def test_a_store_is_an_address_or_an_absolute_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str, expected: str
) -> None:
    """A relative folder starts at the job file's folder, wherever the command is run."""
    monkeypatch.setenv("HOME", "/home/someone")
    folder = tmp_path / "job-dir"
    expected = expected.format(folder=folder, parent=tmp_path, home="/home/someone")
    assert expected == load(tmp_path, f"command: x\nstore: {store}\n").store


def test_the_name_comes_from_the_folder(tmp_path: Path) -> None:
    """A folder's name that is no job name is made into one."""
    folder = tmp_path / "My Größe_2"
    folder.mkdir()
    (folder / "j.yaml").write_text("command: x\n")
    assert load_job(folder / "j.yaml").name == "my-groe-2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("GPT_2 (small)", "gpt-2-small"), ("124m", "job-124m"), ("", "job"), ("---", "job"), ("É", "e"), ("中", "job"),
     ("a" * 39 + "-b", "a" * 39)],
)  # fmt: skip
def test_a_corrected_name_is_valid(text: str, expected: str) -> None:
    """Whatever is given, the proposal passes the rule it is proposed for."""
    problems = Problems("", Path())
    kind = JOB.keys()["name"][1].kind
    assert expected == valid_name(text)
    assert expected == kind.read(Scalar(0, expected), "name", problems)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8h", 28800.0), ("90m", 5400.0), ("1h30m", 5400.0), ("45s", 45.0), ("2d", 172800.0), ("1.5h", 5400.0)],
)
def test_durations_are_seconds(text: str, expected: float) -> None:
    """Days, hours, minutes and seconds, alone or together."""
    assert expected == parse_duration(text)


@pytest.mark.parametrize("text", ["60s", "10m", "8h", "2d", "45s"])
def test_a_published_duration_reads_as_it_was(text: str) -> None:
    """Defaults are published as one would write them."""
    assert text == duration_text(parse_duration(text))


def test_the_nearest_job_file_is_found(tmp_path: Path) -> None:
    """The search goes from here up, and takes the first one."""
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (tmp_path / "gpulaunch.yaml").touch()
    assert tmp_path / "gpulaunch.yaml" == find_job_file(inner)
    (tmp_path / "a" / "gpulaunch.yaml").touch()
    assert tmp_path / "a" / "gpulaunch.yaml" == find_job_file(inner)


def test_the_search_ends_at_the_repository(tmp_path: Path) -> None:
    """A job file above the repository's root is not this project's."""
    inner = tmp_path / "repo" / "src"
    inner.mkdir(parents=True)
    (tmp_path / "repo" / ".git").touch()
    (tmp_path / "gpulaunch.yaml").touch()
    with pytest.raises(UsageError) as caught:
        find_job_file(inner)
    assert caught.value.what == "There is no gpulaunch.yaml here."
    assert f"Looked in {inner} and the folders above it, up to {tmp_path / 'repo'}." == caught.value.why
    assert "gpulaunch init" in caught.value.fix


def test_a_missing_job_file_is_a_usage_error(tmp_path: Path) -> None:
    """The error says which file and how to get one."""
    with pytest.raises(UsageError, match=r"There is no job file .*nothing\.yaml"):
        load_job(tmp_path / "nothing.yaml")


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    """Each flag replaces its key, and the rest stays."""
    job = load(tmp_path, WHOLE)
    changed = with_flags(
        job, budget="0.02", name="other", max_duration="45s", spot=False, regions=("eu-west-1",), store="none"
    )
    expected = Resources(gpu="T4", disk_gb=50, spot=False, providers=("local",), regions=("eu-west-1",))
    assert (Decimal("0.02"), "other", 45.0, "none") == (
        changed.budget_usd,
        changed.name,
        changed.max_duration_s,
        changed.store,
    )
    assert expected == changed.resources
    assert job.command == changed.command


def test_no_flags_change_nothing(tmp_path: Path) -> None:
    """What is not given stays as the file has it."""
    job = load(tmp_path, WHOLE)
    assert job == with_flags(job)


def test_a_store_flag_starts_at_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative folder on the command line means what it means for every command."""
    job = load(tmp_path, "command: x\n")
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path / "out") == with_flags(job, store="out").store


NAME_RULE = "is not a name: 1 to 40 lower-case letters, digits and '-', a letter first and no '-' last"
STORE_RULE = "is not s3://bucket/prefix, gs://…, az://…, a folder, or none"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"budget": "nan"}, "--budget: 'nan' is not a finite amount in dollars"),
        ({"budget": "-1"}, "--budget: '-1' must be above zero"),
        ({"budget": ""}, "--budget: '' is not an amount in dollars, such as 5 or 4.50"),
        ({"name": "A B"}, f"--name: 'A B' {NAME_RULE}; try 'a-b'"),
        ({"max_duration": "8"}, "--max-duration: '8' has no unit; write 8s, 8m or 8h"),
        ({"store": "ftp://x"}, f"--store: 'ftp://x' {STORE_RULE}"),
        ({"regions": ("a", "B C")}, "--region: 'B C' is not the name of a region, such as us-east-1"),
        ({"providers": ("lokal",)}, f"--provider: 'lokal' is not one of: {PROVIDERS}; did you mean 'local'?"),
        ({"budget": "0", "name": ""}, f"--budget: '0' must be above zero\n--name: '' {NAME_RULE}; try 'job'"),
    ],
)
def test_a_wrong_flag_is_named(tmp_path: Path, flags: dict[str, Any], expected: str) -> None:
    """Flags pass the checks of the file, and the error names the flag."""
    job = load(tmp_path, "command: x\n")
    with pytest.raises(UsageError) as caught:
        with_flags(job, **flags)
    assert expected == caught.value.what


def test_the_journal_gives_back_the_same_job(tmp_path: Path) -> None:
    """A job survives its journey through JSON, money to the last digit."""
    job = load(tmp_path, WHOLE)
    assert job == spec_from_json(spec_to_json(job))
    assert json.loads(spec_to_json(job))["budget_usd"] == "5.00"


def test_the_published_schema_is_this_one() -> None:
    """docs/job.schema.json is the dump: `gpulaunch init --schema > docs/job.schema.json` renews it."""
    assert json_schema() == json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))


def test_every_key_is_described() -> None:
    """No key of the schema goes without a sentence."""

    def bare(schema: dict[str, Any], path: str) -> list[str]:
        found = []
        for name, key in schema.get("properties", {}).items():
            found += [] if key.get("description", "").endswith(".") else [f"{path}{name}"]
            found += bare(key, f"{path}{name}.")
        return found

    assert bare(json_schema(), "") == []


def test_the_patterns_of_the_schema_compile() -> None:
    """Editors use them as they are."""
    patterns = re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', json.dumps(json_schema()))
    assert patterns
    for pattern in patterns:
        re.compile(json.loads(f'"{pattern}"'))
