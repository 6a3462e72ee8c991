"""Train a small character language model on a CPU, with NumPy alone.

The model predicts the next character from the last 16: an embedding, one hidden layer, a softmax (the neural language
model of Bengio et al., 2003), trained with AdamW (Loshchilov and Hutter, 2019). It prints one line for each
evaluation, saves a checkpoint now and then, goes on from the last one when it is started again, and saves when it gets
SIGTERM. Losses are the mean cross-entropy in nats per character.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import os
import signal
import sys
import time
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

try:
    import numpy as np
except ImportError:
    sys.exit("train.py: this Python has no NumPy. Install it with: python -m pip install -r requirements.txt")

CONTEXT = 16
EMBEDDING = 24
HIDDEN = 512
BATCH = 256
WEIGHT_DECAY = 0.3
EVAL_WINDOWS = 4096
VALIDATION_SHARE = 0.1
KEEP = 3
SAMPLE_CHARS = 300
TEMPERATURE = 0.7

HERE = Path(__file__).resolve().parent


class Text(NamedTuple):
    """A text as numbers: every character is its place in `alphabet`."""

    alphabet: str
    train: np.ndarray
    validation: np.ndarray
    digest: str


def read_text(path: Path, train_chars: int | None) -> Text:
    """Read a UTF-8 text; its last tenth is for validation, and of the rest the first `train_chars` are for training."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"train.py: the text {path} cannot be read: {error}. Name another with --data.")
    alphabet = "".join(sorted(set(text)))
    place = {character: index for index, character in enumerate(alphabet)}
    ids = np.array([place[character] for character in text], dtype=np.int64)
    split = int(len(ids) * (1 - VALIDATION_SHARE))
    train, validation = ids[: split if train_chars is None else min(train_chars, split)], ids[split:]
    if len(train) - CONTEXT < BATCH or len(validation) <= CONTEXT:
        sys.exit(
            f"train.py: {len(train)} characters to train on and {len(validation)} to validate with are too few: "
            f"at least {CONTEXT + BATCH} and {CONTEXT + 1} are needed. Use a longer --data or a larger --train-chars."
        )
    return Text(alphabet, train, validation, hashlib.sha256(text.encode()).hexdigest())


