"""Folders, zips and arrays as they are found in the wild."""

from __future__ import annotations

import io
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frugan.data.sources.archives import Zip
from frugan.data.sources.open import open_source
from frugan.errors import FruganError


def _png(value: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


FILES = ["b.PNG", "a.png", "deep/er/c.jpeg", "d.JpG", "e.tif"]
OTHERS = [".hidden.png", ".git/x.png", "__MACOSX/a.png", "Thumbs.db", "deep/.DS_Store", "deep/desktop.ini"]


def _make(kind: str, path: Path, names: list[str]) -> Path:
    if kind == "folder":
        for name in names:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(_png())
        return path
    path = path / "set.ZIP"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, _png())
    return path


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_images_are_found_and_litter_is_not(kind: str, tmp_path: Path) -> None:
    source = open_source(_make(kind, tmp_path, [*FILES, *OTHERS, "notes.txt", "x.jp2", "y.jp2"]))
    assert source.names == sorted(FILES)
    assert source.ignored == {".txt": 1, ".jp2": 2}
    assert source.kind == kind
    assert [source.pixels(i).shape for i in range(5)] == [(8, 8, 3)] * 5
    assert len({source.digest(i) for i in range(5)}) == 1


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_texts_lie_at_the_top_or_in_the_only_folder(kind: str, tmp_path: Path) -> None:
    source = open_source(_make(kind, tmp_path, ["only/a.png", "only/sub/b.png", "only/dataset.json"]))
    with pytest.raises(FruganError, match=r"dataset\.json is not UTF-8"):
        source.text("dataset.json")  # a PNG by another name
    assert source.text("labels.csv") is None


def test_links_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.png").write_bytes(_png())
    os.symlink(tmp_path / "elsewhere", tmp_path / "set/linked")
    os.symlink(tmp_path / "set", tmp_path / "elsewhere/loop")
    os.symlink(tmp_path / "nowhere.png", tmp_path / "set/broken.png")
    source = open_source(tmp_path / "set")
    assert source.names == ["linked/a.png"]
    assert [name for name, _ in source.unreadable] == ["broken.png"]


def test_a_zip_stays_inside_itself(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../../evil.png", "/abs.png", "win\\a.png", "ok.png"):
            archive.writestr(zipfile.ZipInfo(name), _png())
    before = set(tmp_path.parent.rglob("*"))
    source = open_source(path)
    assert sum(source.pixels(i).size > 0 for i in range(len(source.names))) == len(source.names)
    assert "win/a.png" in source.names
    assert set(tmp_path.parent.rglob("*")) == before


def test_an_encrypted_member_is_told_apart(tmp_path: Path) -> None:
    path = _make("zip", tmp_path, ["a.png", "b.png"])
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")  # the first central directory record; its flags are 8 bytes in
    content[entry + 8] |= 1
    path.write_bytes(content)
    source = open_source(path)
    assert source.names == ["b.png"]
    assert source.unreadable == [("a.png", "encrypted")]


ARRAYS = {
    "N H W": ((5, 8, 9), (8, 9, 1)),
    "N H W C": ((5, 8, 9, 3), (8, 9, 3)),
    "N C H W": ((5, 3, 8, 9), (8, 9, 3)),
    "many channels": ((5, 16, 16, 12), (16, 16, 12)),
    "many channels first": ((5, 12, 16, 16), (16, 16, 12)),
}


@pytest.mark.parametrize("layout", ARRAYS)
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays(layout: str, dtype: str, suffix: str, tmp_path: Path, noise) -> None:
    shape, expected = ARRAYS[layout]
    array = noise(*shape, dtype=np.uint16 if dtype[-1] == "2" else np.uint8).astype(dtype)
    path = tmp_path / f"set{suffix}"
    np.save(path, array) if suffix == ".npy" else np.savez(path, images=array, labels=np.arange(5))
    source = open_source(path)
    assert len(source.names) == 5
    pixels = source.pixels(2)
    assert pixels.shape == expected
    assert pixels.dtype == np.dtype(dtype).newbyteorder("=")
    header = source.header(2)
    assert (header.height, header.width, header.channels) == expected
    first = array[2] if "first" not in layout and layout != "N C H W" else array[2].transpose(1, 2, 0)
    np.testing.assert_array_equal(pixels, first.reshape(expected))
    labels = source.stored_labels()
    assert labels is None if suffix == ".npy" else list(labels) == [0, 1, 2, 3, 4]  # type: ignore[arg-type]


MISTAKES = {
    "no file or folder": lambda p: p / "nowhere",
    "holds no images": lambda p: p,
    "single file; give a folder": lambda p: _written(p / "a.png", _png()),
    "cannot be read as a zip": lambda p: _written(p / "a.zip", b"PK no zip"),
    "cannot be read as a NumPy file": lambda p: _written(p / "a.npy", b"no array"),
    "complex128 numbers, but images must be whole": lambda p: _saved(p / "a.npy", np.zeros((2, 8, 8, 3), complex)),
    "not plainly": lambda p: _saved(p / "a.npy", np.zeros((2, 8, 8, 8), np.uint8)),
    r"shape \(8, 8\)": lambda p: _saved(p / "a.npy", np.zeros((8, 8), np.uint8)),
    "has no array named images": lambda p: _saved(p / "a.npz", np.zeros((2, 8, 8), np.uint8)),
}


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _saved(path: Path, array: np.ndarray) -> Path:
    np.save(path, array) if path.suffix == ".npy" else np.savez(path, other=array)
    return path


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes(message: str, tmp_path: Path) -> None:
    path = MISTAKES[message](tmp_path)
    with pytest.raises(FruganError, match=message):
        open_source(path)


def test_what_else_is_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jp2").write_bytes(b"")
    with pytest.raises(FruganError, match=r"found: 1 × \.jp2"):
        open_source(tmp_path)


def test_damaged_array_files_are_told(tmp_path: Path, noise) -> None:
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", images=noise(20, 16, 16))
        content = bytearray((tmp_path / "a.npz").read_bytes())
        content[400:900] = bytes(500)
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(FruganError, match="cannot be read as a NumPy file"):
            open_source(tmp_path / "a.npz")


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(FruganError, match="NumPy file"):
        open_source(tmp_path / "a.npy")


def test_members_of_a_zip_that_are_read_at_once_have_handles_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that seek in members of one handle lose their places; handles are used again, so that there are few."""
    content = {f"{i}.png": bytes([i]) * 5000 for i in range(4)}
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    source, made = Zip(tmp_path / "set.zip"), []
    plain = zipfile.ZipFile
    monkeypatch.setattr(zipfile, "ZipFile", lambda path: made.append(path) or plain(path))
    with source.open_head("0.png") as one, source.open_head("1.png") as other, source.open_head("2.png") as third:
        assert one.read(7) + other.read(7) + third.read(7) == bytes([0] * 7 + [1] * 7 + [2] * 7)
        handles = {file._fileobj._file for file in (one, other, third)}  # pyright: ignore[reportAttributeAccessIssue]
        assert len(handles) == 3
    assert len(made) == 2
    for name, data in content.items():
        assert source.open(name).read() == data
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: source.open(name).read(), list(content) * 50))
    assert found == list(content.values()) * 50
    assert len(made) <= 7
