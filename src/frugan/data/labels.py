"""Labels of each image: classes, several classes at once, or measured numbers, as one float32 row per image.

A specification says where labels come from: "none"; "auto" (in the array file, dataset.json, labels.csv, metadata.csv,
metadata.jsonl or sub-folders, whichever is found first); "folders"; or the path of a .csv, .tsv, .json or .jsonl file, after
which `:column,column` may pick columns, and `:column=number` or `:column=class` says how one is read. A path is looked for
on disk, then beside the images, at any depth.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from frugan.data.label_names import clean, loosest, match
from frugan.data.label_tables import (
    Entry,
    Table,
    is_number,
    parse_numbers,
    read_json_lines,
    read_records,
    read_table,
    unique_pairs,
)
from frugan.data.sources import Source, read_text
from frugan.errors import FruganError, shown
from frugan.files import parse_json

MOST_CLASSES = 65536  # more distinct ones are taken for identifiers that slipped in
MOST_ENTRIES = 1 << 28  # of one-hot rows: 1 GB
LARGEST = 1e30  # magnitude of a measured number; its square is still a float64, its inverse a float32
FEWEST_IDENTIFIERS = 16  # images from which a column of as many classes as images is taken for one of identifiers
FILES = ("dataset.json", "labels.csv", "metadata.csv", "metadata.jsonl")
"""Label files that "auto" looks for, in this order."""

_FILE = re.compile(r"(?P<path>.*\.(?:csv|tsv|jsonl?))(?::(?P<columns>[^/\\]+))?", re.IGNORECASE)


@dataclass(frozen=True)
class Labels:
    """float32 `[N, K]`, one-hot where they are classes; K = 0 when there are none. `origin`: where they were found.

    `measured`: the columns that are numbers in a unit of their own. `column_names`: of all K, as far as they have names.
    """

    values: np.ndarray
    class_names: list[str] | None = None
    origin: str = "none"
    measured: tuple[int, ...] = ()
    column_names: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """A name for each of the K columns."""
        unnamed = [f"label {i}" for i in range(self.values.shape[1])]
        return list(self.column_names) or self.class_names or (unnamed if len(unnamed) > 1 else ["label"])


def read_labels(source: Source, specification: str, names: Sequence[str]) -> Labels:
    """The labels of the named images, in that order.

    Raises `FruganError` where there are none, where an image has no label, or where a label makes no sense.
    """
    if specification == "auto" and (specification := find_labels(source, names)) == "none":
        raise FruganError(
            f"{source.path} has no labels (no {', '.join(FILES)}, label array or class folders); "
            "name them with --labels FILE.csv or train without --conditional"
        )
    if specification == "none":
        return Labels(np.zeros((len(names), 0), np.float32))
    if specification == "array":
        return _from_array(source, names)
    if specification == "folders":
        return _from_folders(source, names)
    file = _FILE.fullmatch(specification)
    if file is None:
        raise FruganError(
            f"labels {specification!r} are neither auto, none, folders nor the path of a .csv, .tsv, .json or .jsonl file; "
            "pick one of these"
        )
    return _from_files(_files(source, file["path"]), file["columns"], names)


def find_labels(source: Source, names: Sequence[str]) -> str:
    """What "auto" stands for with these readable images: "array", one of `FILES`, "folders" or "none"."""
    if source.stored_labels() is not None:
        return "array"
    for file in FILES:
        if places := source.places(file):
            null = file.endswith(".json") and all(_read_json(f, names)[0] is None for f in _beside(source, places))
            return "none" if null else file
    folders = _class_folders(names)
    return "folders" if len(set(folders)) > 1 and "" not in folders else "none"


def stored_labels(labels: Sequence[Any], names: Sequence[str], where: str, origin: str) -> Labels:
    """Labels as they lie beside the images, in shards or arrays: whole numbers, words, or lists of numbers."""
    lost = [name for name, label in zip(names, labels) if label is None]
    if lost:
        raise FruganError(
            f"{lost[0]} has no label beside it in its shard ({len(lost)} of {len(names)} images have none); add a .cls "
            "or .json file of the same key, or train without --conditional"
        )
    return _encode(labels, names, where, origin)


def _from_array(source: Source, names: Sequence[str]) -> Labels:
    labels = source.stored_labels()
    if labels is None:
        raise FruganError(f"{source.path} holds no label array; store one named labels beside the images in a .npz")
    if len(labels) != len(source.names) or labels.ndim not in (1, 2) or labels.dtype.kind not in "biufUS":
        raise FruganError(
            f"{source.path} holds {len(source.names)} images but labels of shape {labels.shape} and type "
            f"{labels.dtype}; store integers or words (N,) or numbers (N, K)"
        )
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    if labels.dtype.kind == "b" and 1 in (labels.ndim, *labels.shape[1:]):
        labels = labels.astype(np.int64)
    if labels.dtype.kind != "f" and labels.shape[1:] == (1,):
        labels = labels[:, 0]
    at = {name: i for i, name in enumerate(source.names)}
    kept = labels[[at[name] for name in names]]
    return stored_labels([row.tolist() for row in kept], names, str(source.path), "labels in the array file")


def _from_folders(source: Source, names: Sequence[str]) -> Labels:
    folders = _class_folders(names)
    stray = next((name for name, folder in zip(names, folders) if not folder), None)
    if stray is not None:
        raise FruganError(
            f"{stray} lies in no class folder of {source.path}; move it into one, or use --labels FILE.csv"
        )
    if len(set(folders)) < 2:
        raise FruganError(f"{source.path} has a single class folder, {folders[0]!r}; train without --conditional")
    return Labels(*_by_class(folders), "sub-folders")


def _class_folders(names: Sequence[str]) -> list[str]:
    """Each image's top folder ("" for none), below the folders that hold all images."""
    paths = [name.split("/")[:-1] for name in names]
    while paths and all(paths) and len({path[0] for path in paths}) == 1 and any(len(path) > 1 for path in paths):
        paths = [path[1:] for path in paths]
    return [path[0] if path else "" for path in paths]


