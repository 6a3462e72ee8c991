"""`gpulaunch up`: from a job file to an ending, as a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from command_lab import NEVER, SMALL_CAP, spent

if TYPE_CHECKING:
    from command_lab import Lab

# docs/json.md promises these; others may follow.
FIELDS = {
    "job",
    "name",
    "state",
    "outcome",
    "reason",
    "provider",
    "region",
    "instance_type",
    "spot",
    "machine_id",
    "attempt",
    "spend_usd",
    "spend_confirmed",
    "cap_usd",
    "rate_usd_per_hour",
    "soft_deadline",
    "hard_deadline",
    "started_at",
    "ended_at",
    "metrics",
    "layers",
    "console_url",
}


def test_a_finished_job_ends_with_a_summary(lab: Lab) -> None:
    """Exit 0, and the last words name the outcome, the spend and the cap."""
    lab.write_job(["echo", "trained"])
    done = lab.run("up", "--budget", "5", "--yes")

    assert done.code == 0, done.err
    assert done.out.startswith("job: finished\n")
    assert " of $5.00 (confirmed)" in done.out
    assert "seen gone" in done.err
    assert lab.run("logs", "job").out == "trained\n"


def test_the_job_file_is_found_here_or_above(lab: Lab) -> None:
    """No argument is needed, and the training runs in the job file's folder."""
    lab.write_job(["sh", "-c", "pwd"])
    below = lab.work / "src" / "model"
    below.mkdir(parents=True)

    assert lab.run("up", "--budget", "5", "--yes", cwd=below).code == 0
    assert lab.run("logs", "job").out.strip() == str(lab.work)


def test_the_search_for_a_job_file_ends_at_the_repository(lab: Lab) -> None:
    """A job file above the repository belongs to something else."""
    lab.write_job()
    below = lab.work / "repository"
    (below / ".git").mkdir(parents=True)
    done = lab.run("up", "--budget", "5", "--yes", cwd=below)

    assert done.code == 2
    assert f"Looked in {below}." in done.err


def test_without_a_cloud_this_computer_is_taken_and_that_is_said(lab: Lab) -> None:
    """Nobody is surprised by where a job runs."""
    lab.write_job()
    done = lab.run("up", "--budget", "5", "--dry-run")

    assert done.code == 0
    assert "No cloud is set up here: using this computer (provider local)." in done.err


def test_a_dry_run_shows_the_plan_and_creates_nothing(lab: Lab) -> None:
    """The plan, every call, and not even a state folder."""
    lab.write_job()
    done = lab.run("up", "--budget", "0.02", "--dry-run")

    assert (done.code, done.out) == (0, "")
    for words in ("cap       $0.02", "rate      $3.60", "soft end", "hard end", "backstop  armed", "providers.local"):
        assert words in done.err
    assert done.err.endswith("Nothing was created.\n")
    assert not lab.home.exists()


def test_a_dry_run_as_json_is_one_document(lab: Lab) -> None:
    """On stdout there is data and nothing else."""
    lab.write_job()
    done = lab.run("up", "--budget", "0.02", "--dry-run", "--json")

    assert done.code == 0
    assert (done.document["cap_usd"], done.document["rate_usd_per_hour"]) == ("0.02", "3.60")
    assert [layer["armed"] for layer in done.document["layers"]] == [True, True, True]
    assert len(done.document["calls"]) == 3
    assert not lab.home.exists()


def test_off_a_terminal_yes_is_required(lab: Lab) -> None:
    """Nobody can be asked, so nothing is created, and the flag is named."""
    lab.write_job()
    for flags in ([], ["--json"]):
        done = lab.run("up", "--budget", "5", *flags)

        assert (done.code, done.out) == (2, "")
        assert "--yes" in done.err
    assert not lab.home.exists()


def test_json_is_one_document_with_every_promised_field(lab: Lab) -> None:
    """A script can read how the job ended from stdout alone."""
    lab.write_job(["true"])
    done = lab.run("up", "--budget", "5", "--yes", "--json")
    view = done.document

    assert done.code == 0
    assert set(view) >= FIELDS
    assert (view["state"], view["outcome"], view["cap_usd"], view["exit_code"]) == ("gone", "finished", "5.00", 0)
    assert view["spend_confirmed"] is True
    assert 0 < spent(view) < 1


def test_a_failed_job_has_its_own_code_in_the_json(lab: Lab) -> None:
    """The command exits 5 whatever the training's code was."""
    lab.write_job(["sh", "-c", "exit 41"])
    done = lab.run("up", "--budget", "5", "--yes", "--json")

    assert done.code == 5
    assert (done.document["outcome"], done.document["exit_code"]) == ("failed", 41)


def test_off_a_terminal_nothing_but_plain_lines_is_printed(lab: Lab) -> None:
    """Logs of a pipeline hold no control characters."""
    lab.write_job(["true"])
    done = lab.run("up", "--budget", "5", "--yes")

    assert done.code == 0
    assert all(character.isprintable() or character == "\n" for character in done.out + done.err)


def test_a_detached_launch_returns_and_says_how_to_follow(lab: Lab) -> None:
    """Exit 0 once the machine is accepted; the job goes on."""
    lab.write_job()
    done = lab.run("up", "--budget", "0.05", "--yes", "--detach")

    assert done.code == 0
    for words in ("gpulaunch logs job -f", "gpulaunch status job", "gpulaunch down job"):
        assert words in done.out
    assert lab.live() == ["job"]
    lab.down()


def test_a_name_in_use_is_refused(lab: Lab) -> None:
    """The second launch creates nothing and names the first."""
    lab.write_job()
    first = lab.launch()
    second = lab.run("up", "--budget", "0.05", "--yes")

    assert second.code == 2
    assert f"'job' is live already ({first['job']})" in second.err
    assert len(lab.machines()) == 1
    lab.down()


def test_of_two_launches_at_once_one_wins(lab: Lab) -> None:
    """The same name at the same moment: one job, one machine, and a clear word to the other."""
    lab.write_job()
    racers = [lab.start("up", "--budget", "0.05", "--yes", "--detach") for _ in range(3)]
    done = [lab.ended(racer) for racer in racers]

    assert sorted(each.code for each in done) == [0, 2, 2]
    assert all("is live already" in each.err for each in done if each.code == 2)
    assert len(lab.machines()) == 1
    lab.down()


def test_two_names_run_side_by_side_under_one_guard(lab: Lab) -> None:
    """There is one guard for an account, not one for a job."""
    lab.write_job()
    lab.launch()
    assert lab.run("up", "--budget", "0.05", "--yes", "--detach", "--name", "other").code == 0

    assert sorted(lab.live()) == ["job", "other"]
    assert len(lab.guards()) == 1
    lab.down()


def test_max_duration_ends_a_job_before_its_cap(lab: Lab) -> None:
    """Exit 7, and the outcome says which limit it was."""
    lab.write_job(NEVER)
    done = lab.run("up", "--budget", "5", "--max-duration", "2s", "--yes", "--json")

    assert done.code == 7
    assert (done.document["outcome"], done.document["reason"]) == ("duration_reached", "MAX_DURATION")


def test_the_budget_flag_wins_over_the_file(lab: Lab) -> None:
    """What was typed last counts."""
    lab.write_job(["true"], budget=3)

    assert lab.run("up", "--dry-run", "--json").document["cap_usd"] == "3.00"
    assert lab.run("up", "--dry-run", "--json", "--budget", SMALL_CAP).document["cap_usd"] == SMALL_CAP
