"""JSON and YAML read within limits, and dataclasses made of them: one reader for every file of frugan's own formats.

Such a file may have been damaged, edited by hand, or made to harm. Whatever is in it, reading takes memory in proportion
to its size and ends with a value, an `OSError` or a `ValueError`, of which the caller makes a sentence.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cattrs
import cattrs.v
import yaml

from frugan.errors import shown

MAX_DEPTH = 64
"""Levels of nesting. What frugan writes has fewer than ten."""

MAX_JSON = 32 << 20
"""Bytes. Values take up to some 25 times the memory of their text."""

MAX_YAML = 256 << 10


def parse_json(text: str | bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value that a JSON text stands for. Raises `ValueError` where it is no JSON, or nested deeper than `MAX_DEPTH`.

    `pairs` makes the objects, of their keys and values; by default the last of equal keys counts.
    """
    try:
        value = json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError(_too_deep()) from None
    brackets = ("[", "{") if isinstance(text, str) else (b"[", b"{")
    if sum(text.count(bracket) for bracket in brackets) > MAX_DEPTH:  # pyright: ignore[reportArgumentType]
        _check_depth(value)
    return value


def read_json(file: Path, most: int = MAX_JSON) -> Any:
    """The value in a JSON file of at most `most` bytes. Raises `OSError` or `ValueError`."""
    return parse_json(read_bytes(file, most))


def read_yaml(file: Path, most: int = MAX_YAML) -> Any:
    """The value in a YAML file without aliases and merges, which frugan never writes. Raises `OSError` or `ValueError`."""
    text = read_bytes(file, most).decode("utf-8")
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, OverflowError, RecursionError) as error:
        raise ValueError(shown(" ".join(str(error).split()))) from error


def read_bytes(file: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes; a larger one is not read. Raises `OSError` or `ValueError`."""
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for, a device has no end
        raise ValueError("it is no regular file")
    if found.st_size > most:
        raise ValueError(f"it has more than {most:,} bytes, which is the limit")
    with file.open("rb") as stream:
        return stream.read(found.st_size + 1)  # sets aside what it is told to read


def _check_depth(value: Any) -> None:
    """Level by level, without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise ValueError(_too_deep())


def _too_deep() -> str:
    return f"it is nested deeper than {MAX_DEPTH} levels"


class _Loader(yaml.SafeLoader):
    """Plain values only. An alias stands for as much as its writer likes: 25 of them for 2^25 values, or for no end."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases (*name), which no file of frugan has")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.YAMLError(_too_deep())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.YAMLError("it merges mappings (<<), which no file of frugan does")


def _whole(value: Any, _: type) -> int:
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, float) and value.is_integer())):
        raise ValueError(f"{shown(repr(value)[:99])} is no whole number")
    return int(value)


def real(value: Any, _: Any = float) -> float:
    """A number, or the text of one, as float. Raises `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):  # YAML takes 1e-3 for text
        raise ValueError(f"{shown(repr(value)[:99])} is no number")
    try:
        return float(value)
    except (OverflowError, ValueError):
        raise ValueError("it is no number that can be computed with") from None


def _truth(value: Any, _: type) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{shown(repr(value)[:99])} is neither true nor false")
    return value


def _text(value: Any, _: type) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shown(repr(value)[:99])} is no text")
    return value


def reasons(error: Exception, path: str) -> str:
    """What `converter` found wrong, each with its place below `path`: "generator 0: give a whole number… @ config.generator"."""
    found = cattrs.transform_error(error, path=path, format_exception=_sentence)
    return shown("; ".join(found), 600)


def _sentence(error: BaseException, wanted: type | None) -> str:
    return str(error) if isinstance(error, ValueError) else cattrs.v.format_exception(error, wanted)


def converter() -> cattrs.Converter:
    """Makes dataclasses of plain values: unknown keys, and values of another type than the field's, are refused."""
    made = cattrs.Converter(forbid_extra_keys=True)
    made.register_structure_hook(int, _whole)
    made.register_structure_hook(float, real)
    made.register_structure_hook(bool, _truth)
    made.register_structure_hook(str, _text)
    return made
