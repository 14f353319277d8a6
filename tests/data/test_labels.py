"""Every place and kind of labels, and every way in which they fail to match."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from frugan.data.labels import find_labels, read_labels
from frugan.data.sources import open_source
from frugan.errors import FruganError

NAMES = ["cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png"]
ONE_HOT = [[1, 0], [1, 0], [0, 1], [0, 1]]


@pytest.fixture
def folder(tmp_path: Path, pictures) -> Path:
    pictures(tmp_path, NAMES)
    return tmp_path


def _read(folder: Path, specification: str = "auto"):
    source = open_source(folder)
    return read_labels(source, specification, source.names)


def test_none(folder: Path) -> None:
    labels = _read(folder, "none")
    assert labels.values.shape == (4, 0)
    assert labels.values.dtype == np.float32


def test_folders(folder: Path) -> None:
    for specification in ("folders", "auto"):
        labels = _read(folder, specification)
        assert labels.values.tolist() == ONE_HOT
        assert labels.values.dtype == np.float32
        assert labels.class_names == ["cat", "dog"]


def test_folders_below_a_common_one(tmp_path: Path, pictures) -> None:
    pictures(tmp_path, [f"data/train/{name}" for name in NAMES])
    assert _read(tmp_path).class_names == ["cat", "dog"]


def test_flat_pictures_have_no_labels(tmp_path: Path, pictures) -> None:
    pictures(tmp_path, ["a.png", "b.png"])
    assert find_labels(open_source(tmp_path), ["a.png", "b.png"]) == "none"
    with pytest.raises(FruganError, match=r"has no labels .* --labels"):
        _read(tmp_path)


JSON = {
    "integers": ([0, 0, 1, 1], ONE_HOT),
    "a class that does not occur": ([0, 0, 2, 2], [[1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]]),
    "multi-hot": ([[1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 1]],) * 2,
    "vectors": ([[0.5, -2.0], [1, 0], [3, 4.25], [0, 0]],) * 2,
    "fractions": ([0.5, 1.5, 2.0, -1.0], [[0.5], [1.5], [2], [-1]]),
}


@pytest.mark.parametrize("kind", JSON)
@pytest.mark.parametrize("form", ["pairs", "mapping"])
def test_dataset_json(kind: str, form: str, folder: Path) -> None:
    given, expected = JSON[kind]
    pairs = [list(pair) for pair in zip(NAMES, given)]
    (folder / "dataset.json").write_text(json.dumps({"labels": dict(pairs) if form == "mapping" else pairs[::-1]}))
    for specification in ("auto", "dataset.json", str(folder / "dataset.json")):
        np.testing.assert_array_equal(_read(folder, specification).values, np.float32(expected))


def test_dataset_json_without_labels_is_obeyed(folder: Path) -> None:
    (folder / "dataset.json").write_text('{"labels": null}')
    assert find_labels(open_source(folder), NAMES) == "none"
    with pytest.raises(FruganError, match="null"):
        _read(folder, "dataset.json")


def _rows(*cells: str, header: str = "name,kind") -> str:
    return "\n".join([header, *(f"{i}.png,{cell}" for i, cell in enumerate(cells, 1))])


CSV = {
    "class names": (_rows("tabby", "tabby", "pug", "pug"), [[0, 1], [0, 1], [1, 0], [1, 0]], ["pug", "tabby"]),
    "integers": (_rows("0", "0", "1", "1"), ONE_HOT, ["0", "1"]),
    "no header": ("cat/1.png,0\ncat/2.png,0\ndog/3.png,1\ndog/4.png,1", ONE_HOT, ["0", "1"]),
    "semicolons": (_rows("0", "0", "1", "1").replace(",", ";"), ONE_HOT, ["0", "1"]),
    "a byte order mark and an empty line": ("\ufeff" + _rows("0", "0", "1", "1") + "\n\n", ONE_HOT, ["0", "1"]),
    "no suffixes, another order": ("id,kind\n4,1\n3,1\n2,0\n1,0", ONE_HOT, ["0", "1"]),
    "more rows than pictures": (_rows("0", "0", "1", "1", "2"), ONE_HOT, ["0", "1"]),
    "multi-hot": (
        _rows("1,1", "0,1", "0,0", "1,0", header="name,fur,tail"),
        [[1, 1], [0, 1], [0, 0], [1, 0]],
        ["fur", "tail"],
    ),
    "numbers": (
        _rows("0.5,1", "1e-1,0", "3,1", "-1,0", header="name,x,y"),
        [[0.5, 1], [0.1, 0], [3, 1], [-1, 0]],
        ["x", "y"],
    ),
    "a single column of fractions": (_rows("0.5", "1.5", "3.0", "1.0"), [[0.5], [1.5], [3], [1]], None),
    "several classes": (
        _rows("cat,0", "cat,2", "dog,1", "dog,0", header="name,kind,size"),
        [[1, 0, 1, 0, 0], [1, 0, 0, 0, 1], [0, 1, 0, 1, 0], [0, 1, 1, 0, 0]],
        ["kind=cat", "kind=dog", "size=0", "size=1", "size=2"],
    ),
}


@pytest.mark.parametrize("kind", CSV)
def test_tables(kind: str, folder: Path) -> None:
    text, expected, class_names = CSV[kind]
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    labels = _read(folder)
    np.testing.assert_array_equal(labels.values, np.float32(expected))
    assert labels.class_names == class_names


def test_columns_can_be_picked_and_classes_listed(folder: Path) -> None:
    text = "name,kind,size,mood\n1.png,1,2,x\n2.png,1,0,x\n3.png,0,0,x\n4.png,0,0,x"
    (folder / "labels.csv").write_text(text)
    assert _read(folder, "labels.csv:size").class_names == ["0", "1", "2"]
    assert _read(folder, f"{folder}/labels.csv:mood,size").class_names == ["mood=x", "size=0", "size=1", "size=2"]
    (folder / "labels.json").write_text(json.dumps({"kind": ["dog", "cat", "bird"]}))
    labels = _read(folder, "labels.csv:kind")
    assert labels.class_names == ["dog", "cat", "bird"]
    assert labels.values.tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0], [1, 0, 0]]
    with pytest.raises(FruganError, match="no column 'colour'; its columns are kind, size, mood"):
        _read(folder, "labels.csv:colour")


@pytest.mark.parametrize("labels", [np.array([0, 0, 1, 1]), np.float32(ONE_HOT), np.array(ONE_HOT, bool)])
def test_label_arrays(labels: np.ndarray, tmp_path: Path, noise) -> None:
    np.savez(tmp_path / "set.npz", images=noise(4, 8, 8, 3), labels=labels)
    np.testing.assert_array_equal(_read(tmp_path / "set.npz").values, np.float32(ONE_HOT))


def _table(rows: str):
    return lambda folder: (folder / "labels.csv").write_text(rows) and "labels.csv"


def _json(labels: object):
    return lambda folder: (folder / "dataset.json").write_text(json.dumps({"labels": labels})) and "dataset.json"


def _pairs(*labels: object):
    return _json([list(pair) for pair in zip(NAMES, labels)])


def _stray(folder: Path) -> str:
    (folder / "cat/1.png").rename(folder / "1.png")
    return "folders"


MISTAKES = {
    r"dog/4\.png has no label in labels\.csv \(1 of 4": _table("name,kind\n1.png,0\n2.png,0\n3.png,1"),
    r"dog/3\.png has no label in dataset\.json \(2 of 4": _pairs(0, 1),
    r"cat/1\.png has no label .* for example 'x\.png'": _table("name,kind\nx.png,0"),
    r"dog/3\.png has class -1": _pairs(0, 1, -1, 0),
    r"dog/4\.png has class 99999999": _pairs(0, 1, 0, 99999999),
    r"cat/2\.png has 1 label values .* cat/1\.png has 2": _pairs([0, 1], [1], [0, 0], [1, 1]),
    r"cat/2\.png has the label \['a'\]": _pairs([0.5], ["a"], [1], [1]),
    r"is no label file": _json(3),
    r"3 cells in line 3": _table("name,kind\n1.png,0\n2.png,0,7\n3.png,1\n4.png,1"),
    r"names 1\.png twice, again in line 3": _table("name,kind\n1.png,0\n1.png,1\n2.png,0\n3.png,1\n4.png,1"),
    r"dog/3\.png has an empty cell in column 'kind'": _table("name,kind\n1.png,0\n2.png,0\n3.png,\n4.png,1"),
    r"is no table of name,label": _table("just text"),
    r"1\.png lies in no class folder": _stray,
    r"there is no label file nowhere\.csv": lambda folder: "nowhere.csv",
    r"'classes' are neither auto, none, folders": lambda folder: "classes",
    r"holds no label array": lambda folder: "array",
}  # fmt: skip


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes(message: str, folder: Path) -> None:
    specification = MISTAKES[message](folder)
    with pytest.raises(FruganError, match=message):
        _read(folder, specification)


def test_one_row_never_labels_two_pictures(tmp_path: Path, pictures) -> None:
    pictures(tmp_path, ["a/1.png", "b/1.png"])
    (tmp_path / "labels.csv").write_text("name,kind\n1.png,0")
    with pytest.raises(FruganError, match=r"a/1\.png and b/1\.png both match '1\.png'"):
        _read(tmp_path)


def test_a_single_class_folder_is_no_condition(tmp_path: Path, pictures) -> None:
    pictures(tmp_path, ["a/1.png", "a/2.png"])
    with pytest.raises(FruganError, match="single class folder, 'a'"):
        _read(tmp_path, "folders")


def test_wrong_label_arrays(tmp_path: Path, noise) -> None:
    np.savez(tmp_path / "set.npz", images=noise(4, 8, 8, 3), labels=np.arange(3))
    with pytest.raises(FruganError, match=r"4 pictures but labels of shape \(3,\)"):
        _read(tmp_path / "set.npz")
