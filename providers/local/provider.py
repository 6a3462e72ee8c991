"""This computer behind the provider contract."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tenacity

from launcher.core.clock import boot_id
from providers.base import (
    AmbiguousOutcome,
    Backstop,
    Billing,
    CapacityError,
    Intent,
    InvalidRequest,
    Machine,
    MachineNotFound,
    MachineState,
    Offer,
    OfferRequest,
    StoreRequest,
)
from providers.local.folder import Folder
from providers.local.machine import NOTICE_S, LocalMachine
from providers.local.offers import REGION, offers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launcher.core.clock import Clock

# Starting two Python processes takes a fraction of a second; on a machine that swaps it may take long.
START_TIMEOUT_S = 20.0
CONSOLE_TAIL_BYTES = 64 * 1024
# What a machine may know of the environment of the process that made it, where `up` gave it nothing better.
ENVIRONMENT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TMPDIR", "TZ")


class LocalProvider:
    """Machines that are process groups of this computer."""

    name = "local"
    account = "local/this-computer"
    # Electricity is metered continuously; a millisecond is as fine as the record of it.
    billing = Billing(
        granularity_s=Decimal("0.001"),
        floor_s=Decimal(0),
        billed_states=frozenset(MachineState),
        source="electricity, or the user's own price, while the processes exist",
    )
    bills_awake_only = True
    # The backstop looks five times a second and kills without notice; the rest is a busy computer's scheduling.
    worst_lateness_s = 2.0
    shutdown_notice_s = NOTICE_S
    poll_s = 1.0
    heartbeat_s = 1.0
    boot_timeout_s = 60.0
    skew_s = 0.0

    def __init__(self, *, clock: Clock, home: str, settings: Mapping[str, Any]) -> None:
        self.binding: dict[str, Any] = {}
        self._clock = clock
        self._machines = Path(home) / "machines"
        self._settings = settings
        self._children: list[subprocess.Popen[bytes]] = []

    def machine_store(self, request: StoreRequest) -> dict[str, Any]:
        """The store as the agent's orders name it."""
        return {"kind": "folder", "path": request.url}

    def preflight(self) -> Backstop:
        """Nothing is needed, and the backstop is always armed."""
        return Backstop(armed=True, what="a process of its own kills the training at the hard deadline")

    def offers(self, request: OfferRequest) -> list[Offer]:
        """The one offer there is. Raises InvalidRequest, PriceUnknown."""
        return offers(request)

    def calls(self, offer: Offer) -> list[str]:
        """What `create` does on this computer."""
        del offer
        return [
            f"write the machine's folder below {self._machines}",
            "start its backstop: python -m providers.local.backstop FOLDER",
            "the backstop starts the agent: python FOLDER/boot.py agent",
        ]

    def create(self, intent: Intent) -> Machine:
        """Make the machine's folder, and start its backstop, which starts the agent. Idempotent on the token."""
        folder = self._folder(_machine_id(intent.token))
        ended = folder.ended()
        if ended is not None:
            raise MachineNotFound(
                f"The machine {folder.id} has lived and is gone.",
                machine=_dead(LocalMachine(folder, self._clock), ended),
                code="IdempotentInstanceTerminated",
            )
        if self._clock.now() >= intent.hard_deadline and not folder.started():
            raise InvalidRequest(f"The deadline of {folder.id} has passed before it was made.", code="DeadlinePassed")
        if not folder.exists():
            self._make(folder, intent)
        elif folder.record()["request"] != _fingerprint(intent):
            raise InvalidRequest(
                f"The token {intent.token} was used for another request.", code="IdempotentParameterMismatch"
            )
        if not folder.started():
            try:
                self._start_backstop(folder)
            except CapacityError:
                with contextlib.suppress(OSError):  # a full disk: the folder stays as it is, and nothing lives in it
                    self._call_off(LocalMachine(folder, self._clock))
                raise
        return self.get(folder.id)

    def _call_off(self, machine: LocalMachine) -> None:
        """Nothing was started for this machine, and nothing ever will be."""
        if machine.folder.claim_start():
            machine.record_end(billed_s=machine.age_s(), exact=True)

    def _make(self, folder: Folder, intent: Intent) -> None:
        environment = intent.settings.get("environment") or {
            name: os.environ[name] for name in ENVIRONMENT if name in os.environ
        }
        record = {
            "token": intent.token,
            "owner": intent.owner,
            "tags": intent.tags,
            "created_at": self._clock.now().isoformat(),
            "born_awake": self._clock.awake(),
            "boot": boot_id(),
            "hard_after_s": intent.hard_after_s,
            "environment": environment,
            "container": intent.settings.get("container"),
            "request": _fingerprint(intent),
        }
        try:
            folder.make(record, intent.boot_data)
        except OSError as error:
            raise CapacityError(
                f"The machine's folder {folder.path} cannot be written: {error.strerror}.",
                fix="Free some space, then run the command again.",
                code="FOLDER_UNWRITABLE",
            ) from error

    def _start_backstop(self, folder: Folder) -> None:
        """Start the backstop and wait until it has started the agent. A second one for the same machine steps back."""
        try:
            with (folder.path / "backstop.log").open("ab") as log:
                child = subprocess.Popen(
                    [sys.executable, "-P", "-m", "providers.local.backstop", str(folder.path)],
                    cwd=folder.path,
                    env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            raise CapacityError(
                f"The machine's backstop cannot be started: {error.strerror}.", code="BACKSTOP_FAILED"
            ) from error
        self._children.append(child)
        waiting = tenacity.Retrying(
            stop=tenacity.stop_after_delay(START_TIMEOUT_S),
            wait=tenacity.wait_fixed(0.02),
            retry=tenacity.retry_if_result(lambda started: not started),
            retry_error_callback=lambda _: False,
        )
        if waiting(lambda: child.poll() is not None or folder.agent_pid() is not None or folder.ended() is not None):
            if folder.started():
                return
            said = folder.tail("backstop.log", 500).decode("utf-8", "replace").strip()
            raise CapacityError(f"The machine's backstop did not start: {said}", code="BACKSTOP_FAILED")
        raise AmbiguousOutcome(
            f"The machine {folder.id} has not started after {START_TIMEOUT_S:.0f} s.",
            "This computer is very busy.",
            "It is tried again by itself.",
        )

    def get(self, machine_id: str) -> Machine:
        """The machine as its processes show it. Raises MachineNotFound once none is left, its backstop included."""
        self._collect_children()
        folder = self._folder(machine_id)
        if not folder.exists():
            raise MachineNotFound(f"There is no machine {machine_id}.")
        machine = LocalMachine(folder, self._clock)
        if folder.ended() is None and not machine.is_of_this_boot():
            machine.record_end(billed_s=self._latest_end_s(machine), exact=False)
        ended = folder.ended()
        if ended is not None and not (machine.is_of_this_boot() and machine.backstop_lives()):
            raise MachineNotFound(f"The machine {machine_id} is gone.", machine=_dead(machine, ended))
        state, reason = self._state(machine)
        age_s = machine.age_s()
        # Time asleep is free, so the deadline moves on with it.
        deadline_at = self._clock.now() + timedelta(seconds=float(machine.record["hard_after_s"]) - age_s)
        return _describe(machine, state, reason, billed_s=age_s, deadline_at=deadline_at)

    def _state(self, machine: LocalMachine) -> tuple[MachineState, str | None]:
        """What the processes show. Raises MachineNotFound for a machine whose every process is dead."""
        folder = machine.folder
        if machine.agent_pid() is not None:
            stopping = folder.delete_ordered_s() is not None
            return (MachineState.STOPPING if stopping else MachineState.RUNNING), None
        if machine.backstop_lives():
            if not folder.started():
                return MachineState.PENDING, None
            ended = (folder.path / "result.json").exists()
            return (MachineState.STOPPING, None) if ended else (MachineState.STOPPED, "AGENT_DEAD")
        if not folder.started():
            return MachineState.PENDING, None  # its creation was interrupted, and will be replayed
        if not machine.is_dead():
            return MachineState.STOPPED, "AGENT_DEAD"
        machine.record_end(billed_s=self._latest_end_s(machine), exact=False)
        raise MachineNotFound(
            f"The machine {folder.id} is gone.", machine=_dead(machine, folder.ended() or {"billed_s": machine.age_s()})
        )

    def _latest_end_s(self, machine: LocalMachine) -> float:
        """An upper bound for the life of a machine whose end nobody saw, in seconds.

        Until now when it was found alive without a backstop, else until its deadline: the backstop was there then.
        """
        deadline_s = float(machine.record["hard_after_s"]) + self.worst_lateness_s
        if not machine.is_of_this_boot():
            return deadline_s
        if machine.folder.delete_ordered_s() is not None:
            return machine.age_s()
        return min(machine.age_s(), deadline_s)

    def list(self, owner: str) -> list[Machine]:
        """Every machine of this owner that is not gone."""
        found = []
        for path in sorted(self._machines.glob("local-*")) if self._machines.exists() else ():
            folder = Folder(path)
            if folder.exists() and folder.ended() is None and folder.record().get("owner") == owner:
                with contextlib.suppress(MachineNotFound):
                    found.append(self.get(path.name))
        return found

    def delete(self, machine_id: str) -> None:
        """Order the machine's end and drive it on. The backstop does the same, where it lives."""
        folder = self._folder(machine_id)
        if not folder.exists() or folder.ended() is not None:
            return
        machine = LocalMachine(folder, self._clock)
        if not machine.is_of_this_boot():
            return
        with contextlib.suppress(OSError):  # a full disk never blocks a delete: the signals below need none
            folder.order_delete(machine.age_s())
        if not folder.started() and not machine.backstop_lives():
            self._call_off(machine)
        else:
            machine.shut_down()

    def heartbeat(self, machine_id: str) -> bytes:
        """The tail of the machine's console."""
        return self._folder(machine_id).tail("console.log", CONSOLE_TAIL_BYTES)

    def console_url(self, machine_id: str) -> str | None:
        """There is no page to look at."""
        del machine_id
        return None

    def _folder(self, machine_id: str) -> Folder:
        return Folder(self._machines / machine_id)

    def _collect_children(self) -> None:
        self._children = [child for child in self._children if child.poll() is None]


def _machine_id(token: str) -> str:
    return f"local-{sha256(token.encode()).hexdigest()[:12]}"


def _fingerprint(intent: Intent) -> str:
    return sha256(intent.boot_data + repr(intent.hard_after_s).encode()).hexdigest()


def _describe(
    machine: LocalMachine,
    state: MachineState,
    reason: str | None,
    *,
    billed_s: float,
    ended_at: datetime | None = None,
    deadline_at: datetime | None = None,
) -> Machine:
    record = machine.record
    created_at = datetime.fromisoformat(record["created_at"])
    return Machine(
        id=machine.folder.id,
        token=record["token"],
        state=state,
        region=REGION,
        created_at=created_at,
        billing_started_at=created_at,
        billing_ended_at=ended_at,
        billed_s=billed_s,
        deadline_at=deadline_at,
        tags=record["tags"],
        state_reason=reason,
        log_path=str(machine.folder.path / "output.log"),
        gpu=machine.folder.gpu(),
    )


def _dead(machine: LocalMachine, ended: dict[str, Any]) -> Machine:
    """What is left of a machine: exact where its backstop saw the end, else an upper bound without an end."""
    at = datetime.fromisoformat(ended["at"]).astimezone(UTC) if ended.get("exact") else None
    return _describe(machine, MachineState.STOPPED, None, billed_s=float(ended["billed_s"]), ended_at=at)
