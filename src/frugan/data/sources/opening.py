"""Opening of files with several images: animations, TIFF pages, DICOM, videos, HDF5, Zarr, Parquet and Arrow → `Parts`."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from frugan.data.decode import Header
from frugan.data.decode.reading import Frames, header_of, open_frames, pixels_of
from frugan.data.sources.parts import HDF5, MAY_HAVE_FRAMES, TABLES, VIDEOS, ZARR, Parts, Place, Taken, suffix_of


class FrameParts:
    """Frames of an animation or a DICOM file, or pages of a TIFF, every `stride`-th."""

    def __init__(self, frames: Frames, stride: int) -> None:
        self._frames, self.numbers, self.lost = frames, range(0, frames.count, stride), frames.lost

    def header(self, number: int) -> Header:
        return header_of(self._frames.stored(number))

    def pixels(self, number: int) -> np.ndarray:
        return pixels_of(self._frames.stored(number))

    def label(self, number: int) -> Any:
        return None


def open_parts(name: str, place: Place, taken: Taken) -> Parts | None:
    """The images in a file, by its suffix; None where it is a single image.

    Args:
        name: of the file.
        place: where it is.
        taken: which of its frames or variables are wanted.

    Raises `NoImages` for a set of something else, and anything at all where the file is broken.
    """
    suffix = suffix_of(name)
    if suffix in ZARR:
        from frugan.data.sources.zarrs import Zarr

        return Zarr(place.path)
    if suffix in VIDEOS:
        return _open_video(place, taken.stride)
    if suffix in (*HDF5, *TABLES) or (taken.frames == "all" and suffix in MAY_HAVE_FRAMES):
        file = place.open()
        parts = None
        try:
            parts = _read_parts(file, suffix, taken.stride)
        finally:
            if parts is None:
                file.close()
        if parts is not None:
            weakref.finalize(parts, file.close)
        return parts
    return None


def _open_video(place: Place, stride: int) -> Parts:
    from frugan.data.sources.video import Video

    if place.path is not None:
        return Video(place.path, stride)
    with ExitStack() as stack:  # ffmpeg seeks in files, so what lies in an archive is copied out
        copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="frugan-"))
        with place.open() as file:
            shutil.copyfileobj(file, copy)
        copy.flush()
        video = Video(Path(copy.name), stride)
        weakref.finalize(video, stack.pop_all().close)
    return video


def _read_parts(file: BinaryIO, suffix: str, stride: int) -> Parts | None:
    if suffix in HDF5:
        from frugan.data.sources.hdf5 import Hdf5

        return Hdf5(file)
    if suffix in TABLES:
        from frugan.data.sources.rows import Rows

        return Rows(file, suffix)
    frames = open_frames(file)
    return FrameParts(frames, stride) if frames is not None and (frames.count > 1 or frames.lost) else None
