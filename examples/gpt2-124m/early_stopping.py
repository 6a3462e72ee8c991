"""When more training no longer pays: by the validation loss alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass
class State:
    """What an evaluation is compared with; part of a checkpoint."""

    best: float = math.inf
    waited: int = 0


class EarlyStopping:
    """Stops after `patience` evaluations without a gain of more than `min_delta`, or when a target is met.

    None leaves a rule out. A perplexity is the exponential of its loss, so both targets are one.
    """

    def __init__(
        self, patience: int | None, min_delta: float, target_loss: float | None, target_perplexity: float | None
    ) -> None:
        self.patience = patience
        self.min_delta = min_delta
        targets = [target_loss, math.log(target_perplexity) if target_perplexity else None]
        self.target = max((target for target in targets if target is not None), default=-math.inf)
        self.state = State()
        self.reason = ""

    def see(self, val_loss: float) -> None:
        """Take in one evaluation; `reason` says then whether it was the last."""
        gained = val_loss < self.state.best - self.min_delta
        self.state = State(val_loss, 0) if gained else State(self.state.best, self.state.waited + 1)
        self._judge(val_loss)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint. A run that had stopped for good stays so."""
        self.state = State(**state)
        self._judge(self.state.best)

    def _judge(self, val_loss: float) -> None:
        if val_loss <= self.target:
            self.reason = f"the target is met (val_loss={val_loss:.4f})"
        elif self.patience is not None and self.state.waited >= self.patience:
            self.reason = f"stopped early after {self.state.waited} evaluations without a gain"
