"""Train a GPT-2 of 124 million parameters from a text, with PyTorch, transformers and accelerate.

prepare.py turns the text into tokens first, or `--text` does it here. Mixed precision on an NVIDIA GPU, a batch as
large as its memory allows, and as many of them accumulated as make one step. It prints a line for each ten steps and
for each evaluation, saves everything that the loss curve depends on, goes on from there when it is started again, and
saves when it gets SIGTERM. Losses are the mean cross-entropy in nats per token.
"""

from __future__ import annotations

import argparse
import gc
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

try:
    import numpy as np
    import torch
    from accelerate import Accelerator
    from accelerate.utils import set_seed
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.utils.logging import disable_progress_bar
except ImportError as error:
    sys.exit(f"train.py: {error}. Install what it needs with: python -m pip install -r requirements.txt")

from checkpoints import Checkpoints, say
from corpus import Corpus
from early_stopping import EarlyStopping
from prepare import VOCABULARY, prepare, vocabulary_size

WEIGHT_DECAY = 0.1
BETAS = (0.9, 0.95)
LARGEST_GRADIENT = 1.0
LOWEST_LR = 0.1
"""Of the peak, where the cosine ends."""
CPU_BATCH = 4
"""Where there is no GPU: running out of the computer's own memory would not be an error, but its end."""
SPARE_MEMORY = 0.05
"""Of the GPU's: kept free by the search for a batch, for what grows later."""
DTYPE_BYTES = 4


class Parts(NamedTuple):
    """What is trained and what trains it, as accelerate has prepared them."""

    accelerator: Accelerator
    model: Any
    optimizer: Any
    scheduler: Any


def make_model(args: argparse.Namespace, vocabulary: int) -> GPT2LMHeadModel:
    """A GPT-2 with new weights. Token 0 is the end of text."""
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=args.context,
        n_embd=args.width,
        n_layer=args.layers,
        n_head=args.heads,
        resid_pdrop=args.dropout,
        embd_pdrop=args.dropout,
        attn_pdrop=args.dropout,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )
    model = GPT2LMHeadModel(config)
    model.loss_type = "ForCausalLM"  # the default: said, so that transformers does not warn of it
    if args.checkpoint_activations:
        # As transformers 5 calls it, or as the versions before do.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable()
    return model


def learning_rate(args: argparse.Namespace) -> Callable[[int], float]:
    """A linear warm-up and a cosine down to a tenth, as a share of the peak. `done` counts the steps taken."""

    def share(done: int) -> float:
        if done < args.warmup:
            return (done + 1) / args.warmup
        way = min((done - args.warmup) / max(args.steps - args.warmup, 1), 1.0)
        return LOWEST_LR + (1 - LOWEST_LR) * (1 + math.cos(math.pi * way)) / 2

    return share


def make_parts(args: argparse.Namespace, vocabulary: int) -> Parts:
    """The model, AdamW and its schedule. Mixed precision (fp16) on a GPU unless fp32 is asked for."""
    mixed = torch.cuda.is_available() and args.precision == "fp16"
    accelerator = Accelerator(mixed_precision="fp16" if mixed else "no")
    set_seed(args.seed)
    model = make_model(args, vocabulary)
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    others = [weight for weight in model.parameters() if weight.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=BETAS)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate(args))
    return Parts(accelerator, *accelerator.prepare(model, optimizer, scheduler))


# The batch


def largest_batch(sequences: int, runs: Callable[[int], None]) -> int:
    """The largest batch that divides a step's sequences and runs: from one sequence up until memory runs out, or 0."""
    found = 0
    for size in (size for size in range(1, sequences + 1) if sequences % size == 0):
        try:
            runs(size)
        except torch.OutOfMemoryError:
            break
        found = size
    return found


def find_batch(args: argparse.Namespace, parts: Parts) -> int:
    """Which batch to train with: --batch, what the GPU's memory allows, or a small one without a GPU."""
    if args.batch:
        return int(args.batch)
    if not torch.cuda.is_available():
        return max(size for size in range(1, CPU_BATCH + 1) if args.sequences % size == 0)
    weights = sum(weight.numel() for weight in parts.model.parameters())

    def runs(size: int) -> None:
        held = []
        try:
            # AdamW's two moments are made by its first step: room for them is taken here.
            held.append(torch.empty(2 * weights * DTYPE_BYTES, dtype=torch.uint8, device="cuda"))
            tokens = torch.zeros((size, args.context), dtype=torch.int64, device="cuda")
            parts.accelerator.backward(parts.model(input_ids=tokens, labels=tokens).loss)
        finally:
            held.clear()
            parts.optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()

    torch.cuda.set_per_process_memory_fraction(1 - SPARE_MEMORY)
    batch = largest_batch(args.sequences, runs)
    torch.cuda.set_per_process_memory_fraction(1.0)
    gc.collect()  # what the last try took is held by its error up to here
    torch.cuda.empty_cache()
    if not batch:
        sys.exit(
            "train.py: not even one sequence fits the GPU's memory. Try --checkpoint-activations, then a smaller "
            "--context."
        )
    return batch


