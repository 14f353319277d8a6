"""Labels found and read: in the source itself, in folder names, in files beside the images or anywhere."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from frugan.data.labels.encode import Block, Labels, by_class, encode, encode_column
from frugan.data.labels.names import clean, loosest, match
from frugan.data.labels.tables import (
    Entry,
    Table,
    read_json_lines,
    read_records,
    read_table,
    unique_pairs,
)
from frugan.data.sources.base import Source, read_text
from frugan.data.sources.parts import file_of
from frugan.errors import FruganError, shown
from frugan.files import parse_json

FILES = ("dataset.json", "labels.csv", "metadata.csv", "metadata.jsonl")
"""Label files that "auto" looks for, in this order."""

_FILE = re.compile(r"(?P<path>.*\.(?:csv|tsv|jsonl?))(?::(?P<columns>[^/\\]+))?", re.IGNORECASE)


def read_labels(source: Source, specification: str, names: Sequence[str]) -> Labels:
    """The labels of images, in the order of their names.

    Args:
        source: the images.
        specification: where labels come from: "auto", "none", "array", "folders", or a table.
        names: of the images.

    Raises `FruganError` where there are none, where an image has none, or where a label makes no sense.
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
    """The meaning of labels "auto" for these images: "array", one of `FILES`, "folders" or "none"."""
    stored = source.stored_labels()
    if stored is not None and stored.dtype != object:
        return "array"
    for file in FILES:
        if places := source.places(file):
            null = file.endswith(".json") and all(_read_json(f, names)[0] is None for f in _beside(source, places))
            return "none" if null else file
    folders = _class_folders(names)
    if len(set(folders)) > 1 and "" not in folders:
        return "folders"
    return "none" if stored is None else "array"


def tables_beside(source: Source, specification: str) -> list[str]:
    """The files beside the images that labels, or the groups of a column, are read from: tables, and classes listed beside them."""
    if (file := _FILE.fullmatch(specification)) is None:
        return []
    here, top = Path(file["path"]).expanduser(), Path(source.path).resolve()
    if here.exists() and not here.resolve().is_relative_to(top):
        return []
    return source.places(here.name) + source.places(f"{here.stem}.json") * (here.suffix.lower() != ".json")


def read_column(source: Source, path: str, column: str, names: Sequence[str]) -> list[str]:
    """The cells of one column of a table, in the order of the images' names. The table is found and read as that of labels is.

    Args:
        source: the images, beside which the table may lie.
        path: of the table.
        column: its name.
        names: of the images.

    Raises `FruganError` where there is no such table or column, or an image has no row.
    """
    files = _files(source, path)
    table = _joined([(file, _read_table(file, names)) for file in files])
    if column not in table.header:
        raise FruganError(f"{path} has no column {column!r}; its columns are {', '.join(table.header)}")
    place = table.header.index(column)
    return [row[place] for row in _in_order(table.rows, names, path, "row")]


def stored_labels(labels: Sequence[Any], names: Sequence[str], where: str, origin: str) -> Labels:
    """Labels that are kept beside the images, in shards or arrays: whole numbers, words, or lists of numbers.

    Args:
        labels: one for each image; None where there is none, which is an error.
        names: of the images, for messages.
        where: the labels' place, for messages.
        origin: how the labels were found, for reports.
    """
    lost = [name for name, label in zip(names, labels) if label is None]
    if lost:
        raise FruganError(
            f"{lost[0]} has no label beside it ({len(lost)} of {len(names)} images have none); add it, beside an image in a tar "
            "as a .cls or .json file of the same key, or train without --conditional"
        )
    return encode(labels, names, where, origin)


def _from_array(source: Source, names: Sequence[str]) -> Labels:
    labels = source.stored_labels()
    if labels is None:
        raise FruganError(f"{source.path} holds no label array; store one named labels beside the images in a .npz")
    if labels.ndim > 2 and math.prod(labels.shape[2:]) == 1:  # (N, K, 1, 1)
        labels = labels.reshape(labels.shape[:2])
    if len(labels) != len(source.names) or labels.ndim not in (1, 2) or labels.dtype.kind not in "biufUSO":
        raise FruganError(
            f"{source.path} holds {len(source.names)} images but labels of shape {labels.shape} and type "
            f"{labels.dtype}; store integers or words (N,) or numbers (N, K)"
        )
    at = {name: i for i, name in enumerate(source.names)}
    labels = labels[[at[name] for name in names]]
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    if labels.dtype.kind == "b" and 1 in (labels.ndim, *labels.shape[1:]):
        labels = labels.astype(np.int64)
    if labels.dtype.kind != "f" and labels.shape[1:] == (1,):
        labels = labels[:, 0]
    return stored_labels(labels.tolist(), names, str(source.path), "labels in the array file")


def _from_folders(source: Source, names: Sequence[str]) -> Labels:
    folders = _class_folders(names)
    stray = next((name for name, folder in zip(names, folders) if not folder), None)
    if stray is not None:
        raise FruganError(
            f"{stray} lies in no class folder of {source.path}; move it into one, or use --labels FILE.csv"
        )
    if len(set(folders)) < 2:
        raise FruganError(f"{source.path} has a single class folder, {folders[0]!r}; train without --conditional")
    return Labels(*by_class(_as_one_part(folders)), "sub-folders")


def _as_one_part(folders: list[str]) -> list[str]:
    """Names of classes that `frugan.label_parts` takes for those of one part, also where some of them have a "=" of their own."""
    parts = {folder.partition("=")[0] for folder in folders if "=" in folder}
    one = len(parts) == 1 and "" not in parts and all("=" in folder for folder in folders)
    return folders if one or not parts else [f"class={folder}" for folder in folders]


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
            tables.append((file, _read_table(file, names)))
    if tables:
        listed_classes = {column: names for file in files for column, names in _class_lists(file.classes).items()}
        return _from_table(_joined(tables), listed_classes, where, columns, names)
    if not rows:
        raise FruganError(f'{where} holds no labels ("labels" is null); train without --conditional')
    return encode(_in_order(rows, names, where), names, where, where, class_names)


def _read_table(file: _File, names: Sequence[str]) -> Table:
    read = read_json_lines if file.where.lower().endswith(".jsonl") else read_table
    return read(file.text, file.where, names)


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


def _from_table(
    table: Table, listed: dict[str, list[str]], where: str, columns: str | None, names: Sequence[str]
) -> Labels:
    """Columns of words, or of integers from 0 up, are classes; 0/1 columns beside others are flags; the rest is measured.

    `listed`: class names of a column in order. `columns`: those to take, each perhaps with =class or =number.
    """
    rows = _in_order(table.rows, names, where)
    wanted = _wanted(table.header, columns, where)
    blocks: list[Block] = []
    class_names: list[str] = []
    for column, kind in wanted:
        cells = [row[table.header.index(column)] for row in rows]
        what = f"column {column!r} of {where}"
        block = encode_column(cells, names, what, kind, listed.get(column), len(wanted) == 1, table.decimal_comma)
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


def _in_order(rows: Mapping[str, Entry], names: Sequence[str], where: str, what: str = "label") -> list[Any]:
    """The label of every image; of one in a file that holds several, that of the file, where the table names no frames.

    `what`: the word for it in messages.
    """
    if not any(file_of(key) != key for key in rows):
        names = [file_of(name) for name in names]
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
            f"{lost[0]} has no {what} in {where} ({len(lost)} of {len(names)} images have none; it names for example "
            f"{example}); add the missing rows, or move the images away"
        )
    return [rows[key].label for key in found.keys if key is not None]
