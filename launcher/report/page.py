"""From the report's document to a page: the same sections as Markdown and as HTML.

The sections are built once, here, as plain text; the templates in templates/report only lay them out and escape, each
for its own format. So both pages say the same, and no text of a user or a training can break either.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from typing import Any

from launcher.core.money import usd_text
from launcher.report.chart import dollar_chart
from launcher.report.energy import energy_text, temperature_text
from launcher.report.metrics import number
from launcher.report.plain_text import plain

# Where Markdown (CommonMark, and GitHub's tables) could read a meaning into plain text. An underscore inside a word has
# none, and most metrics have one; nor has a dollar sign before a digit.
_MARKDOWN = re.compile(r"[\\`*\[\]<>&|~#]|(?<!\w)_|_(?!\w)|\$(?!\d)")
# Beyond this a duration reads better in hours; a rate is by the hour, too.
HOURS_FROM_S = 600
DASH = "-"


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of a page: a table of rows under a header, text as it is (with its line ends), or both."""

    title: str
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    text: str = ""
    caption: str = ""


def to_markdown(report: dict[str, Any]) -> str:
    """The report as Markdown (TRAINING.md)."""
    return _render("TRAINING.md.j2", report, autoescape=False)


def to_html(report: dict[str, Any]) -> str:
    """The report as one HTML page that needs no other file."""
    return _render("TRAINING.html.j2", report, autoescape=True)


def _render(name: str, report: dict[str, Any], *, autoescape: bool) -> str:
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        autoescape=autoescape,  # noqa: S701 - Markdown has an escape of its own
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"markdown": escape_markdown, "fence": fence}
    template = files("templates").joinpath("report", name).read_text(encoding="utf-8")
    job = report["job"]
    return environment.from_string(template).render(
        name=plain(job["name"]),
        words=plain(job["words"]),
        live=job["live"],
        made_at=report["made_at"],
        sections=sections(report),
    )


def escape_markdown(text: str) -> str:
    """Text for a table's cell or a heading: every mark that Markdown could act on, escaped."""
    return _MARKDOWN.sub(r"\\\g<0>", text)


