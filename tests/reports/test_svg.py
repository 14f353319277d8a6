"""Charts as SVG: well-formed, within their frame, values where the axes say."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugan.reports.blocks import chart
from frugan.reports.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, draw
from frugan.tracking.report.charts import Chart, Line, Series

FINITE = st.floats(-1e9, 1e9, allow_subnormal=False)


def points(svg: str) -> list[tuple[float, float]]:
    texts = re.findall(r'<poly(?:line|gon)[^>]* points="([^"]*)"', svg)
    return [(float(x), float(y)) for text in texts for x, y in (p.split(",") for p in text.split())]


def drawn(**options: Any) -> str:
    made = {"title": "t", "x": [0.0, 1.0, 2.0], "series": [Series("s", [1.0, 3.0, 2.0], "a")], **options}
    return draw(chart(Chart(**made)))


@given(
    st.lists(st.tuples(FINITE, FINITE | st.none()), min_size=1, max_size=20),
    st.sampled_from(["curve", "histogram"]),
    st.booleans(),
)
def test_any_series_stays_in_its_frame(rows: list[tuple[float, float | None]], kind: Any, log: bool) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    values = [y for _, y in rows]
    low = [None if y is None else y - 1 for y in values]
    svg = drawn(x=[x for x, _ in rows], series=[Series("s", values, "a", low, values)], kind=kind, log=log)
    ElementTree.fromstring(svg)
    for x, y in points(svg):
        assert LEFT - 0.1 <= x <= WIDTH - RIGHT + 0.1
        assert TOP - 0.1 <= y <= HEIGHT - BOTTOM + 0.1


def test_values_lie_where_the_axes_say() -> None:
    found = points(drawn())
    assert found == [
        (LEFT, HEIGHT - BOTTOM),
        ((LEFT + WIDTH - RIGHT) / 2, TOP),
        (WIDTH - RIGHT, (TOP + HEIGHT - BOTTOM) / 2),
    ]


def test_a_gap_breaks_the_line_and_a_single_point_is_a_dot() -> None:
    svg = drawn(x=[0.0, 1, 2, 3], series=[Series("s", [1.0, 2.0, None, 4.0], "b")])
    assert svg.count("<polyline") == 1
    assert svg.count("<circle") == 1


def test_a_logarithmic_axis_has_powers_of_ten() -> None:
    svg = drawn(series=[Series("s", [0.01, 1.0, 100.0], "a")], log=True)
    assert points(svg)[1][1] == pytest.approx((TOP + HEIGHT - BOTTOM) / 2)
    assert ">0.01<" in svg
    assert ">100<" in svg


def test_names_are_text_and_colours_are_words() -> None:
    hostile = '"><script>alert(1)</script>'
    svg = drawn(
        title=hostile,
        x_label=hostile,
        series=[Series(hostile, [1.0, 2.0, 3.0], hostile)],
        lines=[Line(hostile, 1.0, "a b")],
    )
    root = ElementTree.fromstring(svg)
    assert not [e for e in root.iter() if "script" in e.tag]
    assert root.get("aria-label") == f"{hostile}: {hostile}, {hostile}"
    assert {e.get("class") for e in root.iter() if e.tag == "polyline"} == {"line d"}
