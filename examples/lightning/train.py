"""Train a small transformer on a text, byte by byte, with PyTorch Lightning."""

import argparse
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

BYTES = 256


class ByteModel(L.LightningModule):
    """A transformer that predicts the next byte."""

    def __init__(self, length: int, layers: int, width: int, lr: float = 1e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.embedding = nn.Embedding(BYTES, width)
        self.position = nn.Parameter(torch.zeros(length, width))
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.1, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, BYTES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = x.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=x.device)
        return self.head(self.body(self.embedding(x) + self.position[:length], mask=mask, is_causal=True))

    def loss(self, batch: list[torch.Tensor]) -> torch.Tensor:
        (blocks,) = batch
        return F.cross_entropy(self(blocks[:, :-1]).transpose(1, 2), blocks[:, 1:])

    def training_step(self, batch: list[torch.Tensor], _index: int) -> torch.Tensor:
        loss = self.loss(batch)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: list[torch.Tensor], _index: int) -> None:
        self.log("val_loss", self.loss(batch), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)


def loader(text: bytes, length: int, shuffle: bool) -> DataLoader:
    blocks = torch.tensor(list(text[: len(text) // length * length])).view(-1, length)
    return DataLoader(TensorDataset(blocks), batch_size=16, shuffle=shuffle)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--text", type=Path, default=Path("sonnets.txt"))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batches", type=int, default=None, help="of an epoch; all of them otherwise")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    args = parser.parse_args()

    L.seed_everything(1)
    text = args.text.read_bytes()
    split = len(text) * 9 // 10
    trainer = L.Trainer(
        max_epochs=args.epochs,
        limit_train_batches=args.batches,
        precision="16-mixed" if torch.cuda.is_available() else "32-true",
        log_every_n_steps=5,
        callbacks=[
            EarlyStopping("val_loss", patience=5),
            ModelCheckpoint("checkpoints", monitor="val_loss", save_last=True),
        ],
    )
    last = Path("checkpoints/last.ckpt")
    trainer.fit(
        ByteModel(args.length, args.layers, args.width),
        loader(text[:split], args.length, shuffle=True),
        loader(text[split:], args.length, shuffle=False),
        ckpt_path=last if last.exists() else None,
    )


if __name__ == "__main__":
    main()
