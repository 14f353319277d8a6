"""HDF5 files, read by h5py: an array of images, perhaps one of labels. Ways out of the file, and plug-ins, are refused."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from frugan.data.sources.packing import check_block, limit_of
from frugan.data.sources.stacks import Stack, find_arrays
from frugan.errors import shown

if TYPE_CHECKING:
    import h5py

_MOST_ENTRIES = 10_000  # that are looked at for images
_DEEPEST = 16  # groups in each other
_BUILT_IN = {1, 2, 3, 4, 5, 6, 32000}  # Deflate, shuffle, Fletcher32, SZIP, N-bit, scale-offset; LZF of h5py itself
_DEFLATE, _FLETCHER = 1, 3
_MOST_RATIO = 1032  # of Deflate: a smaller block cannot unpack to more than its limit
_LARGEST_CHUNK = 1 << 28
_MOST_LABELS = 1 << 26  # bytes


class Hdf5(Stack):
    """The images of an HDF5 file. Only hard links are followed: soft and external ones, and virtual arrays, lead elsewhere."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            import h5py
        except ImportError:
            raise ValueError("HDF5 needs a reader: pip install 'frugan[hdf5]'") from None
        self._file = file  # is to stay open
        found: dict[str, h5py.Dataset] = {}
        _walk(h5py.File(file, "r"), "", found, 0)
        images, labels = find_arrays(found)
        _check(found[images], images)
        array = found[images]
        seen: set[tuple[int, ...]] = set()

        def read(number: int) -> np.ndarray:
            _check_blocks(array, None if array.ndim == 2 else number, seen)
            return array[()] if array.ndim == 2 else array[number]

        super().__init__(
            array,
            read,
            _labels(found[labels], labels) if labels else None,
            "HDF5",
        )


def _walk(group: Any, path: str, found: dict[str, h5py.Dataset], depth: int) -> None:
    import h5py

    for name in group:
        if len(found) >= _MOST_ENTRIES or depth > _DEEPEST:
            raise ValueError(
                f"more than {_MOST_ENTRIES:,} arrays, or groups {_DEEPEST} deep; store the images in one array"
            )
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        item = group[name]
        if isinstance(item, h5py.Dataset):
            found[f"{path}{name}"] = item
        elif isinstance(item, h5py.Group):
            _walk(item, f"{path}{name}/", found, depth + 1)


def _check(array: h5py.Dataset, path: str) -> None:
    """Raises `ValueError` where an array lies elsewhere, is not there as a whole, or needs more than h5py itself to be read."""
    if array.is_virtual or array.external:
        raise ValueError(f"the array {shown(path)} lies in other files; copy it into one")
    plan = array.id.get_create_plist()
    filters = [plan.get_filter(i)[0] for i in range(plan.get_nfilters())]
    if _DEFLATE in filters and filters[filters.index(_DEFLATE) + 1 :] not in ([], [_FLETCHER]):
        raise ValueError(
            f"the array {shown(path)} is packed by gzip and then by other filters; write it with gzip last"
        )
    if unknown := [number for number in filters if number not in _BUILT_IN]:
        raise ValueError(
            f"the array {shown(path)} is packed by the plug-in filter {unknown[0]}; write it with gzip or without"
        )
    size = math.prod(array.shape) * array.dtype.itemsize
    if array.chunks is None:
        there, wanted = array.id.get_storage_size(), size
    else:
        if math.prod(array.chunks) * array.dtype.itemsize > _LARGEST_CHUNK:
            raise ValueError(
                f"the array {shown(path)} has blocks of {array.chunks}; the limit is {_LARGEST_CHUNK:,} bytes a block"
            )
        there, wanted = array.id.get_num_chunks(), math.prod(-(-n // m) for n, m in zip(array.shape, array.chunks))
    if there < wanted:  # the rest would be read as black
        raise ValueError(
            f"the array {shown(path)} of shape {array.shape} is not there as a whole: cut short, or never written"
        )


def _check_blocks(array: h5py.Dataset, number: int | None, seen: set[tuple[int, ...]]) -> None:
    """Raises `ValueError` where a block of image `number`, or of all, would unpack to far more than its size; `seen` are blocks
    that need not be looked at again."""
    if array.chunks is None or array.compression != "gzip":
        return
    size = math.prod(array.chunks) * array.dtype.itemsize
    begins = [range(0, n, m) for n, m in zip(array.shape, array.chunks)]
    if number is not None:
        first = number // array.chunks[0] * array.chunks[0]
        begins[0] = range(first, first + 1)
    for place in itertools.product(*begins):
        if place in seen:
            continue
        if array.id.get_chunk_info_by_coord(place).size > limit_of(size) // _MOST_RATIO:
            check_block("zlib", array.id.read_direct_chunk(place)[1], limit_of(size))
        seen.add(place)


def _labels(array: h5py.Dataset, path: str) -> np.ndarray | None:
    numbers = array.ndim > 0 and math.prod(array.shape[2:]) == 1  # (N,), (N, K) or (N, K, 1, 1)
    if not numbers or array.dtype.kind not in "biufSO" or array.size * array.dtype.itemsize > _MOST_LABELS:
        return None
    _check(array, path)
    _check_blocks(array, None, set())
    return np.asarray(array.asstr()[()] if array.dtype.kind == "O" else array[()])
