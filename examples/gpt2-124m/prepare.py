"""Turn a text into what train.py reads: a tokeniser learned from that very text, and the text as tokens.

    python prepare.py corpus.txt          (python -m pip install numpy tokenizers)

The tokeniser is byte-level BPE, as GPT-2's: it can write down any text, and needs nothing from the internet. The last
twentieth of the text is for validation. It is safe to repeat: a text that was prepared already is left alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

try:
    import numpy as np
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
except ImportError as error:
    sys.exit(f"prepare.py: {error}. Install it with: python -m pip install numpy tokenizers")

VOCABULARY = 50257
"""As GPT-2's. A short text yields fewer."""
LARGEST_VOCABULARY = 2**16
VALIDATION_SHARE = 0.05
END_OF_TEXT = "<|endoftext|>"
PIECE_CHARS = 1 << 20
PIECES = 32


def pieces(path: Path) -> Iterator[str]:
    """The text in pieces of about a million characters, each up to the end of a line."""
    with path.open(encoding="utf-8", newline="") as file:  # line ends as they are
        while lines := file.readlines(PIECE_CHARS):
            yield "".join(lines)


def learn_tokenizer(path: Path, vocabulary: int) -> Tokenizer:
    """Byte-level BPE of at most that many tokens, learned from the text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(pieces(path), trainer)
    return tokenizer


def in_batches(items: Iterable[str]) -> Iterator[list[str]]:
    """Several pieces at a time: the tokeniser works on them with all cores."""
    iterator = iter(items)
    while batch := list(islice(iterator, PIECES)):
        yield batch


def write_tokens(path: Path, tokenizer: Tokenizer, target: Path) -> int:
    """Write the text as 16-bit numbers, and return how many there are."""
    count = 0
    with target.open("wb") as file:
        for batch in in_batches(pieces(path)):
            for encoded in tokenizer.encode_batch(batch):
                count += len(encoded.ids)
                file.write(np.array(encoded.ids, dtype=np.uint16).tobytes())
    return count


def digest(path: Path) -> str:
    """The text's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prepare(path: Path, folder: Path, vocabulary: int = VOCABULARY) -> dict[str, Any]:
    """Make `folder` hold that text: `tokenizer.json`, `tokens.bin`, and `meta.json`, which is written last.

    Returns what meta.json says. Raises OSError and UnicodeDecodeError for a text that cannot be read.
    """
    asked = {"text_sha256": digest(path), "vocabulary_asked": vocabulary}
    meta_path = folder / "meta.json"
    if meta_path.exists():
        meta: dict[str, Any] = json.loads(meta_path.read_text(encoding="utf-8"))
        if {key: meta.get(key) for key in asked} == asked:
            return meta
        meta_path.unlink()  # before the rest: a folder without it is not complete
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = learn_tokenizer(path, vocabulary)
    tokenizer.save(str(folder / "tokenizer.json"))
    count = write_tokens(path, tokenizer, folder / "tokens.bin")
    meta = {
        **asked,
        "text": path.name,
        "vocabulary": tokenizer.get_vocab_size(),
        "tokens": count,
        "validation_tokens": int(count * VALIDATION_SHARE),
    }
    partial = folder / "meta.json.partial"
    partial.write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    partial.replace(meta_path)
    return meta


def vocabulary_size(value: str) -> int:
    """An argparse type: all bytes and the end of text at least, and what 16 bits can count at most."""
    size = int(value) if value.isascii() and value.isdecimal() and len(value) < 9 else 0
    if not 257 <= size <= LARGEST_VOCABULARY:
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number from 257 to {LARGEST_VOCABULARY}")
    return size


def main() -> None:
    """Read the command line and prepare. Exits with 1 for a text that cannot be read."""
    parser = argparse.ArgumentParser(description="Turn a text into tokens for train.py.")
    parser.add_argument("text", type=Path, help="a UTF-8 text")
    parser.add_argument("--data", type=Path, default=Path("data"), metavar="DIR", help="where to (default: data)")
    parser.add_argument("--vocabulary", type=vocabulary_size, default=VOCABULARY, metavar="N", help="default: 50257")
    args = parser.parse_args()
    try:
        meta = prepare(args.text, args.data, args.vocabulary)
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"prepare.py: the text {args.text} cannot be read or written to {args.data}: {error}")
    print(
        f"{args.data}: {meta['tokens']:,} tokens of {args.text.name}, {meta['vocabulary']:,} different ones, "
        f"the last {meta['validation_tokens']:,} for validation"
    )


if __name__ == "__main__":
    main()
