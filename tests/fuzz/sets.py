"""Files of many images made to harm, each read under limits: 1 GiB more of memory than the program has, 20 s of processor time.

python -m tests.fuzz.sets [SEEDS]      # also so many damaged files of each kind; a line each: outcome, what was said
"""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numcodecs
import numpy as np
import pyarrow as pa
import pydicom
import tifffile
import torch
from pyarrow import parquet

from tests import containers
from tests.fuzz import limited

SECRET = "/etc/passwd"
_IMAGES = np.arange(6 * 12 * 16 * 3, dtype=np.uint8).reshape(6, 12, 16, 3)


def _hdf5(make: Callable[[h5py.File], object]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with h5py.File(folder / "a.h5", "w") as file:
            make(file)
        return folder / "a.h5"

    return write


def _elsewhere(folder: Path) -> Path:
    """The images lie in another file, behind an external link, in a virtual array, in external storage."""
    with h5py.File(folder / "other.h5", "w") as file:
        file["images"] = _IMAGES
    with h5py.File(folder / "a.h5", "w") as file:
        file["images"] = h5py.ExternalLink("other.h5", "/images")
    return folder / "a.h5"


def _virtual(folder: Path) -> Path:
    _elsewhere(folder)
    with h5py.File(folder / "a.h5", "w") as file:
        layout = h5py.VirtualLayout(shape=_IMAGES.shape, dtype="u1")
        layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "images", shape=_IMAGES.shape)
        file.create_virtual_dataset("images", layout)
    return folder / "a.h5"


def _external(file: h5py.File) -> None:
    file.create_dataset("images", _IMAGES.shape, "u1", external=[(SECRET, 0, h5py.h5f.UNLIMITED)])


def _plugin(file: h5py.File) -> None:
    """As if it were written by a filter that this machine has not: its number is changed afterwards."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk(_IMAGES.shape)
    plan.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (1, 2, 3))
    space = h5py.h5s.create_simple(_IMAGES.shape)
    h5py.h5d.create(file.id, b"images", h5py.h5t.NATIVE_UINT8, space, plan).write(space, space, _IMAGES)


def _deep(file: h5py.File) -> None:
    group: Any = file
    for _ in range(200):
        group = group.create_group("g")
    group["images"] = _IMAGES


def _loop(file: h5py.File) -> None:
    file["a/images"] = _IMAGES
    file["a/b"] = file["a"]  # a hard link to the group that it lies in


def _zarr(
    change: Callable[[dict[str, Any]], object], version: int = 2, name: str = ".zarray"
) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        containers.write_zarr(folder / "a.zarr", _IMAGES, version=version)
        facts = folder / "a.zarr/images" / name
        content = json.loads(facts.read_text())
        change(content)
        facts.write_text(json.dumps(content))
        return folder / "a.zarr"

    return write


def _zarr_of(value: float) -> Callable[[Path], Path]:
    """Images of ones, a pixel of which is `value`."""

    def write(folder: Path) -> Path:
        images = np.ones((4, 12, 16, 1), np.float32)
        images[:, 3, 4] = value
        containers.write_zarr(folder / "a.zarr", images)
        return folder / "a.zarr"

    return write


def _bomb(compressor: Any) -> Callable[[Path], Path]:
    """Zarr whose blocks of some hundred bytes unpack to 2 GB."""

    def write(folder: Path) -> Path:
        containers.write_zarr(folder / "a.zarr", _IMAGES, version=2, compressors=compressor)
        packed = _packed(type(compressor).__name__)
        for block in (folder / "a.zarr/images").glob("[0-9]*"):
            block.write_bytes(packed)
        return folder / "a.zarr"

    return write


@cache
def _packed(kind: str) -> bytes:
    """2 GB of zeros, packed."""
    size = 1 << 31
    if kind == "Zstd":
        return bytes(imagecodecs.zstd_encode(bytes(size)))
    blocks = _deflated_zeros(size) + b"\3\0"  # and the last block, which is empty
    if kind == "Zlib":
        return b"\x78\1" + blocks + struct.pack(">I", size % 65521 << 16 | 1)
    check = 0
    for _ in range(size >> 24):
        check = zlib.crc32(_ZEROS, check)
    return b"\x1f\x8b\x08" + bytes(6) + b"\3" + blocks + struct.pack("<II", check, size)


_ZEROS = bytes(1 << 24)


def _deflated_zeros(size: int) -> bytes:
    """Zeros packed by Deflate, without an end: 16 MiB of them again and again, which is much faster than packing all."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    return (packer.compress(_ZEROS) + packer.flush(zlib.Z_FULL_FLUSH)) * (size >> 24)


