"""What is known of each picture: classes, several classes at once, or numbers, as one float32 row per picture.

A specification says where labels come from: "none"; "auto" (in the array file, dataset.json, labels.csv or sub-folders,
whichever is found first); "folders"; or the path of a .csv, .tsv or .json file, after which `:column,column` may pick
columns. A path is looked for on disk, then beside the pictures.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frugan.data.sources import Source, read_text
from frugan.errors import FruganError

MOST_CLASSES = 65536  # a larger class number is taken for an identifier that slipped in

LARGEST = float(np.finfo(np.float32).max)
MOST_ENTRIES = 1 << 28  # of one-hot rows: 1 GB

_FILE = re.compile(r"(?P<path>.*\.(?:csv|tsv|json))(?::(?P<columns>[^/\\]+))?", re.IGNORECASE)


@dataclass(frozen=True)
class Labels:
    """float32 `[N, K]`, one-hot where they are classes; K = 0 when there are none. `origin`: where they were found."""

    values: np.ndarray
    class_names: list[str] | None = None
    origin: str = "none"


def read_labels(source: Source, specification: str, names: Sequence[str]) -> Labels:
    """The labels of the named pictures, in that order.

    Raises `FruganError` where there are none, where a picture has no label, or where a label makes no sense.
    """
    if specification == "auto" and (specification := find_labels(source, names)) == "none":
        raise FruganError(
            f"{source.path} has no labels (no dataset.json, labels.csv, label array or class folders); "
            "name them with --labels FILE.csv or train without --conditional"
        )
    if specification == "none":
        return Labels(np.zeros((len(names), 0), np.float32))
    if specification == "array":
        return _from_array(source, names)
    if specification == "folders":
        return _from_folders(source, names)
    match = _FILE.fullmatch(specification)
    if match is None:
        raise FruganError(
            f"labels {specification!r} are neither auto, none, folders nor the path of a .csv, .tsv or .json file; "
            "pick one of these"
        )
    return _from_file(source, match["path"], match["columns"], names)


def find_labels(source: Source, names: Sequence[str]) -> str:
    """What "auto" stands for with these readable pictures: "array", "dataset.json", "labels.csv", "folders" or "none"."""
    if source.stored_labels() is not None:
        return "array"
    if (text := source.text("dataset.json")) is not None:
        return "none" if _json_rows(text, "dataset.json") is None else "dataset.json"
    if source.text("labels.csv") is not None:
        return "labels.csv"
    folders = _class_folders(names)
    return "folders" if len(set(folders)) > 1 and "" not in folders else "none"


def stored_labels(labels: Sequence[Any], names: Sequence[str], where: str, origin: str) -> Labels:
    """Labels as they lie beside the pictures, in shards or arrays: whole numbers, words, or lists of numbers."""
    lost = [name for name, label in zip(names, labels) if label is None]
    if lost:
        raise FruganError(
            f"{lost[0]} has no label beside it in its shard ({len(lost)} of {len(names)} pictures have none); add a .cls "
            "or .json file of the same key, or train without --conditional"
        )
    if all(isinstance(label, str) for label in labels):
        return Labels(*_by_class(labels), origin)
    return Labels(_encode(labels, names, where), origin=origin)


def _from_array(source: Source, names: Sequence[str]) -> Labels:
    labels = source.stored_labels()
    if labels is None:
        raise FruganError(f"{source.path} holds no label array; store one named labels beside the images in a .npz")
    if len(labels) != len(source.names) or labels.ndim not in (1, 2) or labels.dtype.kind not in "biufU":
        raise FruganError(
            f"{source.path} holds {len(source.names)} pictures but labels of shape {labels.shape} and type "
            f"{labels.dtype}; store integers (N,) or numbers (N, K)"
        )
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
    """Each picture's top folder ("" for none), below the folders that hold all pictures."""
    paths = [name.split("/")[:-1] for name in names]
    while paths and all(paths) and len({path[0] for path in paths}) == 1 and any(len(path) > 1 for path in paths):
        paths = [path[1:] for path in paths]
    return [path[0] if path else "" for path in paths]


