"""Files of many images: every image as it was written, in order or not, with its label, in folders, in zips and alone."""

from __future__ import annotations

import io
import json
import random
import tarfile
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pyarrow as pa
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from frugan.data import DataConfig, open_dataset
from frugan.data.sources import base, parts, rows
from frugan.data.sources.base import Source
from frugan.data.sources.open import open_source
from frugan.data.sources.parts import Taken
from frugan.data.tools import inspect, prepare, shard
from frugan.errors import FruganError
from tests import containers
from tests.containers import FRAMES, SETS
from tests.fuzz.damage import program

KINDS = {**SETS, **FRAMES}
NUMBERS = ("uint8", "uint16", "int8", "int16", "int32", "uint32", "int64", "float16", "float32", "float64")


def drawn(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    """Any finite numbers of the type."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return (rng.normal(size=shape) * 1000).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def read(source: Source, order: list[int]) -> dict[str, np.ndarray]:
    """Name → pixels, which are as their headers say."""
    found = {}
    for i in order:
        pixels, header = source.pixels(i), source.header(i)
        assert (pixels.shape, str(pixels.dtype)) == ((header.height, header.width, header.channels), header.dtype)
        assert header.frames == 1
        found[source.names[i]] = pixels
    return found


def all_of(source: Source) -> np.ndarray:
    return np.stack([*read(source, list(range(len(source.names)))).values()])


def taken_of(suffix: str) -> Taken:
    return Taken("all" if suffix in FRAMES else "first")


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("place", ["alone", "folder", "zip"])
def test_every_image_of_every_kind_anywhere(suffix: str, place: str, tmp_path: Path) -> None:
    """One after the other, and in any order. A Zarr folder is no file that a zip may hold."""
    images = drawn((9, 16, 24, 3)) & 0xC0  # as many colours as a GIF may have
    file = tmp_path / "set/deep/er" / f"many{suffix}"
    file.parent.mkdir(parents=True)
    KINDS[suffix](file, images)
    if place == "zip":
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            archive.writestr("one.bmp", containers.png(images[0]))
            for part in [file] if file.is_file() else sorted(file.rglob("*")):
                archive.write(part, part.relative_to(tmp_path).as_posix())
    path = {"alone": file, "folder": tmp_path / "set", "zip": tmp_path / "set.zip"}[place]
    source = open_source(path, taken=taken_of(suffix))
    assert source.unreadable == []
    own = [i for i, name in enumerate(source.names) if name != "one.bmp"]
    where = {"alone": file.name, "folder": f"deep/er/{file.name}", "zip": f"set/deep/er/{file.name}"}[place]
    wanted = [] if suffix == ".zarr" and place == "zip" else [f"{where}#{i:06d}" for i in range(9)]
    assert [source.names[i] for i in own] == wanted
    for order in (own, random.Random(0).sample(own, len(own))):
        for name, pixels in read(source, order).items():
            np.testing.assert_array_equal(pixels[..., :3], images[int(name[-6:])])
            assert (pixels[..., 3:] == 255).all()  # frames of a GIF have opacity
    assert len({source.digest(i) for i in own}) == len(own)


@settings(max_examples=25)
@given(
    dtype=st.sampled_from(NUMBERS),
    channels=st.sampled_from([1, 2, 3, 4, 7]),
    sides=st.tuples(st.integers(8, 13), st.integers(8, 13)),
    first=st.booleans(),
    packed=st.booleans(),
    container=st.sampled_from(["hdf5", "zarr 2", "zarr 3"]),
    order=st.sampled_from(["<", ">"]),
    seed=st.integers(0, 99),
)
def test_arrays_of_any_numbers_and_layout(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str, channels: int, sides: tuple[int, int], first: bool, packed: bool, container: str,
    order: Literal["<", ">"], seed: int,
) -> None:  # fmt: skip
    images = drawn((5, *sides, channels), dtype, seed)
    stored = images[..., 0] if channels == 1 else np.moveaxis(images, -1, 1) if first else images
    stored = stored.astype(stored.dtype.newbyteorder(order))
    path = tmp_path_factory.mktemp("arrays") / ("a.h5" if container == "hdf5" else "a.zarr")
    chunks = (2, *stored.shape[1:])
    if container == "hdf5":
        options = {"chunks": chunks, "compression": "gzip", "shuffle": True, "fletcher32": True} if packed else {}
        containers.write_hdf5(path, stored, **options)
    else:
        containers.write_zarr(
            path, stored, version=int(container[-1]), chunks=chunks, **({} if packed else {"compressors": None})
        )
    np.testing.assert_array_equal(all_of(open_source(path)), images)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kind", ["U7", "S7"])
def test_labels_of_zarr_may_be_words_of_a_fixed_length(kind: str, version: int, tmp_path: Path) -> None:
    words = np.array(["one", "two", "three"] * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr says that others may not read such text
        containers.write_zarr(tmp_path / "a.zarr", drawn((9, 8, 8)), words.astype(kind), version)
    stored = open_source(tmp_path / "a.zarr").stored_labels()
    assert stored is not None
    assert stored.tolist() == words.tolist()


@pytest.mark.parametrize("version", [2, 3])
def test_arrays_of_zarr_that_are_not_read_do_not_matter(version: int, tmp_path: Path) -> None:
    """Unless they are called as images or labels are, or no other array may hold images."""
    images = drawn((9, 8, 8))
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=version)  # pyright: ignore[reportArgumentType]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group.create_array("names", shape=(9,), dtype=str)[:] = np.array(["a name"] * 9, object)
    group.create_array("times", data=np.arange(9))
    with pytest.raises(
        FruganError, match=r"a\.zarr cannot be read: an array (packed by|of)|describes no array that is read"
    ):
        open_dataset(DataConfig(str(tmp_path / "a.zarr")), cache_dir=tmp_path / "cache")
    group.create_array("raw", data=images)
    np.testing.assert_array_equal(all_of(open_source(tmp_path / "a.zarr"))[..., 0], images)
    (tmp_path / "a.zarr/names").rename(tmp_path / "a.zarr/labels")
    with pytest.raises(FruganError, match=r"a\.zarr cannot be read: "):
        open_dataset(DataConfig(str(tmp_path / "a.zarr")), cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("suffix", [".h5", ".zarr"])
@pytest.mark.parametrize(
    ("array", "says"),
    [
        (None, "no array is in it"),
        (np.zeros((2, 3, 4, 8, 8), np.uint16), r"its array volume holds uint16 of shape \(2, 3, 4, 8, 8\); store"),
        (
            np.ones((4, 8, 8), bool),
            r"its array volume holds bool of shape \(4, 8, 8\); store images as one array of numbers",
        ),
    ],
)
def test_an_array_file_without_images_says_what_it_holds(
    suffix: str, array: np.ndarray | None, says: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a{suffix}"
    group: Any = zarr.open_group(str(path), mode="w") if suffix == ".zarr" else h5py.File(path, "w")
    if array is not None:
        group.create_array("volume", data=array) if suffix == ".zarr" else group.create_dataset("volume", data=array)
    if suffix == ".h5":
        group.close()
    with pytest.raises(FruganError, match=rf"a{suffix} holds no images: {says}"):
        open_source(path)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_table_without_images_says_what_it_holds(suffix: str, tmp_path: Path) -> None:
    table = pa.table({"image": [[[1, 2], [3, 4]]], "label": [3]})
    if suffix == ".parquet":
        parquet.write_table(table, tmp_path / "a.parquet")
    else:
        with pa.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(
        FruganError, match=rf"a{suffix} holds no images: its columns are image: list<.*, label: int64; store"
    ):
        open_source(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("odd", [-1, 2])
def test_a_class_that_is_not_told_is_no_label(odd: int, tmp_path: Path) -> None:
    """As in the test split of a Hugging Face data set, whose labels are kept back: told by the image's name."""
    parquet.write_table(
        containers.table(drawn((4, 8, 8, 3)), np.array([0, 1, 0, 1]), ["cat", "dog"]), tmp_path / "train.parquet"
    )
    parquet.write_table(
        containers.table(drawn((3, 8, 8, 3)), np.array([odd] * 3), ["cat", "dog"]), tmp_path / "z.parquet"
    )
    with pytest.raises(FruganError, match=r"z\.parquet#000000 has no label beside it \(3 of 7"):
        open_dataset(DataConfig(str(tmp_path), labels="auto"), cache_dir=tmp_path / "cache")
    assert any("3 of 7 images have none" in problem for problem in inspect(str(tmp_path)).problems)
    (tmp_path / "labels.csv").write_text(
        "".join(f"{name},{i % 2}\n" for i, name in enumerate(open_source(tmp_path).names))
    )
    data = open_dataset(DataConfig(str(tmp_path), labels="auto"), cache_dir=tmp_path / "cache")
    assert data.label_origin == "labels.csv"


def test_whole_numbers_and_fractions_are_one_kind_of_label(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for i, label in enumerate(["3", "2.5", "7"]):
            for suffix, content in (("png", containers.png(drawn((8, 8, 3), seed=i))), ("json", label.encode())):
                member = tarfile.TarInfo(f"{i}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    data = open_dataset(DataConfig(str(tmp_path / "a.tar"), labels="auto"), cache_dir=tmp_path / "cache")
    assert data.labels.ravel().tolist() == [3, 2.5, 7]


@settings(max_examples=25)
@given(
    dtype=st.sampled_from(NUMBERS),
    channels=st.sampled_from([1, 2, 3, 5]),
    options=st.sampled_from(
        [{}, {"tile": (16, 16)}, {"rowsperstrip": 3}, {"compression": "zlib"}, {"compression": "zstd"}]
    ),
    big=st.booleans(),
    frames=st.sampled_from(["all", "channels", "first"]),
    seed=st.integers(0, 99),
)
def test_pages_of_any_numbers(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str,
    channels: int,
    options: dict,
    big: bool,
    frames: str,
    seed: int,
) -> None:
    images = drawn((4, 11, 17, channels), dtype, seed)
    folder = tmp_path_factory.mktemp("pages")
    containers.write_pages(folder / "a.tif", images, bigtiff=big, **options)
    source = open_source(folder, taken=Taken(frames))  # pyright: ignore[reportArgumentType]
    if frames == "all":
        np.testing.assert_array_equal(all_of(source), images)
    elif frames == "first":
        np.testing.assert_array_equal(source.pixels(0), images[0])
        assert source.header(0).frames == 4
    else:
        np.testing.assert_array_equal(all_of(source), np.concatenate(images, -1)[None])


@settings(max_examples=12)
@given(
    dtype=st.sampled_from(["uint8", "uint16"]),
    channels=st.sampled_from([1, 3]),
    count=st.integers(1, 40),
    sides=st.tuples(st.integers(4, 20), st.integers(4, 20)),
    stride=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_videos_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str, channels: int, count: int, sides: tuple[int, int], stride: int, seed: int,
) -> None:  # fmt: skip
    images = drawn((count, *sides, channels), dtype, seed)
    path = tmp_path_factory.mktemp("video") / "a.mkv"
    containers.write_video(path, images)
    source = open_source(path, taken=Taken(stride=stride))
    assert source.names == [f"a.mkv#{i:06d}" for i in range(0, count, stride)]
    np.testing.assert_array_equal(all_of(source), images[::stride])


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".avi", ".mpg", ".webm"])
def test_videos_of_every_kind(suffix: str, tmp_path: Path) -> None:
    """Lossy ones: frames in order, near to what was written."""
    images = np.full((24, 32, 48, 3), np.arange(24, dtype=np.uint8)[:, None, None, None] * 9 + 20, np.uint8)
    containers.write_video(tmp_path / f"a{suffix}", images, "-pix_fmt", "yuv420p")
    found = all_of(open_source(tmp_path, taken=Taken(stride=5)))
    np.testing.assert_allclose(found, images[::5].astype(int), atol=6)


@pytest.mark.parametrize("suffix", FRAMES)
@pytest.mark.parametrize("stride", [1, 4])
def test_the_first_frame_or_every_so_many(suffix: str, stride: int, tmp_path: Path) -> None:
    images = drawn((6, 8, 8, 3))
    FRAMES[suffix](tmp_path / f"a{suffix}", images)
    (tmp_path / "b.png").write_bytes(containers.png(images[5]))
    first = open_source(tmp_path)
    assert first.names == [f"a{suffix}", "b.png"]
    assert first.header(0).frames == 6
    every = open_source(tmp_path, taken=Taken("all", stride))
    assert every.names == [*(f"a{suffix}#{i:06d}" for i in range(0, 6, stride)), "b.png"]
    data = open_dataset(DataConfig(str(tmp_path), channels="RGB"))
    assert any("5 are skipped" in note for note in data.notes)
    assert len(open_dataset(DataConfig(str(tmp_path), channels="RGB", frames="all", stride=stride))) == len(every.names)


def test_frames_and_stride_make_other_sets(tmp_path: Path) -> None:
    """Each has content and a cache of its own, though no file changes."""
    containers.write_pages(tmp_path / "a.tif", drawn((6, 8, 8, 1)))
    one = DataConfig(str(tmp_path))
    found = [one, replace(one, frames="all"), replace(one, frames="all", stride=2), replace(one, frames="channels")]
    for _ in range(2):
        data = [open_dataset(config) for config in found]
        assert [(len(each), each.channels) for each in data] == [(1, 1), (6, 1), (3, 1), (1, 6)]
        assert len({each.cache_folder for each in data}) == 4


def test_hyperstacks_join_their_channels(tmp_path: Path) -> None:
    """ImageJ and OME say which pages are channels, whatever their order."""
    import tifffile

    planes = drawn((2, 3, 4, 10, 12, 1), "uint16")[..., 0]
    hyperstacks: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("a.tif", "TZCYX", {"imagej": True}),
        ("b.tif", "TZCYX", {"ome": True, "photometric": "minisblack"}),
        ("c.tif", "CTZYX", {"ome": True, "photometric": "minisblack"}),
    )
    for name, axes, options in hyperstacks:
        tifffile.imwrite(tmp_path / name, planes, metadata={"axes": axes}, **options)
        where = axes.index("C")
        expected = np.moveaxis(planes, where, -1).reshape(-1, 10, 12, planes.shape[where])
        np.testing.assert_array_equal(all_of(open_source(tmp_path / name, taken=Taken("all"))), expected)