def _hdf5_bomb(folder: Path) -> Path:
    """HDF5 whose only block unpacks to 2 GB instead of 4 kB."""
    with h5py.File(folder / "a.h5", "w") as file:
        images = file.create_dataset("images", _IMAGES.shape, "u1", chunks=_IMAGES.shape, compression="gzip")
        images.id.write_direct_chunk((0, 0, 0, 0), _packed("Zlib"))
    return folder / "a.h5"


def _brackets(folder: Path) -> Path:
    containers.write_zarr(folder / "a.zarr", _IMAGES)
    (folder / "a.zarr/images/zarr.json").write_text("[" * 100_000)
    return folder / "a.zarr"


class _Runs:
    """Tells, where it is unpickled, that a file was executed."""

    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


def _pickled(folder: Path) -> Path:
    import pickle

    path = _zarr(lambda facts: facts.update(filters=[{"id": "pickle", "protocol": 5}], compressor=None))(folder)
    for block in (path / "images").glob("0*"):
        block.write_bytes(pickle.dumps(_Runs()))
    return path


def _objects(folder: Path) -> Path:
    np.save(folder / "a.npy", np.array([_Runs()], object), allow_pickle=True)
    return folder / "a.npy"


def _parquet(columns: Callable[[], pa.Table], **options: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        parquet.write_table(columns(), folder / "a.parquet", **options)
        return folder / "a.parquet"

    return write


def _many(folder: Path) -> Path:
    """Rows that a dictionary of one entry stands for: 2 GB, twice what there is, in a few kB."""
    cells = pa.DictionaryArray.from_arrays(np.zeros(2_000, np.int32), pa.array([bytes(1 << 20)]))
    parquet.write_table(pa.table({"image": cells}), folder / "a.parquet", compression="zstd", store_schema=False)
    return folder / "a.parquet"


def _gif(frames: int, side: int) -> bytes:
    """A canvas, and frames of one pixel."""
    head = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6)
    frame = b"!\xf9\x04\0\1\0\0\0,\0\0\0\0\1\0\1\0\0\x02\x02D\x01\0"
    return head + frame * frames + b";"


def _apng(frames: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0)
    first = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 16, 16, 0, 0, 1, 25, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(17 * 16)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", head), chunk(b"acTL", struct.pack(">II", frames, 0)), first, pixels, chunk(b"IEND", b"")]
    )


