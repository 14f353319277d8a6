"""Every place and kind of labels, and every way in which they fail to match."""

from __future__ import annotations

import io
import json
import struct
import unicodedata
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from frugan.data.labels.read import find_labels, read_labels
from frugan.data.sources.open import open_source
from frugan.errors import FruganError
from frugan.label_parts import label_parts
from frugan.latent.labels import parse_label

NAMES = ["cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png"]
ONE_HOT = [[1, 0], [1, 0], [0, 1], [0, 1]]


@pytest.fixture
def folder(tmp_path: Path, make_images) -> Path:
    make_images(tmp_path, NAMES)
    return tmp_path


@pytest.fixture
def png(noise) -> bytes:
    file = io.BytesIO()
    Image.fromarray(noise(8, 8, 3)).save(file, "PNG")
    return file.getvalue()


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


@settings(deadline=None, max_examples=25)
@given(
    st.sets(st.text("ab=k é", min_size=1, max_size=5).filter(lambda name: name.strip() == name), min_size=2, max_size=5)
)
def test_any_folders_are_the_classes_of_one_part(tmp_path_factory: pytest.TempPathFactory, folders: set[str]) -> None:
    """Also where some names have a "=", which elsewhere divides a part of a label from its classes."""
    home = tmp_path_factory.mktemp("set")
    for folder in folders:
        (home / folder).mkdir()
        Image.new("RGB", (8, 8)).save(home / folder / "1.png")
    names = _read(home).class_names
    (part,) = label_parts(len(folders), names)
    first, mark, _ = min(folders).partition("=")
    shared = bool(first and mark) and all(name.startswith(f"{first}=") for name in folders)
    assert {*part.classes} == ({name.removeprefix(f"{first}=") for name in folders} if shared else folders)
    assert not part.is_flag
    for i, name in enumerate(part.classes):
        assert parse_label(name, len(folders), names).argmax() == i  # pyright: ignore[reportOptionalMemberAccess]


def test_folders_below_a_common_one(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, [f"data/train/{name}" for name in NAMES])
    assert _read(tmp_path).class_names == ["cat", "dog"]


def test_flat_images_have_no_labels(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, ["a.png", "b.png"])
    assert find_labels(open_source(tmp_path), ["a.png", "b.png"]) == "none"
    with pytest.raises(FruganError, match=r"has no labels .* --labels"):
        _read(tmp_path)


JSON = {
    "integers": ([0, 0, 1, 1], ONE_HOT),
    "classes with gaps": ([101, 101, 40017, 40017], ONE_HOT),
    "words": (["cat", "cat", "dog", "dog"], ONE_HOT),
    "numbers as words": (["0.5", "1.5", "2", "-1"], [[0.5], [1.5], [2], [-1]]),
    "booleans": ([True, True, False, False], [row[::-1] for row in ONE_HOT]),
    "objects": ([{"kind": "cat"}, {"kind": "cat"}, {"kind": "dog"}, {"kind": "dog"}], ONE_HOT),
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
    "more rows than images": (_rows("0", "0", "1", "1", "2"), ONE_HOT, ["0", "1"]),
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
    assert _read(folder, "labels.csv:size").class_names == ["0", "2"]
    assert _read(folder, f"{folder}/labels.csv:mood,size").class_names == ["mood=x", "size=0", "size=2"]
    (folder / "labels.json").write_text(json.dumps({"kind": ["dog", "cat", "bird"]}))
    labels = _read(folder, "labels.csv:kind")
    assert labels.class_names == ["dog", "cat", "bird"]
    assert labels.values.tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0], [1, 0, 0]]
    with pytest.raises(FruganError, match="no column 'colour'; its columns are kind, size, mood"):
        _read(folder, "labels.csv:colour")


@pytest.mark.parametrize("labels", [np.array([0, 0, 1, 1]), np.array(ONE_HOT, np.float32), np.array(ONE_HOT, bool)])
def test_label_arrays(labels: np.ndarray, tmp_path: Path, noise) -> None:
    np.savez(tmp_path / "set.npz", images=noise(4, 8, 8, 3), labels=labels)
    np.testing.assert_array_equal(_read(tmp_path / "set.npz").values, np.array(ONE_HOT, np.float32))


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
    r"cat/2\.png has the label null": _pairs(0, None, 0, 1),
    r"cat/1\.png has the label 'cat' .* cat/2\.png 3; make all of them words": _pairs("cat", 3, "dog", "dog"),
    r"'cat/1\.png' stands there twice": lambda folder: (folder / "dataset.json").write_text(
        '{"labels": {"cat/1.png": 0, "cat/1.png": 1}}'
    ) and "dataset.json",
    r"cat/2\.png has 1 label values .* cat/1\.png has 2": _pairs([0, 1], [1], [0, 0], [1, 1]),
    r"cat/2\.png has the label \['a'\]": _pairs([0.5], ["a"], [1], [1]),
    r"is no label file": _json(3),
    r"3 cells in line 3": _table("name,kind\n1.png,0\n2.png,0,7\n3.png,1\n4.png,1"),
    r"names 1\.png twice, in lines 2 and 3": _table("name,kind\n1.png,0\n1.png,1\n2.png,0\n3.png,1\n4.png,1"),
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