def _from_file(source: Source, path: str, columns: str | None, names: Sequence[str]) -> Labels:
    here = Path(path).expanduser()
    beside = here.with_suffix(".json")
    if here.exists():
        text, classes = read_text(here), read_text(beside) if beside.is_file() and beside != here else None
    else:
        text, classes = source.text(path), source.text(Path(path).with_suffix(".json").as_posix())
        if text is None:
            raise FruganError(
                f"there is no label file {path}, neither there nor beside the pictures of {source.path}; check the path"
            )
    if path.lower().endswith(".json"):
        rows = _json_rows(text, path)
        if rows is None:
            raise FruganError(f'{path} holds no labels ("labels" is null); train without --conditional')
        found = _in_order(rows, names, path)
        return Labels(_encode(found, names, path), _json_class_names(text), path)
    return _from_table(text, classes, path, columns.split(",") if columns else None, names)


def _json_rows(text: str, where: str) -> dict[str, Any] | None:
    """name → label of {"labels": [[name, label], …]} or {"labels": {name: label, …}}; None for null."""
    try:
        labels = json.loads(text).get("labels")
        return None if labels is None else {str(name).replace("\\", "/"): label for name, label in _pairs(labels)}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise FruganError(
            f'{where} is no label file ({error}); write {{"labels": [["folder/name.png", 3], …]}}, or null'
        ) from error


def _pairs(labels: Any) -> Any:
    return labels.items() if isinstance(labels, dict) else labels


def _json_class_names(text: str) -> list[str] | None:
    names = json.loads(text).get("class_names")
    return [str(name) for name in names] if names and isinstance(names, list) else None


def _from_table(text: str, classes: str | None, where: str, wanted: list[str] | None, names: Sequence[str]) -> Labels:
    """Columns of text, or of integers from 0 up, are classes; 0/1 columns beside others, and fractions, are numbers.

    `classes`, the text of a .json file of the same name, may list a column's class names in order.
    """
    first = text.split("\n", 1)[0]
    try:
        rows_read = list(csv.reader(text.splitlines(), delimiter=max(",;\t", key=first.count)))
    except csv.Error as error:
        raise FruganError(f"{where} cannot be read as a table ({error}); save it anew as CSV") from error
    table = [row for row in rows_read if any(map(str.strip, row))]
    if not table or len(table[0]) < 2:
        raise FruganError(f"{where} is no table of name,label; its first line is {first!r}")
    find = _matcher(names)
    header = None if find(table[0][0]) else [cell.strip() for cell in table[0]][1:]
    rows: dict[str, list[str]] = {}
    for number, row in enumerate(table[header is not None :], 1 + (header is not None)):
        if len(row) != len(table[0]):
            raise FruganError(
                f"{where} has {len(row)} cells in line {number} ({row[0]}), {len(table[0])} in the first; mend it"
            )
        if row[0].strip() in rows:
            raise FruganError(f"{where} names {row[0]} twice, again in line {number}; remove one of the lines")
        rows[row[0].strip()] = [cell.strip() for cell in row[1:]]
    cells = list(zip(*_in_order(rows, names, where)))
    header = header or [str(i) for i in range(1, len(cells) + 1)]
    if wanted:
        missing = [column for column in wanted if column not in header]
        if missing:
            raise FruganError(f"{where} has no column {missing[0]!r}; its columns are {', '.join(header)}")
        cells, header = [cells[header.index(column)] for column in wanted], wanted
    listed = _class_lists(classes)
    blocks, class_names = [], []
    for column, values in zip(header, cells):
        block, block_names = _column(
            values, listed.get(column), len(cells) == 1, f"column {column!r} of {where}", names
        )
        blocks.append(block)
        if len(cells) > 1:
            block_names = [column] if block_names is None else [f"{column}={name}" for name in block_names]
        class_names += block_names or []
    return Labels(np.concatenate(blocks, 1), class_names or None, where)


def _class_lists(text: str | None) -> dict[str, list[str]]:
    """{"column": ["first class", "second class", …]}; empty where the text is something else."""
    try:
        lists = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    entries = lists.items() if isinstance(lists, dict) else ()
    return {k: v for k, v in entries if isinstance(v, list) and all(isinstance(name, str) for name in v)}