def _pages_in_a_ring() -> bytes:
    """Two directories, each of which names the other as the next."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in
                       ((256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 1)))  # fmt: skip
    size = 2 + len(entries) + 4
    one, two = 10, 10 + size
    pages = [struct.pack("<H", 9) + entries + struct.pack("<I", after) for after in (two, one)]
    return b"II*\0" + struct.pack("<I", one) + bytes(2) + b"".join(pages)


def _file(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def _long_element() -> bytes:
    element = b"\x09\0\x10\0UN\0\0\xfe\xff\xff\x7f"
    return containers.dicom(_IMAGES[:1, ..., :1]).replace(b"\x28\0\2\0", element + b"\x28\0\2\0")


def _playlist(folder: Path) -> Path:
    """A "video" that is a list of other places."""
    (folder / "a.mp4").write_text(
        f"#EXTM3U\n#EXTINF:1,\nfile://{SECRET}\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"
    )
    return folder / "a.mp4"


def _concat(folder: Path) -> Path:
    containers.write_video(folder / "b.mkv", _IMAGES)
    (folder / "x").mkdir()
    (folder / "x/a.mkv").write_text(f"ffconcat version 1.0\nfile '{folder / 'b.mkv'}'\n")
    return folder / "x/a.mkv"


def _zipped(folder: Path) -> Path:
    """An HDF5 file of zeros that unpacks to 100 MB, a thousand times its size."""
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.h5", "w") as member:
        for _ in range(100):
            member.write(bytes(1 << 20))
    return folder / "a.zip"


def _values(value: float) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        images = np.ones((4, 12, 16, 1), np.float32)
        images[:, 3, 4] = value
        containers.write_hdf5(folder / "a.h5", images)
        return folder / "a.h5"

    return write


def _huge_video(folder: Path) -> Path:
    containers.write_video(folder / "a.mkv", np.zeros((2, 16, 16, 3), np.uint8))
    content = (folder / "a.mkv").read_bytes()
    wide = content.replace(b"\xb0\x81\x10", b"\xb0\x82\xff\xff"[:3]).replace(b"\xba\x81\x10", b"\xba\x81\xff")
    (folder / "a.mkv").write_bytes(wide)
    return folder / "a.mkv"


def _arrow(folder: Path) -> Path:
    rows = pa.table({"image": [{"bytes": None, "path": SECRET}] * 4})
    with pa.OSFile(str(folder / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, rows.schema) as writer:
        writer.write_table(rows)
    return folder / "a.arrow"


def _arrow_of(content: bytes) -> Callable[[Path], Path]:
    """As Hugging Face saves a data set, each image of these bytes."""

    def write(folder: Path) -> Path:
        rows = pa.table({"image": [{"bytes": content, "path": "a.png"}] * 4})
        with pa.OSFile(str(folder / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, rows.schema) as writer:
            writer.write_table(rows)
        return folder / "a.arrow"

    return write


def _deflated(folder: Path) -> Path:
    """DICOM whose elements are packed, 1 GB of them zeros."""
    content = containers.dicom(_IMAGES[:1, ..., :1])
    head = content[: 132 + 12 + int.from_bytes(content[140:144], "little")]
    begun = head.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"[:20])
    length = len(head) - 144 + 2
    first, rest = (zlib.compressobj(1, zlib.DEFLATED, -15) for _ in range(2))
    zeros = b"\x09\0\x10\0UN\0\0" + (1 << 30).to_bytes(4, "little")
    body = [first.compress(zeros), first.flush(zlib.Z_FULL_FLUSH), _deflated_zeros(1 << 30)]
    body += [rest.compress(content[len(head) :]), rest.flush()]
    begun = head[:140] + length.to_bytes(4, "little") + head[144:]
    at = begun.index(b"1.2.840.10008.1.2.1\0")
    begun = begun[: at - 2] + (22).to_bytes(2, "little") + b"1.2.840.10008.1.2.1.99" + begun[at + 20 :]
    return _file("a.dcm", begun + b"".join(body))(folder)


def _webp(side: int) -> bytes:
    """An animation on a canvas of so many pixels a side, whose only frame is missing."""
    size = struct.pack("<I", side - 1)[:3] * 2
    chunks = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def _rows(folder: Path) -> Path:
    """Parquet that tells of 8,191 rows, and holds 4,097."""
    cells = pa.array([containers.png(_IMAGES[0])] * 4097)
    parquet.write_table(pa.table({"image": cells}), folder / "a.parquet")
    content = (folder / "a.parquet").read_bytes()
    size = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - size : -8]
    assert footer.count(b"\x82\x40") >= 2  # 4097 as Thrift writes it
    (folder / "a.parquet").write_bytes(content[: -8 - size] + footer.replace(b"\x82\x40", b"\xfe\x7f") + content[-8:])
    return folder / "a.parquet"


def _constant(name: str) -> Callable[[Path], Path]:
    """An animation or a video of one colour."""

    def write(folder: Path) -> Path:
        images = np.full((4, 16, 16, 3), 77, np.uint8)
        write = containers.write_video if name.endswith(".mkv") else containers.write_animation
        write(folder / name, images)
        return folder / name

    return write


def _tags(*tags: tuple[int, Any]) -> Callable[[Path], Path]:
    """A GeoTIFF some of whose tags lie."""

    def write(folder: Path) -> Path:
        pixels = np.arange(8 * 8 * 3, dtype=np.float32).reshape(8, 8, 3)
        geographic = [(33550, "d", 3, (1.0, 1.0, 0.0), True), (34735, "H", 4, (1, 1, 0, 0), True)]
        texts = [(code, "s", 0, value, True) for code, value in tags if isinstance(value, str)]
        tifffile.imwrite(
            folder / "a.tif", pixels, photometric="minisblack", planarconfig="contig", extratags=geographic + texts
        )
        content = bytearray((folder / "a.tif").read_bytes())
        with tifffile.TiffFile(folder / "a.tif") as file:
            for code, value in tags:
                if not isinstance(value, str):
                    tag = file.pages.first.tags[code]
                    content[tag.offset + 2 : tag.offset + 12] = struct.pack("<HII", 4, 1, value)
        (folder / "a.tif").write_bytes(content)
        return folder / "a.tif"

    return write


def _masked(mask: Callable[[Path], object]) -> Callable[[Path], Path]:
    """Images and their masks, of which the first is made to harm."""

    def write(folder: Path) -> Path:
        top = folder / "pairs"
        for name in ("images", "masks"):
            (top / name).mkdir(parents=True)
        for i, image in enumerate(_IMAGES[:4]):
            (top / "images" / f"{i}.png").write_bytes(containers.png(image))
            (top / "masks" / f"{i}.png").write_bytes(containers.png(image[..., :1] % 2))
        mask(top / "masks" / "0.png")
        return top

    return write


def _png(side: int) -> bytes:
    """Whose header says that it is side x side."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(999))),
        (b"IEND", b""),
    ]
    parts = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _npy(array: np.ndarray) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        np.save(folder / "a.npy", array)
        return folder / "a.npy"

    return write


