"""The store in every place that it can be in: the same behaviour, whoever keeps the bytes."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import store_places
from store_places import Place

from launcher.agent.checkpoints import Checkpoints
from launcher.agent.folder import FolderSets
from launcher.agent.objects import stored_name
from launcher.core.errors import Exit, UsageError
from launcher.store.archive import pack_workdir
from launcher.store.bucket import (
    PART_BYTES,
    ObjectNotFound,
    StoreAuthError,
    StoreDamaged,
    StoreNotFound,
    StoreUnavailable,
    explain,
    open_bucket,
)
from launcher.store.store import NotInStore, archive_path, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

# Names that a training may give, and that not every bucket could hold as they are.
NAMES = [
    "model.pt",
    "deep/er/model.pt",
    "a b",
    "épreuve",
    "100%",
    "a#1",
    "a%41",
    "new\nline",
    "back\\slash",
    "not-\udcff",
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server that speaks S3 and, with it, Google's interface."""
    with store_places.moto() as url:
        yield url


@pytest.fixture(scope="module")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that speaks Azure's."""
    with store_places.azurite(tmp_path_factory.mktemp("azurite")) as url:
        yield url


@pytest.fixture(params=["folder", "s3", "gs", "az"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Each place in turn, empty."""
    if request.param == "folder":
        return Place(str(tmp_path / "store"))
    if request.param == "az":
        return store_places.azure(request.getfixturevalue("azure_server"))
    url = request.getfixturevalue("server")
    return store_places.s3(url) if request.param == "s3" else store_places.gcs(url)


def save(tmp_path: Path, content: dict[str, bytes], job: str = "j-1") -> Path:
    """A folder with the sets of a job as the agent makes them: one more, of these files."""
    source, root = tmp_path / "source", tmp_path / "agent"
    for path, data in content.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(data)
    assert Checkpoints(source, FolderSets(root / job / "checkpoints"), 3).save(None) == 0
    return root


def files(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their paths."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_empty_store_holds_nothing(place: Place) -> None:
    """No job, no checkpoint, no log, no result; and looking makes nothing."""
    store = place.store()

    assert store.latest_checkpoint("j-1") is None
    assert (store.result("j-1"), store.log("j-1"), store.attempts("j-1")) == (None, None, [])
    with pytest.raises(NotInStore, match="There is no job 'j-1' in"):
        store.find_job("j-1")
    if "://" not in place.url:
        assert not Path(place.url).exists()


def test_a_checkpoint_comes_back_as_it_was(place: Place, tmp_path: Path) -> None:
    """Whatever its files are called, and whatever their sizes: none, one byte, or more than one part."""
    content = {name: name.encode(errors="surrogateescape") for name in NAMES}
    content |= {"empty": b"", "big": bytes(range(256)) * (PART_BYTES // 256 + 1)}
    place.send(save(tmp_path, content))
    into = tmp_path / "into"
    into.mkdir()
    found = place.store().latest_checkpoint("j-1", into)

    assert found is not None
    assert (found.n, found.bytes) == (1, sum(map(len, content.values())))
    assert files(into) == content
    assert (into / "big").stat().st_mtime_ns == (tmp_path / "source/big").stat().st_mtime_ns


def test_the_newest_complete_set_counts(place: Place, tmp_path: Path) -> None:
    """By number, not by name; one without a manifest does not count."""
    for n in range(11):
        root = save(tmp_path, {"model.pt": b"%d" % n})
    (root / "j-1/checkpoints/12/files").mkdir(parents=True)
    (root / "j-1/checkpoints/12/files/model.pt").write_bytes(b"half")
    place.send(root)
    found = place.store().latest_checkpoint("j-1")

    assert (found and found.n) == 11


@pytest.mark.parametrize(
    "damage",
    [b"NEW", b"ne", b"newer", None],
    ids=["changed", "shorter", "longer", "missing"],
)
def test_a_damaged_set_gives_way_to_the_one_before(place: Place, tmp_path: Path, damage: bytes | None) -> None:
    """The user is told of it, and nothing of it stays."""
    save(tmp_path, {"model.pt": b"old", "other": b"same"})
    root = save(tmp_path, {"model.pt": b"new", "more": b"more"})
    model = root / "j-1/checkpoints/2/files/model.pt"
    model.unlink()
    if damage is not None:
        model.write_bytes(damage)
    place.send(root)
    into, said = tmp_path / "into", []  # type: ignore[var-annotated]
    into.mkdir()
    found = place.store().latest_checkpoint("j-1", into, said.append)

    assert (found and found.n) == 1
    assert files(into) == {"model.pt": b"old", "other": b"same"}
    assert len(said) == 1
    assert "An earlier one is looked for." in said[0]


@pytest.mark.parametrize(
    "manifest",
    [
        b"{",
        b"[]",
        b'{"n": 1}',
        b'{"n": 1, "at": "", "bytes": 1, "files": {"../out": {"size": 1, "sha256": "", "mtime_ns": 0}}}',
        b'{"n": 1, "at": "", "bytes": 1, "files": {"/out": {"size": 1, "sha256": "", "mtime_ns": 0}}}',
    ],
)
def test_a_damaged_manifest_is_an_error_when_it_is_the_last(place: Place, tmp_path: Path, manifest: bytes) -> None:
    """There was a checkpoint: that it cannot be had is not the same as that there is none."""
    place.bucket.put("j-1/checkpoints/1/manifest.json", manifest)
    into = tmp_path / "into"
    into.mkdir()

    with pytest.raises(StoreDamaged):
        place.store().latest_checkpoint("j-1", into)
    assert list(into.iterdir()) == []


def test_log_and_result_are_those_of_the_newest_machine(place: Place) -> None:
    """The rotated part first; an older machine's can be asked for."""
    for path, content in {
        "j-1/9/output.log": b"ninth\n",
        "j-1/9/result.json": b'{"outcome": "preempted"}',
        "j-1/10/output.log.1": b"older\n",
        "j-1/10/output.log": b"newer\n",
        "j-1/10/result.json": b'{"outcome": "finished"}',
    }.items():
        place.bucket.put(path, content)
    store = place.store()
    newest, ninth = store.log("j-1"), store.log("j-1", 9)

    assert store.attempts("j-1") == [9, 10]
    assert newest is not None
    assert ninth is not None
    assert (b"".join(newest), b"".join(ninth)) == (b"older\nnewer\n", b"ninth\n")
    assert (store.result("j-1"), store.result("j-1", 9)) == ({"outcome": "finished"}, {"outcome": "preempted"})
    assert store.log("j-1", 8) is None


def test_a_job_is_found_by_id_and_by_name(place: Place) -> None:
    """Of several with one name, the one that ended last."""
    for job, ended in (
        ("j-1", "2026-11-21T10:00:00Z"),
        ("j-2", "2026-11-22T10:00:00Z"),
        ("j-3", "2026-11-20T10:00:00Z"),
    ):
        place.bucket.put(f"{job}/1/result.json", json.dumps({"name": "gpt", "ended_at": ended}).encode())
    place.bucket.put("archives/0.tar.gz", b"")
    store = place.store()

    assert (store.find_job("j-3"), store.find_job("gpt")) == ("j-3", "j-2")
    with pytest.raises(NotInStore):
        store.find_job("archives")


def test_a_working_folder_is_sent_once(place: Place, tmp_path: Path) -> None:
    """Under its checksum; again only when it lies there no more, or only in part."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "train.py").write_text("print()")
    store = place.store()
    with pack_workdir(work) as archive:
        sent = [store.put_archive(archive) for _ in range(2)]
        path = archive_path(archive.sha256)
        content = place.bucket.get(path)
        place.bucket.put(path, content[:-1])
        sent.append(store.put_archive(archive))

    assert sent == [True, False, True]
    assert hashlib.sha256(content).hexdigest() == archive.sha256
    assert place.bucket.get(path) == content


# Errors


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_bucket_that_does_not_exist_is_named(scheme: str, server: str) -> None:
    """A slip in the job file: exit 2, with what to do."""
    environ = {"AWS_ENDPOINT_URL": server, "STORAGE_EMULATOR_HOST": server}
    store = open_store(f"{scheme}://missing/prefix", environ)

    with pytest.raises(StoreNotFound, match=f"The store {scheme}://missing/prefix does not exist") as caught:
        store.latest_checkpoint("j-1")
    assert (caught.value.exit_code, caught.value.fix != "") == (Exit.USAGE, True)
    with pytest.raises(StoreNotFound):
        store.result("j-1", 1)


def test_a_container_that_does_not_exist_is_named(azure_server: str) -> None:
    """The same for Azure."""
    environ = dict(store_places.azure(azure_server).environ)

    with pytest.raises(StoreNotFound, match="az://no-such does not exist"):
        open_store("az://no-such", environ).latest_checkpoint("j-1")


def test_credentials_that_are_refused_are_an_error_of_their_own(azure_server: str) -> None:
    """Exit 3."""
    place = store_places.azure(azure_server)
    wrong = open_store(place.url, {**place.environ, "AZURE_STORAGE_KEY": "AAAA"})

    with pytest.raises(StoreAuthError) as caught:
        wrong.latest_checkpoint("j-1")
    assert caught.value.exit_code == Exit.CREDENTIALS


def test_a_store_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request has its bound; the retries have theirs."""
    monkeypatch.setattr("launcher.store.bucket.RETRIES", 1)
    store = open_store("s3://bucket", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    began = time.monotonic()

    with pytest.raises(StoreUnavailable, match="s3://bucket cannot be used now") as caught:
        store.latest_checkpoint("j-1")
    assert time.monotonic() - began < 60
    assert caught.value.exit_code == Exit.UNAVAILABLE


def test_a_request_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and never answers."""
    import socket

    monkeypatch.setattr("launcher.store.bucket.REQUEST_TIMEOUT_S", 0.2)
    monkeypatch.setattr("launcher.store.bucket.RETRIES", 0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environ = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}

        with pytest.raises(StoreUnavailable):
            open_store("s3://bucket", environ).latest_checkpoint("j-1")


def test_credentials_come_from_the_users_profile(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every AWS tool takes them; one that does not exist is named."""
    (tmp_path / "credentials").write_text("[mine]\naws_access_key_id = key\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    place = store_places.s3(server)

    def attempts(profile: str) -> list[int]:
        monkeypatch.setenv("AWS_PROFILE", profile)
        return open_store(place.url, {**place.environ, "AWS_PROFILE": profile}).attempts("j-1")

    assert attempts("mine") == []
    with pytest.raises(StoreAuthError, match=r"There are no credentials for AWS.*yours"):
        attempts("yours")


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("AWS_ENDPOINT_URL", "s3://bucket"),
        ("AWS_ENDPOINT_URL_S3", "s3://bucket"),
        ("STORAGE_EMULATOR_HOST", "gs://bucket"),
        ("AZURE_STORAGE_ENDPOINT", "az://container"),
    ],
)
def test_plain_http_is_for_this_computer_only(variable: str, url: str) -> None:
    """Beyond it, credentials and checkpoints could be read by others."""
    with pytest.raises(UsageError, match=f"{variable} is http://10.0.0.1:9000: plain http"):
        open_bucket(url, {variable: "http://10.0.0.1:9000", "AZURE_STORAGE_ACCOUNT": "account"})


def test_azure_needs_an_account() -> None:
    """A container's name says nothing without it."""
    with pytest.raises(UsageError, match="its storage account is not known"):
        open_bucket("az://container", {})


def test_what_is_no_address_is_refused() -> None:
    """With the addresses that there are."""
    with pytest.raises(UsageError, match="ftp://host is not the address of a store"):
        open_bucket("ftp://host", {})


def test_every_error_of_the_library_becomes_one_of_ours() -> None:
    """Also one that a later version adds."""
    from obstore import exceptions

    kinds = {name: getattr(exceptions, name) for name in dir(exceptions) if name.endswith("Error")}
    ours = {name: type(explain("s3://bucket", "path", kind("text"))) for name, kind in kinds.items()}

    assert ours == {
        **dict.fromkeys(kinds, StoreUnavailable),
        "InvalidPathError": StoreDamaged,
        "PermissionDeniedError": StoreAuthError,
        "UnauthenticatedError": StoreAuthError,
    }
    assert type(explain("s3://bucket", "path", FileNotFoundError("text"))) is ObjectNotFound


@pytest.mark.parametrize("code", ["NoSuchBucket", "ContainerNotFound"])
def test_the_clouds_own_code_decides(code: str) -> None:
    """A missing bucket is reported in the words of a missing object, but for its code."""
    answer = f"Object at location x not found: 404: <Error><Code>{code}</Code></Error>"

    assert type(explain("s3://bucket", "path", FileNotFoundError(answer))) is StoreNotFound


def test_an_expired_token_is_a_matter_of_credentials() -> None:
    """The cloud reports it as a bad request."""
    from obstore.exceptions import GenericError

    answer = "400 Bad Request: <Error><Code>ExpiredToken</Code></Error>"

    assert type(explain("s3://bucket", "path", GenericError(answer))) is StoreAuthError


def test_stored_names_do_not_meet() -> None:
    """Two files of a training never share one name in the store; plain names stay as they are."""
    assert [stored_name(name) for name in ("a/b-c_d=1.0 (2).pt", "é", "a#1", "a%231", "\x7f\n\\", "\udcff")] == [
        "a/b-c_d=1.0 (2).pt",
        "é",
        "a%231",
        "a%25231",
        "%7F%0A%5C",
        "%FF",
    ]