def windows(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every run of CONTEXT characters, and the character that follows each."""
    return np.lib.stride_tricks.sliding_window_view(ids, CONTEXT)[:-1], ids[CONTEXT:]


def some_windows(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same at most EVAL_WINDOWS windows each time, spread evenly, so that losses can be compared."""
    x, y = windows(ids)
    chosen = np.linspace(0, len(y) - 1, min(EVAL_WINDOWS, len(y))).astype(np.int64)
    return x[chosen], y[chosen]


class Model:
    """The network. All weights are one vector, which keeps the rest short; `parts` are views into it."""

    def __init__(self, characters: int, rng: np.random.Generator) -> None:
        self.shapes = {
            "embedding": (characters, EMBEDDING),
            "hidden": (CONTEXT * EMBEDDING, HIDDEN),
            "hidden_bias": (HIDDEN,),
            "output": (HIDDEN, characters),
            "output_bias": (characters,),
        }
        size = sum(math.prod(shape) for shape in self.shapes.values())
        self.weights = np.zeros(size, dtype=np.float32)
        self.gradient = np.zeros(size, dtype=np.float32)
        self.parts, self.gradients = self._views(self.weights), self._views(self.gradient)
        for name, scale in (("embedding", 1.0), ("hidden", 1 / math.sqrt(CONTEXT * EMBEDDING)), ("output", 0.01)):
            self.parts[name][:] = rng.normal(0, scale, self.shapes[name])

    def _views(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        ends = np.cumsum([math.prod(shape) for shape in self.shapes.values()])
        pieces = np.split(vector, ends[:-1])
        return {name: piece.reshape(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The embedded context, the hidden layer, and the log-probability of each next character."""
        parts = self.parts
        embedded = parts["embedding"][x].reshape(len(x), CONTEXT * EMBEDDING)
        hidden = np.tanh(embedded @ parts["hidden"] + parts["hidden_bias"])
        scores = hidden @ parts["output"] + parts["output_bias"]
        scores -= scores.max(axis=1, keepdims=True)
        return embedded, hidden, scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))

    def loss(self, x: np.ndarray, y: np.ndarray) -> float:
        """The mean cross-entropy, in nats per character."""
        return float(-self.forward(x)[2][np.arange(len(y)), y].mean())

    def backward(self, x: np.ndarray, y: np.ndarray) -> None:
        """Fill `gradient` with the derivative of the loss of these windows, from the last layer back to the first."""
        parts, gradients = self.parts, self.gradients
        embedded, hidden, log_probabilities = self.forward(x)
        d_scores = np.exp(log_probabilities)
        d_scores[np.arange(len(y)), y] -= 1
        d_scores /= len(y)
        gradients["output"][:] = hidden.T @ d_scores
        gradients["output_bias"][:] = d_scores.sum(axis=0)
        d_hidden = (d_scores @ parts["output"].T) * (1 - hidden * hidden)
        gradients["hidden"][:] = embedded.T @ d_hidden
        gradients["hidden_bias"][:] = d_hidden.sum(axis=0)
        d_embedded = (d_hidden @ parts["hidden"].T).reshape(-1, EMBEDDING)
        # A product with one-hot rows adds up the repeated characters, and is much faster than np.add.at.
        one_hot = np.eye(len(parts["embedding"]), dtype=np.float32)[x.reshape(-1)]
        gradients["embedding"][:] = one_hot.T @ d_embedded


class Adam:
    """The AdamW optimiser: Adam with its paper's constants, and a decay that pulls every weight towards zero."""

    def __init__(self, size: int, lr: float) -> None:
        self.lr = lr
        self.mean = np.zeros(size, dtype=np.float32)
        self.square = np.zeros(size, dtype=np.float32)

    def update(self, weights: np.ndarray, gradient: np.ndarray, step: int) -> None:
        """Move the weights one step (counted from 1) against the gradient."""
        self.mean += 0.1 * (gradient - self.mean)
        self.square += 0.001 * (gradient * gradient - self.square)
        weights *= np.float32(1 - self.lr * WEIGHT_DECAY)
        rate = self.lr * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        weights -= np.float32(rate) * self.mean / (np.sqrt(self.square) + np.float32(1e-8))


class Batches:
    """Every training window once per epoch, in a new random order each time.

    Its state is the generator as it was when the epoch began, and how far the epoch has come.
    """

    def __init__(self, ids: np.ndarray, rng: np.random.Generator) -> None:
        self.x, self.y = windows(ids)
        self.rng = rng
        self._shuffle()

    def _shuffle(self) -> None:
        self.epoch_state = self.rng.bit_generator.state
        self.order = self.rng.permutation(len(self.y))
        self.position = 0

    def next(self) -> tuple[np.ndarray, np.ndarray]:
        """The next BATCH windows."""
        if self.position + BATCH > len(self.order):
            self._shuffle()
        chosen = self.order[self.position : self.position + BATCH]
        self.position += BATCH
        return self.x[chosen], self.y[chosen]

    def restore(self, epoch_state: dict[str, Any], position: int) -> None:
        """Go on exactly where a checkpoint was made."""
        self.rng.bit_generator.state = epoch_state
        self._shuffle()
        self.position = position


class Checkpoints:
    """A folder of `step-000200.npz` files. Each is complete or absent, whatever stops the process and when."""

    FIELDS = frozenset({"configuration", "step", "weights", "adam_mean", "adam_square", "epoch_state", "position"})
    UNREADABLE = (OSError, ValueError, TypeError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile)

    def __init__(self, folder: Path, configuration: dict[str, Any]) -> None:
        self.folder = folder
        self.configuration = json.dumps(configuration, sort_keys=True)
        folder.mkdir(parents=True, exist_ok=True)

    def _by_step(self) -> list[tuple[int, Path]]:
        found = [(path.stem.removeprefix("step-"), path) for path in self.folder.glob("step-*.npz")]
        return sorted((int(step), path) for step, path in found if step.isdecimal())

    def save(self, step: int, model: Model, adam: Adam, batches: Batches) -> Path:
        """Write one checkpoint: to a temporary file, to the disk, and only then under its name. Keeps the last KEEP."""
        path, temporary = self.folder / f"step-{step:06d}.npz", self.folder / ".partial"
        with temporary.open("wb") as file:
            np.savez(
                file,
                configuration=np.array(self.configuration),
                step=np.array(step),
                weights=model.weights,
                adam_mean=adam.mean,
                adam_square=adam.square,
                epoch_state=np.array(json.dumps(batches.epoch_state)),
                position=np.array(batches.position),
            )
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        for _, old in [found for found in self._by_step() if found[0] <= step][:-KEEP]:
            old.unlink()
        return path

    def latest(self) -> tuple[Path, dict[str, np.ndarray]] | None:
        """The readable checkpoint with the highest step; a torn or foreign file is named and passed over."""
        for step, path in reversed(self._by_step()):
            try:
                # The checksums first: a damaged header makes NumPy raise nearly anything.
                with zipfile.ZipFile(path) as archive:
                    if damaged := archive.testzip():
                        raise ValueError(f"{damaged!r} is damaged")
                with np.load(path, allow_pickle=False) as file:
                    state = {name: file[name] for name in file.files}
                if missing := self.FIELDS - set(state):
                    raise ValueError(f"without {', '.join(sorted(missing))}")
                if int(state["step"]) != step:
                    raise ValueError(f"inside it is step {int(state['step'])}")
            except self.UNREADABLE as error:
                say(f"skipped {path}: not a whole checkpoint of this program ({error})")
                continue
            return path, state
        return None

    def put_aside(self) -> Path:
        """Move the checkpoints of an earlier run into a folder of their own, so that two runs never mix."""
        numbered = (self.folder / f"earlier-{number}" for number in itertools.count(1))
        aside = next(path for path in numbered if not path.exists())
        aside.mkdir()
        # The last checkpoint moves last: if this is cut short, the next start finds it and moves the rest.
        for _, path in self._by_step():
            path.rename(aside / path.name)
        return aside


def restore(checkpoints: Checkpoints, steps: int, model: Model, adam: Adam, batches: Batches) -> int:
    """Go on from the last checkpoint if there is one to go on from. Returns the number of steps already done."""
    found = checkpoints.latest()
    if found is None:
        return 0
    path, state = found
    step = int(state["step"])
    reason = ""
    if str(state["configuration"]) != checkpoints.configuration:
        reason = "was made with other settings or another text"
    elif step >= steps:
        reason = f"has already reached step {step}/{steps}"
    if reason:
        say(f"starting anew: {path} {reason}; earlier checkpoints are now in {checkpoints.put_aside()}")
        return 0
    model.weights[:] = state["weights"]
    adam.mean[:] = state["adam_mean"]
    adam.square[:] = state["adam_square"]
    batches.restore(json.loads(str(state["epoch_state"])), int(state["position"]))
    say(f"resumed from {path} at step {step}/{steps}")
    return step


def sample(model: Model, text: Text, rng: np.random.Generator) -> str:
    """SAMPLE_CHARS characters of the model's own, after the first window of the validation text."""
    context, written = list(text.validation[:CONTEXT]), []
    for _ in range(SAMPLE_CHARS):
        scores = model.forward(np.array([context[-CONTEXT:]]))[2][0] / TEMPERATURE
        # The largest of scores plus Gumbel noise is a draw from the softmax (Gumbel, 1954).
        context.append(int(np.argmax(scores + rng.gumbel(size=len(scores)))))
        written.append(text.alphabet[context[-1]])
    return "".join(written)


def say(line: str) -> None:
    """Print one line at once, even into a pipe."""
    print(line, flush=True)


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
    parser = argparse.ArgumentParser(description="Train a small character language model on a CPU.")
    count = positive(int)
    parser.add_argument("--steps", type=count, default=4000, metavar="N", help="steps to train (default: 4000)")
    parser.add_argument("--eval-every", type=count, default=100, metavar="N", help="default: 100")
    parser.add_argument("--checkpoint-every", type=count, default=200, metavar="N", help="default: 200")
    parser.add_argument(
        "--checkpoints",
        type=Path,
        default=Path("checkpoints"),
        metavar="DIR",
        help="their folder (default: checkpoints)",
    )
    parser.add_argument("--seed", type=int, default=1, help="start of the random numbers (default: 1)")
    parser.add_argument(
        "--data",
        type=Path,
        default=HERE / "sonnets.txt",
        metavar="FILE",
        help="a UTF-8 text (default: the sonnets beside this program)",
    )
    parser.add_argument("--train-chars", type=count, metavar="N", help="train on the first N characters only")
    parser.add_argument("--lr", type=positive(float), default=1e-3, help="Adam's learning rate (default: 0.001)")
    args = parser.parse_args()
    if args.seed < 0:
        parser.error("argument --seed: must not be negative")
    return args


def configuration(args: argparse.Namespace, text: Text) -> dict[str, Any]:
    """All that the loss curve depends on: a checkpoint is continued only where this is the same."""
    model = [CONTEXT, EMBEDDING, HIDDEN, BATCH, WEIGHT_DECAY]
    return {"model": model, "lr": args.lr, "seed": args.seed, "text": text.digest, "train_chars": len(text.train)}


def train(args: argparse.Namespace, text: Text, stopping: list[str]) -> None:
    """Train until --steps is reached or `stopping` holds a signal's name."""
    rng = np.random.default_rng(args.seed)
    model = Model(len(text.alphabet), rng)
    adam = Adam(len(model.weights), args.lr)
    batches = Batches(text.train, rng)
    checkpoints = Checkpoints(args.checkpoints, configuration(args, text))
    some_train, some_validation = some_windows(text.train), some_windows(text.validation)
    first = restore(checkpoints, args.steps, model, adam, batches)
    say(f"{len(model.weights)} weights, {len(text.train)} characters to train on, {len(text.alphabet)} different ones")

    seconds, trained = 0.0, 0
    for step in range(first + 1, args.steps + 1):
        started = time.perf_counter()
        model.backward(*batches.next())
        adam.update(model.weights, model.gradient, step)
        seconds, trained = seconds + time.perf_counter() - started, trained + BATCH
        if step % args.eval_every == 0 or step == args.steps:
            train_loss, val_loss = model.loss(*some_train), model.loss(*some_validation)
            speed = trained / seconds
            say(f"step {step}/{args.steps} {train_loss=:.4f} {val_loss=:.4f} tokens_per_s={speed:.0f}")
            seconds, trained = 0.0, 0
        # Asked once a step: a signal that comes after this line is answered at the end of the next step.
        stop = bool(stopping)
        if stop or step % args.checkpoint_every == 0 or step == args.steps:
            path = checkpoints.save(step, model, adam, batches)
        if stop and step < args.steps:
            say(f"stopped by {stopping[0]} at step {step}/{args.steps}: saved {path}")
            return
    say(f"finished at step {args.steps}/{args.steps}: saved {path}")
    say(f"a sample:\n{sample(model, text, np.random.default_rng(args.seed))}")


def main() -> None:
    """Read the command line and train. Exits 0 when finished or stopped by a signal, else 1 or 2 with a message."""
    args = arguments()
    stopping: list[str] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: stopping.append(signal.Signals(received).name))
    try:
        train(args, read_text(args.data, args.train_chars), stopping)
    except OSError as error:
        sys.exit(f"train.py: {error}. Check the folder given with --checkpoints, and the space on its disk.")


if __name__ == "__main__":
    main()
