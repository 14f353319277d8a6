"""Names of channels in TIFF files: what frugan, GDAL, OME and ImageJ write is read back, and kept by a run."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from frugan.data import DataConfig, open_dataset
from frugan.data.decode import read_header
from frugan.data.decode.channel_names import GDAL_METADATA
from frugan.data.tools import inspect, shard
from frugan.image_files import encode
from tests.fuzz.damage import SMALL_RUN, program

NAMES = ("blue", "green", "red", "near infrared", "SWIR & <more>")
TEXT = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=12)


@settings(max_examples=50, deadline=None)
@given(
    names=st.lists(TEXT, min_size=1, max_size=7),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "float32"]),
    alpha=st.booleans(),
)
def test_names_that_frugan_writes_are_read(names: list[str], dtype: str, alpha: bool) -> None:
    alpha = alpha and len(names) > 1 and dtype in ("uint8", "uint16")
    content = encode(np.zeros((8, 9, len(names)), dtype), "tiff", alpha=alpha, names=names)
    found = read_header(io.BytesIO(content))
    assert found.channel_names == (tuple(names) if found.channels == len(names) else ())
    assert found.channels == len(names) or alpha


@pytest.mark.parametrize(
    "names", [("grey",), ("red", "green", "blue"), ("red", "green", "blue", "alpha"), ("grey", "alpha")]
)
def test_names_that_every_image_has_are_none(names: tuple[str, ...]) -> None:
    alpha = "alpha" in names
    content = encode(np.zeros((8, 9, len(names)), np.uint8), "tiff", alpha=alpha, names=names)
    assert read_header(io.BytesIO(content)).channel_names == ()


def foreign(file: Path | io.BytesIO, pixels: np.ndarray, gdal: str) -> None:
    """A TIFF with metadata of GDAL and without the mark of what frugan wrote."""
    options: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(file, pixels, extratags=[(GDAL_METADATA, 2, 0, gdal, True)], **options)


def write(file: Path, pixels: np.ndarray, names: Sequence[str]) -> None:
    """As frugan does, but for its mark."""
    with tifffile.TiffFile(io.BytesIO(encode(pixels, "tiff", alpha=False, names=names))) as tiff:
        foreign(file, pixels, tiff.pages.first.tags[GDAL_METADATA].value)


def bands(folder: Path, count: int = 8) -> Path:
    folder.mkdir()
    for i in range(count):
        write(folder / f"{i}.tif", np.random.default_rng(i).integers(0, 65536, (16, 16, 5), np.uint16), NAMES)
    return folder


def test_from_files_through_a_run_to_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """inspect shows them, a run keeps them, generated files have them, and are read so again; shards hand them on."""
    monkeypatch.chdir(tmp_path)
    bands(tmp_path / "set")
    code, said = program("data", "inspect", "set")
    assert code == 0, said
    assert "values, near infrared" in said
    code, said = program("train", "set", "run", *SMALL_RUN)
    assert code == 0, said
    assert json.loads(Path("run/data.json").read_text())["channel_names"] == [*NAMES]
    code, said = program("generate", "run", "--seeds", "0-2", "--out", "out")
    assert code == 0, said
    again = open_dataset(DataConfig("out", use_generated=True))
    assert again.pixel_format.names == NAMES
    assert dict(inspect(DataConfig("out", use_generated=True)).rows())["training at"].startswith(
        "16, 5 channels (blue, green"
    )
    shard("set", "shards")
    for change in (lambda: None, Path("shards/index.json").unlink):
        change()
        found = open_dataset(DataConfig("shards"))
        assert found.pixel_format == open_dataset(DataConfig("set")).pixel_format
        assert found.pixel_format.names == NAMES
        np.testing.assert_array_equal(
            found.pixels[:], open_dataset(DataConfig("set")).pixels[np.random.default_rng(0).permutation(8)]
        )


def test_files_that_disagree_have_none(tmp_path: Path) -> None:
    folder = bands(tmp_path / "set", 3)
    write(folder / "3.tif", np.ones((16, 16, 5), np.uint16), NAMES[::-1])
    assert open_dataset(DataConfig(str(folder))).pixel_format.names == ()


def test_a_declaration_beside_the_files_wins(tmp_path: Path) -> None:
    folder = bands(tmp_path / "set", 3)
    (folder / "data.json").write_text(json.dumps({"channel_names": ["a", "b", "c", "d", "e"]}))
    assert open_dataset(DataConfig(str(folder))).pixel_format.names == tuple("abcde")


def test_names_of_images_beside_masks(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 2, (16, 16, 4), np.uint16)
        write(tmp_path / "set" / f"{i}.tif", pixels, [*NAMES[:3], "mask"])
    data = open_dataset(DataConfig(str(tmp_path / "set"), channels="0-2=image,3=mask"))
    assert data.describe()["channel_names"] == [*NAMES[:3], "mask"]


PLANES = np.arange(2 * 3 * 10 * 12, dtype=np.uint16).reshape(2, 3, 10, 12)
STAINS = ("DAPI", "Cy5 & co", "GFP")
PROGRAMS: dict[str, dict[str, Any]] = {
    "ome": {
        "ome": True,
        "photometric": "minisblack",
        "metadata": {"axes": "TCYX", "Channel": {"Name": ["DAPI", "Cy5 & co", "GFP"]}},
    },
    "imagej": {"imagej": True, "metadata": {"axes": "TCYX", "Labels": ["DAPI", "Cy5 & co", "GFP"] * 2}},
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("frames", ["all", "channels", "first"])
def test_names_of_pages_that_are_channels(name: str, frames: Any, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    planes = PLANES if frames == "all" else PLANES[:1]
    options = PROGRAMS[name]
    if frames != "all" and name == "imagej":
        options = {**options, "metadata": {**options["metadata"], "Labels": options["metadata"]["Labels"][:3]}}
    tifffile.imwrite(tmp_path / "set/a.tif", planes, **options)
    data = open_dataset(DataConfig(str(tmp_path / "set"), frames=frames))
    assert data.pixel_format.names == (() if frames == "first" else STAINS)
    assert len(data) == len(planes)


ITEM = '<Item sample="{}" role="{}">{}</Item>'
BAD = {
    "an item without an end": "<GDALMetadata>" + "<Item " * 200_000,
    "long names": "".join(ITEM.format(i, "description", "x" * 999) for i in range(3)),
    "one of three": ITEM.format(0, "description", "a"),
    "other roles": "".join(ITEM.format(i, "offset", 1) for i in range(3)),
    "nothing to print": "".join(ITEM.format(i, "description", "&#8238;") for i in range(3)),
    "nothing": "",
}


@pytest.mark.parametrize("name", BAD)
def test_texts_that_name_nothing(name: str) -> None:
    file = io.BytesIO()
    foreign(file, np.zeros((8, 8, 3), np.uint16), BAD[name])
    file.seek(0)
    header = read_header(file)
    assert (header.channels, header.channel_names) == (3, ())
