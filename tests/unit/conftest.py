"""What the unit tests share."""

from __future__ import annotations

from hypothesis import settings

# A busy computer is slow, not wrong: no example has a time limit of its own.
settings.register_profile("unit", deadline=None, print_blob=True)
settings.load_profile("unit")
