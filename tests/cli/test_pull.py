"""`gpulaunch pull`: what a job has made, brought home."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command_lab import BOUND_S, wait_until

from launcher.agent.folder import complete_sets
from launcher.store.bucket import open_bucket

if TYPE_CHECKING:
    from command_lab import Done, Lab

TRAINING = """
import os, time
os.makedirs("checkpoints", exist_ok=True)
for step in (100, 200):
    path = f"checkpoints/step-{step}.pt"
    open(path, "w").write(f"weights {step}")
    os.utime(path, (0, 0))
    print("saved", step, flush=True)
    while step == 100 and not os.path.exists("go"):
        time.sleep(0.05)
"""
WITH_STORE: dict[str, Any] = {"store": "store", "checkpoints": {"path": "checkpoints", "every": "1s", "keep": 3}}


def write(lab: Lab, source: str = TRAINING, **keys: Any) -> None:
    """A job that runs this program."""
    lab.write_job(["python3", "-c", source], **keys)


def finish(lab: Lab) -> dict[str, Any]:
    """Run the job to its end; how it stands."""
    (lab.work / "go").touch()
    return lab.run("up", "--budget", "5", "--yes", "--json").document  # type: ignore[no-any-return]


def sets(lab: Lab) -> Path:
    """Where the one job's checkpoints lie in the store."""
    [view] = lab.views()
    return Path(lab.work, "store", view["job"], "checkpoints")


def files(folder: Path) -> dict[str, str]:
    """The files of a folder by their paths."""
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def refused(done: Done, code: int, *texts: str) -> None:
    """A command that ended with this code, nothing on stdout, and these texts on stderr."""
    assert (done.code, done.out) == (code, ""), done.err
    for text in texts:
        assert text in done.err


def test_a_finished_job_is_brought_home(lab: Lab) -> None:
    """The last checkpoint, the log and the result, in a folder of the job's name; told in a few lines."""
    write(lab, **WITH_STORE)
    view = finish(lab)
    done = lab.run("pull", "job")
    pulled = lab.work / "job"
    found = files(pulled)

    assert done.code == 0, done.err
    assert sorted(found) == [
        "checkpoint/step-100.pt",
        "checkpoint/step-200.pt",
        "output.log",
        "pull.json",
        "result.json",
    ]
    assert found["checkpoint/step-200.pt"] == "weights 200"
    assert found["output.log"].startswith("saved 100\nsaved 200\n")
    assert json.loads(found["result.json"])["outcome"] == "finished"
    assert json.loads(found["pull.json"])["job"] == view["job"]
    assert done.out.splitlines()[0] == f"job ({view['job']}) in job"
    assert ", step 200, saved 2" in done.out
    assert ": 2 files, 22 bytes" in done.out
    assert "result.json: finished" in done.out
    assert not list(lab.work.glob(".*"))


def test_json_says_what_was_fetched(lab: Lab) -> None:
    """One document on stdout, by the job's id, into a folder of the user's choice."""
    write(lab, **WITH_STORE)
    job = finish(lab)["job"]
    document = lab.run("pull", job, "a/b", "--json").document
    kept = json.loads((lab.work / "a/b/pull.json").read_text())

    assert (document["job"], document["name"]) == (job, "job")
    assert (document["folder"], document["store"]) == (str(lab.work / "a/b"), str(lab.work / "store"))
    assert (document["checkpoint"]["step"], document["checkpoint"]["files"]) == (200, 2)
    assert document["checkpoint"]["bytes"] == len("weights 100weights 200")
    assert document["checkpoint"] == kept["checkpoint"]
    assert document["log"]["bytes"] == (lab.work / "a/b/output.log").stat().st_size
    assert document["result"] == json.loads((lab.work / "a/b/result.json").read_text())
    assert document["notes"] == []