# Training


def batches(sequences: np.ndarray, size: int, device: torch.device) -> Iterator[torch.Tensor]:
    """The sequences on the device, that many at a time."""
    for start in range(0, len(sequences), size):
        yield torch.from_numpy(sequences[start : start + size]).to(device)


def take_step(parts: Parts, sequences: np.ndarray, batch: int) -> tuple[float, float]:
    """One step over all these sequences, their gradients accumulated; the loss and the norm of the gradient.

    The shares are taken here, not by accelerate's own counter: that one would be out of step after a resume on another
    GPU, where the batch is another.
    """
    accelerator, model, optimizer, scheduler = parts
    model.train()
    total = torch.zeros((), device=accelerator.device)
    for tokens in batches(sequences, batch, accelerator.device):
        loss = model(input_ids=tokens, labels=tokens).loss * (len(tokens) / len(sequences))
        accelerator.backward(loss)
        total += loss.detach()
    norm = accelerator.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
    optimizer.step()
    scheduler.step()  # not where fp16 overflowed and the optimiser took no step: accelerate sees to that
    optimizer.zero_grad(set_to_none=True)
    return total.item(), float(norm)


@torch.no_grad()
def evaluate(parts: Parts, sequences: np.ndarray, batch: int) -> float:
    """The mean loss of these sequences."""
    parts.model.eval()
    total = 0.0
    for tokens in batches(sequences, batch, parts.accelerator.device):
        total += parts.model(input_ids=tokens, labels=tokens).loss.item() * len(tokens)
    return total / len(sequences)


def configuration(args: argparse.Namespace, corpus: Corpus) -> dict[str, Any]:
    """All that the loss curve depends on: a checkpoint is continued only where this is the same."""
    names = ("layers", "heads", "width", "context", "dropout", "sequences", "lr", "warmup", "seed")
    text = {key: corpus.meta[key] for key in ("text_sha256", "vocabulary")}
    return {**{name: getattr(args, name) for name in names}, **text}


def begin(args: argparse.Namespace, parts: Parts, checkpoints: Checkpoints, stopping: EarlyStopping) -> tuple[int, int]:
    """Where the training stands, and its batch: from the last checkpoint, where there is one."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    found = checkpoints.latest()
    same = found is not None and found.progress["device"] == device and not args.batch
    batch = found.progress["batch"] if found is not None and same else find_batch(args, parts)
    checkpoints.facts = {"device": device, "batch": batch}
    set_seed(args.seed)  # looking for the batch has drawn random numbers
    if found is None:
        return 0, batch
    parts.accelerator.load_state(str(found.path))
    stopping.restore(found.progress["early_stopping"])
    say(f"resumed from {found.path} at step {found.step}/{args.steps}")
    return found.step, batch


def train(args: argparse.Namespace, parts: Parts, corpus: Corpus, signals: list[str]) -> None:
    """Train until --steps is reached, the validation loss says that it is enough, or `signals` holds one's name."""
    checkpoints = Checkpoints(args.checkpoints, configuration(args, corpus), args.keep)
    stopping = EarlyStopping(args.patience, args.min_delta, args.target_loss, args.target_perplexity)
    step, batch = begin(args, parts, checkpoints, stopping)
    weights = sum(weight.numel() for weight in parts.model.parameters())
    say(
        f"{weights:,} weights, {corpus.train.size:,} tokens to train on; {args.sequences} sequences a step "
        f"in batches of {batch}, {parts.accelerator.mixed_precision} mixed precision on {checkpoints.facts['device']}"
    )
    validation = corpus.some_validation(args.eval_sequences)
    seconds, trained = 0.0, 0
    while step < args.steps and not stopping.reason:
        step += 1
        started = time.perf_counter()
        loss, norm = take_step(parts, corpus.sequences(step, args.sequences, args.seed), batch)
        seconds, trained = seconds + time.perf_counter() - started, trained + args.sequences * args.context
        last = step == args.steps
        if step % args.log_every == 0 or last:
            rate, speed = parts.scheduler.get_last_lr()[0], trained / seconds
            say(f"step {step}/{args.steps} {loss=:.4f} grad_norm={norm:.3f} lr={rate:.3e} tokens_per_s={speed:.0f}")
            seconds, trained = 0.0, 0
        if step % args.eval_every == 0 or last:
            val_loss = evaluate(parts, validation, batch)
            say(f"step {step}/{args.steps} {val_loss=:.4f} val_perplexity={math.exp(min(val_loss, 700)):.2f}")
            if not math.isfinite(val_loss):
                sys.exit("train.py: the training has diverged. Lower --lr, and go on from an earlier checkpoint.")
            stopping.see(val_loss)
        # Asked once a step: a signal that comes after this line is answered at the end of the next step.
        stop = bool(signals)
        if stop or last or stopping.reason or step % args.checkpoint_every == 0:
            path = checkpoints.save(step, parts.accelerator, {"early_stopping": asdict(stopping.state)})
        if stop and not last:
            say(f"stopped by {signals[0]} at step {step}/{args.steps}: saved {path}")
            return
    finish(args, parts, corpus, f"{stopping.reason or 'finished'} at step {step}/{args.steps}")