def fence(text: str) -> str:
    """A fence for a code block that nothing inside the text can close."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return "`" * max(3, longest + 1)


def sections(report: dict[str, Any]) -> list[Section]:
    """What a page says, in order. Parts that nothing is known of are left out. All text is printable."""
    built = [
        _facts("Result", _result(report)),
        _command(report["ran"]),
        _attempts(report["attempts"]),
        _spend(report["spend"]),
        _metrics(report["metrics"]),
        _chart(report["metrics"]),
        _table("Checkpoints", ("Attempt", "Set", "Saved at", "Files", "Bytes"), _checkpoints(report["checkpoints"])),
        _facts("Energy and GPU", _energy(report)),
        _table("Events", ("Time (UTC)", "Attempt", "What happened"), _events(report["events"])),
        _table("Notes", ("Note",), [(note,) for note in report["job"]["notes"]]),
    ]
    return [section for section in built if section.rows or section.text]


def _table(title: str, header: tuple[str, ...], rows: list[tuple[Any, ...]], caption: str = "") -> Section:
    shown = tuple(tuple(DASH if cell in (None, "") else plain(cell) for cell in row) for row in rows)
    return Section(title=title, header=header, rows=shown, caption=caption)


def _facts(title: str, facts: list[tuple[str, Any]]) -> Section:
    return _table(title, ("", ""), [fact for fact in facts if fact[1] not in (None, "")])


def seconds(value: float) -> str:
    """A duration for a written record: `42.5 s`, from ten minutes on `4.31 h`."""
    return f"{value:.1f} s" if value < HOURS_FROM_S else f"{value / 3600:.2f} h"


def _usd(text: str) -> str:
    return usd_text(Decimal(text))


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _at_step(value: Any, step: Any) -> str:
    return _value(value) if step is None else f"{_value(value)} at step {_value(step)}"


def _result(report: dict[str, Any]) -> list[tuple[str, Any]]:
    job, times, spend, best = report["job"], report["times"], report["spend"], report["metrics"]["best"]
    live = job["live"]
    share = f"{spend['cap_share']:.1%} of the cap of {_usd(spend['cap_usd'])}"
    sure = "so far" if live else "confirmed" if spend["confirmed"] else "an upper bound: the exact end was not seen"
    outcome = " ".join(part for part in (job["outcome"], job["reason"] and f"({job['reason']})") if part)
    return [
        ("Job", f"{job['name']} ({job['id']})"),
        ("State", f"{job['state']}: this job is live, and its figures still change" if live else ""),
        ("Outcome", outcome),
        ("Exit code of the training", job["exit_code"]),
        ("Spent", f"{_usd(spend['usd'])}, {share} ({sure})"),
        ("Best", f"{report['metrics']['main']} {_at_step(best['value'], best['step'])}" if best else ""),
        ("Launched", times["created_at"]),
        ("Billed from", times["started_at"]),
        ("Ended", times["ended_at"]),
        ("Lasted", seconds(times["lasted_s"])),
        ("Billed", seconds(times["billed_s"])),
        ("Forecast", _forecast(report["progress"]) if live else ""),
        ("Trouble", job["trouble"]),
    ]


def _forecast(progress: dict[str, Any] | None) -> str:
    if not progress or "eta_s" not in progress:
        return ""
    cost = f", and will have cost {_usd(str(progress['cost_usd']))}" if "cost_usd" in progress else ""
    fits = "" if progress.get("fits", True) else "; that does not fit"
    return f"done in {seconds(progress['eta_s'])}{cost}{fits}"


def _command(ran: dict[str, Any]) -> Section:
    facts = [
        ("Image", ran["image"]),
        ("Folder", ran["workdir"]),
        ("Job file", ran["job_file"]),
        ("Early stop", _settings(ran["early_stop"])),
        ("Checkpoints", _settings(ran["checkpoints"])),
        ("Store", ran["store"]),
    ]
    table = _facts("Command", facts)
    text = plain(shlex.join(ran["command"]), lines=True)
    return Section(title="Command", header=table.header, rows=table.rows, text=text)


def _settings(settings: dict[str, Any] | None) -> str:
    """Keys and values in one line, without those that say that something is off."""
    told = {key: value for key, value in (settings or {}).items() if value not in (None, False)}
    return ", ".join(key if value is True else f"{key} {_value(value)}" for key, value in told.items())


def _attempts(attempts: list[dict[str, Any]]) -> Section:
    header = ("Attempt", "Where", "Machine", "Billed", "Rate per hour", "Cost", "Ending")
    rows = [
        (
            each["attempt"],
            ", ".join(part for part in (each["provider"], each["region"], each["zone"]) if part),
            _machine(each),
            seconds(each["billed_s"]) if each["created"] else "never created",
            _usd(each["rate_usd_per_hour"]),
            _usd(each["cost_usd"]),
            each["words"] or each["reason"] or each["state"],
        )
        for each in attempts
    ]
    return _table("Machines", header, rows)


def _machine(attempt: dict[str, Any]) -> str:
    market = "spot" if attempt["spot"] else "on demand"
    made = f" {attempt['machine_id']}" if attempt["machine_id"] else ""
    return f"{attempt['instance_type']} ({market}){made}"


def _spend(spend: dict[str, Any]) -> Section:
    rows = [
        (
            part["attempt"],
            part["name"],
            f"{_usd(part['rate_usd_per_hour'])} per hour for {seconds(part['charged_s'])}"
            if "rate_usd_per_hour" in part
            else "once",
            _usd(part["usd"]),
            part["source"],
        )
        for part in spend["parts"]
    ]
    total = [("", "total", "", _usd(spend["usd"]), "")] if rows else []
    caption = "Rates are the worst that the machine may cost, as the cap counts them. Amounts are rounded up."
    return _table("Spend", ("Attempt", "Part", "How much", "USD", "Source"), [*rows, *total], caption)


def _metrics(metrics: dict[str, Any]) -> Section:
    rows = [
        (
            each["name"],
            _value(each.get("value")),
            each.get("step"),
            _at_step(each.get("best"), each.get("best_step")),
            each.get("seen"),
        )
        for each in metrics["last"]
    ]
    caption = f"{metrics['main']} is the metric that early_stop monitors." if metrics["monitored"] else ""
    return _table("Metrics", ("Metric", "Last", "Step", "Best", "Values seen"), rows, plain(caption))


def _chart(metrics: dict[str, Any]) -> Section:
    points = [(float(point["usd"]), number(point["value"])) for point in metrics["points"]]
    title = f"{plain(metrics['main'])} against dollars"
    return Section(title=title, text="\n".join(dollar_chart(points)))


def _checkpoints(checkpoints: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(each.get(key) for key in ("attempt", "n", "at", "files", "bytes")) for each in checkpoints]


def _energy(report: dict[str, Any]) -> list[tuple[str, Any]]:
    energy = report["energy"]
    facts: list[tuple[str, Any]] = []
    if energy:
        facts.append(("Energy", energy_text(energy)))
        facts.append(("Power", f"{energy['watts']:g} W on average"))
    if report["temperature"]:
        facts.append(("GPU temperature", temperature_text(report["temperature"])))
    for index, gpu in enumerate(report["gpu"]):
        facts.append((f"GPU {index}, last reading", _settings(gpu)))
    return facts


def _events(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(each["at"], each["attempt"], each["text"]) for each in events]
