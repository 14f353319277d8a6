"""Arrays of images in scientific containers, read image by image: which array holds them, and where its channels lie."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast, get_args

import numpy as np

from frugan.data.decode import Header
from frugan.data.decode.header import check_size
from frugan.data.sources.parts import NoImages
from frugan.errors import shown
from frugan.pixel_format import NumberType

IMAGE_KEYS = ("images", "image", "x", "X", "data", "pixels", "arr_0")
LABEL_KEYS = ("labels", "label", "y", "Y", "targets")
_NUMBERS = "uif"


class Array(Protocol):
    """The attributes of an array that are used before it is read."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...


@dataclass(frozen=True)
class Layout:
    """N images of `[height, width, channels]`; an image lies as `[H, W]`, `[H, W, C]` or, with `channels_first`, `[C, H, W]`."""

    count: int
    height: int
    width: int
    channels: int
    channels_first: bool = False
    alone: bool = False  # the array is one image, without an axis of images


def layout_of(shape: tuple[int, ...]) -> Layout:
    """`[H, W]`, `[N, H, W]`, `[N, H, W, C]` or `[N, C, H, W]`, where C is smaller than both sides. Raises `ValueError`."""
    if len(shape) == 2:
        return Layout(1, *shape, 1, alone=True)
    if len(shape) == 3:
        return Layout(*shape, 1)
    if len(shape) == 4 and shape[3] < min(shape[1:3]):
        return Layout(*shape)
    if len(shape) == 4 and shape[1] < min(shape[2:]):
        return Layout(shape[0], shape[2], shape[3], shape[1], channels_first=True)
    raise ValueError(
        f"an array of shape {shape}, which is not plainly (N, H, W), (N, H, W, C) or (N, C, H, W) with fewer channels than "
        "rows and columns; store it as (N, H, W, C)"
    )


def find_arrays(arrays: Mapping[str, Array]) -> tuple[str, str | None]:
    """Names of the array of images and of the labels among those of a file: by name, else the only one that may be images.

    Raises `NoImages` where none can be, `ValueError` where several can.
    """
    last = {path: path.rpartition("/")[2] for path in arrays}
    may_be = [
        path for path, array in arrays.items() if len(array.shape) >= 2 and np.dtype(array.dtype).kind in _NUMBERS
    ]
    labels = next((path for key in LABEL_KEYS for path in arrays if last[path] == key), None)
    images = next((path for key in IMAGE_KEYS for path in may_be if last[path] == key), None)
    if images is None:
        stacks = [path for path in may_be if len(arrays[path].shape) in (3, 4) and path != labels]
        if not stacks:
            raise NoImages(_no_images(arrays))
        if len(stacks) > 1:
            raise ValueError(
                f"{len(stacks)} arrays may be the images, such as {shown(stacks[0])} and {shown(stacks[1])}; name one of them "
                f"{IMAGE_KEYS[0]}"
            )
        images = stacks[0]
    return images, labels


def _no_images(arrays: Mapping[str, Array]) -> str:
    largest = max(arrays, key=lambda path: len(arrays[path].shape), default=None)
    if largest is None:
        return "no array is in it; store one named images"
    found = arrays[largest]
    return (
        f"its array {shown(largest)} holds {found.dtype} of shape {tuple(found.shape)}; store images as one array of numbers, "
        "(N, H, W) or (N, H, W, C)"
    )


class Stack:
    """Images of one array as the parts of a file.

    Args:
        images: the array's shape and type.
        read: `read(i)` gives image i of the array as it is stored, or the whole array if it is one image.
        labels: of the images, or None.
        format: its name, for messages.
    """

    lost = ""

    def __init__(
        self,
        images: Array,
        read: Callable[[int], np.ndarray],
        labels: np.ndarray | None,
        format: str,
    ) -> None:
        """`read(i)` gives the i-th image of the array as it lies there; of an array that is one image, the array."""
        self._layout, self._read, self._format = layout_of(tuple(map(int, images.shape))), read, format
        self._dtype = np.dtype(images.dtype).newbyteorder("=")
        if str(self._dtype) not in get_args(NumberType):
            raise ValueError(f"{self._dtype} numbers; store whole or floating-point ones of at most 64 bits")
        check_size(self._layout.width, self._layout.height, self._layout.channels * self._dtype.itemsize)
        self.numbers = range(self._layout.count)
        self._labels = labels if labels is not None and len(labels) == self._layout.count else None
        self._lock = threading.Lock()

    def header(self, number: int) -> Header:
        at, kind = self._layout, cast(NumberType, str(self._dtype))
        bits = 8 * self._dtype.itemsize
        return Header(at.height, at.width, at.channels, bits, self._format, f"{kind} × {at.channels}", number_type=kind)

    def pixels(self, number: int) -> np.ndarray:
        with self._lock:
            found = np.asarray(self._read(number))
        at = self._layout
        if at.channels_first:
            found = np.moveaxis(found, 0, -1)
        found = found.reshape(at.height, at.width, at.channels)
        return np.ascontiguousarray(found, self._dtype)

    def label(self, number: int) -> Any:
        if self._labels is None:
            return None
        label = self._labels[number]
        return label.decode("utf-8", "replace") if isinstance(label, bytes) else label.tolist()