def test_one_row_never_labels_two_images(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, ["a/1.png", "b/1.png"])
    (tmp_path / "labels.csv").write_text("name,kind\n1.png,0")
    with pytest.raises(FruganError, match=r"a/1\.png and b/1\.png both match '1\.png'"):
        _read(tmp_path)


def test_a_single_class_folder_is_no_condition(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, ["a/1.png", "a/2.png"])
    with pytest.raises(FruganError, match="single class folder, 'a'"):
        _read(tmp_path, "folders")


def test_wrong_label_arrays(tmp_path: Path, noise) -> None:
    np.savez(tmp_path / "set.npz", images=noise(4, 8, 8, 3), labels=np.arange(3))
    with pytest.raises(FruganError, match=r"4 images but labels of shape \(3,\)"):
        _read(tmp_path / "set.npz")


def _table_of(*rows: str, header: str = "name,kind") -> str:
    return "\n".join([header, *rows])


ROWS = [("1.png", "tabby"), ("2.png", "tabby"), ("3.png", "pug"), ("4.png", "pug")]
DIALECTS = {
    "label first": "label,filename\n" + "\n".join(f"{k},{n}" for n, k in ROWS),
    "pandas with its index": ",filename,label\n" + "\n".join(f"{i},{n},{k}" for i, (n, k) in enumerate(ROWS)),
    "pandas, shuffled": ",filename,label\n" + "\n".join(f"{i},{n},{k}" for i, (n, k) in zip((7, 2, 9, 4), ROWS)),
    "an index, no header": "\n".join(f"{i},{n},{k}" for i, (n, k) in enumerate(ROWS, 1)),
    "blanks after commas": "name, kind\n" + "\n".join(f"{n}, {k}" for n, k in ROWS),
    "quoted, after blanks": 'name, "kind"\n' + "\n".join(f'"{n}", "{k}"' for n, k in ROWS),
    "CRLF": "\r\n".join(["name,kind", *(f"{n},{k}" for n, k in ROWS), ""]),
    "old Macintosh": "\r".join(["name,kind", *(f"{n},{k}" for n, k in ROWS), ""]),
    "tabs": "\n".join(f"{n}\t{k}" for n, k in ROWS),
    "a spreadsheet's hint": "sep=;\nname;kind\n" + "\n".join(f"{n};{k}" for n, k in ROWS),
    "commas at the ends": "name,kind,,\n" + "\n".join(f"{n},{k},," for n, k in ROWS),
    "Windows paths": "name,kind\n" + "\n".join(f"C:\\data\\{n},{k}" for n, k in ROWS),
    "absolute paths": "name,kind\n" + "\n".join(f"/home/me/set/{f},{k}" for f, (_, k) in zip(NAMES, ROWS)),
    "dots": "name,kind\n" + "\n".join(f"./{f},{k}" for f, (_, k) in zip(NAMES, ROWS)),
    "another case": "name,kind\n" + "\n".join(f"{n.upper()},{k}" for n, k in ROWS),
    "the same row twice": "name,kind\n" + "\n".join(f"{n},{k}" for n, k in [*ROWS, *ROWS]),
    "names called image": "image,kind\n" + "\n".join(f"{n},{k}" for n, k in ROWS),
    "rows of other images, no header": "x.png,tabby\n" + "\n".join(f"{n},{k}" for n, k in ROWS),
}


@pytest.mark.parametrize("kind", DIALECTS)
def test_dialects(kind: str, folder: Path) -> None:
    (folder / "labels.csv").write_bytes(DIALECTS[kind].encode())
    labels = _read(folder)
    assert labels.class_names == ["pug", "tabby"]
    assert labels.values.tolist() == [[0, 1], [0, 1], [1, 0], [1, 0]]


