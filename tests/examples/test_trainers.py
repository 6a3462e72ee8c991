"""Scripts of the kind people have, unchanged, run by gpulaunch: their own metrics are read, and their rules hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from command_lab import Lab

pytestmark = pytest.mark.timeout(300)


def run_example(lab: Lab, example: str, flags: list[str], **changes: Any) -> dict[str, Any]:
    """Run an example's own job file with more flags for its program; how the job stands then."""
    path = lab.work / example / "gpulaunch.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["command"] += flags
    path.write_text(yaml.safe_dump({**document, **changes}), encoding="utf-8")
    up = lab.ended(lab.start("up", "--provider", "local", "--yes", cwd=lab.work / example), bound_s=250)
    assert up.code == 0, up.err
    return lab.status(document["name"])


def test_hugging_faces_trainer(lab: Lab) -> None:
    """Its lines give the losses, its trainer_state.json the steps; an estimate takes its tokens per second."""
    flags = ["--steps", "20", "--every", "5", "--layers", "1", "--width", "32", "--length", "64"]
    view = run_example(lab, "huggingface-trainer", flags)

    assert view["outcome"] == "finished"
    assert {"loss", "eval_loss", "grad_norm", "train_tokens_per_second"} <= set(view["metrics"])
    assert view["metrics"]["eval_loss"]["seen"] == 4
    assert 4 < view["metrics"]["eval_loss"]["value"] < 5.6
    assert view["progress"]["steps"] == 20
    estimate = lab.run("estimate", "--params", "1M", "--tokens", "1M", "--from", "hf-trainer", "--json")
    assert estimate.code == 0, estimate.err
    assert estimate.document["measured"]["tokens_per_s_high"] > 0


def test_lightning(lab: Lab) -> None:
    """Its CSV gives the losses and their steps, and a target in the job file ends the job."""
    flags = ["--epochs", "3", "--batches", "10", "--layers", "1", "--width", "32", "--length", "64"]
    view = run_example(lab, "lightning", flags)

    assert view["outcome"] == "finished"
    assert {"train_loss", "val_loss"} <= set(view["metrics"])
    assert (view["metrics"]["val_loss"]["seen"], view["metrics"]["val_loss"]["step"]) == (3, 29)
    assert view["metrics"]["val_loss"]["value"] < 5
    assert view["metrics"]["train_loss"]["seen"] == 6
