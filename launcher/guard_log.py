"""The guard's own log: its standard error."""

from __future__ import annotations

import sys


def say(subject: str, error: Exception) -> None:
    """Tell of an error that stops nothing."""
    print(f"{subject}: {error}", file=sys.stderr, flush=True)