def _lying(folder: Path) -> Path:
    with open(folder / "a.npy", "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (10**12, 8, 8)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(999))
    return folder / "a.npy"


def _tiff(value: float) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        containers.write_pages(folder / "a.tif", np.full((4, 8, 8, 1), value, np.float32))
        return folder / "a.tif"

    return write


def _private(folder: Path) -> Path:
    """One hundred elements of a maker, of 1 MB each, before the pixels."""
    dataset = pydicom.dcmread(io.BytesIO(containers.dicom(_IMAGES[:1, ..., :1])))
    block = dataset.private_block(0x0009, "FRUGAN TESTS", create=True)
    for number in range(100):
        block.add_new(number, "OB", bytes(1 << 20))
    dataset.save_as(folder / "a.dcm")
    return folder / "a.dcm"


INPUTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "HDF5: 10^12 images that are not there": (
        _hdf5(lambda f: f.create_dataset("images", (10**12, 64, 64), "u1", chunks=(1, 64, 64))), "not there as a whole"),
    "HDF5: blocks of a gigabyte": (
        _hdf5(lambda f: f.create_dataset("images", (4, 1 << 15, 1 << 15), "u1", chunks=(1, 1 << 15, 1 << 15))), "blocks of|bomb"),
    "HDF5: images of 100,000 pixels a side": (
        _hdf5(lambda f: f.create_dataset("images", (1, 100_000, 100_000), "u1", chunks=(1, 64, 64))), "not there|bomb"),
    "HDF5: images behind an external link": (_elsewhere, "no images"),
    "HDF5: images of a virtual array": (_virtual, "other files"),
    "HDF5: images in external storage": (_hdf5(_external), "other files"),
    "HDF5: a filter of a plug-in": (_hdf5(_plugin), "plug-in filter 32001"),
    "HDF5: objects": (_hdf5(lambda f: f.create_dataset("images", (4, 8, 8), h5py.string_dtype())), "no images"),
    "HDF5: 200 groups in each other": (_hdf5(_deep), "16 deep"),
    "HDF5: a group in itself": (_hdf5(_loop), "16 deep"),
    "HDF5: several arrays that may be meant": (_hdf5(lambda f: f.update({"p": _IMAGES, "q": _IMAGES})), "2 arrays may be"),
    "HDF5: NaN": (_values(np.nan), "NaN"),
    "HDF5: infinity": (_values(np.inf), "infinite"),
    "HDF5: one value in all images": (_values(1), "one value|the same"),
    "HDF5: zeros in a zip": (_zipped, "unpacks to"),
    "Zarr: pickled blocks": (_pickled, "packed by pickle"),
    "Zarr: objects": (_zarr(lambda facts: facts.update(dtype="|O")), "object"),
    "Zarr: blocks of a terabyte": (_zarr(lambda f: f.update(shape=[1 << 40, 8, 8], chunks=[1 << 34, 8, 8])), "blocks of"),
    "Zarr: 10^12 images that are not there": (_zarr(lambda facts: facts["shape"].__setitem__(0, 10**12)), "blocks are there"),
    "Zarr: a codec within shards": (
        _zarr(lambda f: f["codecs"].append({"name": "numcodecs.pickle"}), 3, "zarr.json"), "packed by numcodecs.pickle"),
    "Zarr: metadata of 100,000 brackets": (_brackets, "deep"),
    "Zarr: NaN": (_zarr_of(np.nan), "NaN"),
    "Zarr: infinity": (_zarr_of(np.inf), "infinite"),
    "Zarr: one value in all images": (_zarr_of(1), "one value|the same"),
    "Zarr: blocks that unpack to gigabytes, Zstandard": (_bomb(numcodecs.Zstd()), "unpacks to more"),
    "Zarr: blocks that unpack to gigabytes, gzip": (_bomb(numcodecs.GZip()), "unpacks to more"),
    "Zarr: blocks that unpack to gigabytes, zlib": (_bomb(numcodecs.Zlib()), "unpacks to more"),
    "HDF5: a block that unpacks to gigabytes": (_hdf5_bomb, "unpacks to more"),
    "Parquet: one megabyte of zeros in 2,000 rows": (_many, "no image"),
    "Parquet: paths that lead outside": (
        _parquet(lambda: pa.table({"image": [{"bytes": None, "path": SECRET}] * 4})), "path instead of an image|no images"),
    "Parquet: more rows than there are": (_rows, ""),
    "Parquet: 10^8 rows of nothing": (_parquet(lambda: pa.table({"image": pa.nulls(10**8, pa.binary())})), "no image|the limit"),
    "Arrow: paths that lead outside": (_arrow, "path instead of an image|no images"),
    "Parquet: images of 30,000 pixels a side": (_parquet(lambda: pa.table({"image": [_png(30_000)] * 4})), "bomb"),
    "Parquet: one colour": (
        _parquet(lambda: pa.table({"image": [containers.png(np.full((16, 16, 3), 77, np.uint8))] * 4})), ""),
    "Arrow: images of 30,000 pixels a side": (_arrow_of(_png(30_000)), "bomb"),
    "Arrow: no image in its rows": (_arrow_of(b"row"), "no image"),
    "Arrow: one colour": (_arrow_of(containers.png(np.full((16, 16, 3), 77, np.uint8))), ""),
    "NumPy: 10^12 images that are not there": (_lying, "cannot be read as a NumPy file"),
    "NumPy: NaN": (_npy(np.full((4, 8, 8, 1), np.nan, np.float32)), "NaN"),
    "NumPy: one value in all images": (_npy(np.ones((4, 8, 8, 1), np.float32)), "one value|the same"),
    "NumPy: pickled objects": (_objects, "cannot be read as a NumPy file"),
    "GIF: 100,000 frames of 16,000 pixels a side": (_file("a.gif", _gif(100_000, 16_000)), "the limit is|bomb"),
    "GIF: one colour": (_constant("a.gif"), ""),
    "WebP: one colour": (_constant("a.webp"), ""),
    "APNG: one colour": (_constant("a.png"), ""),
    "WebP: a canvas of 16,000,000 pixels a side": (_file("a.webp", _webp(16_000_000)), "bomb|cannot be|damaged|image"),
    "video: one colour": (_constant("a.mkv"), ""),
    "GeoTIFF: no-data that is no number": (_tags((42113, "many")), ""),
    "GeoTIFF: no-data beyond all numbers": (_tags((42113, "1e999")), ""),
    "GeoTIFF: no-data in all pixels but none": (_tags((42113, "nan")), ""),
    "GeoTIFF: 60,000 samples": (_tags((277, 60_000)), "60000 channels"),
    "GeoTIFF: no sample at all": (_tags((277, 0)), ""),
    "GeoTIFF: rows of strips beyond all": (_tags((278, 2**32 - 1)), ""),
    "mask: a decompression bomb": (_masked(lambda p: p.write_bytes(_png(30_000))), "its mask cannot be read.*bomb"),
    "mask: another size": (_masked(lambda p: p.write_bytes(_png(64))), "its mask 64x64"),
    "mask: no image": (_masked(lambda p: p.write_bytes(b"mask")), "its mask cannot be read"),
    "APNG: 2,000,000 frames": (_file("a.png", _apng(2_000_000)), "the limit is"),
    "TIFF: pages that name each other as the next": (_file("a.tif", _pages_in_a_ring()), ""),
    "TIFF: NaN": (_tiff(np.nan), "NaN"),
    "TIFF: one value in all pages": (_tiff(1), "one value|the same"),
    "video: a playlist": (_playlist, "ffmpeg|Invalid data"),
    "video: a list of files": (_concat, "ffmpeg|Invalid data"),
    "video: a size that its frames have not": (_huge_video, ""),
    "video: no video at all": (_file("a.mp4", b"\0\0\0\x18ftypmp42" + bytes(5000)), "ffmpeg"),
    "DICOM: 10^5 frames that are not there": (
        _file("a.dcm", containers.dicom(_IMAGES[:1, ..., :1], NumberOfFrames=100_000)), "cut short"),
    "DICOM: private elements of many megabytes": (_private, ""),
    "DICOM: one value in all frames": (
        _file("a.dcm", containers.dicom(np.ones((4, 8, 8, 1), np.uint16), RescaleSlope="0.5")), "one value|the same"),
    "DICOM: 65,535 pixels a side that are not there": (
        _file("a.dcm", containers.dicom(_IMAGES[:1, ..., :1], Rows=65_535, Columns=65_535)), "bomb|cut short"),
    "DICOM: a slope that is no number": (
        _file("a.dcm", containers.dicom(_IMAGES[:, ..., :1], RescaleSlope="1.5").replace(b"1.5 ", b"NaN ")), "slope"),
    "DICOM: elements that unpack to a gigabyte": (_deflated, "transfer syntax"),
    "DICOM: an element of 2 GB": (_file("a.dcm", _long_element()), "damaged|without pixels"),
}  # fmt: skip


