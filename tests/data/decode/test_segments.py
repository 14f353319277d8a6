"""TIFF of encoded strips and tiles: what was written comes back bit for bit, and a segment that lies takes no memory."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from frugan.data import DataConfig, open_dataset
from frugan.data.decode import read_header, read_pixels
from frugan.data.decode.segments import check_jpeg_2000

LOSSLESS: dict[str, dict[str, Any]] = {
    "jpeg2000": {"level": 0, "reversible": True},
    "jpegxl": {"lossless": True, "effort": 1},
    "jpegxr": {"level": 1.0},
    "png": {},
    "lerc": {"level": 0},
    "lerc+deflate": {"level": 0, "compression": "deflate"},
    "lerc+zstd": {"level": 0, "compression": "zstd"},
}
TYPES = {
    "jpeg2000": ("u1", "u2", "i1", "i2"),
    "jpegxl": ("u1", "u2", "f4"),
    "jpegxr": ("u1", "u2"),
    "png": ("u1", "u2"),
    "lerc": ("u1", "u2", "i1", "i2", "i4", "f4", "f8"),
}
CHANNELS = {"png": (1, 3), "jpegxr": (1, 3)}


def written(samples: np.ndarray, name: str, **options: Any) -> bytes:
    """`[h, w, C]` as a TIFF without colours beyond grey and RGB."""
    file = io.BytesIO()
    count = samples.shape[-1]
    rgb = count == 3 and samples.dtype.kind == "u"
    options = {"photometric": "rgb" if rgb else "minisblack", "compression": name.split("+")[0], **options}
    options |= {"planarconfig": "contig"} if count > 1 else {}
    arguments = options.pop("arguments", LOSSLESS[name])
    tifffile.imwrite(
        file, samples if count > 1 else samples[..., 0], metadata=None, compressionargs=arguments, **options
    )
    return file.getvalue()


def noise(kind: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng, dtype = np.random.default_rng(seed), np.dtype(kind)
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.itemsize < 4 else (-(10**6), 10**6)
    return rng.integers(low, high + 1, shape).astype(dtype)


@pytest.mark.parametrize("name", LOSSLESS)
@settings(deadline=None, max_examples=20)
@given(st.data())
def test_bit_for_bit(name: str, data: st.DataObject) -> None:
    """Over types, channels, sizes, strips and tiles; tifffile reads the same."""
    codec = name.split("+")[0]
    kind = data.draw(st.sampled_from(TYPES[codec]))
    channels = data.draw(st.sampled_from(CHANNELS.get(codec, (1, 2, 3, 5))))
    sides = data.draw(st.sampled_from((16, 24, 40, 63))), data.draw(st.integers(16, 70))
    layout = data.draw(st.sampled_from(({}, {"rowsperstrip": 16}, {"tile": (16, 32)}, {"bigtiff": True})))
    samples = noise(kind, (*sides, channels), data.draw(st.integers(0, 99)))
    content = written(samples, name, **layout)
    found = read_pixels(io.BytesIO(content))
    assert found.dtype == samples.dtype
    assert np.array_equal(found, samples)
    assert np.array_equal(tifffile.imread(io.BytesIO(content)).reshape(samples.shape), samples)
    assert read_header(io.BytesIO(content)).channels == channels


def lying(codec: str) -> bytes:
    """A TIFF of 16x16 pixels whose only strip holds an image of 9,000 pixels a side."""
    encode = {
        "jpeg2000": lambda a: imagecodecs.jpeg2k_encode(a, level=0, codecformat="j2k"),
        "jpegxl": lambda a: imagecodecs.jpegxl_encode(a, lossless=True, effort=1),
        "jpegxr": lambda a: imagecodecs.jpegxr_encode(a, level=1.0),
        "png": imagecodecs.png_encode,
        "lerc": imagecodecs.lerc_encode,
    }[codec]
    segment = encode(np.zeros((9000, 9000), np.uint8))
    content = bytearray(written(np.zeros((16, 16, 1), np.uint8), codec))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        tags = file.pages.first.tags
        offset, count = tags[273], tags[279]
    content[offset.offset + 2 : offset.offset + 12] = struct.pack("<HII", 4, 1, len(content))
    content[count.offset + 2 : count.offset + 12] = struct.pack("<HII", 4, 1, len(segment))
    return bytes(content) + segment


READ = """
import io, json, resource, sys
import frugan.data.decode as decode
contents = [open(path, "rb").read() for path in sys.argv[1:]]
size = 4096 * int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (size + (60 << 20),) * 2)
for content in contents:
    try:
        decode.read_pixels(io.BytesIO(content))
    except ValueError as error:
        print(json.dumps(str(error)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits a process's memory as Linux does")
def test_a_segment_of_another_size_takes_no_memory(tmp_path: Path) -> None:
    """81 MB of pixels, read with 60 MB to spare."""
    paths = [tmp_path / f"{codec}.tif" for codec in TYPES]
    for path in paths:
        path.write_bytes(lying(path.stem))
    done = subprocess.run(
        [sys.executable, "-c", READ, *map(str, paths)], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(said) == len(paths)
    assert all("no 16x16 pixels of uint8" in one and "9000" in one for one in said)


@pytest.mark.parametrize("packing", ["deflate", "zstd"])
def test_a_packed_segment_unpacks_within_limits(packing: str) -> None:
    content = bytearray(written(np.zeros((16, 16, 1), np.uint8), f"lerc+{packing}"))
    pack = imagecodecs.zlib_encode if packing == "deflate" else imagecodecs.zstd_encode
    segment = pack(bytes(1 << 28))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        tags = file.pages.first.tags
    for code, value in ((273, len(content)), (279, len(segment))):
        content[tags[code].offset + 2 : tags[code].offset + 12] = struct.pack("<HII", 4, 1, value)
    with pytest.raises(ValueError, match="no 16x16 pixels of uint8"):
        read_pixels(io.BytesIO(bytes(content) + segment))


def test_the_size_within_the_boxes_of_a_jp2_file() -> None:
    """A decoy in a box before the codestream is not taken for it."""
    whole = bytes(imagecodecs.jpeg2k_encode(np.zeros((40, 30), np.uint8), level=0, codecformat="jp2"))
    check_jpeg_2000(whole, 40, 30)
    at = whole.index(b"jp2c") - 4
    decoy = bytes(imagecodecs.jpeg2k_encode(np.zeros((16, 16), np.uint8), level=0, codecformat="j2k"))
    box = struct.pack(">I", 8 + len(decoy)) + b"xml " + decoy
    check_jpeg_2000(whole[:at] + box + whole[at:], 40, 30)
    for content in (whole[:at], whole[:30], b"", whole[1:]):
        with pytest.raises(ValueError, match="a frame of 0x0 pixels where the header says 40x30"):
            check_jpeg_2000(content, 40, 30)


def test_pixels_that_lerc_does_not_know_are_refused() -> None:
    known = np.ones((16, 16), bool)
    known[2, 3:5] = False
    content = written(np.ones((16, 16, 1), np.float32), "lerc", arguments={"level": 0, "masks": known})
    with pytest.raises(ValueError, match="2 pixels without data; crop them away, or fill them"):
        read_pixels(io.BytesIO(content))


def test_ycbcr_is_refused() -> None:
    content = bytearray(written(np.zeros((16, 16, 3), np.uint8), "jpeg2000"))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        tag = file.pages.first.tags[262]
    content[tag.offset + 8 : tag.offset + 10] = struct.pack("<H", 6)
    with pytest.raises(ValueError, match="YCbCr pixels with the compression JPEG2000; store RGB"):
        read_pixels(io.BytesIO(content))


def test_a_set_of_them(tmp_path: Path) -> None:
    """One file of each kind, opened as one set."""
    samples = noise("u2", (16, 16, 3), 0)
    names = [name for name in LOSSLESS if "u2" in TYPES[name.split("+")[0]]]
    for name in names:
        (tmp_path / f"{name}.tif").write_bytes(written(samples, name))
    found = open_dataset(DataConfig(str(tmp_path)), cache_dir=tmp_path / "cache")
    assert found.skipped == []
    assert len(found) == len(names)
    assert all(np.array_equal(one, samples) for one in found.pixels)