def _column(
    cells: Sequence[str], classes: list[str] | None, alone: bool, where: str, names: Sequence[str]
) -> tuple[np.ndarray, list[str] | None]:
    """One column as float32 `[N, k]`, and the class names where it holds classes."""
    if "" in cells:
        raise FruganError(f"{names[cells.index('')]} has an empty cell in {where}; fill it in or leave the column out")
    if classes is not None:
        code = {name: i for i, name in enumerate(classes)} | {str(i): i for i in range(len(classes))}
        unknown = next((cell for cell in cells if cell not in code), None)
        if unknown is not None:
            raise FruganError(
                f"{where} holds {unknown!r}, but lists only the classes {', '.join(classes)}; add it there"
            )
        return one_hot(np.array([code[cell] for cell in cells]), len(classes)), classes
    if not all(map(_is_number, cells)):
        return _by_class(cells)
    if all(cell.isdecimal() and len(cell) < 10 for cell in cells) and (alone or not set(cells) <= {"0", "1"}):
        values = _encode([int(cell) for cell in cells], names, where)
        return values, [str(i) for i in range(values.shape[1])]
    return _encode([[float(cell)] for cell in cells], names, where), None


def _encode(labels: Sequence[Any], names: Sequence[str], where: str) -> np.ndarray:
    """Integers → one-hot over 0 … the largest; equally long lists of numbers (or single fractions) → as they are."""
    if all(isinstance(label, int) and not isinstance(label, bool) for label in labels):
        for name, label in zip(names, labels):
            if not 0 <= label < MOST_CLASSES:
                raise FruganError(
                    f"{name} has class {label} in {where}, but classes run from 0 to {MOST_CLASSES - 1}; renumber them"
                )
        return one_hot(np.array(labels, np.int64), max(labels) + 1)
    rows = [label if isinstance(label, list) else [label] for label in labels]
    for name, row in zip(names, rows):
        if len(row) != len(rows[0]):
            raise FruganError(
                f"{name} has {len(row)} label values in {where}, {names[0]} has {len(rows[0])}; give all as many"
            )
        if not all(isinstance(value, (int, float)) and abs(value) <= LARGEST for value in row):
            raise FruganError(
                f"{name} has the label {row} in {where}, but labels must be finite numbers; mend that row"
            )
    return np.array(rows, np.float32)


def _by_class(names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """One-hot rows over the sorted distinct names, and these."""
    classes = sorted(set(names))
    code = {name: i for i, name in enumerate(classes)}
    return one_hot(np.array([code[name] for name in names]), len(classes)), classes


def one_hot(codes: np.ndarray, classes: int) -> np.ndarray:
    """int `[N]` in [0, classes) → float32 `[N, classes]`. Raises `FruganError` where that takes more than 1 GB."""
    if len(codes) * classes > MOST_ENTRIES:
        raise FruganError(
            f"{classes} classes of {len(codes)} pictures take {len(codes) * classes * 4 / 1e9:.0f} GB, the limit is "
            f"{MOST_ENTRIES * 4 / 1e9:.1f}; are they identifiers? give fewer, broader classes"
        )
    return (codes[:, None] == np.arange(classes)).astype(np.float32)


def _in_order(rows: dict[str, Any], names: Sequence[str], where: str) -> list[Any]:
    """The row of every picture."""
    find = _matcher(rows)
    keys = [find(name) for name in names]
    lost = [name for name, key in zip(names, keys) if key is None]
    if lost:
        raise FruganError(
            f"{lost[0]} has no label in {where} ({len(lost)} of {len(names)} pictures have none; it names for example "
            f"{next(iter(rows), 'nothing')!r}); add the missing rows, or move the pictures away"
        )
    if len(set(keys)) < len(keys):
        key, _ = Counter(keys).most_common(1)[0]
        first, second = [name for name, found in zip(names, keys) if found == key][:2]
        raise FruganError(
            f"{first} and {second} both match {key!r} in {where}; write the names there with their folders"
        )
    return [rows[key] for key in keys if key is not None]


def _matcher(known: Sequence[str] | dict[str, Any]) -> Callable[[str], str | None]:
    """Finds a name among the known ones: as it is, else without folder or suffix; only where one alone fits."""
    forms: list[Callable[[str], str]] = [
        lambda name: name.replace("\\", "/"),
        lambda name: _stem(name.replace("\\", "/")),
        lambda name: name.replace("\\", "/").rsplit("/", 1)[-1],
        lambda name: _stem(name.replace("\\", "/").rsplit("/", 1)[-1]),
    ]
    tables = []
    for form in forms:
        counts = Counter(map(form, known))
        tables.append({form(name): name for name in known if counts[form(name)] == 1})
    return lambda name: next((table[form(name)] for form, table in zip(forms, tables) if form(name) in table), None)


def _stem(name: str) -> str:
    return re.sub(r"\.[A-Za-z]{3,4}$", "", name)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