def test_words_with_commas(folder: Path) -> None:
    rows = [f'{n}, "{k}, small"' for n, k in ROWS]
    (folder / "labels.csv").write_text(_table_of(*rows))
    assert _read(folder).class_names == ["pug, small", "tabby, small"]


NUMBERS = {
    "decimal commas": ("name;x\n1.png;3,5\n2.png;-4,25\n3.png;10\n4.png;0,125", [3.5, -4.25, 10, 0.125]),
    "decimal commas, no header": ("1.png;3,5\n2.png;4,25\n3.png;10,0\n4.png;0,125", [3.5, 4.25, 10, 0.125]),
    "tabs": ("1.png\t3,5\n2.png\t4,25\n3.png\t10,0\n4.png\t0,125", [3.5, 4.25, 10, 0.125]),
    "three decimals": ("name;x\n1.png;1,250\n2.png;1,500\n3.png;2,000\n4.png;3,125", [1.25, 1.5, 2, 3.125]),
    "quoted": ('name,x\n1.png,"3,5"\n2.png,"4,25"\n3.png,"10,0"\n4.png,"0,125"', [3.5, 4.25, 10, 0.125]),
    "thousands and decimals": ("n;x\n1.png;1.234,5\n2.png;4,25\n3.png;10,0\n4.png;0,5", [1234.5, 4.25, 10, 0.5]),
    "thousands": ('n,x\n1.png,"1,234.5"\n2.png,4.25\n3.png,10.0\n4.png,0.5', [1234.5, 4.25, 10, 0.5]),
    "exponents and signs": ("n,x\n1.png,1e3\n2.png,+2.5\n3.png,.5\n4.png,-1E-2", [1000, 2.5, 0.5, -0.01]),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_in_all_notations(kind: str, folder: Path) -> None:
    text, expected = NUMBERS[kind]
    (folder / "labels.csv").write_text(text)
    labels = _read(folder)
    np.testing.assert_allclose(labels.values[:, 0], np.array(expected, np.float32))
    assert (labels.measured, labels.values.shape[1]) == ((0,), 1)


REFUSED = {
    r"column 'x' of labels\.csv holds 'NA' where other rows have numbers": "n,x\n1.png,1.5\n2.png,NA\n3.png,3\n4.png,4",
    r"holds 'nan' where": "n,x\n1.png,1.5\n2.png,nan\n3.png,3\n4.png,4",
    r"has an empty cell in column 'x'": "n,x\n1.png,1.5\n2.png,\n3.png,3\n4.png,4",
    r"holds '1,234' and '1234': is the comma": 'n,x\n1.png,"1,234"\n2.png,"4,250"\n3.png,"1,000"\n4.png,7',
    r"holds '3,5' and '4\.5': is the comma": "n;x\n1.png;3,5\n2.png;4.5\n3.png;1,0\n4.png;7",
    r"numbers such as '1\.5' and words such as 'about 2'": "n,x\n1.png,1.5\n2.png,about 2\n3.png,3\n4.png,4",
    r"3 cells in line 2 .* 3,5 is written 3\.5, or in quotes": "n,x\n1.png,3,5\n2.png,4,5\n3.png,3\n4.png,4",
    r"two columns 'x' in line 1": "n,x,x\n1.png,1,2\n2.png,1,2\n3.png,1,2\n4.png,1,2",
    r"cannot hold; subtract what all have in common": "n,x\n1.png,1e9\n2.png,1000000000.01\n3.png,1e9\n4.png,1e9",
    r"dog/4\.png has no label in labels\.csv \(1 of 4 .* for example 'mouse/4\.png' in line 5": (
        "n,x\ncat/1.png,a\ncat/2.png,a\ndog/3.png,b\nmouse/4.png,b"
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused_tables(message: str, folder: Path) -> None:
    (folder / "labels.csv").write_text(REFUSED[message])
    with pytest.raises(FruganError, match=message):
        _read(folder)


def test_identifiers_are_no_classes(tmp_path: Path, make_images) -> None:
    names = [f"{i:02d}.png" for i in range(16)]
    make_images(tmp_path, names)
    (tmp_path / "labels.csv").write_text("n,age\n" + "\n".join(f"{n},{i + 20}" for i, n in enumerate(names)))
    with pytest.raises(FruganError, match=r"as many classes as images, .* add :age=number if it measures something"):
        _read(tmp_path)
    assert _read(tmp_path, "labels.csv:age=number").values[3].tolist() == [23]
    assert _read(tmp_path, "labels.csv:age=class").class_names == [str(i + 20) for i in range(16)]


def test_a_number_beside_a_class_and_a_flag(folder: Path) -> None:
    text = "n,kind,year,fur\n1.png,a,1990.0,1\n2.png,b,2001.5,0\n3.png,a,2020.0,1\n4.png,b,1995.0,0"
    (folder / "labels.csv").write_text(text)
    labels = _read(folder)
    assert labels.class_names == ["kind=a", "kind=b", "year", "fur"]
    assert labels.values.tolist() == [[1, 0, 1990, 1], [0, 1, 2001.5, 0], [1, 0, 2020, 1], [0, 1, 1995, 0]]
    assert labels.measured == (2,)


@pytest.mark.parametrize(
    "labels, names",
    [
        (np.array([[0], [0], [1], [1]]), None),
        (np.array([[101], [101], [2045], [2045]], np.uint16), ["101", "2045"]),
        (np.array([0, 0, 1, 1])[:, None, None, None], None),
        (np.array([False, False, True, True])[:, None], None),
        (np.array(["cat", "cat", "dog", "dog"]), ["cat", "dog"]),
        (np.array([[b"cat"], [b"cat"], [b"dog"], [b"dog"]]), ["cat", "dog"]),
    ],
)
def test_class_arrays_of_all_shapes(labels: np.ndarray, names: list[str] | None, tmp_path: Path, noise) -> None:
    images = noise(4, 8, 8, 3)
    np.savez(tmp_path / "set.npz", images=images, labels=labels)
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["images"] = images
        file["labels"] = np.char.encode(labels) if labels.dtype.kind == "U" else labels
    for name in ("set.npz", "set.h5"):
        found = _read(tmp_path / name)
        assert found.values.tolist() == ONE_HOT
        assert (found.class_names, found.measured) == (names, ())


@pytest.mark.parametrize(
    "labels", [np.array([[1990], [2020], [2000.5], [1]], np.float32), np.array([1990, 2020, 2000.5, 1])]
)
def test_measured_arrays(labels: np.ndarray, tmp_path: Path, noise) -> None:
    np.savez(tmp_path / "set.npz", images=noise(4, 8, 8, 3), labels=labels)
    found = _read(tmp_path / "set.npz")
    assert found.values.tolist() == labels.reshape(-1, 1).tolist()
    assert found.measured == (0,)
    np.savez(tmp_path / "set.npz", images=noise(4, 8, 8, 3), labels=np.array([1.5, np.nan, 2, 3]))
    with pytest.raises(FruganError, match=r"000001 has the label \[nan\] .* finite"):
        _read(tmp_path / "set.npz")


def test_class_names_of_dataset_json(folder: Path) -> None:
    def write(labels: list, names: list[str]) -> None:
        pairs = [list(pair) for pair in zip(NAMES, labels)]
        (folder / "dataset.json").write_text(json.dumps({"labels": pairs, "class_names": names}))

    write([0, 0, 1, 1], ["a", "b", "c"])
    assert (_read(folder).class_names, _read(folder).values.shape) == (["a", "b", "c"], (4, 3))
    write(["b", "b", "a", "a"], ["b", "a"])
    assert (_read(folder).class_names, _read(folder).values.tolist()) == (["b", "a"], ONE_HOT)
    write([0, 0, 2, 1], ["a", "b"])
    with pytest.raises(FruganError, match=r"dog/3\.png has class 2 in dataset\.json, which lists 2 class_names"):
        _read(folder)
    write([[0.5, 1], [1, 1], [2, 0], [3, 0]], ["x"])
    with pytest.raises(FruganError, match="1 class_names, but its labels have 2 values"):
        _read(folder)


HUGGING_FACE = {
    "metadata.csv": lambda rows: "file_name,label\n" + "\n".join(f"{n},{k}" for n, k in rows),
    "metadata.jsonl": lambda rows: "\n".join(json.dumps({"file_name": n, "label": k}) for n, k in rows) + "\n",
}


@pytest.mark.parametrize("file", HUGGING_FACE)
def test_hugging_face_folders(file: str, tmp_path: Path, make_images) -> None:
    for split in ("train", "test"):
        make_images(tmp_path, [f"{split}/{n}" for n, _ in ROWS])
    kinds = {"train": ROWS, "test": [(n, "pug" if k == "tabby" else "tabby") for n, k in ROWS]}
    for split, rows in kinds.items():
        (tmp_path / split / file).write_text(HUGGING_FACE[file](rows))
    labels = _read(tmp_path)
    assert labels.class_names == ["pug", "tabby"]
    assert labels.values[:, 0].tolist() == [1, 1, 0, 0, 0, 0, 1, 1]  # test, then train
    (tmp_path / "test" / file).write_text(HUGGING_FACE[file](ROWS[1:]))
    with pytest.raises(FruganError, match=rf"test/1\.png has no label in 2 files {file}"):
        _read(tmp_path)
    for split in kinds:
        (tmp_path / split / file).unlink()
    (tmp_path / file).write_text(HUGGING_FACE[file]([(f"{s}/{n}", k) for s, rows in kinds.items() for n, k in rows]))
    assert _read(tmp_path).values.tolist() == labels.values.tolist()


def test_json_lines_at_fault(folder: Path) -> None:
    for text, message in (("{}\n[1]", "no object in line 2"), ('{"a": 1', "in line 1"), ("", "is empty")):
        (folder / "metadata.jsonl").write_text(text)
        with pytest.raises(FruganError, match=message):
            _read(folder)


def _zip(path: Path, files: dict[str, bytes], *, flag: bool = True) -> Path:
    """A zip; `flag`: whether names that are not ASCII are marked as UTF-8, as zipfile does."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    if not flag:
        content = bytearray(path.read_bytes())
        for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = content.find(mark)
            while at >= 0:
                content[at + offset + 1] &= ~0x08
                at = content.find(mark, at + 1)
        path.write_bytes(content)
    return path


ACCENTS = ["é_0.png", "ü_1.png", "ñ_2.png", "å_3.png"]


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("files, table", [("NFD", "NFC"), ("NFC", "NFD"), ("NFC", "NFC"), ("NFD", "NFD")])
def test_accents_in_zips(files: str, table: str, flag: bool, tmp_path: Path, png) -> None:
    names = [unicodedata.normalize(files, name) for name in ACCENTS]  # pyright: ignore[reportArgumentType]
    rows = "\n".join(f"{unicodedata.normalize(table, name)},{i % 2}" for i, name in enumerate(ACCENTS))  # pyright: ignore[reportArgumentType]
    path = _zip(tmp_path / "set.zip", dict.fromkeys(names, png) | {"labels.csv": rows.encode()}, flag=flag)  # pyright: ignore[reportArgumentType]
    source = open_source(path)
    assert source.names == sorted(names)
    assert read_labels(source, "auto", names).values.argmax(1).tolist() == [0, 1, 0, 1]


def test_names_of_other_programs_zips(tmp_path: Path, png) -> None:
    """Code page 437 without the flag, and with the name in Unicode in an extra field."""
    name = "ä.png".encode("cp437")
    extra = b"\x01" + struct.pack("<L", zlib.crc32(name)) + "ä ✓.png".encode()
    for field, expected in ((b"", "ä.png"), (struct.pack("<HH", 0x7075, len(extra)) + extra, "ä ✓.png")):
        member = zipfile.ZipInfo("?.png")
        member.extra = field
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            archive.writestr(member, png)
        (tmp_path / "set.zip").write_bytes((tmp_path / "set.zip").read_bytes().replace(b"?.png", name))
        assert open_source(tmp_path / "set.zip").names == [expected]


@pytest.mark.parametrize("depth", range(4))
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("file", ["labels.csv", "dataset.json"])
def test_label_files_at_any_depth(depth: int, zipped: bool, file: str, tmp_path: Path, png) -> None:
    top = "".join(f"{folder}/" for folder in ("leaves", "of", "trees")[:depth])
    names = [f"oak/{i}.png" for i in range(3)] + [f"ash/{i}.png" for i in range(3)]
    kinds = {name: "y" if name.startswith("oak") else "x" for name in names}
    text = "\n".join(map(",".join, kinds.items())) if file.endswith(".csv") else json.dumps({"labels": kinds})
    files = {f"{top}{name}": png for name in names} | {f"{top}{file}": text.encode()}
    path = _zip(tmp_path / "set.zip", files)
    if not zipped:
        path = tmp_path / "set"
        zipfile.ZipFile(tmp_path / "set.zip").extractall(path)
    for specification in ("auto", file, f"{top}{file}"):
        labels = _read(path, specification)
        assert labels.values.argmax(1).tolist() == [0, 0, 0, 1, 1, 1]
        assert labels.class_names == ["x", "y"]


def test_a_row_labels_the_image_that_it_names_and_no_other(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, ["train/1.png", "train/2.png", "test/1.png"])
    (tmp_path / "labels.csv").write_text("name,kind\ntrain/1.png,a\ntrain/2.png,b")
    with pytest.raises(FruganError, match=r"test/1\.png has no label in labels\.csv \(1 of 3"):
        _read(tmp_path)
