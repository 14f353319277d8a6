"""JSON and YAML of any content: a value, or one of two errors, with memory and time in proportion to the text."""

from __future__ import annotations

import errno
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cattrs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from frugan.errors import explain
from frugan.files import MAX_DEPTH, parse_json, read_json, read_yaml, replacing
from frugan.structure import converter

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reading") / "file"


@given(value=values)
def test_what_is_written_is_read(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value))
    assert read_json(file) == value
    file.write_text(yaml.safe_dump(value), "utf-8")
    if "\n--- " not in file.read_text("utf-8"):
        assert read_yaml(file) == value


@given(content=st.binary(max_size=60) | st.text("[]{}:,-&*<!'\"a1 \n", max_size=60).map(str.encode))
def test_any_bytes_end_in_a_value_or_a_value_error(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    for read in (read_json, read_yaml):
        try:
            read(file)
        except ValueError:
            continue


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 2, 900, 100_000])
@pytest.mark.parametrize("ends", [("[", "]"), ('{"a":', "}"), ('[{"a":0},{"a":', "}]")])
def test_depth(depth: int, ends: tuple[str, str], file: Path) -> None:
    levels = depth // (2 if ends[0][1:] and ends[0][0] == "[" else 1)
    text = ends[0] * levels + "0" + ends[1] * levels
    if depth <= MAX_DEPTH:
        assert parse_json(text) == parse_json(text.encode())
    else:
        for given_text in (text, text.encode()):
            with pytest.raises(ValueError, match="nested deeper than 64"):
                parse_json(given_text)
    flow = "[" * depth + "]" * depth
    file.write_text(flow)
    if depth <= MAX_DEPTH:
        read_yaml(file)
    else:
        with pytest.raises(ValueError, match="deeper than 64"):
            read_yaml(file)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("a: &a [1]\nb: *a", "aliases"),
        ("a: &a {x: 1}\nb: {<<: *a}", "aliases"),
        ("b: {<<: {x: 1}}", "merges"),
        ("a: &a [*a]", "aliases"),
        ("!!python/object/apply:os.system ['true']", "constructor"),
        ("a: 1\nb: {c: 1, d: 2, c: 3}", "'c' twice in the mapping from line 2"),
        ("a: 1\n" * 5_000, "twice"),
        ("\n".join(["a0: &a0 {x: 1}"] + [f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 26)]), "al"),
    ],
)
def test_yaml_that_stands_for_more_than_it_is(text: str, reason: str, file: Path) -> None:
    file.write_text(text)
    started = time.process_time()
    with pytest.raises(ValueError, match=reason):
        read_yaml(file)
    assert time.process_time() - started < 10


def test_files_too_large_and_files_that_are_none(file: Path) -> None:
    file.write_bytes(b" " * 101)
    for read in (read_json, read_yaml):
        with pytest.raises(ValueError, match="more than 100 bytes"):
            read(file, 100)
        with pytest.raises(OSError):
            read(file.with_name("absent"))
        with pytest.raises(ValueError, match="no regular file"):
            read(Path("/dev/zero"))
    if hasattr(os, "mkfifo"):
        os.mkfifo(pipe := file.with_name("pipe"))
        with pytest.raises(ValueError, match="no regular file"):
            read_json(pipe)


@dataclass(frozen=True)
class Fields:
    count: int = 0
    size: float = 0.0
    flag: bool = False
    some: tuple[float, ...] = ()


@given(value=st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([]))
def test_values_of_other_types_are_refused(value: Any) -> None:
    def made(**given_fields: Any) -> Any:
        try:
            return converter().structure(given_fields, Fields)
        except (cattrs.BaseValidationError, ValueError):
            return None

    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    whole = number and abs(value) < float("inf") and value == int(value)
    assert (found := made(count=value)) is None or (whole and found.count == value)
    assert (found is not None) == whole
    assert (made(flag=value) is not None) == isinstance(value, bool)
    found = made(size=value)
    assert found is None or number or isinstance(value, str)
    assert found is None or isinstance(found.size, float)
    assert made(unknown=value) is None


def test_numbers_that_no_float_holds() -> None:
    for value in (10**400, -(10**400)):
        with pytest.raises(cattrs.BaseValidationError):
            converter().structure({"size": value}, Fields)
        assert converter().structure({"count": value}, Fields).count == value
    assert converter().structure({"size": "1e-3"}, Fields).size == 1e-3


@pytest.mark.parametrize("named", [True, False])
def test_a_write_that_fails_tells_of_which_file(named: bool, tmp_path: Path) -> None:
    """The system tells no name of a write on a full disk."""
    error = OSError(errno.ENOSPC, "No space left on device", *(["other"] if named else []))
    with pytest.raises(OSError, match="No space left") as raised, replacing(tmp_path / "a.png"):
        raise error
    assert raised.value.filename == ("other" if named else str(tmp_path / "a.png"))
    told = explain(raised.value)
    assert told is not None
    assert told.startswith("other: " if named else f"{tmp_path / 'a.png'}: ")
