"""Writes a set out again, decoded, resized and labelled: to move it, keep it, or load it with other programs."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from frugan.data.dataset import DataConfig, Dataset
from frugan.data.files import Progress, building, in_threads
from frugan.data.labels import one_hot
from frugan.data.opening import open_dataset
from frugan.errors import FruganError
from frugan.pictures import picture

_PER_FOLDER = 1000


@dataclass(frozen=True)
class Prepared:
    """What `prepare` has written, and the set that it was written from."""

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
    """Writes all pictures of a set, at its resolution, to `out`: a .zip, a .npz or else a folder, whole or not at all.

    `change(row, pixels)` takes the pixels `[H, W, C]` of each to what is written instead.

    Folder and zip hold PNG files and dataset.json in the layout of StyleGAN data sets; a .npz holds `images`
    `[N, H, W, C]` and `labels`, and takes any channel count and depth. Raises `FruganError` where `out` is taken, or
    where PNG files cannot hold the pixels.
    """
    out = Path(out).expanduser()
    decoding = (lambda done, total: progress(done, total + total // 3)) if progress else None
    with building(out) as target:
        dataset = open_dataset(config, progress=decoding, cache_dir=cache_dir)
        if out.suffix.lower() == ".npz":
            images = np.stack([change(*pair) for pair in enumerate(dataset.pixels)]) if change else dataset.pixels
            arrays = {"images": images} | ({"labels": _labels(dataset)} if dataset.label_size else {})
            np.savez(target, **arrays)  # pyright: ignore[reportArgumentType]
        else:
            refuse_what_png_cannot_hold(dataset.pixels, dataset.config.path)
            write = _write_zip if out.suffix.lower() == ".zip" else _write_folder
            write(target, _files(dataset, change or (lambda row, pixels: pixels), progress))
        size = sum(file.stat().st_size for file in [target, *target.rglob("*")] if file.is_file())
    return Prepared(out, len(dataset), size, dataset)


def _write_folder(target: Path, files: Iterable[tuple[str, bytes]]) -> None:
    for name, content in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(content)


def _write_zip(target: Path, files: Iterable[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files:
            archive.writestr(name, content)


def _files(dataset: Dataset, change: Change, progress: Progress) -> Iterator[tuple[str, bytes]]:
    """Every picture as PNG, then dataset.json."""
    count = len(dataset)
    names = [f"{row // _PER_FOLDER:05d}/img{row:08d}.png" for row in range(count)]
    for row, png in enumerate(in_threads(lambda row: encode_png(change(row, dataset.pixels[row])), range(count))):
        yield names[row], png
        if progress:
            progress(3 * count + row + 1, 4 * count)
    labels = [list(pair) for pair in zip(names, _labels(dataset).tolist())] if dataset.label_size else None
    index = {"labels": labels} | ({"class_names": dataset.class_names} if dataset.class_names else {})
    yield "dataset.json", json.dumps(index).encode()


def _labels(dataset: Dataset) -> np.ndarray:
    """Class numbers int64 `[N]` where the labels are one-hot and the last class occurs; else the rows as they are."""
    labels = dataset.labels
    codes = labels.argmax(1)
    plain = np.array_equal(one_hot(codes, labels.shape[1]), labels) and codes.max() == labels.shape[1] - 1
    return codes if plain else labels


def encode_png(pixels: np.ndarray) -> bytes:
    """One picture, uint8 `[H, W, C]` or uint16 `[H, W, 1]`, as a PNG file."""
    image = picture(pixels) if pixels.dtype == np.uint8 else Image.fromarray(np.ascontiguousarray(pixels[..., 0]))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def refuse_what_png_cannot_hold(pixels: np.ndarray, where: str) -> None:
    """Raises `FruganError` for pixels `[…, C]` of more channels or bits than Pillow writes: 16 bits for grey only."""
    channels, limit = pixels.shape[-1], 4 if pixels.dtype == np.uint8 else 1
    if channels > limit:
        raise FruganError(
            f"{where} gives {channels} channels of {8 * pixels.dtype.itemsize} bits, "
            "which cannot be written as PNG; name an output that ends in .npz"
        )
