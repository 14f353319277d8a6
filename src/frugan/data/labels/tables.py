"""Tables of labels as programs and people write them: CSV in its dialects, JSON lines, records."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from frugan.data.labels.names import clean, has_suffix, loosest
from frugan.errors import FruganError, shown
from frugan.files import parse_json

LONGEST_LINE = 1 << 20  # characters

DELIMITERS = "\t;,|"
NAME_COLUMNS = ("file_name", "filename", "file", "image", "img", "picture", "path", "name", "id")
_ROW_NUMBERS = ("", "index", "idx", "id", "row", "no", "nr", "#", "unnamed: 0", "level_0")
MAX_COLUMNS = 4096
MAX_CELLS = 16_000_000
"""Of a table of labels: about a gigabyte of memory."""
_SAMPLE = 200  # lines that choose the delimiter
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+([eE][+-]?\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?", re.ASCII)
NOT_FINITE = ("nan", "inf", "infinity", "+inf", "-inf", "-infinity")
MISSING = ("", "na", "n/a", "null", "none", "-", "--", "?", ".", *NOT_FINITE)


@dataclass(frozen=True)
class Entry:
    """One row: the image's name as it stands there, its label (the cells of a table), and the line, 0 where unknown."""

    name: str
    label: Any
    line: int = 0


@dataclass(frozen=True)
class Table:
    """The label columns' names, and the rows under the images' cleaned names."""

    header: list[str]
    rows: dict[str, Entry]
    decimal_comma: bool = False
    """Whether 1,234 is 1.234, as in tables whose cells are separated by other marks."""


def read_table(text: str, where: str, images: Sequence[str]) -> Table:
    """Reads a table in CSV. Its delimiter, header and the column that names the image are detected.

    Args:
        text: the file's content.
        where: the file, for messages.
        images: names of the images.

    Raises `FruganError` naming the file and the line.
    """
    if any(len(line) > LONGEST_LINE for line in text.splitlines()):
        raise FruganError(f"{where} has a line of more than {LONGEST_LINE:,} characters: that is no table of labels")
    known = {loosest(image) for image in images}
    lines, mark = _lines(text, where, known)
    if len(lines[0][1]) < 2:
        raise FruganError(
            f"{where} is no table of name,label: its first line is {text.strip().splitlines()[0][:80]!r}; separate the "
            "columns by commas, semicolons or tabs"
        )
    column = _name_column([cells for _, cells in lines], known, images)
    headed = _has_header([cells for _, cells in lines], column, known)
    width = len(lines[0][1])
    for number, cells in lines:
        if len(cells) != width:
            comma = "; a number such as 3,5 is written 3.5, or in quotes" if len(cells) > width else ""
            raise FruganError(
                f"{where} has {len(cells)} cells in line {number} ({cells[column if column < len(cells) else 0]}), "
                f"{width} in the first; make it {width}{comma}"
            )
    names, body = lines[0][1], lines[headed:]
    kept = _label_columns(names if headed else None, column, body)
    header = [names[i] or f"column {i + 1}" for i in kept] if headed else [str(i) for i in range(1, len(kept) + 1)]
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise FruganError(f"{where} has two columns {twice!r} in line {lines[0][0]}; give each a name of its own")
    rows = _unique(
        (Entry(cells[column], [cells[i] for i in kept], number) for number, cells in body if cells[column]), where
    )
    return Table(header, rows, decimal_comma=mark != ",")


def read_records(records: Iterable[tuple[int, Mapping[str, Any]]], where: str, images: Sequence[str]) -> Table:
    """A table from records such as {"file_name": "a.png", "label": …}: a column for each key, several for a list of numbers.

    Args:
        records: (line, record).
        where: the file, for messages.
        images: names of the images.
    """
    flat = [(line, _flattened(record)) for line, record in records]
    header = list(dict.fromkeys(key for _, record in flat for key in record))
    cells = [[""] * len(header), *([record.get(key, "") for key in header] for _, record in flat)]
    known = {loosest(image) for image in images}
    column = _name_column([header, *cells[1:]], known, images)
    kept = [i for i in range(len(header)) if i != column]
    if not kept:
        raise FruganError(f'{where} holds no labels beside the names; write {{"file_name": "a.png", "label": 3}}')
    lines = [line for line, _ in flat]
    entries = (Entry(row[column], [row[i] for i in kept], line) for line, row in zip(lines, cells[1:]) if row[column])
    return Table([header[i] for i in kept], _unique(entries, where))


