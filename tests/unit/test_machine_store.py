"""The machine's side of a bucket: real requests to S3, Google's store and Azure's as they speak over HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import machine_services
import pytest
import store_places
from machine_services import BlobDoor, Gate, GateDoor, Metadata, MetadataDoor, serving

from launcher.agent import bring, identity, objects, web
from launcher.agent.bucket import BucketSets
from launcher.agent.checkpoints import Checkpoints
from launcher.agent.egress import Egress
from launcher.agent.log_chunks import GAP, LogChunks
from launcher.agent.objects import Objects, open_objects
from launcher.agent.store import Store
from launcher.store.archive import pack_workdir
from launcher.store.store import Store as Reader
from launcher.store.store import archive_path, open_store

PART = 64 << 10
NAMES = ["model.pt", "deep/er/model.pt", "a b+c", "épreuve", "100%", "a#1", "new\nline", "not-\udcff", "amp&<x>"]


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """A server that speaks S3 and, with it, Google's interface."""
    with store_places.moto() as url:
        yield url


class Lab:
    """A bucket behind its door, the metadata service, and both sides of the store."""

    def __init__(self, stack: ExitStack, kind: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kind = kind

        def open_and_close(store: dict[str, Any]) -> Objects:
            made = open_objects(store)
            stack.callback(made.web.close)
            return made

        for module in ("store", "bring"):
            monkeypatch.setattr(f"launcher.agent.{module}.open_objects", open_and_close)
        self._open = open_and_close
        self.metadata = Metadata()
        monkeypatch.setattr(identity, "METADATA", stack.enter_context(serving(MetadataDoor, self.metadata)))
        monkeypatch.setattr(objects, "PART_BYTES", PART)
        monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", PART)
        monkeypatch.setattr(web, "WAITS_S", (0.0, 0.0, 0.0))
        self.part = objects.PART_BYTES
        if kind == "blob":
            self.gate = Gate("", "bearer")
            door = type("Door", (BlobDoor,), {})
            url = stack.enter_context(serving(door, self.gate))
            self.blobs: dict[str, Any] = {}
            monkeypatch.setattr("http.server.ThreadingHTTPServer.blobs", self.blobs, raising=False)
            self.orders: dict[str, Any] = {
                "kind": "blob",
                "account": "account",
                "container": "box",
                "prefix": "some/prefix",
                "endpoint": url,
            }
            return
        self.gate = Gate(s3_server, "form" if kind == "post" else "bearer" if kind == "gcs" else "signed")
        self.bucket = store_places.make_bucket(s3_server)
        url = stack.enter_context(serving(GateDoor, self.gate))
        self.orders = {
            "kind": "gcs" if kind == "gcs" else "s3",
            "bucket": self.bucket,
            "prefix": "some/prefix",
            "region": "us-east-1",
            "endpoint": url,
        }
        if kind == "post":
            self.orders["post"] = {"url": f"{url}/{self.bucket}", "fields": {"policy": "p", "key": "x/${filename}"}}
        self.s3_server = s3_server

    def objects(self) -> Objects:
        """The machine's side."""
        return self._open(self.orders)

    def reader(self) -> Reader:
        """The launcher's side."""
        if self.kind == "blob":
            return Reader(_BlobReader(self.blobs))  # type: ignore[arg-type]
        return open_store(f"s3://{self.bucket}/some/prefix", {"AWS_ENDPOINT_URL": self.s3_server})

    def sets(self, folder: Path, attempt: int = 1) -> BucketSets:
        """The sets of job j-1."""
        return BucketSets(self.objects(), "j-1/checkpoints", attempt, folder / f"sets-{attempt}.json")


class _BlobReader:
    """Blob storage as the launcher's bucket: obstore takes no token that is not Azure's own over plain http."""

    address = "az://box/some/prefix"

    def __init__(self, blobs: dict[str, Any]) -> None:
        self.blobs = blobs

    def _below(self, path: str) -> list[str]:
        prefix = f"some/prefix/{path}/"
        return [name.removeprefix(prefix) for name in self.blobs if name.startswith(prefix)]

    def folders(self, path: str = "") -> list[str]:
        return sorted({name.split("/")[0] for name in self._below(path) if "/" in name})

    def names(self, path: str) -> list[str]:
        return sorted(name for name in self._below(path) if "/" not in name)

    def get(self, path: str) -> bytes:
        from launcher.store.bucket import ObjectNotFound

        if f"some/prefix/{path}" not in self.blobs:
            raise ObjectNotFound(path)
        return bytes(self.blobs[f"some/prefix/{path}"])

    def size(self, path: str) -> int:
        return len(self.get(path))

    def parts(self, path: str, size: int) -> Iterator[bytes]:
        yield self.get(path)[:size]


@pytest.fixture(params=["s3", "gcs", "blob"])
def lab(request: pytest.FixtureRequest, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """Each cloud's store in turn, empty."""
    with ExitStack() as stack:
        yield Lab(stack, request.param, s3_server, monkeypatch)


@pytest.fixture
def form(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """S3 by a form that only writes."""
    with ExitStack() as stack:
        yield Lab(stack, "post", s3_server, monkeypatch)


def noise(size: int) -> bytes:
    """Bytes that no two parts have in common."""
    return random.Random(size).randbytes(size)


def write(folder: Path, content: dict[str, bytes]) -> None:
    """Files of a training, old enough to be whole."""
    for path, data in content.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def read(lab: Lab, tmp_path: Path) -> tuple[int, dict[str, bytes]]:
    """The newest whole checkpoint, as `pull` reads it."""
    into = tmp_path / "into"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    found = lab.reader().latest_checkpoint("j-1", into)
    if found is None:
        return 0, {}
    return found.n, {p.relative_to(into).as_posix(): p.read_bytes() for p in into.rglob("*") if p.is_file()}


def test_objects_come_back_as_they_were(lab: Lab, tmp_path: Path) -> None:
    """Whatever their names and sizes; a big one goes in parts, and is brought in parts."""
    bucket = lab.objects()
    source = tmp_path / "source"
    sizes = (0, 1, lab.part, lab.part + 1, 2 * lab.part + 7)
    for size in sizes:
        source.write_bytes(noise(size))
        sent = bucket.send(f"big/{size}", source)
        assert sent is not None
        assert sent["sha256"] == hashlib.sha256(noise(size)).hexdigest()
        assert bucket.fetch(f"big/{size}", tmp_path / "back", size) == sent["sha256"]
        assert (tmp_path / "back").read_bytes() == noise(size)
    names = [*map(objects.stored_name, NAMES), *(f"{n:02d}" for n in range(30))]
    for name in names:
        bucket.put(f"names/{name}", name.encode())

    assert sorted(bucket.below("names")) == sorted(names)
    assert {name: bucket.get(f"names/{name}").decode() for name in bucket.below("names")} == {n: n for n in names}
    assert lab.gate.largest <= lab.part
    assert bucket.sent >= sum(sizes)


def test_only_the_first_claims_a_name(lab: Lab) -> None:
    """The second is told."""
    bucket = lab.objects()
    bucket.claim("a/claim")

    with pytest.raises(FileExistsError):
        bucket.claim("a/claim")


def test_what_is_not_there_is_an_error_of_its_own(lab: Lab) -> None:
    """And to remove it is no error."""
    bucket = lab.objects()

    with pytest.raises(FileNotFoundError):
        bucket.get("nothing")
    bucket.remove("nothing")
    assert bucket.below("nothing") == []


def test_a_request_that_fails_is_made_again(lab: Lab) -> None:
    """A service that is busy, once each; a refusal is asked again once, with an identity that was renewed."""
    bucket = lab.objects()
    lab.gate.fail = [503, 500]
    bucket.put("a", b"one")
    before = len([path for path in lab.metadata.asked if "token" in path or "credentials/machine" in path])
    lab.gate.fail = [403]
    bucket.put("b", b"two")
    after = len([path for path in lab.metadata.asked if "token" in path or "credentials/machine" in path])
    lab.gate.fail = [403] * 9

    assert (bucket.get("a"), bucket.get("b")) == (b"one", b"two") if not lab.gate.fail else True
    assert after == before + 1
    with pytest.raises(PermissionError):
        bucket.put("c", b"three")


def test_an_identity_is_renewed_before_it_ends(lab: Lab) -> None:
    """One that lasts is asked for once; one that is about to end, each time."""
    bucket = lab.objects()
    for lasts_s in (3600, 3600, 200, 200):
        lab.metadata.lasts_s = lasts_s
        if lasts_s == 200:
            bucket.identity.until = 0.0  # type: ignore[attr-defined]
        bucket.put("a", b"")

    assert len([path for path in lab.metadata.asked if path.endswith(("machine-role", "token"))]) == 3


def test_sets_are_read_by_pull(lab: Lab, tmp_path: Path) -> None:
    """Whatever the files are called; what did not change is not sent again, and the newest sets are kept."""
    source = tmp_path / "source"
    content = {name: name.encode(errors="surrogateescape") for name in NAMES}
    write(source, content)
    made = Checkpoints(source, lab.sets(tmp_path), 2)
    made.save(None)
    first = read(lab, tmp_path)
    sent_before = len(lab.gate.asked)
    for n in range(2, 5):
        write(source, {"model.pt": b"%d" % n})
        made.save(None)
    puts = [path for method, path in lab.gate.asked[sent_before:] if method == "PUT" and "/files/" in path]
    keys = set(lab.objects().below("j-1/checkpoints"))

    assert first == (1, content)
    assert read(lab, tmp_path) == (4, {**content, "model.pt": b"4"})
    assert len(puts) == 3
    assert {key for key in keys if key.endswith("manifest.json")} == {"3/manifest.json", "4/manifest.json"}
    assert "1/files/deep/er/model.pt" in keys
    assert [
        key for key in keys if key.startswith(("1/", "2/")) and key.endswith("/model.pt") and "deep" not in key
    ] == []
    assert made.latest is not None
    assert made.latest["n"] == 4


def test_a_kill_at_any_moment_of_a_save_leaves_a_whole_checkpoint(lab: Lab, tmp_path: Path) -> None:
    """The network is cut after each request in turn: the one before, or the new one, and the next save goes on."""
    source = tmp_path / "source"
    write(source, {"same": b"same", "a": b"1", "big": noise(2 * lab.part)})
    Checkpoints(source, lab.sets(tmp_path), 1).save(None)
    before, seen = read(lab, tmp_path), []
    for moment in range(60):
        write(source, {"a": b"%d" % (moment + 2), "big": noise(lab.part + 100 + moment)})
        lab.gate.cut_at = moment
        try:
            Checkpoints(source, lab.sets(tmp_path), 1).save(None)
        except OSError:
            done = False
        else:
            done = True
        lab.gate.cut_at = -1
        after = read(lab, tmp_path)
        assert after[1] in (before[1], {path.name: path.read_bytes() for path in source.iterdir()})
        seen.append(after[1] == before[1])
        if done:
            break
        before = after

    assert done
    assert True in seen
    assert seen[-1] is False


def test_what_was_sent_for_a_set_that_failed_is_used(lab: Lab, tmp_path: Path) -> None:
    """A big file is not sent twice because a small one after it could not be."""
    source = tmp_path / "source"
    write(source, {"a-big": noise(lab.part + 1), "small": b"1"})
    made = Checkpoints(source, lab.sets(tmp_path), 3)
    real = made.sets.objects.put  # type: ignore[union-attr]

    def put(path: str, data: bytes) -> None:
        if path.endswith("small"):
            raise OSError("the network has gone")
        real(path, data)

    made.sets.objects.put = put  # type: ignore[method-assign, union-attr]
    with pytest.raises(OSError, match="the network has gone"):
        made.save(None)
    made.sets.objects.put = real  # type: ignore[method-assign, union-attr]
    so_far = len(lab.gate.asked)
    made.save(None)

    assert [path for _, path in lab.gate.asked[so_far:] if "a-big" in path] == []
    assert read(lab, tmp_path) == (2, {"a-big": noise(lab.part + 1), "small": b"1"})


def test_a_file_that_changes_while_it_is_sent_waits(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands as it was in the last set."""
    source = tmp_path / "source"
    write(source, {"a": b"old", "b": b"1"})
    made = Checkpoints(source, lab.sets(tmp_path), 3)
    made.save(None)
    write(source, {"a": b"newer", "b": b"2"})
    real = Objects.send

    def send(self: Objects, path: str, file: Path) -> dict[str, Any] | None:
        if file.name == "a":
            put = self.put

            def grow(path: str, data: bytes) -> None:
                put(path, data)
                with file.open("ab") as more:
                    more.write(b"!")

            monkeypatch.setattr(self, "put", grow)
        return real(self, path, file)

    with monkeypatch.context() as patched:
        patched.setattr(Objects, "send", send)
        waiting = made.save(None)

    assert waiting == 1
    assert read(lab, tmp_path) == (2, {"a": b"old", "b": b"2"})


def test_a_grant_that_forbids_removal_is_a_note(lab: Lab, tmp_path: Path) -> None:
    """The sets are made all the same."""
    source = tmp_path / "source"
    made = Checkpoints(source, lab.sets(tmp_path), 1)
    lab.gate.forbid = "DELETE"
    for n in range(3):
        write(source, {"a": b"%d" % n})
        made.save(None)

    assert made.sets.note == "old checkpoints stay in the store: this machine may not remove them"
    assert read(lab, tmp_path) == (3, {"a": b"2"})


def test_what_has_gone_from_the_store_is_sent_again(lab: Lab, tmp_path: Path) -> None:
    """A manifest does not name what is not there."""
    source = tmp_path / "source"
    write(source, {"a": b"1", "b": b"1"})
    made = Checkpoints(source, lab.sets(tmp_path), 3)
    made.save(None)
    lab.objects().remove("j-1/checkpoints/1/files/a")
    made.save(None)

    assert read(lab, tmp_path) == (2, {"a": b"1", "b": b"1"})


def test_a_form_writes_and_remembers(form: Lab, tmp_path: Path) -> None:
    """It can neither list nor read: what was sent is known from the machine's own disk, also by the next agent."""
    source = tmp_path / "source"
    write(source, {"same": b"same", "a": b"1"})
    for n in range(3):
        write(source, {"a": b"%d" % n})
        Checkpoints(source, form.sets(tmp_path), 1).save(None)
    Checkpoints(source, form.sets(tmp_path), 1).save(None)

    assert {method for method, _ in form.gate.asked} == {"POST"}
    assert read(form, tmp_path) == (100_003, {"same": b"same", "a": b"2"})
    with pytest.raises(NotImplementedError):
        Objects().get("a")


@pytest.fixture
def azurite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    """A container in Azurite, which checks the token of a managed identity as Azure does, apart from who signed it."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=test")
    named = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate))
    options = ("--oauth", "basic", "--cert", str(certificate), "--key", str(key))
    with ExitStack() as stack:
        if shutil.which("azurite-blob"):
            subprocess.run(["openssl", "req", "-x509", *kind, *named], check=True, capture_output=True)
        url = stack.enter_context(store_places.azurite(tmp_path, *options))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        monkeypatch.setattr(machine_services, "TOKEN", azure_token())
        monkeypatch.setattr(identity, "METADATA", stack.enter_context(serving(MetadataDoor, Metadata())))
        monkeypatch.setattr(objects, "PART_BYTES", PART)
        where = {"kind": "blob", "account": store_places.AZURITE_ACCOUNT, "container": "box", "prefix": "some/prefix"}
        bucket = open_objects({**where, "endpoint": url})
        stack.callback(bucket.web.close)
        bucket.web.ask("PUT", "/box?restype=container")
        yield bucket


def azure_token() -> str:
    """One that Microsoft Entra might have given out, with nobody's signature."""
    tenant, now = "ab1f708d-50f6-404c-a006-d71b2ac7a606", int(time.time())
    claims = {"aud": "https://storage.azure.com", "iss": f"https://sts.windows.net/{tenant}/", "tid": tenant}
    parts = [{"typ": "JWT", "alg": "RS256"}, {**claims, "iat": now - 60, "nbf": now - 60, "exp": now + 3600}]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


def test_azures_emulator_takes_what_we_send(azurite: Objects, tmp_path: Path) -> None:
    """Over TLS, with a token: a blob of several blocks, names of all kinds, what is there already, and what is not."""
    source = tmp_path / "source"
    source.write_bytes(noise(2 * PART + 7))
    sent = azurite.send("big/épreuve a+b", source)
    names = [name for name in map(objects.stored_name, NAMES) if "/" not in name]
    for name in names:
        azurite.put(f"names/{name}", name.encode())
    azurite.claim("a/claim")
    azurite.remove("nothing")

    assert sent is not None
    assert azurite.fetch("big/épreuve a+b", tmp_path / "back", sent["size"]) == sent["sha256"]
    assert sorted(azurite.below("names")) == sorted(names)
    with pytest.raises(FileExistsError):
        azurite.claim("a/claim")
    with pytest.raises(FileNotFoundError):
        azurite.get("nothing")


# The log


def test_the_log_goes_in_chunks(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is new, each time; also by an agent that was started again, and across a rotation."""
    monkeypatch.setattr("launcher.agent.log_chunks.CHUNK_BYTES", 4)
    log = tmp_path / "output.log"

    def send(last: bool = False) -> None:
        LogChunks(lab.objects(), "j-1/1/log", log).send(last)

    send()
    log.write_bytes(b"one\ntwo\n")
    send()
    with log.open("ab") as file:
        file.write(b"three\n")
    log.replace(tmp_path / "output.log.1")
    log.write_bytes(b"four\n")
    send()
    send(last=True)
    parts = lab.reader().log("j-1", 1)

    assert parts is not None
    assert b"".join(parts) == b"one\ntwo\nthree\nfour\n"


def test_a_log_that_is_too_long_ends_with_its_end(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is said."""
    monkeypatch.setattr("launcher.agent.log_chunks.CHUNK_BYTES", 4)
    monkeypatch.setattr("launcher.agent.log_chunks.MOST_BYTES", 8)
    monkeypatch.setattr("launcher.agent.log_chunks.TAIL_BYTES", 4)
    log = tmp_path / "output.log"
    log.write_bytes(b"0123456789abcdefend\n")
    LogChunks(lab.objects(), "j-1/1/log", log).send(last=False)
    LogChunks(lab.objects(), "j-1/1/log", log).send(last=True)
    parts = lab.reader().log("j-1", 1)

    assert parts is not None
    assert b"".join(parts) == b"01234567" + GAP + b"end\n"


# As the agent uses it


def orders_of(lab: Lab, workdir: Path, **changes: Any) -> dict[str, Any]:
    """Orders of a job with this store."""
    return {
        "job": "j-1",
        "attempt": 1,
        "workdir": str(workdir),
        "store": lab.orders,
        "checkpoints": {"path": "/workspace/out", "every_s": 0.0, "keep": 3},
        "archive": None,
        "resume": False,
        **changes,
    }


def test_a_run_leaves_checkpoints_log_and_result(lab: Lab, tmp_path: Path) -> None:
    """In one place, for pull."""
    machine = tmp_path / "machine"
    machine.mkdir()
    (machine / "output.log").write_text("hello\n")
    (machine / "result.json").write_text('{"outcome": "finished"}')
    write(tmp_path / "work/out", {"a": b"1"})
    notes: dict[str, str] = {}
    store = Store(orders_of(lab, tmp_path / "work"), machine, notes, Egress(None, machine))
    store.last(None, lambda: True)
    assert store.thread is not None
    store.thread.join()
    store.result()
    store.thread.join()
    log = lab.reader().log("j-1", 1)

    assert notes == {}
    assert log is not None
    assert b"".join(log) == b"hello\n"
    assert lab.reader().result("j-1") == {"outcome": "finished"}
    assert read(lab, tmp_path)[1] == {"a": b"1"}
    assert store.sent > 0


def test_the_newest_heartbeat_lies_in_the_store(lab: Lab, tmp_path: Path) -> None:
    """With the log, while the training runs; a machine that has sent none is told from one that has."""
    machine = tmp_path / "machine"
    machine.mkdir()
    (machine / "console.log").write_bytes(b"GPULAUNCH1 1 a {}\nGPULAUNCH1 2 b {}\n")
    notes: dict[str, str] = {}
    store = Store(orders_of(lab, tmp_path, checkpoints=None), machine, notes, Egress(None, machine))
    before = lab.reader().heartbeat("j-1", 1)
    store.tick(0.0)
    assert store.log_thread is not None
    store.log_thread.join()

    assert (before, notes) == (b"", {})
    assert lab.reader().heartbeat("j-1", 1) == b"GPULAUNCH1 2 b {}"


def test_an_upload_that_the_reserve_has_no_room_for_is_not_made(lab: Lab, tmp_path: Path) -> None:
    """Where the store is not free: a periodic one leaves room for the last one; the last one takes what is left."""
    machine = tmp_path / "machine"
    machine.mkdir()
    write(tmp_path / "work/out", {"a": bytes(1000)})
    egress = Egress({"bytes": 0, "store_is_free": False}, machine)
    notes: dict[str, str] = {}
    store = Store(orders_of(lab, tmp_path / "work"), machine, notes, egress)
    for kept, periodic, room in ((1000, True, 1999), (1000, True, 2000), (0, False, 1000)):
        egress.kept, egress.limits = kept, {"bytes": egress.used + room, "store_is_free": False}
        write(tmp_path / "work/out", {"a": os.urandom(1000)})
        try:
            store._save(None, periodic)
        except OSError as error:
            notes["refused"] = str(error)

    assert notes == {"refused": "0 MB are more than the egress reserve has room for"}
    assert read(lab, tmp_path)[0] == 2


# What is brought


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tries, one after the other."""
    monkeypatch.setattr(bring, "AGAIN_S", 0.0)
    monkeypatch.setattr(bring, "PATIENCE_S", 1.0)


def archive_in(lab: Lab, tmp_path: Path) -> dict[str, Any]:
    """A working folder in the store, as `up` sends it; what the orders say of it."""
    work = tmp_path / "here"
    write(work, {"train.py": b"print()", "data/a b": b"data", "run.sh": b"#!/bin/sh\n"})
    (work / "run.sh").chmod(0o755)
    (work / "link").symlink_to("data/a b")
    with pack_workdir(work) as packed:
        lab.objects().put(archive_path(packed.sha256), packed.file.read())
        return {"path": archive_path(packed.sha256), "sha256": packed.sha256, "bytes": packed.bytes}


@pytest.mark.usefixtures("patience")
def test_the_working_folder_is_brought(lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it was, for any user of the image; a role that is not known yet is waited for."""
    workdir = tmp_path / "work"
    workdir.mkdir()
    wanted = archive_in(lab, tmp_path)
    lab.gate.fail = [403, 403, 403]
    code = bring.bring(orders_of(lab, workdir, archive=wanted), tmp_path)
    said = capsys.readouterr().out

    assert code == 0
    assert {p.relative_to(workdir).as_posix() for p in workdir.rglob("*")} == {
        *("train.py", "data", "data/a b", "run.sh", "link")
    }
    assert (workdir / "link").read_bytes() == b"data"
    assert [(workdir / name).stat().st_mode & 0o777 for name in ("data", "train.py", "run.sh")] == [0o777, 0o666, 0o777]
    assert "checksum right" in said
    assert (tmp_path / "brought").exists()
    assert not (tmp_path / "workdir.tar.gz").exists()


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_working_folder_that_is_not_right_is_refused(
    lab: Lab, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of it is unpacked, and the reason is in the log."""
    workdir = tmp_path / "work"
    workdir.mkdir()
    wanted = archive_in(lab, tmp_path)
    if damage == "changed":
        lab.objects().put(wanted["path"], bytes(wanted["bytes"]))
    else:
        lab.objects().remove(wanted["path"])
    code = bring.bring(orders_of(lab, workdir, archive=wanted), tmp_path)

    assert code == bring.NO_WORKDIR
    assert list(workdir.iterdir()) == []
    assert ("checksum" if damage == "changed" else "404") in capsys.readouterr().out
    assert not (tmp_path / "brought").exists()


@pytest.mark.usefixtures("patience")
def test_a_signed_address_serves_where_the_store_can_only_be_written(form: Lab, tmp_path: Path) -> None:
    """It is read without an identity, and is in no line of the log."""
    workdir = tmp_path / "work"
    workdir.mkdir()
    data = noise(1000)
    with pack_workdir(_folder(tmp_path / "here", {"a": data})) as packed:
        form.objects().put(archive_path(packed.sha256), packed.file.read())
        wanted = {"path": archive_path(packed.sha256), "sha256": packed.sha256, "bytes": packed.bytes}
    address = f"{form.s3_server}/{form.bucket}/some/prefix/{wanted['path']}?X-Amz-Signature=1"
    orders = orders_of(form, workdir, archive=wanted)
    orders["store"] = {**form.orders, "archive_url": address}

    assert bring.bring(orders, tmp_path) == 0
    assert (workdir / "a").read_bytes() == data


def _folder(path: Path, content: dict[str, bytes]) -> Path:
    write(path, content)
    return path


@pytest.mark.usefixtures("patience")
def test_another_machine_goes_on_from_the_newest_checkpoint(lab: Lab, tmp_path: Path) -> None:
    """It is put where the training saves, in place of what came with the working folder, and is not sent again."""
    source, workdir = tmp_path / "source", tmp_path / "work"
    content = {name: name.encode(errors="surrogateescape") for name in NAMES} | {"big": noise(lab.part + 1)}
    write(source, content)
    made = Checkpoints(source, lab.sets(tmp_path), 3)
    made.save(None)
    write(source, {"model.pt": b"newer"})
    made.save(None)
    write(workdir / "out", {"old": b"from the working folder"})
    orders = orders_of(lab, workdir, resume=True, attempt=2)
    code = bring.bring(orders, tmp_path)
    out = workdir / "out"
    found = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    again = Checkpoints(out, lab.sets(tmp_path, 2), 3)
    again.save(None)

    assert code == 0
    assert found == {**content, "model.pt": b"newer"}
    assert again.latest is None
    assert (out / "deep").stat().st_mode & 0o777 == 0o777


@pytest.mark.usefixtures("patience")
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And without any the training starts anew, which is said."""
    source, workdir = tmp_path / "source", tmp_path / "work"
    orders = orders_of(lab, workdir, resume=True, attempt=2)
    assert bring.bring(orders, tmp_path) == 0
    assert "the training starts anew" in capsys.readouterr().out
    made = Checkpoints(source, lab.sets(tmp_path), 3)
    for n in (b"1", b"2", b"3"):
        write(source, {"a": n})
        made.save(None)
    lab.objects().put("j-1/checkpoints/3/files/a", b"X")
    lab.objects().remove("j-1/checkpoints/2/files/a")

    assert bring.bring(orders, tmp_path) == 0
    assert (workdir / "out/a").read_bytes() == b"1"
    assert "checkpoint 3 is not whole" in capsys.readouterr().out


@pytest.mark.usefixtures("patience")
def test_a_store_that_cannot_be_read_ends_the_launch(lab: Lab, tmp_path: Path) -> None:
    """To start anew would spend what is left of the cap on what was done already."""
    lab.gate.fail = [403] * 5000

    assert bring.bring(orders_of(lab, tmp_path, resume=True, attempt=2), tmp_path) == bring.NO_CHECKPOINT


def tarred(tmp_path: Path, change: Callable[[Any], None]) -> Path:
    """An archive with one member that was changed."""
    import tarfile

    path = tmp_path / "evil.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("good")
        change(member)
        archive.addfile(member)
    return path


def test_what_leads_out_of_the_folder_is_not_unpacked(tmp_path: Path) -> None:
    """By a name, by a link, or as something that is no file."""
    import tarfile

    changes: list[dict[str, Any]] = [
        {"name": "../out"},
        {"name": "/tmp/out"},
        {"name": "a/../../out"},
        {"type": tarfile.SYMTYPE, "linkname": "../out"},
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.LNKTYPE, "linkname": "good"},
        {"type": tarfile.FIFOTYPE},
        {"type": tarfile.CHRTYPE},
    ]
    for number, change in enumerate(changes):
        root = tmp_path / str(number)
        root.mkdir()
        archive = tarred(root, lambda member, change=change: [setattr(member, *pair) for pair in change.items()])
        target = root / "work"
        target.mkdir()
        with pytest.raises(bring.Damaged):
            bring.unpack(archive, target)
        assert list(target.iterdir()) == []


def test_the_manifest_of_a_set_names_each_file_once(lab: Lab, tmp_path: Path) -> None:
    """With where it lies: its own set's folder, or an older one's."""
    source = tmp_path / "source"
    write(source, {"a": b"1", "b": b"1"})
    made = Checkpoints(source, lab.sets(tmp_path), 3)
    made.save(None)
    write(source, {"b": b"2"})
    made.save(None)
    manifest = json.loads(lab.objects().get("j-1/checkpoints/2/manifest.json"))

    assert {path: file["set"] for path, file in manifest["files"].items()} == {"a": 1, "b": 2}
