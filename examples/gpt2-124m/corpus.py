"""A prepared text, cut into the sequences of each step."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


class Corpus:
    """A text as tokens, cut into sequences; the last ones are for validation."""

    def __init__(self, folder: Path, context: int) -> None:
        try:
            self.meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
            tokens = np.memmap(folder / "tokens.bin", dtype=np.uint16, mode="r")
        except (OSError, ValueError) as error:
            sys.exit(f"train.py: {error}. Prepare a text first, with: python prepare.py corpus.txt --data {folder}")
        split = len(tokens) - self.meta["validation_tokens"]
        self.train, self.validation = (
            part[: len(part) // context * context].reshape(-1, context) for part in (tokens[:split], tokens[split:])
        )
        if not len(self.train) or not len(self.validation):
            sys.exit(f"train.py: {len(tokens):,} tokens are too few for sequences of {context}: use a longer text.")

    def sequences(self, step: int, count: int, seed: int) -> np.ndarray:
        """The sequences of one step, counted from 1. Each comes once in an epoch, in an order of the epoch's own.

        They follow from the step alone, so the position in the data is the step.
        """
        places = np.arange((step - 1) * count, step * count)
        epochs, within = np.divmod(places, len(self.train))
        order = {epoch: np.random.default_rng([seed, epoch]).permutation(len(self.train)) for epoch in set(epochs)}
        rows = [order[epoch][place] for epoch, place in zip(epochs, within, strict=True)]
        return self.train[rows].astype(np.int64)

    def some_validation(self, count: int) -> np.ndarray:
        """The same sequences each time, spread evenly, so that losses can be compared."""
        chosen = np.linspace(0, len(self.validation) - 1, min(count, len(self.validation))).astype(np.int64)
        return self.validation[chosen].astype(np.int64)