LABELLED = {
    ".h5": containers.write_hdf5,
    ".zarr": containers.write_zarr,
    ".parquet": containers.write_parquet,
    ".arrow": containers.write_arrow,
}


@pytest.mark.parametrize("suffix", LABELLED)
def test_labels_of_the_container(suffix: str, tmp_path: Path) -> None:
    images, labels = drawn((12, 8, 8, 3)), np.arange(12) % 4
    LABELLED[suffix](tmp_path / f"a{suffix}", images, labels)
    data = open_dataset(DataConfig(str(tmp_path), labels="auto"))
    np.testing.assert_array_equal(data.labels.argmax(1), labels)
    np.testing.assert_array_equal(data.pixels, images)


def test_a_data_set_that_hugging_face_saved_to_disk(tmp_path: Path) -> None:
    """A folder for each split, with JSON files beside the tables, which are no images of it."""
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    for split, some in (("train", images[:4]), ("test", images[4:])):
        folder = tmp_path / "set" / split
        folder.mkdir(parents=True)
        containers.write_arrow(folder / "data-00000-of-00001.arrow", some)
        (folder / "state.json").write_text(
            '{"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": "x"}'
        )
        (folder / "dataset_info.json").write_text('{"features": {"image": {"_type": "Image"}}}')
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for path, expected in (("set", 6), ("set/train", 4), ("set/test/data-00000-of-00001.arrow", 2)):
        data = open_dataset(DataConfig(str(tmp_path / path)))
        assert (len(data), data.skipped) == (expected, [])
    assert np.array_equal(data.pixels, images[4:])


