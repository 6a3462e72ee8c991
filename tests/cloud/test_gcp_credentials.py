"""Whose credentials are used: by files and variables alone, and never sent where they do not belong."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from providers import registry
from providers.base import AuthError, InvalidRequest
from providers.gcp import credentials

if TYPE_CHECKING:
    from pathlib import Path

USER = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}


def written(folder: Path, **values: Any) -> dict[str, str]:
    """An environment whose gcloud has logged in."""
    folder.joinpath("application_default_credentials.json").write_text(json.dumps({**USER, **values}))
    return {"CLOUDSDK_CONFIG": str(folder)}


def test_gclouds_own_login_is_found(tmp_path: Path) -> None:
    """Where gcloud puts it, with the project that it was made for."""
    source = credentials.find(written(tmp_path, quota_project_id="mine"), {})

    assert source.is_there
    assert source.account == "gcp/mine/adc"


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    """Neither variable nor file: no SDK and no metadata server is asked."""
    environ = {"CLOUDSDK_CONFIG": str(tmp_path), "GOOGLE_CLOUD_PROJECT": "mine"}

    assert registry.has_credentials("gcp", environ, {}) is False
    with pytest.raises(AuthError) as caught:
        credentials.check(credentials.find(environ, {}))
    assert credentials.LOGIN in caught.value.fix


def test_a_login_without_a_project_is_not_enough(tmp_path: Path) -> None:
    """It is said how to name one."""
    source = credentials.find(written(tmp_path), {})

    assert not source.is_there
    with pytest.raises(AuthError) as caught:
        credentials.check(source)
    assert "GOOGLE_CLOUD_PROJECT" in caught.value.fix


def test_the_configuration_goes_before_the_environment(tmp_path: Path) -> None:
    """And the environment before what the credentials say of themselves."""
    environ = {**written(tmp_path, quota_project_id="theirs"), "GOOGLE_CLOUD_PROJECT": "mine"}

    assert credentials.find(environ, {}).project == "mine"
    assert credentials.find(environ, {"project": "ours"}).project == "ours"


def test_a_key_file_names_its_account(tmp_path: Path) -> None:
    """A service account is known by its address."""
    key = tmp_path / "key.json"
    key.write_text(json.dumps({"client_email": "robot@proj.iam.gserviceaccount.com", "project_id": "proj"}))
    source = credentials.find({"GOOGLE_APPLICATION_CREDENTIALS": str(key)}, {})

    assert source.account == "gcp/proj/robot@proj.iam.gserviceaccount.com"


def test_another_process_speaks_for_the_same_account(tmp_path: Path) -> None:
    """What binds a job holds without any variable, and holds no secret."""
    source = credentials.find(written(tmp_path, quota_project_id="mine"), {})
    binding = {"project": source.project, "credentials": source.path, "endpoint": source.endpoint}

    assert credentials.find({"CLOUDSDK_CONFIG": str(tmp_path)}, binding).account == source.account
    assert not {"s", "r"} & set(binding.values())


def test_credentials_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    """A damaged file is no traceback."""
    environ = written(tmp_path, type="strange", quota_project_id="mine")
    with pytest.raises(AuthError) as caught:
        credentials.load(credentials.find(environ, {}))

    assert credentials.LOGIN in caught.value.fix


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:8080", "http://[::1]:8080/", "http://localhost:1"])
def test_a_cloud_on_this_computer_needs_no_credentials(endpoint: str) -> None:
    """Plain http to a loopback address, and nothing of the user's is sent there."""
    source = credentials.find({credentials.ENDPOINT: endpoint, "GOOGLE_CLOUD_PROJECT": "proj"}, {})

    assert (source.is_there, source.path, source.label) == (True, "", "anonymous")


@pytest.mark.parametrize(
    "endpoint",
    ["http://example.com", "http://10.0.0.1", "https://127.0.0.1", "http://127.0.0.1.example.com", "127.0.0.1:1"],
)
def test_any_other_endpoint_is_refused(endpoint: str) -> None:
    """It would be unencrypted, or a stranger's."""
    with pytest.raises(InvalidRequest) as caught:
        credentials.find({credentials.ENDPOINT: endpoint}, {})

    assert f"unset {credentials.ENDPOINT}" in caught.value.fix


def test_looking_for_credentials_imports_no_sdk() -> None:
    """`up` looks at every cloud before it chooses one."""
    program = (
        "import sys; from providers import registry; registry.has_credentials('gcp', {}, {});"
        "import providers.gcp.provider; print([m for m in sys.modules if m.split('.')[0] in ('google', 'requests')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_a_missing_sdk_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra: who trains on another cloud has none."""
    monkeypatch.setitem(sys.modules, "google.cloud.compute_v1", None)
    with pytest.raises(InvalidRequest) as caught:
        credentials.installed("google.cloud.compute_v1")

    assert "pip install 'gpulaunch[gcp]'" in caught.value.fix