def test_a_live_job_can_be_pulled_again_and_again(lab: Lab) -> None:
    """Its last checkpoint and its log so far; a later pull takes the place of an earlier one."""
    write(lab, **WITH_STORE)
    lab.launch()
    wait_until(lambda: complete_sets(sets(lab)), "the first checkpoint in the store")
    first = lab.run("pull", "job")
    live = files(lab.work / "job")
    (lab.work / "go").touch()
    lab.await_state("gone")
    second = lab.run("pull", "job")

    assert (first.code, second.code) == (0, 0)
    assert sorted(live) == ["checkpoint/step-100.pt", "output.log", "pull.json"]
    assert "  result      none yet\n" in first.out
    assert files(lab.work / "job").keys() - live.keys() == {"checkpoint/step-200.pt", "result.json"}


def test_a_job_without_a_store_says_where_its_checkpoints_are(lab: Lab) -> None:
    """The log and the result come from this computer."""
    write(lab, checkpoints={"path": "/workspace/checkpoints"})
    finish(lab)
    done = lab.run("pull", "job")

    assert done.code == 0
    assert sorted(files(lab.work / "job")) == ["output.log", "pull.json", "result.json"]
    assert f"lies where it wrote it: {lab.work}/checkpoints" in done.err


def test_an_unknown_job_is_a_usage_error(lab: Lab) -> None:
    """Exit 2, whether or not a job was ever launched here; nothing is made."""
    refused(lab.run("pull", "nothing"), 2, "There is no job 'nothing'.")
    assert not lab.home.exists()
    write(lab)
    finish(lab)
    refused(lab.run("pull", "nothing"), 2, "There is no job 'nothing'.")
    assert not (lab.work / "nothing").exists()


def test_a_job_that_has_left_nothing(lab: Lab) -> None:
    """Exit 8 while it lives and may yet, 4 when it is gone; no folder is made."""
    write(lab, "import os, time\nwhile not os.path.exists('go'): time.sleep(0.05)", **WITH_STORE)
    lab.launch()
    live = lab.run("pull", "job")
    (lab.work / "go").touch()
    lab.await_state("gone")
    shutil.rmtree(lab.work / "store")
    shutil.rmtree(lab.machine())
    gone = lab.run("pull", "job")

    refused(live, 8, "job has left nothing to fetch yet.", "gpulaunch status job")
    refused(gone, 4, "job has left nothing to fetch.")
    assert not (lab.work / "job").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(lab: Lab) -> None:
    """Exit 2, with the way out."""
    write(lab, **WITH_STORE)
    finish(lab)
    (lab.work / "job").mkdir()
    (lab.work / "job/thesis.tex").write_text("years of work")

    refused(lab.run("pull", "job"), 2, "job is not empty.", "Name another folder")
    assert files(lab.work / "job") == {"thesis.tex": "years of work"}


def test_a_disk_that_is_full_is_an_error_and_leaves_nothing_half(lab: Lab) -> None:
    """A limit on the size of files stands in for it: the checkpoint does not fit."""
    write(lab, TRAINING + "open('checkpoints/big', 'wb').write(bytes(4_000_000))", **WITH_STORE)
    finish(lab)
    done = lab.run_argv(["sh", "-c", "ulimit -f 2000; exec gpulaunch pull job"])

    refused(done, 2, "job cannot be written: File too large.", "Free some space")
    assert not (lab.work / "job").exists()
    assert not list(lab.work.glob(".*"))


BIG = 200_000_000
SLOW = f"""
import os, time
os.makedirs("checkpoints", exist_ok=True)
for step in range(1000):
    with open("checkpoints/model.new", "wb") as file:
        file.write(b"%6d" % step)
        file.truncate({BIG})
    os.replace("checkpoints/model.new", "checkpoints/model")
    time.sleep(3)
"""


