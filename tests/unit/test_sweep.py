"""What a sweep finds, what it destroys, and what it leaves alone."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from launcher.core.clock import VirtualClock, boot_id
from providers.local.folder import Folder
from providers.local.provider import LocalProvider

if TYPE_CHECKING:
    from pathlib import Path


def test_the_deadline_of_a_local_machine_counts_time_awake(tmp_path: Path) -> None:
    """A closed laptop moves the deadline on by as long as it sleeps: it costs nothing meanwhile."""
    clock = VirtualClock()
    provider = LocalProvider(clock=clock, home=str(tmp_path), settings={})
    record = {
        "token": "j-1-1",
        "owner": "me",
        "tags": {},
        "created_at": clock.now().isoformat(),
        "born_awake": clock.awake(),
        "boot": boot_id(),
        "hard_after_s": 3600.0,
    }
    Folder(tmp_path / "machines" / "local-1").make(record, b"")
    clock.advance(600)
    clock.suspend(7200)
    [machine] = provider.list("me")
    assert clock.now() + timedelta(seconds=3000) == machine.deadline_at
