"""`notify` in the configuration, through the installed command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from command_lab import Lab, wait_until

if TYPE_CHECKING:
    from pytest_httpserver import HTTPServer


def test_people_are_told_how_a_job_ended(lab: Lab, httpserver: HTTPServer) -> None:
    """By the guard, when all is gone."""
    httpserver.expect_request("/in").respond_with_data("")
    config = {"notify": [f"json://127.0.0.1:{httpserver.port}/in"]}
    Path(lab.env["GPULAUNCH_CONFIG"]).write_text(json.dumps(config), encoding="utf-8")
    lab.write_job(["true"])
    done = lab.run("up", "--budget", "0.05", "--yes")
    wait_until(lambda: httpserver.log, "the message")

    assert 0 == done.code
    assert ["gpulaunch: job: finished"] == [request.json["title"] for request, _ in httpserver.log]