def test_an_agent_that_is_killed_while_it_sends_leaves_the_checkpoint_before(lab: Lab) -> None:
    """The next one lies there in part, without a manifest; `pull` fetches the one that is whole."""
    write(lab, SLOW, store="store", checkpoints={"path": "checkpoints", "every": "1s", "keep": 2})
    lab.launch()
    wait_until(lambda: complete_sets(sets(lab)), "the first checkpoint in the store")

    def half() -> bool:
        newest = max(int(path.name) for path in sets(lab).iterdir())
        return newest > max(complete_sets(sets(lab))) and (sets(lab) / str(newest) / "files/model").exists()

    agent, until = lab.agent_pid(), time.monotonic() + BOUND_S
    while not half():  # it takes a fraction of a second
        assert time.monotonic() < until, "no checkpoint was ever seen while it was sent"
        time.sleep(0.002)
    os.kill(agent, signal.SIGKILL)
    lab.await_state("gone")
    left = sorted(int(path.name) for path in sets(lab).iterdir())
    whole = complete_sets(sets(lab))
    done = lab.run("pull", "job", "--json")

    assert left[-1] > whole[-1]
    assert (done.code, done.document["checkpoint"]["n"]) == (0, whole[-1])
    with (lab.work / "job/checkpoint/model").open("rb") as file:
        assert int(file.read(6)) >= 0
    assert (lab.work / "job/checkpoint/model").stat().st_size == BIG


# From the store alone


def test_logs_come_from_the_store_where_this_computer_has_none(lab: Lab) -> None:
    """Byte for byte, and saying so; with -f as well, as the job is gone."""
    write(lab, **WITH_STORE)
    finish(lab)
    log = (lab.machine() / "output.log").read_text()
    shutil.rmtree(lab.machine())
    for args in (["logs", "job"], ["logs", "job", "-f"]):
        done = lab.run(*args)
        assert (done.code, done.out, done.err) == (0, log, f"From the store {lab.work}/store:\n")

    shutil.rmtree(lab.work / "store")
    done = lab.run("logs", "job")
    assert (done.code, done.out) == (0, "")
    assert f"there is no log of it in the store {lab.work}/store" in done.err


@pytest.fixture
def s3() -> Any:
    """A bucket on a server that speaks S3: its address, and the environment that leads there."""
    import urllib.request

    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    with urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT"), timeout=60):
        pass
    yield "s3://bucket/prefix", {"AWS_ENDPOINT_URL": url}
    server.stop()


def test_a_job_of_another_computer_is_found_in_the_configured_store(lab: Lab, s3: tuple[str, dict[str, str]]) -> None:
    """By its name or its id, in a bucket; the folder gets the job's name."""
    address, environ = s3
    write(lab, **WITH_STORE)
    job = finish(lab)["job"]
    bucket = open_bucket(address, environ)
    for path in (lab.work / "store").rglob("*"):
        if path.is_file():
            bucket.put(path.relative_to(lab.work / "store").as_posix(), path.read_bytes())
    shutil.rmtree(lab.work / "store")
    shutil.rmtree(lab.home)
    Path(lab.env["GPULAUNCH_CONFIG"]).write_text(f"store: {address}\n")
    done = lab.run("pull", "job", env=environ)
    by_id = lab.run("pull", job, "other", "--json", env=environ)
    missing = lab.run("pull", "nothing", env=environ)

    assert done.code == 0, done.err
    assert files(lab.work / "job")["checkpoint/step-200.pt"] == "weights 200"
    assert f"from {address}" in done.out
    assert (by_id.document["job"], by_id.document["store"]) == (job, address)
    refused(missing, 2, f"There is no job 'nothing' in {address}.")
    assert f"Fetching from {address}" in done.err


def test_a_store_that_cannot_be_reached_is_an_error(lab: Lab) -> None:
    """Exit 4, with what to look at; no folder is made."""
    Path(lab.env["GPULAUNCH_CONFIG"]).write_text("store: s3://bucket/prefix\n")
    done = lab.run("pull", "job", env={"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})

    refused(done, 4, "The store s3://bucket/prefix cannot be used now.", "Check the network")
    assert not (lab.work / "job").exists()