@dataclass(frozen=True)
class _File:
    """A label file's text, what messages call it, the folder that its names count from, and the classes listed beside it."""

    text: str
    where: str
    folder: str = ""
    classes: str | None = None

    def prefixed(self, rows: Mapping[str, Entry]) -> dict[str, Entry]:
        return {f"{self.folder}/{key}": row for key, row in rows.items()} if self.folder else dict(rows)


def _files(source: Source, path: str) -> list[_File]:
    """The label file of that path, on disk or beside the images; or all of that name, each in a folder of images."""
    here = Path(path).expanduser()
    if here.exists():
        beside = here.with_suffix(".json")
        classes = read_text(beside) if beside.is_file() and beside != here else None
        top, parent = Path(source.path).resolve(), here.resolve().parent
        folder = parent.relative_to(top).as_posix() if parent.is_relative_to(top) else "."
        return [_File(read_text(here), path, "" if folder == "." else folder, classes)]
    places = [clean(path)] if "/" in clean(path) else source.places(path)
    if found := _beside(source, places):
        return found
    raise FruganError(
        f"there is no label file {path}, neither there nor beside the images of {source.path}; check the path"
    )


def _beside(source: Source, places: Sequence[str]) -> list[_File]:
    files = []
    for place in places:
        if (text := source.text(place)) is not None:
            folder = PurePosixPath(place).parent.as_posix()
            listed = (
                None if place.endswith(".json") else source.text(PurePosixPath(place).with_suffix(".json").as_posix())
            )
            files.append(_File(text, place, "" if folder == "." else folder, listed))
    return files


def _from_files(files: Sequence[_File], columns: str | None, names: Sequence[str]) -> Labels:
    """Labels from one file, or from those of several folders joined."""
    where = files[0].where if len(files) == 1 else f"{len(files)} files {PurePosixPath(files[0].where).name}"
    rows: dict[str, Entry] = {}
    tables: list[tuple[_File, Table]] = []
    class_names: list[str] | None = None
    for file in files:
        if file.where.lower().endswith(".json"):
            found, listed = _read_json(file, names)
            class_names = class_names or listed
            if isinstance(found, dict):
                rows |= file.prefixed(found)
            elif found is not None:
                tables.append((file, found))
        else:
            read = read_json_lines if file.where.lower().endswith(".jsonl") else read_table
            tables.append((file, read(file.text, file.where, names)))
    if tables:
        listed_classes = {column: names for file in files for column, names in _class_lists(file.classes).items()}
        return _from_table(_joined(tables), listed_classes, where, columns, names)
    if not rows:
        raise FruganError(f'{where} holds no labels ("labels" is null); train without --conditional')
    return _encode(_in_order(rows, names, where), names, where, where, class_names)


def _joined(tables: Sequence[tuple[_File, Table]]) -> Table:
    """One table, with the columns of the first."""
    header = tables[0][1].header
    rows: dict[str, Entry] = {}
    for file, table in tables:
        if missing := [column for column in header if column not in table.header]:
            raise FruganError(f"{file.where} has no column {missing[0]!r}, which {tables[0][0].where} has; add it")
        order = [table.header.index(column) for column in header]
        own = {key: Entry(row.name, [row.label[i] for i in order], row.line) for key, row in table.rows.items()}
        rows |= file.prefixed(own)
    return Table(header, rows, any(table.decimal_comma for _, table in tables))


