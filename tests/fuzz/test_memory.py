"""Containers that would unpack to much, and label tables of any depth and length: refused, or skipped, in bounded memory."""

from __future__ import annotations

import io
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from frugan.data import DataConfig, open_dataset
from frugan.data.labels import tables as label_tables
from frugan.data.shards.index import read_index
from frugan.errors import FruganError

from .damage import program
from .hostile import header, image, lie, zipped

MIB = 1 << 20
NAMES = [f"{i}.png" for i in range(4)]


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """What Python and NumPy set aside within the block stays below `size` bytes."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size, f"{peak / MIB:.0f} MiB"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i, name in enumerate(NAMES):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(folder / name)
    return folder


def sheet(folder: Path) -> tuple[str, str]:
    return "--sheet", str(folder / "sheet.png")


def refused(path: Path, reason: str, **config: Any) -> None:
    with at_most(200 * MIB), pytest.raises(FruganError, match=reason):
        open_dataset(DataConfig(str(path), (8, 8), **config), cache_dir=path.parent / "cache")


def _npz(file: Path, shape: tuple[int, ...], data: bytes, name: str = "images.npy") -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, header.getvalue() + data)


@pytest.mark.parametrize("key", ["images", "labels"])
@pytest.mark.parametrize("shape, reason", [((1600, 256, 256), "unpacks to"), ((1 << 40, 8, 8), "of shape")])
def test_arrays_that_take_more_than_they_bring(key: str, shape: tuple[int, ...], reason: str, tmp_path: Path) -> None:
    file = tmp_path / "set.npz"
    _npz(file, shape, bytes(100 * MIB if reason == "unpacks to" else 4096), f"{key}.npy")
    if key == "labels":
        with zipfile.ZipFile(file, "a") as archive:
            array = io.BytesIO()
            np.save(array, np.zeros((4, 8, 8), np.uint8))
            archive.writestr("images.npy", array.getvalue())
    refused(file, reason)


def test_honest_arrays_are_read(tmp_path: Path) -> None:
    file = tmp_path / "set.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    for save in (np.savez, np.savez_compressed):
        save(file, images=pixels, labels=np.array(["a", "b", "a", "c"]))
        found = open_dataset(DataConfig(str(file), (8, 8), labels="auto"), cache_dir=tmp_path / "cache")
        assert np.array_equal(np.asarray(found.pixels), pixels)


def test_a_member_that_unpacks_to_much_is_skipped_and_named(images: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in NAMES:
            archive.write(images / name, name)
        with archive.open("bomb.png", "w", force_zip64=True) as member:
            for _ in range(100):
                member.write(bytes(MIB))
    with at_most(50 * MIB):
        code, printed = program("data", "inspect", str(tmp_path / "set.zip"), "--resolution", "8", *sheet(tmp_path))
    assert code == 0, printed
    assert "bomb.png" in printed
    assert "200 times" in " ".join(printed.split())


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("labels.csv", b"name,label\n" + b"a" * (5 * MIB) + b",1\n", "a line of more than"),
        ("labels.csv", b"a," * (3 * MIB), "a line of more than"),
        ("dataset.json", b"[" * 100_000, "no label file"),
        ("dataset.json", b'{"labels": ' + b'{"a":' * 900 + b"1" + b"}" * 901, "nested deeper than 64"),
        ("metadata.jsonl", b'{"file_name": "0.png", "label": ' + b"[" * 70 + b"]" * 70 + b"}", "deeper than 64"),
        ("metadata.jsonl", b"[" * 100_000, "line 1"),
    ],
)
def test_label_tables_of_any_depth_and_length(
    name: str, content: bytes, reason: str, images: Path, tmp_path: Path
) -> None:
    (images / name).write_bytes(content)
    refused(images, reason, labels="auto")
    code, printed = program("data", "inspect", str(images), "--resolution", "8", "--labels", "auto", *sheet(tmp_path))
    assert code == 0, printed
    assert "problem" in printed
    assert len(printed) < 4000


@pytest.mark.parametrize("name", ["labels.csv", "dataset.json", "metadata.jsonl"])
@pytest.mark.parametrize("packed", [False, True])
def test_large_label_tables_are_refused_unread(name: str, packed: bool, images: Path, tmp_path: Path) -> None:
    if packed:
        path = tmp_path / "set.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(images / "0.png", "0.png")
            with archive.open(name, "w", force_zip64=True) as member:
                for _ in range(70):
                    member.write(b" " * MIB)
    else:
        path = images
        with (images / name).open("wb") as file:
            file.truncate(1 << 33)
    with at_most(20 * MIB), pytest.raises(FruganError, match="the limit is"):
        open_dataset(DataConfig(str(path), (8, 8), labels="auto"), cache_dir=tmp_path / "cache")


def test_a_large_index_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "index.json").open("wb") as file:
        file.truncate(1500 * MIB)
    with at_most(20 * MIB), pytest.raises(FruganError, match="the limit"):
        read_index(str(tmp_path))


def test_tables_wider_or_longer_than_any_table_of_labels_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.process_time()
    with pytest.raises(FruganError, match=r"line 2: 50,002 columns .* the limits are 4,096"):
        label_tables.read_table("name,label\n" + ("0.png," + "a," * 50_000 + "\n") * 100, "labels.csv", ["0.png"])
    assert time.process_time() - started < 5
    monkeypatch.setattr(label_tables, "MAX_CELLS", 1000)
    assert label_tables.read_table("name,label\n" + "0.png,1\n" + "1.png,2\n", "labels.csv", ["0.png", "1.png"])
    with pytest.raises(FruganError, match="1,002 cells so far"):
        label_tables.read_table("name,label\n" + "".join(f"{i}.png,1\n" for i in range(600)), "labels.csv", ["0.png"])


ZIPPED = [
    (name, method)
    for name in ("1.png", "labels.csv", "dataset.json", "metadata.jsonl", "images.npy")
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
]


@cache
def packed(name: str, method: int) -> bytes:
    return zipped(name, method, 0 if method == zipfile.ZIP_STORED else 80)


@settings(max_examples=60)
@given(
    kind=st.sampled_from(ZIPPED),
    place=st.sampled_from([0, 4]),
    size=st.sampled_from([1, 1000, 1 << 20, 4 << 20, 1 << 29, 1 << 30, (1 << 31) - 1]),
)
def test_members_are_read_in_bounded_memory_whatever_size_they_are_said_to_have(
    kind: tuple[str, int], place: int, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """80 MiB that a few kB bring, or nothing said to be 2 GiB: images, tables of labels and arrays."""
    folder, (name, _) = tmp_path_factory.mktemp("lie"), kind
    file = folder / ("set.npz" if name == "images.npy" else "set.zip")
    file.write_bytes(lie(packed(*kind), name, place, size))
    with at_most(40 * MIB), suppress(FruganError):
        found = open_dataset(DataConfig(str(file), (8, 8), labels="auto"), cache_dir=folder / "cache")
        assert len(found) == 1


@pytest.mark.parametrize("name, reason", [("0.png", "packed by method 12"), ("labels.csv", "packed by method 12")])
def test_members_of_other_methods_than_store_and_deflate_are_told(name: str, reason: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("1.png", image())
        archive.writestr(name, b"file,label\n", zipfile.ZIP_BZIP2)
    code, printed = program(
        "data", "inspect", str(tmp_path / "set.zip"), "--resolution", "8", "--labels", "auto", *sheet(tmp_path)
    )
    assert code == 0, printed
    assert reason in " ".join(printed.split())


def test_an_image_of_a_zip_is_held_once(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.png", image() + bytes(60 * MIB))
    with at_most(85 * MIB):
        assert len(open_dataset(DataConfig(str(tmp_path / "set.zip"), (8, 8)), cache_dir=tmp_path / "cache")) == 1


def test_a_sparse_member_of_a_tar_is_skipped_unread(images: Path, tmp_path: Path) -> None:
    """Whose header says how long it would be with all its holes."""
    member = tarfile.TarInfo("sparse.png")
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % (1 << 30)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for name in NAMES:
            archive.add(images / name, name)
        archive.addfile(tarfile.TarInfo.frombuf(bytes(header), "utf-8", "strict"))
    with at_most(40 * MIB):
        found = open_dataset(DataConfig(str(tmp_path / "set.tar"), (8, 8)), cache_dir=tmp_path / "cache")
    assert len(found) == len(NAMES)
    assert dict(found.skipped)["sparse.png"] == "no regular file"


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.REGTYPE])
@pytest.mark.parametrize("content", ["8 GB said", "one in another"])
def test_headers_of_tars_that_stand_for_more_than_they_are(
    kind: bytes, content: str, images: Path, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "honest.tar", "w") as archive:
        for name in NAMES:
            archive.add(images / name, name)
    before = header(kind, 8 << 30) if content == "8 GB said" else (header(kind, 512) + b"x" * 512) * 3000
    (tmp_path / "set.tar").write_bytes(before + (tmp_path / "honest.tar").read_bytes())
    if content == "8 GB said" or kind != tarfile.REGTYPE:
        with at_most(40 * MIB), pytest.raises(FruganError, match="cannot be read as a tar"):
            open_dataset(DataConfig(str(tmp_path / "set.tar"), (8, 8)), cache_dir=tmp_path / "cache")
    else:
        assert len(open_dataset(DataConfig(str(tmp_path / "set.tar"), (8, 8)), cache_dir=tmp_path / "cache")) == 4
