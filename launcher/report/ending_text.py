"""How a job ended, in whole sentences: outcome and reason in words. Pure."""

from __future__ import annotations

from launcher.outcome import Outcome

OUTCOMES: dict[str, str] = {
    Outcome.FINISHED: "The training finished.",
    Outcome.EARLY_STOPPED: "The training was stopped early.",
    Outcome.FAILED: "The training failed.",
    Outcome.BUDGET_REACHED: "The training was stopped so that the bill stays below the cap.",
    Outcome.DURATION_REACHED: "The training was stopped by its time limit.",
    Outcome.STALLED: "The training was stopped because it stood still.",
    Outcome.AGENT_LOST: "The machine was given up: its agent did not answer any more.",
    Outcome.PREEMPTED: "The cloud took the machine back.",
    Outcome.CANCELLED: "The job was ended on request.",
    Outcome.LAUNCH_FAILED: "No machine could be had.",
}

REASONS = {
    "PATIENCE_EXHAUSTED": "The monitored metric had not improved for as many values as early_stop.patience allows.",
    "PATIENCE_USD": "The monitored metric had not improved for as many dollars as early_stop.patience_usd allows.",
    "BASELINE_NOT_MET": "The monitored metric did not beat early_stop.baseline in time.",
    "STOPPING_THRESHOLD": "The monitored metric reached early_stop.stopping_threshold: the goal is met.",
    "DIVERGENCE_THRESHOLD": "The monitored metric passed early_stop.divergence_threshold.",
    "NON_FINITE_METRIC": "The training computed values that are no finite numbers: it diverged.",
    "METRIC_MISSING": "The monitored metric never appeared, and early_stop.strict is set.",
    "NO_PROGRESS": "No new step and no new metric appeared for as long as stall.no_progress allows.",
    "NO_OUTPUT": "Nothing was printed for as long as stall.no_output allows.",
    "CAP": "The soft deadline that follows from the cap had come.",
    "MAX_DURATION": "The time limit max_duration had come.",
    "HARD_DEADLINE": "The hard deadline had come, at which the machine dies whatever happens.",
    "SHUTDOWN_SIGNAL": "The machine was told to shut down.",
    "SPOT_NOTICE": "The cloud said that it would take its spot machine back.",
    "EGRESS_RESERVE": "As much had left the machine as egress_gb reserves for.",
    "PREEMPTED": "It was a spot machine that the cloud wanted for itself.",
    "MACHINE_GONE": "The machine was gone, and nobody here had ordered that.",
    "AGENT_DEAD": "The agent on the machine had died.",
    "AGENT_ERROR": "The agent on the machine met a fault of its own.",
    "BOOT_TIMEOUT": "The machine did not send a first heartbeat in time.",
    "NO_HEARTBEAT": "The machine had stopped sending heartbeats.",
    "DOWN": "Somebody asked for it.",
    "LAUNCHER_GONE": "The launching command was gone before a machine was accepted.",
    "NO_OFFER": "No offer was left to try.",
    "CapTooSmall": "What was left of the cap buys no further machine.",
    "COMMAND_NOT_FOUND": "The command could not be started.",
    "NO_DOCKER": "The job has an image, and the machine has no docker.",
    "DOCKER_FAILED": "Docker could not start the container.",
    "DOCKER_NOT_READY": "Docker could not be made ready on the machine; the log says why.",
    "BOOTING_TIMEOUT": "Docker could not be made ready on the machine in time.",
    "WORKDIR_NOT_BROUGHT": "The working folder could not be brought from the store; the log says why.",
    "CHECKPOINT_NOT_RESTORED": "The checkpoint to go on from could not be brought from the store; the log says why.",
    "FETCHING_TIMEOUT": "The working folder and the checkpoint could not be brought from the store in time.",
    "IMAGE_PULL_FAILED": "The image could not be pulled.",
    "PULLING_TIMEOUT": "The image could not be pulled in time.",
    "NOT_KILLED": "Not every process of the training could be killed.",
    "EXIT_0": "It ended by itself, with exit code 0.",
}


def ending_words(outcome: str | None, reason: str | None) -> str:
    """Outcome and reason in one or two sentences; a reason without a sentence of its own is named as it is."""
    if outcome is None:
        return "The job has not ended."
    return f"{OUTCOMES.get(outcome, outcome)} {_reason_words(reason)}".rstrip()


def _reason_words(reason: str | None) -> str:
    if not reason:
        return ""
    if reason in REASONS:
        return REASONS[reason]
    kind, _, what = reason.partition("_")
    if kind == "EXIT":
        return f"It ended by itself, with exit code {what}."
    if kind == "SIGNAL":
        return f"A signal ended it: {what}."
    return f"The reason given is {reason}."
