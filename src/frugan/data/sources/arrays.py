"""Array files of images: .npy and .npz."""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np

from frugan.data.decode import Header
from frugan.data.sources.archives import unfit_in_zip
from frugan.data.sources.base import stamp_of
from frugan.data.sources.own import OwnFiles
from frugan.errors import FruganError, shown
from frugan.pixel_format import NumberType

_IMAGE_KEYS = ("images", "x", "X", "data", "pixels", "arr_0")
_LABEL_KEYS = ("labels", "label", "y", "Y", "targets")


class Arrays:
    """A .npy or .npz array of any real numbers: `[N, H, W]`, `[N, H, W, C]` or, where that is plain, `[N, C, H, W]`."""

    alpha = False

    def __init__(self, path: Path) -> None:
        self.path, self.kind = path, path.suffix.lower()[1:]
        self.unreadable: list[tuple[str, str]] = []
        self.ignored: Counter[str] = Counter()
        self.own = OwnFiles()
        found, self._labels = _load_arrays(path)
        self._pixels = _as_nhwc(found, path)
        digits = max(6, len(str(len(self._pixels))))
        self.names = [f"{i:0{digits}d}" for i in range(len(self._pixels))]

    def stamp(self) -> str:
        return stamp_of(self.path)

    def digest(self, index: int) -> bytes:
        pixels = self.pixels(index)
        return hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode() + pixels.tobytes()).digest()

    def header(self, index: int) -> Header:
        h, w, c = self._pixels.shape[1:]
        dtype = self._pixels.dtype.newbyteorder("=")
        return Header(h, w, c, 8 * dtype.itemsize, self.kind, f"{dtype} × {c}", number_type=str(dtype))  # pyright: ignore[reportArgumentType]

    def pixels(self, index: int) -> np.ndarray:
        return np.ascontiguousarray(self._pixels[index], self._pixels.dtype.newbyteorder("="))

    def text(self, name: str) -> None:
        return None

    def places(self, name: str) -> list[str]:
        return []

    def stored_labels(self) -> np.ndarray | None:
        return self._labels


def _load_arrays(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Images and, from a .npz, labels where there are some."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, None
        with loaded:
            keys = [next((key for key in wanted if key in loaded), None) for wanted in (_IMAGE_KEYS, _LABEL_KEYS)]
            for key in filter(None, keys):
                _check_array(loaded.zip, key, path.stat().st_size)
            images, labels = (loaded[key] if key else None for key in keys)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FruganError(
            f"{path} cannot be read as a NumPy file ({shown(error)}); save it anew with numpy.save"
        ) from error
    if images is None:
        raise FruganError(
            f"{path} has no array named {' or '.join(_IMAGE_KEYS)}, only {', '.join(loaded.files)}; rename it"
        )
    return images, labels


def _check_array(archive: zipfile.ZipFile, key: str, size: int) -> None:
    """Raises `ValueError` where an array of a .npz of `size` bytes would take more memory than its member brings."""
    member = archive.getinfo(key if key in archive.namelist() else f"{key}.npy")
    if reason := unfit_in_zip(member, size):
        raise ValueError(f"{shown(key)} {reason}")
    with archive.open(member) as file:  # the header first: NumPy sets memory aside for whatever it says
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    if math.prod(shape) * dtype.itemsize > member.file_size:
        raise ValueError(f"{shown(key)} of shape {shown(shape)} in {member.file_size:,} bytes")


def _as_nhwc(array: np.ndarray, path: Path) -> np.ndarray:
    if str(array.dtype.newbyteorder("=")) not in get_args(NumberType):
        raise FruganError(
            f"{path} holds {array.dtype} numbers, but images must be whole or floating-point numbers of at most 64 bits; convert "
            "them first"
        )
    if array.ndim == 3:
        return array[..., None]
    if array.ndim == 4:
        if array.shape[3] < min(array.shape[1:3]):
            return array
        if array.shape[1] < min(array.shape[2:]):
            return array.transpose(0, 2, 3, 1)
    raise FruganError(
        f"{path} has shape {array.shape}, which is not plainly (N, H, W), (N, H, W, C) or (N, C, H, W) with fewer "
        "channels than rows and columns; transpose it to (N, H, W, C)"
    )
