"""Prepared sets: decoded, resized and labelled images written out again, to move, keep, or load with other programs."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frugan.channels import has_alpha
from frugan.data.config import DataConfig
from frugan.data.dataset import Dataset
from frugan.data.labels.encode import one_hot
from frugan.data.open import open_dataset
from frugan.data.sources.declared import are_names
from frugan.data.sources.own import INDEX, PREPARED_FROM
from frugan.data.values import restore
from frugan.data.workers import Progress, in_threads
from frugan.errors import FruganError, counted
from frugan.files import building
from frugan.image_files import png16
from frugan.images import pil_image
from frugan.pixel_format import is_plain

_PER_FOLDER = 1000
_STEPS = 4  # for each image, three of them for decoding
_DECODING = 3


@dataclass(frozen=True)
class Prepared:
    """The output of `prepare`, and the set that it was made from."""

    path: Path
    count: int
    bytes: int
    dataset: Dataset


Change = Callable[[int, np.ndarray], np.ndarray]


def prepare(
    config: DataConfig,
    out: str | Path,
    *,
    change: Change | None = None,
    progress: Progress = None,
    cache_dir: str | Path | None = None,
) -> Prepared:
    """Writes all images of a set, at its resolution, to a .zip, a .npz or else a folder, whole or not at all.

    Folder and zip hold PNG files and dataset.json in the layout of StyleGAN data sets; a .npz holds `images` `[N, H, W,
    C]` and `labels`, and takes any channel count and depth. Values are written as they were stored: a stretched
    `value_range` is undone. Labels "auto" are those found, or none.

    Args:
        config: where the images are, and what is made of them.
        out: the file or folder.
        change: `change(row, pixels)` takes the pixels `[H, W, C]` of each image, as training sees them, to those that
            are written.
        progress: called with (done, total) images.
        cache_dir: the cache's folder; None: the user's.

    Raises `FruganError` where `out` is taken, or where PNG files cannot hold the pixels.
    """
    _refuse_masks(config.pixels.masks)
    out = Path(out).expanduser()
    decoding = (lambda done, total: progress(_DECODING * done // _STEPS, total)) if progress else None
    with building(out) as target:
        dataset = open_dataset(config, progress=decoding, cache_dir=cache_dir, labels_optional=True)
        _refuse_masks(len(dataset.masks))

        def written(row: int) -> np.ndarray:
            pixels = dataset.pixels[row]
            stored = change(row, pixels) if change else pixels
            return restore(stored, dataset.value_range, alpha=dataset.alpha, dtype=dataset.pixel_format.dtype)

        if out.suffix.lower() == ".npz":
            arrays = {"images": np.stack([written(row) for row in range(len(dataset))])}
            arrays |= {"labels": _labels(dataset)} if dataset.label_size else {}
            np.savez(target, **arrays)  # pyright: ignore[reportArgumentType]
        else:
            refuse_what_png_cannot_hold(dataset.pixel_format.dtype, dataset.channels, dataset.config.path)
            write = _write_zip if out.suffix.lower() == ".zip" else _write_folder
            write(target, _files(dataset, written, _way_to_source(config.path, out), progress))
        size = sum(file.stat().st_size for file in [target, *target.rglob("*")] if file.is_file())
    return Prepared(out, len(dataset), size, dataset)


def _refuse_masks(count: int) -> None:
    if count:
        raise FruganError(
            "a prepared copy holds no masks: prepare images and masks one after the other, each as a set of images"
        )


def _write_folder(target: Path, files: Iterable[tuple[str, bytes]]) -> None:
    for name, content in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(content)


def _write_zip(target: Path, files: Iterable[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files:
            archive.writestr(name, content)


def _way_to_source(path: str, out: Path) -> dict[str, str]:
    """The first entry of dataset.json where `out` is a folder within its source: reading the source again skips it."""
    source, target = Path(path).expanduser().resolve(), out.resolve()
    within = source.is_dir() and source in target.parents and out.suffix.lower() != ".zip"
    return {PREPARED_FROM: Path(os.path.relpath(source, target)).as_posix()} if within else {}


def _files(
    dataset: Dataset, written: Callable[[int], np.ndarray], origin: dict[str, str], progress: Progress
) -> Iterator[tuple[str, bytes]]:
    """Every image as PNG, then dataset.json."""
    count = len(dataset)
    names = [f"{row // _PER_FOLDER:05d}/img{row:08d}.png" for row in range(count)]
    for row, png in enumerate(in_threads(lambda row: encode_png(written(row)), range(count))):
        yield names[row], png
        if progress:
            progress((_DECODING * count + row + 1) // _STEPS, count)
    labels = [list(pair) for pair in zip(names, _labels(dataset).tolist())] if dataset.label_size else None
    index = {**origin, "labels": labels} | ({"class_names": dataset.class_names} if dataset.class_names else {})
    called = dataset.pixel_format.names
    if has_alpha(dataset.channels) and not dataset.alpha:  # else the last one of a PNG is opacity
        called = dataset.pixel_format.channel_names(dataset.channels)
    index |= {"channel_names": called} if called and are_names(called) and "mask" not in called else {}
    yield INDEX, json.dumps(index).encode()


def _labels(dataset: Dataset) -> np.ndarray:
    """Class numbers int64 `[N]` where the labels are one-hot and the last class occurs; else the rows as they are."""
    labels = dataset.labels
    codes = labels.argmax(1)
    plain = (
        not dataset.measured_columns
        and np.array_equal(one_hot(codes, labels.shape[1]), labels)
        and codes.max() == labels.shape[1] - 1
    )
    return codes if plain else labels


def encode_png(pixels: np.ndarray) -> bytes:
    """One image, uint8 or uint16 `[H, W, C]` of up to four channels, as a PNG file."""
    if pixels.dtype == np.uint16:
        return png16(pixels)
    file = io.BytesIO()
    pil_image(pixels).save(file, "PNG")
    return file.getvalue()


def refuse_what_png_cannot_hold(dtype: np.dtype | str, channels: int, where: str) -> None:
    """Raises `FruganError` for pixels of more than four channels, or of other numbers than uint8 and uint16.

    Args:
        dtype, channels: of the pixels.
        where: the data set, for the message.
    """
    if channels > 4 or not is_plain(dtype):
        raise FruganError(
            f"{where} gives {counted(channels, 'channel')} of {dtype} numbers, which cannot be written as PNG; "
            "name an output that ends in .npz"
        )
