"""Labels as they are typed: names, numbers in their own unit, and several at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugan.errors import FruganError
from frugan.label_parts import Measured
from frugan.latent import label_lines, outside, parse_label, sweep_labels

YEAR = Measured(0, "year", 2005.0, 8.0, 1990.0, 2020.0)
MIXED = ["kind=cat", "kind=dog", "year", "fur"]
MIXED_YEAR = (Measured(2, "year", 2005.0, 8.0, 1990.0, 2020.0),)
GAPS = ["101", "2045", "40017"]
WORDS = ["cat", "dog", "big, red"]
BLOCKS = ["kind=cat", "kind=dog", "size=0", "size=1", "size=2"]

CASES = [
    ("dog", 3, WORDS, (), [0, 1, 0]),
    ("big, red", 3, WORDS, (), [0, 0, 1]),
    ("1", 3, WORDS, (), [0, 1, 0]),
    ("0.5,0,0.5", 3, WORDS, (), [0.5, 0, 0.5]),
    ("2045", 3, GAPS, (), [0, 1, 0]),
    ("02045", 3, GAPS, (), [0, 1, 0]),
    ("2", 3, None, (), [0, 0, 1]),
    ("1995.5", 1, None, (YEAR,), [1995.5]),
    ("1995,5", 1, None, (YEAR,), [1995.5]),
    ("-3", 1, None, (YEAR,), [-3]),
    ("year=1995.5", 1, None, (YEAR,), [1995.5]),
    ("dog,1995.5,1", 4, MIXED, MIXED_YEAR, [0, 1, 1995.5, 1]),
    ("fur=0,year=1995.5,kind=cat", 4, MIXED, MIXED_YEAR, [1, 0, 1995.5, 0]),
    ("0,1,2000,1", 4, MIXED, MIXED_YEAR, [0, 1, 2000, 1]),
    ("dog,2", 5, BLOCKS, (), [0, 1, 0, 0, 1]),
    ("size=1,kind=cat", 5, BLOCKS, (), [1, 0, 0, 1, 0]),
    ("fur", 2, ["fur", "tail"], (), [1, 0]),
    ("1,1", 2, ["fur", "tail"], (), [1, 1]),
]


@pytest.mark.parametrize("text, size, names, measured, expected", CASES)
def test_what_may_be_typed(text: str, size: int, names: list[str] | None, measured: tuple, expected: list) -> None:
    c = parse_label(text, size, names, measured)
    assert c is not None
    assert c.tolist() == pytest.approx(expected)


REFUSED = [
    ("5", 3, GAPS, (), r"class '5': give one of 101, 2045, 40017"),
    ("1", 3, GAPS, (), r"give one of 101, 2045, 40017"),
    ("mouse", 3, WORDS, (), r"give one of cat, dog, big, red"),
    ("3", 3, WORDS, (), r"give one of cat"),
    ("nan", 1, None, (YEAR,), r"class 'nan': give year: a number, 1990 to 2020 in the training images"),
    ("inf", 1, None, (YEAR,), "give year"),
    ("1e999", 1, None, (YEAR,), "give year"),
    ("1_990", 1, None, (YEAR,), "give year"),
    ("dog", 4, MIXED, MIXED_YEAR, r"kind: one of cat, dog; year: a number, .*; fur: one of 0, 1; write all of them"),
    ("dog,1995.5,7", 4, MIXED, MIXED_YEAR, "fur: one of 0, 1"),
    (None, 1, None, (YEAR,), "add --class, year: a number"),
    ("1", 0, None, (), "trained without labels"),
]


@pytest.mark.parametrize("text, size, names, measured, message", REFUSED)
def test_what_may_not(text: str | None, size: int, names: list[str] | None, measured: tuple, message: str) -> None:
    with pytest.raises(FruganError, match=message):
        parse_label(text, size, names, measured)


@given(st.text(max_size=20), st.sampled_from([WORDS, GAPS, BLOCKS, MIXED, None]))
def test_any_text_gives_a_label_or_a_sentence(text: str, names: list[str] | None) -> None:
    try:
        c = parse_label(text, len(names or [0]), names, MIXED_YEAR if names is MIXED else ())
    except FruganError:
        return
    assert c is not None
    assert c.isfinite().all()


@given(st.floats(-1e6, 1e6, width=32))
def test_a_number_comes_out_as_it_was_typed(value: float) -> None:
    c = parse_label(repr(value), 1, None, (YEAR,))
    assert c is not None
    assert float(c) == value
    assert bool(outside(c, (YEAR,))) == (not 1990 <= value <= 2020)


SIZE = Measured(1, "size", 3.0, 1.0, 1.0, 6.0)
SWEEPS = [
    ("0:1:3,12", 2, None, (YEAR, SIZE), ["0,12", "0.5,12", "1,12"]),
    ("0:1:2,5:4:2", 2, None, (YEAR, SIZE), ["0,5", "0,4", "1,5", "1,4"]),
    ("size=1:2:2,year=1990", 2, None, (YEAR, SIZE), ["size=1,year=1990", "size=2,year=1990"]),
    ("dog,1990:2020:4,1", 4, MIXED, MIXED_YEAR, ["dog,1990,1", "dog,2000,1", "dog,2010,1", "dog,2020,1"]),
    ("-1:1:2", 1, None, (YEAR,), ["-1", "1"]),
    ("1995.5", 1, None, (YEAR,), ["1995.5"]),
    ("big, red", 3, WORDS, (), ["big, red"]),
    ("1:2:3", 2, ["1:2:3", "x"], (), ["1:2:3"]),
    ("a:b:3", 1, None, (YEAR,), ["a:b:3"]),
    ("0:1:3", 0, None, (), ["0:1:3"]),
]


@pytest.mark.parametrize("text, size, names, measured, expected", SWEEPS)
def test_sweeps(text: str, size: int, names: list[str] | None, measured: tuple, expected: list[str]) -> None:
    assert sweep_labels(text, size, names, measured) == expected


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.integers(2, 256))
def test_a_sweep_runs_evenly_from_first_to_last(first: float, last: float, count: int) -> None:
    found = [float(text) for text in sweep_labels(f"{first}:{last}:{count}", 1, None, (YEAR,))]
    assert len(found) == count
    even = [first + (last - first) * i / (count - 1) for i in range(count)]
    assert found == pytest.approx(even, rel=1e-5, abs=1e-5 * max(abs(first), abs(last)))


@pytest.mark.parametrize("text", ["0:1:1", "0:1:0", "0:1:257", "0:1:-3", "0:1:x", "0:1:1e9"])
def test_counts_of_sweeps(text: str) -> None:
    with pytest.raises(FruganError, match="is a sweep FIRST:LAST:COUNT; give a count from 2 to 256"):
        sweep_labels(text, 1, None, (YEAR,))


def test_many_labels_at_once() -> None:
    with pytest.raises(FruganError, match="more than 256 labels at once"):
        sweep_labels("0:1:17,0:1:16", 2, None, (YEAR, SIZE))


def test_lines_tell_what_may_be_given() -> None:
    assert label_lines(0) == ["this generator was trained without labels"]
    assert label_lines(4, MIXED, MIXED_YEAR) == [
        "kind: one of cat, dog",
        "year: 1990 to 2020, mean 2005, standard deviation 8",
        "fur: one of 0, 1",
    ]