def test_classes_keep_their_names(tmp_path: Path) -> None:
    images, labels = drawn((6, 8, 8, 3)), np.arange(6) % 2
    parquet.write_table(containers.table(images, labels, ["owl", "cat"]), tmp_path / "train-00000-of-00001.parquet")
    data = open_dataset(DataConfig(str(tmp_path), labels="auto"))
    assert data.class_names is not None
    assert [data.class_names[i] for i in data.labels.argmax(1)] == ["owl", "cat"] * 3


def test_a_table_labels_all_frames_of_a_file(tmp_path: Path) -> None:
    for name in ("a.gif", "b.gif"):
        containers.write_animation(tmp_path / name, drawn((3, 8, 8, 3), seed=len(name)))
    (tmp_path / "labels.csv").write_text("name,label\na.gif,ant\nb.gif,bee\n")
    data = open_dataset(DataConfig(str(tmp_path), frames="all", labels="auto", channels="RGB"))
    assert data.class_names == ["ant", "bee"]
    assert data.labels.argmax(1).tolist() == [0, 0, 0, 1, 1, 1]
    (tmp_path / "labels.csv").write_text("".join(f"{n}.gif#{i:06d},{i % 2}\n" for n in "ab" for i in range(3)))
    data = open_dataset(DataConfig(str(tmp_path), frames="all", labels="auto", channels="RGB"))
    assert data.labels.argmax(1).tolist() == [0, 1, 0, 0, 1, 0]