def read_json_lines(text: str, where: str, images: Sequence[str]) -> Table:
    """Reads a table with one JSON object in each line, as in metadata.jsonl.

    Args:
        text: the file's content.
        where: the file, for messages.
        images: names of the images.

    Raises `FruganError` naming the line.
    """
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
        except ValueError as error:
            raise FruganError(
                f"{where} cannot be read as JSON in line {number} ({shown(error)}); correct it"
            ) from error
        if not isinstance(record, dict):
            raise FruganError(f'{where} has no object in line {number}; write {{"file_name": "a.png", "label": 3}}')
        records.append((number, record))
    if not records:
        raise FruganError(f'{where} is empty; write {{"file_name": "a.png", "label": 3}} for each image')
    return read_records(records, where, images)


def unique_pairs(pairs: Iterable[tuple[Any, Any]], where: str) -> dict[str, Entry]:
    """Rows of dataset.json."""
    return _unique((Entry(str(name), label) for name, label in pairs), where)


def is_number(cell: str) -> bool:
    """Whether a cell is a finite number with a decimal point, or whole."""
    return _NUMBER.fullmatch(cell) is not None


def parse_numbers(cells: Sequence[str], where: str, *, decimal_comma: bool = False) -> list[float] | None:
    """Cells as numbers with decimal points, or all with decimal commas; None where some are words.

    Args:
        cells: of one column.
        where: the column, for messages.
        decimal_comma: whether a comma is known to be the decimal mark.

    Raises `FruganError` where some numbers are missing, and where a comma could be the decimal mark or not.
    """
    odd = [cell for cell in cells if not _NUMBER.fullmatch(cell)]
    if not odd:
        return [float(cell) for cell in cells]
    missing = [cell for cell in odd if cell.lower() in MISSING]
    if (len(missing) == len(odd) < len(cells)) or all(cell.lower() in NOT_FINITE for cell in odd):
        raise FruganError(
            f"{where} holds {missing[0]!r} where other rows have numbers; fill it in, or leave out these images"
        )
    if not all(_COMMA.fullmatch(cell) or _THOUSANDS.fullmatch(cell) for cell in odd):
        return None
    whole = all(re.fullmatch(r"[+-]?\d+", cell, re.ASCII) for cell in cells if _NUMBER.fullmatch(cell))
    comma = whole and all(map(_COMMA.fullmatch, odd))
    thousands = all(map(_THOUSANDS.fullmatch, odd))
    if comma and (decimal_comma or not thousands):
        return [float(cell.replace(".", "").replace(",", ".")) for cell in cells]
    if thousands and not comma:
        return [float(cell.replace(",", "")) for cell in cells]
    plain = next((cell for cell in cells if "." in cell), odd[0].replace(",", ""))
    raise FruganError(
        f"{where} holds {odd[0]!r} and {plain!r}: is the comma a decimal mark? write all numbers as 1234.5"
    )


def _lines(text: str, where: str, known: set[str]) -> tuple[list[tuple[int, list[str]]], str]:
    """The lines that are not empty, with their numbers, split by the delimiter that shows most names of images; and that."""
    hint = re.match(r"sep=(.)\r?\n", text)  # as spreadsheets write it
    text, before = (text[hint.end() :], 1) if hint else (text, 0)
    first = text.lstrip().split("\n", 1)[0]
    present = [mark for mark in DELIMITERS if mark in first]
    sample = "\n".join(text.splitlines()[:_SAMPLE])
    scores = {mark: _score(_split(sample, mark, where), known) for mark in present} if len(present) > 1 else {}
    best = hint[1] if hint else max(present, key=lambda mark: scores.get(mark, (0, False)), default=",")
    lines = _split(text, best, where, before)
    if not lines:
        raise FruganError(f"{where} is empty; write name,label and a line for each image")
    return lines, best


