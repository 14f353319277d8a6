"""Video of a training: the sample grids of a run in their order, with kimg, p and r_t below each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import torch
from torch import Tensor

from frugan import tracking
from frugan.errors import FruganError
from frugan.images import captioned_grid, grid, upscale
from frugan.latent.video import check_video, write_video
from frugan.run.directory import RunDirectory
from frugan.tracking.report.page import SampleImage, find_samples

WIDTH = 512
"""Pixels that a frame has at least."""
REST_SECONDS = 1.5
"""How long the last frame stays."""


def write_training_video(
    run: RunDirectory, file: str | Path, *, columns: int = 8, rows: int = 4, seconds: float = 6, caption: bool = True
) -> int:
    """Writes a video (.mp4, .webp, .gif or .png): images of equal seeds over the whole training; the number of frames.

    Args:
        run: a run that has trained for a while.
        file: the video; its ending says the format.
        columns, rows: how many images of the sample grids are shown, from the upper left.
        seconds: length of the video, without the last frame's rest.
        caption: whether kimg, p and r_t stand below.

    Raises:
        FruganError: where the run has no sample grids, or such a video cannot be written.
    """
    check_video(Path(file))
    found = find_samples(run.path)
    resolution = run.report("run.json").get("resolution")
    if not found or not isinstance(resolution, list):
        raise FruganError(f"{run.path} has no sample grids: they come with the first step of training")
    h, w = resolution
    records = tracking.read_stats(run.path / "stats.jsonl")
    fps = max(len(found) / seconds, 1)
    rest = [found[-1]] * round(REST_SECONDS * fps)

    def frames() -> Iterator[Tensor]:
        for sample in [*found, *rest]:
            cells = _cells(run.path / sample.src, h, w)[:rows, :columns]
            shown = grid(cells.reshape(-1, h, w, cells.shape[-1]), columns=cells.shape[1])
            shown = upscale(shown[None], max(1, -(-WIDTH // shown.shape[1])))
            pixels = captioned_grid(shown, captions=[_caption(sample, records)]) if caption else shown[0]
            yield torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1

    return write_video(file, frames(), fps=fps)


def _cells(file: Path, h: int, w: int) -> np.ndarray:
    """The images of a sample grid: uint8 `[rows, columns, h, w, C]`."""
    pixels = imagecodecs.png_decode(file.read_bytes())
    pixels = (pixels // 257).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    rows, columns = pixels.shape[0] // h, pixels.shape[1] // w
    return pixels.reshape(rows, h, columns, w, -1).swapaxes(1, 2)


def _caption(sample: SampleImage, records: list[dict[str, Any]]) -> str:
    """A caption such as "12 kimg, p 0.21, r_t 0.61", from the last record until then."""
    last = next((r for r in reversed(records) if r["kimg"] <= sample.kimg), {})
    values = {name: tracking.finite(last.get(name)) for name in ("p", "r_t")}
    return ", ".join([sample.label, *(f"{name} {value:.2f}" for name, value in values.items() if value is not None)])
