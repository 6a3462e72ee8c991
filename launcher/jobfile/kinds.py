"""The kinds of scalars that the job file and the configuration share: text, numbers, dollars, durations, choices."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from launcher.core.money import LARGEST_USD, parse_usd
from launcher.jobfile.document import closest
from launcher.jobfile.schema import Value

NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
DURATION_UNITS_S = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
LONGEST_DURATION_S = 365 * 86_400
_DURATION = "".join(rf"(?:([0-9]+(?:\.[0-9]+)?){unit})?" for unit in DURATION_UNITS_S)
_EXAMPLES = "8h, 1h30m, 90m, 45s or 2d"
_LONGEST_TEXT = 4096
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def parse_duration(text: str, *, zero: bool = False) -> float:
    """Seconds from a duration such as `8h` or `1h30m`; above zero unless `zero` is allowed.

    Raises ValueError with a sentence for the user.
    """
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise ValueError(f"has no unit; write {text}s, {text}m or {text}h")
    match = re.fullmatch(_DURATION, text)
    if not text or match is None:
        raise ValueError(f"is not a duration, such as {_EXAMPLES}")
    units = zip(match.groups(), DURATION_UNITS_S.values(), strict=True)
    seconds = sum(float(count) * unit_s for count, unit_s in units if count)
    if seconds == 0 and not zero:
        raise ValueError("must be above zero")
    if seconds > LONGEST_DURATION_S:
        raise ValueError("is longer than a year")
    return seconds


def duration_text(seconds: float) -> str:
    """A whole number of seconds as one would write it: `10m`, `8h`; minutes and seconds up to a minute and a half."""
    for unit, unit_s in DURATION_UNITS_S.items():
        if seconds >= unit_s and seconds % unit_s == 0 and (unit != "m" or seconds > 90):
            return f"{seconds / unit_s:g}{unit}"
    return f"{seconds:g}s"


def duration(*, zero: bool = False) -> Value:
    """A duration, read as seconds."""
    return Value(
        lambda text: parse_duration(text, zero=zero),
        f"a duration, such as {_EXAMPLES}",
        {"type": "string", "pattern": f"^{_DURATION}$", "minLength": 2},
        duration_text,
    )


def text(allowed: str, *, longest: int = 200) -> Value:
    """Any text on one line, not empty."""

    def parse(found: str) -> str:
        if not found.strip():
            raise ValueError(f"is empty; write {allowed}")
        if len(found) > longest:
            raise ValueError(f"is longer than {longest} characters")
        if not found.isprintable():
            raise ValueError("holds a line break or a control character")
        return found

    return Value(parse, allowed, {"type": "string", "minLength": 1, "maxLength": longest})


def matching(pattern: str, allowed: str, *, longest: int = _LONGEST_TEXT) -> Value:
    """A text that the whole of `pattern` matches."""

    def parse(found: str) -> str:
        if len(found) > longest or not re.fullmatch(pattern, found):
            raise ValueError
        return found

    return Value(parse, allowed, {"type": "string", "pattern": f"^(?:{pattern})$", "maxLength": longest})


def choice(*names: str) -> Value:
    """One of the names."""

    def parse(found: str) -> str:
        if found not in names:
            meant = closest(found, list(names))
            raise ValueError(f"is not one of: {', '.join(names)}{f'; did you mean {meant!r}?' if meant else ''}")
        return found

    return Value(parse, f"one of: {', '.join(names)}", {"enum": list(names)})


def whole(least: int, most: int) -> Value:
    """A whole number between two bounds, both allowed."""

    def parse(found: str) -> int:
        # More digits than any bound has: refuse before Python refuses to convert.
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", found) or not least <= int(found) <= most:
            raise ValueError
        return int(found)

    return Value(
        parse,
        f"a whole number from {least} to {most}",
        {"type": ["integer", "string"], "minimum": least, "maximum": most, "pattern": "^[+-]?[0-9]+$"},
    )


def real(*, least: float | None = None) -> Value:
    """A finite number, read as float; `1e-4` is one."""
    allowed = "a number, such as 0.001 or 1e-4" if least is None else f"a number of at least {least:g}"

    def parse(found: str) -> float:
        if not re.fullmatch(NUMBER, found):
            raise ValueError
        number = float(found)
        if abs(number) == float("inf"):
            raise ValueError("is too large a number")
        if least is not None and number < least:
            raise ValueError
        return number

    schema = {"type": ["number", "string"], "pattern": f"^{NUMBER}$"}
    return Value(parse, allowed, schema if least is None else {**schema, "minimum": least})


def decimal(allowed: str, *, most: int, zero: bool = False) -> Value:
    """A number that is counted with money, read as Decimal: above zero unless `zero` is allowed, at most `most`."""

    def parse(found: str) -> Decimal:
        if not re.fullmatch(NUMBER, found):
            raise ValueError
        try:
            number = Decimal(found)
        except InvalidOperation:
            raise ValueError("has an exponent beyond any amount") from None
        if number < 0 or (number == 0 and not zero):
            raise ValueError("must be above zero" if not zero else "must not be below zero")
        if number > most:
            raise ValueError(f"must be at most {most}")
        # Finer than any price, and it keeps 1e-999999 out.
        if number != round(number, 9):
            raise ValueError("has more than nine decimals")
        return number

    bound = "minimum" if zero else "exclusiveMinimum"
    schema = {"type": ["number", "string"], bound: 0, "maximum": most, "pattern": f"^{NUMBER}$"}
    return Value(parse, allowed, schema, lambda value: int(value) if value == int(value) else float(value))


def _boolean(found: str) -> bool:
    try:
        return _BOOLEANS[found.lower()]
    except KeyError:
        raise ValueError from None


DURATION = duration()
BOOLEAN = Value(_boolean, "true or false", {"enum": [True, False, "yes", "no", "on", "off"]})
DOLLARS = Value(
    parse_usd,
    "an amount in dollars, such as 5 or 4.50",
    {
        "type": ["number", "string"],
        "exclusiveMinimum": 0,
        "maximum": int(LARGEST_USD),
        "pattern": r"^\s*\$?\s*" + NUMBER + "$",
    },
)
