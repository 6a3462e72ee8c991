"""Train a small GPT-2 on a text, byte by byte, with the Trainer of Hugging Face transformers."""

import argparse
from pathlib import Path

import torch
from transformers import EarlyStoppingCallback, GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

BYTES = 256


class Blocks(torch.utils.data.Dataset):
    """A text, cut into blocks of the same length."""

    def __init__(self, text: bytes, length: int) -> None:
        self.blocks = torch.tensor(list(text[: len(text) // length * length])).view(-1, length)

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.blocks[index], "labels": self.blocks[index]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--text", type=Path, default=Path("sonnets.txt"))
    parser.add_argument("--output", default="output")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=100, help="steps between two evaluations, and checkpoints")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    args = parser.parse_args()

    set_seed(1)
    text = args.text.read_bytes()
    split = len(text) * 9 // 10
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=BYTES,
            n_positions=args.length,
            n_embd=args.width,
            n_layer=args.layers,
            n_head=4,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=args.output,
            max_steps=args.steps,
            per_device_train_batch_size=16,
            learning_rate=1e-3,
            warmup_steps=100,
            fp16=torch.cuda.is_available(),
            logging_steps=args.every,
            eval_strategy="steps",
            eval_steps=args.every,
            save_steps=args.every,
            save_total_limit=2,
            load_best_model_at_end=True,
            include_num_input_tokens_seen=True,
            report_to="none",
        ),
        train_dataset=Blocks(text[:split], args.length),
        eval_dataset=Blocks(text[split:], args.length),
        callbacks=[EarlyStoppingCallback(early_stopping_patience=5)],
    )
    last = get_last_checkpoint(args.output) if Path(args.output).is_dir() else None
    trainer.train(resume_from_checkpoint=last)
    trainer.save_model(f"{args.output}/model")


if __name__ == "__main__":
    main()