def test_two_and_four_bands_are_no_opacity(tmp_path: Path) -> None:
    for bands in (2, 4):
        images = drawn((3, 8, 8, bands))
        folder = tmp_path / str(bands)
        folder.mkdir()
        for i, image in enumerate(images):
            containers.write_pages(folder / f"{i}.tif", image[None])
        data = open_dataset(DataConfig(str(folder)))
        assert (data.channels, data.alpha) == (bands, False)
        np.testing.assert_array_equal(data.pixels, images)


def test_other_tables_and_arrays_are_no_broken_images(tmp_path: Path) -> None:
    """A table of numbers or the weights of a network beside the images counts with the other files, under --strict too."""
    (tmp_path / "a.png").write_bytes(containers.png(drawn((8, 8, 3))))
    parquet.write_table(pa.table({"x": [1.0, 2.0]}), tmp_path / "table.parquet")
    import h5py

    with h5py.File(tmp_path / "model.h5", "w") as file:
        file["layer/bias"] = np.zeros(9, np.float32)
    source = open_source(tmp_path)
    assert (source.names, source.unreadable) == (["a.png"], [])
    assert source.ignored == {".parquet": 1, ".h5": 1}
    assert len(open_dataset(DataConfig(str(tmp_path), strict=True))) == 1


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What inspect, prepare and a dry run of train say of a video and of a stack with measured values."""
    monkeypatch.chdir(tmp_path)
    images = drawn((20, 16, 16, 3))
    containers.write_video(Path("odd name é.mkv"), images)
    code, said = program("data", "inspect", "odd name é.mkv", "--stride", "4", "--sheet", "s.png", "--json")
    assert code == 0, said
    assert json.loads(said)["count"] == 5
    code, said = program("data", "prepare", "odd name é.mkv", "out.npz", "--stride", "4")
    assert code == 0, said
    np.testing.assert_array_equal(np.load("out.npz")["images"], images[::4])
    floats = drawn((9, 16, 16, 1), "float32")
    containers.write_pages(Path("stack.tif"), floats)
    code, said = program("data", "prepare", "stack.tif", "floats.npz", "--frames", "all")
    assert code == 0, said
    np.testing.assert_allclose(np.load("floats.npz")["images"], floats, atol=float(np.ptp(floats)) / 65535)
    code, said = program("data", "prepare", "stack.tif", "nothing.npz")
    assert code == 2
    assert "--frames all in train and data, elsewhere from" in said
    assert "data prepare" in said
    code, said = program("data", "shard", "odd name é.mkv", "shards")
    assert code == 2
    assert "frugan data prepare" in said
    assert inspect(DataConfig("stack.tif", frames="all")).formats == {"TIFF": 9}


def test_prepared_from_a_set_is_a_set(tmp_path: Path) -> None:
    containers.write_parquet(tmp_path / "a.parquet", images := drawn((6, 16, 16, 3)), np.arange(6) % 3)
    prepare(DataConfig(str(tmp_path / "a.parquet"), labels="auto"), tmp_path / "out.zip")
    data = open_dataset(DataConfig(str(tmp_path / "out.zip"), labels="auto"))
    np.testing.assert_array_equal(data.pixels, images)
    assert data.labels.argmax(1).tolist() == [0, 1, 2, 0, 1, 2]
    assert shard(tmp_path / "out.zip", tmp_path / "shards").count == 6
    with pytest.raises(FruganError, match="holds several images"):
        shard(tmp_path / "a.parquet", tmp_path / "more")


@pytest.mark.parametrize("told", [8191, 1_000_000, 2_000_000])
def test_a_table_that_tells_of_more_rows_than_it_holds(
    told: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are there are read, and the others told, up to the limit of a file; beyond it the file is refused."""
    most = 9000
    for module in (parts, rows, base):
        monkeypatch.setattr(module, "MOST", most)
    cells = pa.array([containers.png(drawn((8, 8, 1)))] * 4097)
    parquet.write_table(pa.table({"image": cells}), tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    at = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    footer = content[at:-8].replace(varint(2 * 4097), varint(2 * told))
    lies = content[:at] + footer + len(footer).to_bytes(4, "little") + content[-4:]
    (tmp_path / "a.parquet").write_bytes(lies)
    (tmp_path / "b.png").write_bytes(containers.png(drawn((8, 8, 1))))
    data = open_dataset(DataConfig(str(tmp_path)))
    if told > most:
        assert data.names == ["b.png"]
        assert data.skipped == [
            ("a.parquet", f"holds {most + 1:,} images; the limit is {most:,} a file: cut it into several")
        ]
        return
    assert len(data) == 4097 + 1
    assert [name for name, _ in data.skipped] == [f"a.parquet#{i:06d}" for i in range(4097, told)]
    assert {why for _, why in data.skipped} == {
        f"ends at frame 4097: the table tells of {told:,} rows and holds 4,097; write it anew"
    }


def varint(value: int) -> bytes:
    """As Thrift writes whole numbers."""
    found = []
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


@pytest.mark.parametrize("suffix", [suffix for suffix in KINDS if suffix != ".zarr"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_file_that_was_cut_short_is_told(suffix: str, share: float, tmp_path: Path) -> None:
    """Images are read as they were written, or named with the reason; what says nothing of its length ends sooner."""
    images = drawn((40, 8, 8, 3)) & 0xC0
    KINDS[suffix](tmp_path / f"a{suffix}", images)
    content = (tmp_path / f"a{suffix}").read_bytes()
    (tmp_path / f"a{suffix}").write_bytes(content[: int(share * len(content))])
    (tmp_path / "b.png").write_bytes(containers.png(images[0]))
    data = open_dataset(DataConfig(str(tmp_path), frames="all", channels="RGB"))
    found = {int(name[-6:]): pixels for name, pixels in zip(data.names, data.pixels[:]) if name != "b.png"}
    assert len(data) == len(found) + 1
    assert len(found) < 40
    for number, pixels in found.items():
        np.testing.assert_array_equal(pixels, images[number])
    assert data.skipped or (suffix in (".gif", ".mkv") and found)
    assert all(name.partition("#")[0] == f"a{suffix}" and why for name, why in data.skipped)


def test_a_frame_that_cannot_be_read_costs_itself_only(tmp_path: Path) -> None:
    content = containers.table(drawn((4, 8, 8, 3)))
    cells = content.column("image").to_pylist()
    cells[1]["bytes"], cells[2]["bytes"] = cells[1]["bytes"][:60], None
    cells[2]["path"] = "../../secret.png"
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    folder = tmp_path / "a/b"
    folder.mkdir(parents=True)
    parquet.write_table(pa.table({"image": cells}), folder / "t.parquet")
    data = open_dataset(DataConfig(str(folder)))
    assert data.names == ["t.parquet#000000", "t.parquet#000003"]
    assert "path instead of an image" in dict(data.skipped)["t.parquet#000002"]