def _read_json(file: _File, names: Sequence[str]) -> tuple[dict[str, Entry] | Table | None, list[str] | None]:
    """name → label, or a table where labels are objects; None for null. And the classes' names, where they are listed.

    {"labels": …} or, without that, … itself: [[name, label], …], {name: label, …} or [{"file_name": name, …}, …].
    """
    try:
        content = parse_json(file.text, _unlike)
        listed = content.get("class_names") if isinstance(content, dict) else None
        labels = content.get("labels") if isinstance(content, dict) else content
        if isinstance(content, dict) and "labels" not in content:
            known = set(map(loosest, names))
            labels = content if any(loosest(key) in known for key in content) else None
        if labels is None:
            return None, None
        pairs: list[Any] = list(labels.items()) if isinstance(labels, dict) else list(labels)
        if pairs and all(isinstance(pair, dict) for pair in pairs):
            return read_records(((0, pair) for pair in pairs), file.where, names), None
        if pairs and all(isinstance(label, dict) for _, label in pairs):
            records = ((0, {"file_name": name, **label}) for name, label in pairs)
            return read_records(records, file.where, names), None
        found = unique_pairs(((name, label) for name, label in pairs), file.where)
        return found, list(map(str, listed)) if listed and isinstance(listed, list) else None
    except (ValueError, TypeError, AttributeError) as error:
        if isinstance(error, FruganError):
            raise
        raise FruganError(
            f'{file.where} is no label file ({shown(error)}); write {{"labels": [["folder/name.png", 3], …]}}, or null'
        ) from error


