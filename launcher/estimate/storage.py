"""What a training leaves in the store: checkpoints, the model, the corpus; and what a month of that costs."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

GB = 10**9
CHECKPOINT_BYTES_PER_PARAM = 12
"""Weights and AdamW's two moments, in fp32: what torch.save writes of them. Scheduler and scaler are a few KB."""
MODEL_BYTES_PER_PARAM = 4
"""The weights alone, in fp32."""
CORPUS_BYTES_PER_TOKEN = 2
"""Token ids as 16-bit numbers: GPT-2's vocabulary of 50,257 fits."""
TEXT_BYTES_PER_TOKEN = 4
"""English text, about four characters a token (OpenAI, What are tokens). The text may stay at home."""
CHECKPOINTS_KEPT = 3
"""The default of checkpoints.keep in a job file."""


class StorePrice(NamedTuple):
    """The price of one object store: USD for a GB over a month, up to 50 TB, without requests and egress."""

    store: str
    item: str
    usd_per_gb_month: Decimal
    as_of: str
    sure: str
    source: str


# Where two sources disagree, the higher price. None is the vendor's own page.
STORE_PRICES = (
    StorePrice(
        "s3",
        "AWS S3 Standard, us-east-1",
        Decimal("0.023"),
        "2026-11-21",
        "unconfirmed",
        "widely quoted list price; infracost s3_bucket_test.golden and finout.io's comparison of 2026 agree",
    ),
    StorePrice(
        "blob",
        "Azure Blob Hot LRS, US",
        Decimal("0.0208"),
        "2026-11-21",
        "unconfirmed",
        "infracost storage_account_test.golden; finout.io's comparison of 2026 says 0.018",
    ),
    StorePrice(
        "gcs",
        "GCS Standard, one US region",
        Decimal("0.020"),
        "2026-11-21",
        "unconfirmed",
        "widely quoted list price; finout.io's comparison of 2026 agrees",
    ),
)


@dataclass(frozen=True, slots=True)
class Storage:
    """Sizes in bytes."""

    checkpoint: int
    model: int
    corpus: int
    text: int

    @property
    def kept(self) -> int:
        """What lies in the store when the training ends: the kept checkpoints, the model, and the corpus as tokens."""
        return CHECKPOINTS_KEPT * self.checkpoint + self.model + self.corpus


def storage(params: int, tokens: int) -> Storage:
    """The sizes for a model and a corpus that is seen once."""
    return Storage(
        checkpoint=params * CHECKPOINT_BYTES_PER_PARAM,
        model=params * MODEL_BYTES_PER_PARAM,
        corpus=tokens * CORPUS_BYTES_PER_TOKEN,
        text=tokens * TEXT_BYTES_PER_TOKEN,
    )


def usd_per_month(size: int, price: StorePrice) -> Decimal:
    """USD for a month of that many bytes."""
    return Decimal(size) / GB * price.usd_per_gb_month
