"""The configuration file and the state folder."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from launcher.config import config_path, load_config, local_settings, state_home
from launcher.core.errors import UsageError
from launcher.job import JobSpec, Local
from launcher.jobfile.config_schema import Aws, Azure, Config, ConfigError, Gcp, Limits

WHOLE = """
store: /data/store
owner: team-a
limits: {monthly_usd: 100, jobs: 3}
notify: ["mailto://someone@example.com"]
aws:
  profile: lab
  scheduler_role_arn: arn:aws:iam::123456789012:role/gpulaunch
  instance_profile: gpulaunch
  image: ami-0123456789abcdef0
azure: {subscription: 01234567-89ab-cdef-0123-456789abcdef, image: "a:b:c:latest"}
gcp: {project: my-project, service_account: a@my-project.iam.gserviceaccount.com, image: family/x}
local: {watts: 300, usd_per_kwh: 0.4, price_per_hour: 0.12}
"""


def load(tmp_path: Path, content: str) -> Config:
    """The configuration of that content."""
    path = tmp_path / "config.yaml"
    path.write_text(content, encoding="utf-8")
    return load_config({"GPULAUNCH_CONFIG": str(path)})


def job(local: Local) -> JobSpec:
    """A job that says this of the computer's cost."""
    return JobSpec(name="a", command=("x",), workdir="/", path="/gpulaunch.yaml", local=local)


def test_every_key_is_read(tmp_path: Path) -> None:
    """A file that uses every key gives every field."""
    expected = Config(
        store="/data/store",
        owner="team-a",
        limits=Limits(monthly_usd=Decimal(100), jobs=3),
        notify=("mailto://someone@example.com",),
        aws=Aws(
            profile="lab",
            scheduler_role_arn="arn:aws:iam::123456789012:role/gpulaunch",
            instance_profile="gpulaunch",
            image="ami-0123456789abcdef0",
        ),
        azure=Azure(subscription="01234567-89ab-cdef-0123-456789abcdef", image="a:b:c:latest"),
        gcp=Gcp(project="my-project", service_account="a@my-project.iam.gserviceaccount.com", image="family/x"),
        local=Local(watts=Decimal(300), usd_per_kwh=Decimal("0.4"), price_per_hour=Decimal("0.12")),
    )
    assert expected == load(tmp_path, WHOLE)


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "store:\nlimits: {}\n"])
def test_an_empty_file_means_the_defaults(tmp_path: Path, content: str) -> None:
    """A file that says nothing changes nothing."""
    assert Config() == load(tmp_path, content)


def test_no_file_means_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody needs a configuration."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Config() == load_config({})


def test_the_file_in_the_users_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without GPULAUNCH_CONFIG it is `config.yaml` in the user's folder for gpulaunch."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    path = config_path({})
    path.parent.mkdir(parents=True)
    path.write_text("owner: me\n")
    assert path.parts[-2:] == ("gpulaunch", "config.yaml")
    assert load_config({}).owner == "me"


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    """GPULAUNCH_CONFIG that leads nowhere is a mistake, not a default."""
    with pytest.raises(UsageError, match="There is no configuration"):
        load_config({"GPULAUNCH_CONFIG": str(tmp_path / "none.yaml")})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ownr: me", ("ownr: unknown key; did you mean 'owner'? "
         "known here: store, owner, limits, notify, aws, azure, gcp, local")),
        ("aws: {profil: x}", ("aws.profil: unknown key; did you mean 'profile'? "
         "known here: profile, scheduler_role_arn, instance_profile, image")),
        ("owner: ''", "owner: '' is empty; write a name"),
        ("owner: a\nowner: b", "owner: given twice; it is in line 1 already"),
        ("notify: someone", "notify: 'someone' is not a list, such as [mailto://…]"),
        ("limits: 5", "limits: '5' is not a mapping with keys of: monthly_usd, jobs"),
        ("limits: {monthly_usd: nan}", "limits.monthly_usd: 'nan' is not a finite amount in dollars"),
        ("limits: {jobs: 0}", "limits.jobs: '0' is not a whole number from 1 to 10000"),
        ("aws: {scheduler_role_arn: role}", ("aws.scheduler_role_arn: 'role' is not a role's ARN, "
         "such as arn:aws:iam::123456789012:role/name")),
        ("azure: {subscription: mine}", "azure.subscription: 'mine' is not a subscription's id (a GUID)"),
        ("local: {price_per_hour: 0}", "local.price_per_hour: '0' must be above zero"),
        ("store: ftp://x", "store: 'ftp://x' is not s3://bucket/prefix, gs://…, az://…, a folder, or none"),
        ("[]", "the top level must be a mapping, such as `name: my-job`"),
    ],
)  # fmt: skip
def test_one_mistake_is_one_problem(tmp_path: Path, line: str, expected: str) -> None:
    """Each mistake is told once, with the line, the key, what was found and what is allowed."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, line + "\n")
    number = 1 + line.count("\n")
    assert f"{tmp_path / 'config.yaml'}:{number}: {expected}" == str(caught.value)
    assert f"Change these lines of {tmp_path / 'config.yaml'}." == caught.value.fix


@pytest.mark.parametrize(
    ("in_job", "in_config", "expected"),
    [
        (Local(), Local(), {}),
        (Local(), Local(watts=Decimal(200)), {"watts": "200"}),
        (Local(watts=Decimal(300)), Local(watts=Decimal(200)), {"watts": "300"}),
        (
            Local(usd_per_kwh=Decimal("0.30")),
            Local(watts=Decimal(200), price_per_hour=Decimal(1)),
            {"watts": "200", "usd_per_kwh": "0.30"},
        ),
        (Local(), Local(price_per_hour=Decimal("0.5")), {"price_per_hour": "0.5"}),
        (Local(price_per_hour=Decimal("3.6")), Local(price_per_hour=Decimal(1)), {"price_per_hour": "3.6"}),
    ],
)
def test_the_job_wins_over_the_configuration(in_job: Local, in_config: Local, expected: dict[str, str]) -> None:
    """Only what was given is passed on; a job's power sets aside a configured price."""
    assert expected == local_settings(job(in_job), Config(local=in_config))


def test_the_state_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPULAUNCH_HOME names it, absolute even if it was given relative."""
    monkeypatch.chdir(tmp_path)
    assert tmp_path / "x" == state_home({"GPULAUNCH_HOME": "x"})


def test_the_state_folder_has_a_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without GPULAUNCH_HOME, or with an empty one, it is the user's state folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    home = state_home({"GPULAUNCH_HOME": ""})
    assert home.name == "gpulaunch"
    assert home.is_relative_to(tmp_path)


def test_importing_it_loads_no_reader() -> None:
    """`status` imports this module on each start; YAML and the schema wait until a file is read."""
    code = "import sys, launcher.config; print([m for m in ('yaml', 'msgspec', 'platformdirs') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