def finish(args: argparse.Namespace, parts: Parts, corpus: Corpus, how: str) -> None:
    """Write the model as transformers reads it, with its tokeniser."""
    folder = args.checkpoints / "model"
    parts.accelerator.unwrap_model(parts.model).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((args.data / "tokenizer.json").read_bytes())
    say(f"{how}: the model of {corpus.meta['text']} is in {folder}")


def free_memory(accelerator: Accelerator) -> None:
    """Give the GPU's memory back. Nobody may hold the model any more."""
    accelerator.free_memory()
    gc.collect()
    if torch.cuda.is_available():
        say(f"the most memory that was used: {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")
        torch.cuda.empty_cache()


# The command line


def positive(kind: type) -> Any:
    """An argparse type: a finite number above zero."""

    def parse(value: str) -> Any:
        try:
            number = kind(value)
        except ValueError:
            number = 0
        if not 0 < number < math.inf:
            raise argparse.ArgumentTypeError(f"{value!r} is not a {'whole ' if kind is int else ''}number above zero")
        return number

    return parse


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train a GPT-2 from a text.")
    count, number = positive(int), positive(float)

    def add(flag: str, kind: Any, default: Any, text: str) -> None:
        name = flag[2:].upper().rpartition("-")[2]
        shown = "" if default is None else f" (default: {default})"
        parser.add_argument(flag, type=kind, default=default, metavar=name, help=f"{text}{shown}")

    add("--data", Path, Path("data"), "folder of the prepared text")
    add("--text", Path, None, "a UTF-8 text to prepare first, if --data does not hold it yet")
    add("--vocabulary", vocabulary_size, VOCABULARY, "tokens to learn from --text")
    add("--steps", count, 5000, "steps to train")
    add("--sequences", count, 20, "sequences in a step")
    add("--context", count, 1024, "tokens in a sequence")
    add("--batch", count, None, "sequences at a time; otherwise as many as fit the GPU's memory")
    add("--layers", count, 12, "layers of the model")
    add("--heads", count, 12, "attention heads in a layer")
    add("--width", count, 768, "values per token between layers")
    add("--dropout", float, 0.1, "share that is left out while training")
    add("--precision", str, "fp16", "fp16 (mixed precision, on a GPU) or fp32")
    add("--lr", number, 6e-4, "AdamW's learning rate at its peak")
    add("--warmup", count, 200, "steps until the peak")
    add("--seed", int, 1, "start of the random numbers")
    add("--log-every", count, 10, "steps between two lines")
    add("--eval-every", count, 250, "steps between two evaluations")
    add("--eval-sequences", count, 100, "sequences in an evaluation")
    add("--patience", count, None, "stop after that many evaluations without a gain")
    add("--min-delta", float, 0.0, "a smaller gain than this counts as none")
    add("--target-loss", number, None, "stop when the validation loss is this low")
    add("--target-perplexity", number, None, "stop when the validation perplexity is this low")
    add("--checkpoints", Path, Path("checkpoints"), "their folder")
    add("--checkpoint-every", count, 500, "steps between two checkpoints")
    add("--keep", count, 2, "checkpoints to keep")
    parser.add_argument(
        "--checkpoint-activations", action="store_true", help="compute activations twice, to fit a small GPU"
    )
    args = parser.parse_args()
    if problem := mistake(args):
        parser.error(problem)
    return args


def mistake(args: argparse.Namespace) -> str:
    """What is wrong with flags that are right each for itself."""
    if args.precision not in ("fp16", "fp32"):
        return f"argument --precision: {args.precision!r} is neither fp16 nor fp32"
    if not 0 <= args.dropout < 1:
        return f"argument --dropout: {args.dropout} is not from 0 to below 1"
    if not 0 <= args.min_delta < math.inf:
        return f"argument --min-delta: {args.min_delta} is not a number from 0"
    if not 0 <= args.seed < 2**32:
        return f"argument --seed: {args.seed} is not from 0 to 2**32 - 1"
    if args.width % args.heads:
        return f"argument --width: {args.width} cannot be shared out to {args.heads} heads"
    if args.batch and args.sequences % args.batch:
        return f"argument --batch: {args.sequences} sequences cannot be had in batches of {args.batch}"
    return ""


def main() -> None:
    """Read the command line and train. Exits 0 when done or stopped by a signal, else 1 or 2 with a message."""
    args = arguments()
    disable_progress_bar()
    signals: list[str] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: signals.append(signal.Signals(received).name))
    try:
        if args.text:
            prepare(args.text, args.data, args.vocabulary)
        corpus = Corpus(args.data, args.context)
        parts = make_parts(args, corpus.meta["vocabulary"])
        train(args, parts, corpus, signals)
        accelerator = parts.accelerator
        del parts
        free_memory(accelerator)
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"train.py: {error}. Check the text, the folder given with --checkpoints, and the space on its disk.")


if __name__ == "__main__":
    main()