def _unlike(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if found.setdefault(key, value) != value:
            raise ValueError(f"{key!r} stands there twice, with two values")
    return found


@dataclass(frozen=True)
class _Block:
    """One column of a table as float32 `[N, k]`: class names where it holds classes."""

    values: np.ndarray
    classes: list[str] | None = None
    measured: bool = False


def _from_table(
    table: Table, listed: dict[str, list[str]], where: str, columns: str | None, names: Sequence[str]
) -> Labels:
    """Columns of words, or of integers from 0 up, are classes; 0/1 columns beside others are flags; the rest is measured.

    `listed`: class names of a column in order. `columns`: those to take, each perhaps with =class or =number.
    """
    rows = _in_order(table.rows, names, where)
    wanted = _wanted(table.header, columns, where)
    blocks: list[_Block] = []
    class_names: list[str] = []
    for column, kind in wanted:
        cells = [row[table.header.index(column)] for row in rows]
        what = f"column {column!r} of {where}"
        block = _column(cells, names, what, kind, listed.get(column), len(wanted) == 1, table.decimal_comma)
        blocks.append(block)
        own = block.classes
        if len(wanted) > 1:
            own = [column] if own is None else [f"{column}={name}" for name in own]
        class_names += own or []
    starts = np.cumsum([0, *(block.values.shape[1] for block in blocks)]).tolist()
    measured = tuple(start for start, block in zip(starts, blocks) if block.measured)
    values = np.concatenate([block.values for block in blocks], axis=1)
    return Labels(values, class_names or None, where, measured, tuple(class_names or [wanted[0][0]]))


def _wanted(header: list[str], columns: str | None, where: str) -> list[tuple[str, str]]:
    """(column, "class", "number" or "") of each column to take."""
    if columns is None:
        return [(column, "") for column in header]
    found = []
    for column in columns.split(","):
        name, _, kind = column.rpartition("=")
        name, kind = (name, kind) if column not in header and kind in ("class", "number") else (column, "")
        if name not in header:
            raise FruganError(f"{where} has no column {name!r}; its columns are {', '.join(header)}")
        found.append((name, kind))
    return found


def _class_lists(text: str | None) -> dict[str, list[str]]:
    """{"column": ["first class", "second class", …]}; empty where the text is something else."""
    try:
        lists = parse_json(text or "{}")
    except ValueError:
        return {}
    entries = lists.items() if isinstance(lists, dict) else ()
    return {k: v for k, v in entries if isinstance(v, list) and all(isinstance(name, str) for name in v)}


def _column(
    cells: Sequence[str],
    names: Sequence[str],
    where: str,
    kind: str = "",
    classes: list[str] | None = None,
    alone: bool = True,
    decimal_comma: bool = False,
) -> _Block:
    """One column, as what `kind` or its cells say."""
    if "" in cells:
        raise FruganError(f"{names[cells.index('')]} has an empty cell in {where}; fill it in or leave the column out")
    if classes is not None:
        code = {name: i for i, name in enumerate(classes)} | {str(i): i for i in range(len(classes))}
        unknown = next((cell for cell in cells if cell not in code), None)
        if unknown is not None:
            raise FruganError(
                f"{where} holds {unknown!r}, but lists only the classes {', '.join(classes)}; add it there"
            )
        return _Block(one_hot(np.array([code[cell] for cell in cells]), len(classes)), classes)
    whole = all(re.fullmatch(r"\d{1,9}", cell, re.ASCII) for cell in cells)
    numbers = (
        None
        if whole and kind != "number"
        else parse_numbers(cells, where, decimal_comma=decimal_comma)
        if kind != "class"
        else None
    )
    if kind == "number" and numbers is None:
        raise FruganError(f"{where} holds {cells[0]!r}, which is no number; correct it, or leave out =number")
    if not alone and not kind and set(cells) <= {"0", "1"}:
        return _Block(np.array(cells, np.float32)[:, None])
    if numbers is not None:
        return _Block(_measured(numbers, where)[:, None], measured=True)
    if not kind:
        _refuse_what_is_no_class(cells, where)
    if whole:
        return _Block(*_by_number([int(cell) for cell in cells], where))
    return _Block(*_by_class(cells))


def _refuse_what_is_no_class(cells: Sequence[str], where: str) -> None:
    """Words beside fractions, and identifiers."""
    column = where.split("'")[1] if "'" in where else ""
    words = [cell for cell in cells if not is_number(cell)]
    fractions = [cell for cell in cells if is_number(cell) and not cell.isdecimal()]
    if words and fractions:
        raise FruganError(
            f"{where} holds numbers such as {fractions[0]!r} and words such as {words[0]!r}; make it one or the other"
        )
    if len(cells) >= FEWEST_IDENTIFIERS and len(set(cells)) == len(cells):
        number = "" if words else f", add :{column}=number if it measures something"
        raise FruganError(
            f"{where} has as many classes as images, for example {cells[0]!r}: are they identifiers? pick other columns "
            f"with --labels FILE:COLUMN{number}, or add :{column}=class if that is meant"
        )


def _measured(numbers: Sequence[float] | np.ndarray, where: str) -> np.ndarray:
    """Numbers as float32 `[N]`. Raises `FruganError` where that type cannot hold them, or what tells them apart."""
    values = np.asarray(numbers, np.float64)
    odd = values[~(np.abs(values) <= LARGEST)]
    if len(odd):
        raise FruganError(f"{where} holds {odd[0]}, but labels must be finite numbers up to 1e30; correct that row")
    kept, spread = values.astype(np.float32), float(values.std())
    lost = float(np.abs(kept - values).max(initial=0))
    if spread and (lost > 1e-3 * spread or spread < 1 / LARGEST):
        raise FruganError(
            f"{where} varies by {spread:.2g} about {values.mean():.10g}, which float32 cannot hold; subtract what all have in "
            "common, or use another unit"
        )
    return kept


def _encode(
    labels: Sequence[Any], names: Sequence[str], where: str, origin: str, class_names: list[str] | None = None
) -> Labels:
    """Integers or words → one-hot; equally long lists of numbers (or single fractions) → as they are."""
    missing = next((name for name, label in zip(names, labels) if label is None), None)
    if missing is not None:
        raise FruganError(f"{missing} has the label null in {where}; give it one, or move the image away")
    words = [isinstance(label, str) for label in labels]
    if any(words):
        if not all(words):
            odd = words.index(not words[0])
            raise FruganError(
                f"{names[0]} has the label {labels[0]!r} in {where}, {names[odd]} {labels[odd]!r}; make all of them words, "
                "or all numbers"
            )
        block = _column([str(label).strip() for label in labels], names, where, classes=class_names)
        return Labels(block.values, block.classes, origin, (0,) if block.measured else ())
    if all(isinstance(label, (bool, int)) for label in labels):
        values, found = _from_integers([int(label) for label in labels], names, where, class_names)
        return Labels(values, found, origin)
    rows = [label if isinstance(label, list) else [label] for label in labels]
    for name, row in zip(names, rows):
        if len(row) != len(rows[0]):
            raise FruganError(
                f"{name} has {len(row)} label values in {where}, {names[0]} has {len(rows[0])}; give all as many"
            )
        if not all(isinstance(value, (int, float)) and abs(value) <= LARGEST for value in row):
            raise FruganError(
                f"{name} has the label {str(row)[:80]} in {where}, but labels must be finite numbers; correct that row"
            )
    return _from_vectors(rows, where, origin, class_names)


def _from_vectors(rows: Sequence[Sequence[float]], where: str, origin: str, class_names: list[str] | None) -> Labels:
    """Columns of only 0 and 1 are classes or flags; all others, and a single one, are measured."""
    table = np.array(rows, np.float64)
    size = table.shape[1]
    measured = tuple(i for i in range(size) if size == 1 or not np.isin(table[:, i], (0, 1)).all())
    if class_names is not None and len(class_names) != size:
        raise FruganError(
            f"{where} lists {len(class_names)} class_names, but its labels have {size} values; make these agree"
        )
    values = [_measured(column, f"value {i} of the labels in {where}") for i, column in enumerate(table.T)]
    return Labels(np.stack(values, axis=1), class_names, origin, measured)


def _from_integers(
    codes: Sequence[int], names: Sequence[str], where: str, class_names: list[str] | None
) -> tuple[np.ndarray, list[str] | None]:
    """Class numbers → one-hot rows and names: those listed, or the numbers, if some are left out; else None."""
    for name, code in zip(names, codes):
        if code < 0:
            raise FruganError(
                f"{name} has class {code} in {where}, but classes count from 0 up; renumber them, or write numbers that "
                f"measure something with a fraction ({code}.0)"
            )
        if class_names is not None and code >= len(class_names):
            raise FruganError(f"{name} has class {code} in {where}, which lists {len(class_names)} class_names; add it")
    if class_names is not None:
        return one_hot(np.array(codes, np.int64), len(class_names)), class_names
    values, found = _by_number(codes, where)
    return values, None if found == [str(i) for i in range(len(found))] else found


def spread(labels: Labels) -> Labels | None:
    """Numbered classes as runs had them at first: a column for every number up to the largest, and no names.

    None where labels are no such classes, or have no gap in their numbers.
    """
    names = labels.class_names
    if not names or not all(name.isdecimal() and len(name) < 6 for name in names):
        return None
    numbers = np.array([int(name) for name in names])
    size = int(numbers.max()) + 1
    if size > MOST_CLASSES or len(labels.values) * size > MOST_ENTRIES:  # which were refused
        return None
    return Labels(one_hot(numbers[labels.values.argmax(1)], size), None, labels.origin)


def _by_number(codes: Sequence[int], where: str) -> tuple[np.ndarray, list[str]]:
    """One-hot rows over the sorted distinct numbers, and these as names."""
    distinct = sorted(set(codes))
    if len(distinct) > MOST_CLASSES:
        raise FruganError(
            f"{where} has {len(distinct)} classes, the limit is {MOST_CLASSES}; are they identifiers? give fewer, broader ones"
        )
    return one_hot(np.searchsorted(distinct, codes), len(distinct)), [str(code) for code in distinct]


def _by_class(names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """One-hot rows over the sorted distinct names, and these."""
    classes = sorted(set(names))
    code = {name: i for i, name in enumerate(classes)}
    return one_hot(np.array([code[name] for name in names]), len(classes)), classes


def one_hot(codes: np.ndarray, classes: int) -> np.ndarray:
    """int `[N]` in [0, classes) → float32 `[N, classes]`. Raises `FruganError` where that takes more than 1 GB."""
    if len(codes) * classes > MOST_ENTRIES:
        raise FruganError(
            f"{classes} classes of {len(codes)} images take {len(codes) * classes * 4 / 1e9:.0f} GB, the limit is "
            f"{MOST_ENTRIES * 4 / 1e9:.1f}; are they identifiers? give fewer, broader classes"
        )
    return (codes[:, None] == np.arange(classes)).astype(np.float32)


def _in_order(rows: Mapping[str, Entry], names: Sequence[str], where: str) -> list[Any]:
    """The label of every image."""
    found = match(names, rows)
    if found.clash:
        first, second, key = found.clash
        raise FruganError(
            f"{first} and {second} both match {rows[key].name!r} in {where}; write the names there with their folders"
        )
    lost = [name for name, key in zip(names, found.keys) if key is None]
    if lost:
        given = set(found.keys)
        unused = [row for key, row in rows.items() if key not in given] or list(rows.values())
        near = next((row for row in unused if loosest(row.name) == loosest(lost[0])), unused[0] if unused else None)
        example = f"{near.name!r}{f' in line {near.line}' if near.line else ''}" if near else "nothing"
        raise FruganError(
            f"{lost[0]} has no label in {where} ({len(lost)} of {len(names)} images have none; it names for example "
            f"{example}); add the missing rows, or move the images away"
        )
    return [rows[key].label for key in found.keys if key is not None]
