"""Charts and sparklines in text."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from launcher.report.chart import ASCII_LEVELS, bar, dollar_chart, sparkline

FLOATS = st.floats(allow_nan=True, allow_infinity=True)


def test_a_sparkline_goes_from_the_lowest_block_to_the_highest() -> None:
    """Eight even steps use each of the eight blocks once."""
    assert sparkline(range(8), 8) == "▁▂▃▄▅▆▇█"


def test_a_long_series_is_thinned_and_keeps_its_newest_value() -> None:
    """A hundred values falling to the lowest fit into four characters that end at the lowest."""
    assert sparkline([100.0 - value for value in range(100)], 4) == "█▆▃▁"


@pytest.mark.parametrize(
    ("values", "width", "expected"),
    [
        ([], 8, ""),
        ([1.0, 2.0], 0, ""),
        ([3.0, 3.0], 8, "▅▅"),
        ([nan, inf, -inf], 8, "!!!"),
        ([1.0, nan, 2.0], 8, "▁!█"),
        ([-1.7e308, 1.7e308], 8, "▁█"),
    ],
)
def test_sparklines_of_unusual_series(values: list[float], width: int, expected: str) -> None:
    """Nothing, nothing new, no number, and numbers whose distance no float can hold."""
    assert sparkline(values, width) == expected


def test_a_sparkline_can_do_without_blocks() -> None:
    """For a terminal that cannot show them there are levels in ASCII."""
    assert sparkline(range(6), 6, ASCII_LEVELS) == "_.-=*#"


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, "...."), (0.49, "#..."), (0.5, "##.."), (1.0, "####"), (1.7, "####"), (-1.0, "....")]
)
def test_a_bar_is_full_only_at_the_whole(share: float, expected: str) -> None:
    """A bar rounds down, so that it does not look full before it is, and stays within its width."""
    assert bar(share, 4, "#", ".") == expected


def test_a_chart_shows_dollars_to_the_right_and_values_upwards() -> None:
    """Three points of a falling loss, with the extremes at the axes."""
    chart = dollar_chart([(0.0, 4.0), (1.0, 2.0), (2.0, 0.0)], width=11, height=3)
    assert chart == [
        "4 |*",
        "  |     *",
        "0 |          *",
        "  +-----------",
        "   $0    $2.00",
    ]


def test_a_value_that_is_no_number_stands_on_the_top_line() -> None:
    """A diverged training is seen at the dollars where it diverged."""
    chart = dollar_chart([(0.0, 2.0), (0.5, 1.0), (1.0, nan)], width=11, height=3)
    assert (chart[0], chart[2]) == ("2 |*         !", "1 |     *")


def test_a_chart_of_nothing_but_nan_still_has_its_axes() -> None:
    """No finite value gives no label, and no error."""
    assert dollar_chart([(1.0, nan)], width=8, height=2) == [" |       !", " |", " +--------", "  $0 $1.00"]


def test_a_loss_that_explodes_does_not_flatten_the_rest() -> None:
    """Values that span more than a thousandfold are charted by their logarithm, and the chart says so."""
    chart = dollar_chart([(0.0, 1.0), (0.5, 100.0), (1.0, 10_000.0)], width=11, height=3)
    assert chart[1].endswith("     *")
    assert chart[-1].strip() == "(logarithmic scale)"


def test_no_points_no_chart() -> None:
    """A job whose training told nothing has no chart."""
    assert dollar_chart([]) == []


@pytest.mark.parametrize(("usd", "label"), [(12.3, "$12.30"), (0.0123, "$0.0123"), (0.000123, "$0.000123")])
def test_small_spends_keep_their_digits(usd: float, label: str) -> None:
    """The label at the right end says the last point's dollars, however few."""
    assert dollar_chart([(usd, 1.0)])[-1].split()[-1] == label


@given(st.lists(st.tuples(st.floats(0, 1e6), FLOATS), min_size=1, max_size=60))
@example([(5e-324, 0.0)])
def test_every_series_can_be_charted(points: list[tuple[float, float]]) -> None:
    """Whatever a training printed: the chart has its size, is ASCII, and marks at least one point."""
    chart = dollar_chart(points, width=20, height=5)
    assert all(line.isascii() for line in chart)
    assert max(len(line.partition("|")[2]) for line in chart[:5]) <= 20
    assert any(mark in "".join(chart[:5]).replace("-", "") for mark in "*!")


@given(st.lists(FLOATS, max_size=100), st.integers(0, 30))
def test_every_series_has_a_sparkline(values: list[float], width: int) -> None:
    """One character for each value, and never more than asked for."""
    assert len(sparkline(values, width)) == min(len(values), width)
