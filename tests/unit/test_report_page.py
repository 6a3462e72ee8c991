"""The pages of a report: the same as Markdown and as HTML, and no text can break either."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from report_makers import evil_report, gone, made, report_of

from launcher.report.page import escape_markdown, sections, to_html, to_markdown


def test_no_text_breaks_a_markdown_table() -> None:
    """Each row has as many cells as its header, whatever a command, a metric's name or a note holds."""
    lines = to_markdown(evil_report()).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    tables = "\n".join(line if line.startswith("|") else "" for line in lines).split("\n\n")
    cells = [{len(re.findall(r"(?<!\\)\|", row)) for row in table.split("\n") if row} for table in tables]
    assert all(len(counts) <= 1 for counts in cells)
    assert len(rows) > 20


def test_no_text_starts_a_heading_a_link_or_a_tag_in_markdown() -> None:
    """Outside code, the marks of Markdown in a user's text are escaped."""
    page = to_markdown(evil_report())
    outside = re.sub(r"(?ms)^(`{3,})text$.*?^\1$", "", page)
    headings = re.findall(r"(?m)^#+ .*", outside)
    titles = ("# tiny", "## Result", "## Command", "## Machines", "## Spend", "## Metrics", "## Checkpoints")
    assert [heading for heading in headings if "against dollars" not in heading] == [
        *titles,
        "## Energy and GPU",
        "## Events",
        "## Notes",
    ]
    assert re.findall(r"(?<!\\)(?:<|\[|`(?!``))", outside) == []


def test_a_command_cannot_close_its_code_block() -> None:
    """The fence is longer than any run of backticks in the command."""
    assert "`````text\nbash -c " in to_markdown(evil_report())


def test_nothing_on_a_page_moves_the_cursor() -> None:
    """Control characters and marks that turn the reading direction are shown as escapes."""
    for page in (to_markdown(evil_report()), to_html(evil_report())):
        assert [char for char in page if not char.isprintable() and char != "\n"] == []
        assert "x1b" in page


class Page(HTMLParser):
    """The tags and the text of an HTML page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag, and what it would load."""
        self.tags.append(tag)
        self.links += [name for name, _ in attrs if name in ("src", "href", "style", "onclick")]

    def handle_data(self, data: str) -> None:
        """Note the text."""
        self.text += data


def test_the_html_page_is_escaped_and_stands_alone() -> None:
    """No tag comes from a user's text, and nothing is loaded from elsewhere."""
    page = Page()
    page.feed(to_html(evil_report()))
    assert "script" not in page.tags
    assert page.links == []
    assert "<script>alert(1)</script>" in page.text


def test_both_pages_say_the_same() -> None:
    """Every cell and every text of the sections is on the HTML page as it is, and in Markdown escaped."""
    report = evil_report()
    html = Page()
    html.feed(to_html(report))
    markdown = to_markdown(report)
    for section in sections(report):
        for cell in (*section.header, *(cell for row in section.rows for cell in row), section.caption):
            assert cell in html.text
            assert escape_markdown(cell) in markdown
        assert section.text in html.text
        assert section.text in markdown


def test_names_keep_their_underscores_readable() -> None:
    """Inside a word an underscore means nothing to Markdown, and neither does a dollar sign before a digit."""
    assert escape_markdown("val_loss of $5.00, _x_ $y$") == r"val_loss of $5.00, \_x\_ \$y\$"


def test_pages_end_with_a_line_end() -> None:
    """As text files do."""
    report = report_of(gone(), [made()])
    assert (to_markdown(report)[-2:], to_html(report)[-8:]) == (".\n", "</html>\n")
