"""For all tests: commands start with the signals that a shell's foreground gives them."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Whoever runs the tests in the background ignores SIGINT and SIGHUP, and every child would inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