def _split(text: str, mark: str, where: str, before: int = 0) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True)
    lines, count = [], 0
    try:
        for row in reader:
            count += len(row)
            if len(row) > MAX_COLUMNS or count > MAX_CELLS:
                raise FruganError(
                    f"{where}, line {before + reader.line_num}: {len(row):,} columns and {count:,} cells so far; the limits are "
                    f"{MAX_COLUMNS:,} and {MAX_CELLS:,}: is it a table of labels?"
                )
            cells = [cell.strip() for cell in row]
            if any(cells):
                lines.append((before + reader.line_num, cells))
    except csv.Error as error:
        raise FruganError(
            f"{where} cannot be read as a table, line {before + reader.line_num} ({error}); save it anew as CSV"
        ) from error
    width = max((len(cells) for _, cells in lines), default=0)
    while width > 1 and all(len(cells) < width or not cells[width - 1] for _, cells in lines):
        width -= 1  # commas at the ends of all lines
    return [(number, cells[:width]) for number, cells in lines]


def _score(lines: list[tuple[int, list[str]]], known: set[str]) -> tuple[int, bool]:
    widths = {len(cells) for _, cells in lines}
    return sum(any(loosest(cell) in known for cell in cells) for _, cells in lines), len(widths) == 1


def _name_column(lines: list[list[str]], known: set[str], images: Sequence[str]) -> int:
    """The column that names most images; of equals, one with suffixes, one that is called so, the first."""
    files = {clean(image).rpartition("/")[2] for image in images}

    def score(column: int) -> tuple[int, int, bool, int]:
        cells = {str(row[column]) for row in lines if column < len(row)}
        matching = {key for cell in cells if (key := loosest(cell)) in known}
        exact = sum(clean(cell).rpartition("/")[2] in files for cell in cells)
        return len(matching), exact, str(lines[0][column]).lower() in NAME_COLUMNS, -column

    return max(range(len(lines[0])), key=score)


def _has_header(lines: list[list[str]], column: int, known: set[str]) -> bool:
    first = lines[0][column]
    if first.lower() in (*NAME_COLUMNS, ""):
        return True
    others = [cell for i, cell in enumerate(lines[0]) if i != column]
    return not (has_suffix(first) or loosest(first) in known or all(map(_NUMBER.fullmatch, others)))


def _label_columns(names: list[str] | None, column: int, lines: list[tuple[int, list[str]]]) -> list[int]:
    """All columns but that of the images' names, and those that only count the rows, as a table written with its index has."""

    def counts_rows(i: int) -> bool:
        cells = [cells[i] for _, cells in lines]
        name = names[i].lower() if names else "" if i == 0 else "label"
        if not any(cells) and not name:
            return True
        if name not in _ROW_NUMBERS or not all(re.fullmatch(r"\d{1,9}", cell, re.ASCII) for cell in cells):
            return False
        numbers = list(map(int, cells))
        unnamed = bool(names) and name in ("", "unnamed: 0")
        return numbers in (list(range(len(cells))), list(range(1, len(cells) + 1))) or (
            unnamed and len(set(cells)) == len(cells)
        )

    others = [i for i in range(len(lines[0][1])) if i != column] if lines else []
    return [i for i in others if not counts_rows(i)] or others


def _unique(entries: Iterable[Entry], where: str) -> dict[str, Entry]:
    """Rows by cleaned name. Raises `FruganError` where two rows of a name differ."""
    rows: dict[str, Entry] = {}
    for entry in entries:
        key = clean(entry.name)
        before = rows.setdefault(key, entry)
        if before.label != entry.label:
            again = f"in lines {before.line} and {entry.line}" if entry.line else "with two labels"
            raise FruganError(f"{where} names {entry.name} twice, {again}; remove one of them")
    return rows


def _flattened(record: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of numbers become columns `key 0`, `key 1`, …; a path within an object is taken out; other nested values go."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            value = value.get("path") or value.get("file_name")
        if isinstance(value, list):
            flat |= {f"{key} {i}": _cell(part) for i, part in enumerate(value) if not isinstance(part, (list, dict))}
        elif value is not None or not isinstance(record[key], Mapping):
            flat[str(key)] = _cell(value)
    return flat


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value).strip()