def measure(seeds: int) -> list[tuple[str, str, str]]:
    """(input, outcome, what was said) of all inputs, and of so many damaged files of each kind."""
    torch.set_num_threads(1)
    found = []
    with tempfile.TemporaryDirectory() as top:
        os.environ["FRUGAN_CACHE"] = f"{top}/cache"
        os.chdir(top)
        scratch, home = Path(top) / "inputs", Path(top) / "honest"
        scratch.mkdir()
        home.mkdir()
        for name, (make, _) in INPUTS.items():
            folder = home / str(len(found))
            folder.mkdir()
            path = make(folder)
            read = limited.read_masked if name.startswith("mask") else limited.read_set
            found.append((name, *limited.batch(limited.Kind(path, read), [limited.HONEST], scratch)[-1]))
        for name, kind in limited.sets(home).items():
            for at in range(-1, seeds, limited.AT_ONCE):
                for seed, told in limited.batch(
                    kind, list(range(at, min(at + limited.AT_ONCE, seeds))), scratch
                ).items():
                    found.append((f"{name}, seed {seed}", *told))
        if list(Path(top).rglob("executed")):
            found.append(("all", "executed", "what a file said was run"))
    return found


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    counts: Counter[str] = Counter()
    for found in measure(seeds):
        counts[found[1]] += 1
        print(json.dumps(found))
    print(dict(counts), file=sys.stderr)


if __name__ == "__main__":
    main()
