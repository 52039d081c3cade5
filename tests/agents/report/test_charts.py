"""Charts: well-formed, to scale, and honest about their axes."""

import itertools
import xml.etree.ElementTree as ElementTree

import pytest

from procosm.agents.report.charts import HEIGHT, WIDTH, Bar, Cloud, Line, bar_chart, line_chart, scatter_chart, ticks


def shapes(chart: str, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(f"<div>{chart}</div>").iter(tag))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0.037), (-3, 12), (5, 5), (0, 1000), (1e4, 2.3e6)])
def test_ticks_are_round_and_cover_the_data(low, high):
    found = ticks(low, high)
    assert found[0] <= low and found[-1] >= high and 3 <= len(found) <= 8
    steps = {round(b - a, 9) for a, b in itertools.pairwise(found)}
    assert len(steps) == 1


def test_a_curve_is_drawn_to_scale_with_its_band():
    chart = line_chart([Line("a", [(0, 0, 0, 1), (10, 5, 4, 6), (20, 10, 9, 11)], 1)], "x", "title")
    points = [tuple(map(float, p.split(","))) for p in shapes(chart, "polyline")[0].get("points").split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.1) and y1 == pytest.approx((y0 + y2) / 2, abs=0.1)
    assert y0 > y1 > y2 and all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert len(shapes(chart, "polygon")[0].get("points").split()) == 6


def test_zero_is_on_the_axis_so_that_small_differences_do_not_look_large():
    chart = line_chart([Line("a", [(0, 99), (1, 100)], 1)], "x", "title")
    assert "0" in [text.text for text in shapes(chart, "text")]


def test_bars_are_as_long_as_their_values_on_both_sides_of_zero():
    bars = [Bar("plus", 10.0, "10"), Bar("half", 5.0, "5"), Bar("minus", -5.0, "-5", low=-6, high=-4)]
    plus, half, minus = shapes(bar_chart(bars, "title"), "rect")
    assert float(half.get("width")) == pytest.approx(float(plus.get("width")) / 2, abs=0.2)
    assert float(minus.get("width")) == pytest.approx(float(half.get("width")), abs=0.2)
    assert float(minus.get("x")) < float(plus.get("x"))


def test_names_are_text_not_markup():
    chart = line_chart([Line("<b>&", [(0, 1), (1, 2)], 1), Line("c", [(0, 1)], 2)], "a < b", 'a "title"')
    assert "&lt;b&gt;&amp;" in chart and shapes(chart, "svg")[0].get("aria-label") == 'a "title"'


def test_doublings_are_equally_wide():
    points = [(step, 1.0) for step in (1, 2, 4, 8)]
    path = shapes(line_chart([Line("a", points, 1)], "x", "title", doubling=True), "polyline")[0].get("points")
    xs = [float(point.split(",")[0]) for point in path.split()]
    gaps = [b - a for a, b in itertools.pairwise(xs)]
    assert gaps == pytest.approx([gaps[0]] * 3, abs=0.2)


def test_a_scatter_has_equal_axes_and_its_diagonal_goes_through_equal_values():
    chart = scatter_chart([Cloud("a", [(0.0, 0.0), (10.0, 10.0), (10.0, 0.0)], ["p", "q", "<r>"], 1)], "x", "y", "t")
    (x0, y0), (x1, y1), (x2, y2) = ((float(c.get("cx")), float(c.get("cy"))) for c in shapes(chart, "circle"))
    assert x1 - x0 == pytest.approx(y0 - y1, abs=0.2) and (x2, y2) == (x1, y0)
    line = next(each for each in shapes(chart, "line") if each.get("class") == "ref")
    assert (float(line.get("x1")), float(line.get("y1"))) == (x0, y0)
    assert [title.text for title in shapes(chart, "title")] == ["p", "q", "<r>"]
