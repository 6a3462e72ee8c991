"""Metrics in the lines that trainings print, each format recognised by its own shape.

A row is what one line says: numbers by name. `step`, `steps`, `epoch` and `epochs` say where the training stands and
how far it goes; `bar` and `bars` are the same from a progress bar. Sources: Trainer.log of Hugging Face transformers
5.23, keras.utils.Progbar 3.15, nanoGPT's train.py, llm.c's train_gpt2.cu and logger.h, tqdm 4.70.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

Row = dict[str, float]

LONGEST_LINE = 4096
_NUMBER = r"([-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?|nan|inf(?:inity)?))"


def _regex(text: str) -> re.Pattern[str]:
    return re.compile(text.replace("NUMBER", _NUMBER), re.IGNORECASE)


# Format: what a line must hold (cheap to test), how it begins, and the pairs of name and number after that.
_FORMATS = [
    ("hf", "'epoch': ", _regex(r".*?\{(?=')"), _regex(r"'([^']+)': '?([-+.\w]+)")),
    ("keras", "Epoch ", _regex(r"Epoch (?P<begun>\d+)/(?P<epochs>\d+)$"), _regex(r"$()()")),
    ("keras", "/step", _regex(r"(\d+)/\1 "), _regex(r" - ([\w./-]+): NUMBER")),
    ("nanogpt", "loss ", _regex(r"(?:step|iter) (?P<step>\d+): "), _regex(r"((?:train |val )?loss) NUMBER")),
    ("llmc", "| ", _regex(r"step +(?P<step>\d+)/(?P<steps>\d+) \|"), _regex(r" ((?:train )?[a-z]+) +NUMBER[ |]")),
    ("llmc", "val loss ", _regex(r"(?=val loss)"), _regex(r"(val loss) NUMBER$")),
    ("log", "s:", _regex(r"s:(?P<step>\d+) "), _regex(r"(\w+):NUMBER")),
]
_BAR = _regex(r"([^%|]*?):?\s*\d+%\|[^|]*\|\s*(\d+)/(\d+) \[([\d:]+)")
_WHOLE_RUN = _regex(r"(?!.*\d)($|.*(train|step|iter|optim)|.*epochs?$)")
_PLACE = _regex(r"\b((?:global[ _])?step|iter(?:ation)?|epoch)[ :=#\[]{1,4}(\d+(?:\.\d+)?)(?: ?(?:/|of) ?(\d+))?")
_TOTAL = _regex(r"\b(max_steps|max_iters|total optimization steps|num[_ ]epochs)['\" ]{0,2}[=:] ?(\d[\d,]*)")
_PAIR = _regex(
    r"(?<![\w./-])((?:(?:train|valid|val|eval|test)\w*[ -])?[a-z_][\w./-]{0,60})['\"]? {0,2}[=:] {0,3}['\"]?"
    r"NUMBER(?![\w:]|[./-]\d)"
)
_METRIC = _regex(r"loss|acc|err|perp|ppl|f1|auc|bleu|rouge|score|reward|mse|mae|norm|lr|learning|iou|bp|entropy|per_s")
_ANSI = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
_NAMES = {
    "iter": "step",
    "iteration": "step",
    "global_step": "step",
    "global step": "step",
    "trainer/global_step": "step",
    "max_steps": "steps",
    "max_iters": "steps",
    "total optimization steps": "steps",
    "num_epochs": "epochs",
    "num epochs": "epochs",
    "tel": "val_loss",
    "trl": "loss",
}


def numbers(pairs: Iterable[tuple[str, Any]]) -> Row:
    """The pairs whose value is a number, or text that reads as one; the first of a name counts."""
    row: Row = {}
    for name, value in pairs:
        try:
            row.setdefault(_NAMES.get(name) or name.replace(" ", "_"), float(value))
        except (ValueError, TypeError, OverflowError):
            continue  # text, a list, or a whole number beyond a float: no metric
    return row


def read_json(line: str) -> Row:
    """One object of JSON lines; an empty row for what is none."""
    try:
        return numbers(json.loads(line).items()) if line[:1] == "{" else {}
    except (ValueError, RecursionError):
        return {}


@lru_cache(1024)
def _is_metric(name: str) -> bool:
    return bool(_METRIC.search(name))


class LineReader:
    """Reads lines of one format, or of any (`auto`). It remembers what a later line leans on, such as the epoch.

    `patterns` are the user's own: `{name, regex}`, the first group is the value. `wanted` is a name that counts as a
    metric however odd it is.
    """

    def __init__(self, form: str = "auto", patterns: Iterable[dict[str, str]] = (), wanted: str = "") -> None:
        kinds = (form, "log" if form == "llmc" else "")
        self._formats = [each for each in _FORMATS if form == "auto" or each[0] in kinds]
        self._json = form in ("auto", "jsonl")
        self._generic = form == "auto"
        self._patterns = [(each["name"], re.compile(each["regex"])) for each in patterns]
        self._wanted = wanted
        self._places: dict[str, Row] = {}
        self._bar = ("", -1)

    def read(self, line: str) -> list[tuple[str, Row]]:
        """What the line says, as (format, row) pairs; nothing for a line without metrics."""
        line = line[:LONGEST_LINE]
        if "\x1b" in line:
            line = _ANSI.sub("", line)
        line = line.strip()
        rows = [self._read(line)] if line else []
        if self._patterns:
            pairs = [(name, found[1]) for name, regex in self._patterns if (found := regex.search(line))]
            rows.insert(0, ("regex", numbers(pairs)))
        return [each for each in rows if each[1]]

    def read_row(self, line: str) -> Row:
        """What the line says, whatever its format."""
        return {name: row[name] for _, row in reversed(self.read(line)) for name in row}

    def _read(self, line: str) -> tuple[str, Row]:
        if self._json and line[:2] == '{"' and line[-1] == "}":
            return "jsonl", read_json(line)
        for place, (name, must, head, pair) in enumerate(self._formats):
            begin = head.match(line) if must in line else None
            if begin:
                row = numbers([*begin.groupdict().items(), *pair.findall(line, begin.end() - 1)])
                if place and row:  # what was recognised is tried first from now on
                    self._formats.insert(0, self._formats.pop(place))
                if row:
                    return name, self._placed(name, row)
        if "%|" in line:
            return "bar", self._read_bar(line)
        return "generic", self._read_generic(line) if self._generic and "━" not in line and "it [" not in line else {}

    def _placed(self, name: str, row: Row) -> Row:
        """The row with the step or the epoch of the lines before it, for formats that say it on a line of its own."""
        place = self._places.setdefault(name, {})
        if "begun" in row:
            place.update(epoch=row.pop("begun"), epochs=row["epochs"])
            return {**row, "epoch": place["epoch"] - 1}  # the epoch before it is done
        row = {**place, **row}
        if name == "llmc":
            place["step"] = row.setdefault("step", 0.0)
        return row

    def _read_bar(self, line: str) -> Row:
        """A progress bar of the whole run. Bars of an evaluation or a download run inside it, so the longest counts."""
        found = _BAR.match(line)
        if not found or not _WHOLE_RUN.match(found[1]):
            return {}
        elapsed_s = 0
        for part in found[4].split(":"):
            elapsed_s = elapsed_s * 60 + int(part or 0)
        if found[3] != self._bar[0] and elapsed_s <= self._bar[1]:
            return {}
        self._bar = (found[3], elapsed_s)
        return {"bar": float(found[2]), "bars": float(found[3])}

    def _read_generic(self, line: str) -> Row:
        pairs: list[tuple[str, str]] = []
        if "=" in line or ":" in line:
            pairs += [pair for pair in _PAIR.findall(line) if _is_metric(pair[0]) or pair[0] == self._wanted]
        low = line.lower()
        if "step" in low or "epoch" in low or "iter" in low:
            for name, value, total in _PLACE.findall(low):
                pairs.append((name, value))
                if total:
                    pairs.append((_NAMES.get(name, name) + "s", total))
            if "max" in low or "num" in low or "total" in low:
                pairs += [(name, total.replace(",", "")) for name, total in _TOTAL.findall(low)]
        return numbers(pairs)
