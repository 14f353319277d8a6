"""The output of a projection: codes and images as files, a sheet that compares the stages, and a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frugan.files import refilling, write_json
from frugan.image_files import choose_output
from frugan.images import save_image
from frugan.latent.code import Code, save_code
from frugan.latent.projection import Projection, Rung
from frugan.latent.sheets import table
from frugan.pixel_format import PixelFormat

REPORT = "projection.json"


def joined(parts: Sequence[Projection]) -> Projection:
    """One projection of several batches, those rungs that all of them climbed to."""
    if len(parts) == 1:
        return parts[0]
    names = [rung.name for rung in max(parts, key=lambda p: len(p.rungs)).rungs]
    rungs = []
    for k, name in enumerate(names):
        each = [part.rungs[min(k, len(part.rungs) - 1)] for part in parts]
        rungs.append(
            Rung(
                name,
                torch.cat([r.ws for r in each]),
                tuple(torch.cat(maps) for maps in zip(*(r.noise for r in each))),
                torch.cat([r.images for r in each]),
                torch.cat([r.distance for r in each]),
                torch.cat([r.psnr for r in each]),
                sum(r.seconds for r in each),
                max(r.steps for r in each),
                _joined_offsets(each),
            )
        )
    labels = None if parts[0].labels is None else torch.cat([p.labels for p in parts if p.labels is not None])
    return Projection(rungs, labels, parts[0].distance, parts[0].facts)


def _joined_offsets(rungs: Sequence[Rung]) -> Tensor | None:
    """`[N, ΣC]`, zeros for batches whose styles were not fitted, because a rung before sufficed."""
    found = [rung.offset for rung in rungs]
    width = next((len(offset[0]) for offset in found if offset is not None), None)
    if width is None:
        return None
    return torch.cat([r.ws.new_zeros(len(r.ws), width) if r.offset is None else r.offset for r in rungs])


def write_projection(
    out: Path,
    made: Projection,
    codes: Sequence[Code],
    targets: Tensor,
    target: float | None = None,
    *,
    pixels: PixelFormat,
) -> None:
    """Writes the results of a projection into a folder.

    These are NAME.safetensors and an image NAME for each code, sheet.png and projection.json.

    Args:
        out: the folder.
        made: the projection.
        codes: one for each target.
        targets: the images that were projected, float32 `[N, C, H, W]` in [-1, 1].
        target: the distance that suffices, see `Projection.sufficient`.
        pixels: how image files hold numbers, the generator's.
    """
    images = {}
    for i, code in enumerate(codes):
        rungs = {r.name: {"distance": float(r.distance[i]), "psnr": float(r.psnr[i])} for r in made.rungs}
        label = {} if made.labels is None else {"label": made.labels[i].tolist()}
        images[code.name] = {"sufficient": made.sufficient(i, target), "rungs": rungs, **label}
    report = {
        "network": codes[0].generator.digest,
        "distance": made.distance,
        "rungs": {r.name: {"seconds": r.seconds, "steps": r.steps} for r in made.rungs},
        "images": images,
    }
    with refilling(out, REPORT) as scratch:
        for code in codes:
            save_code(code, scratch / f"{code.name}.safetensors")
        texts = [{"Code": code.name, "Network": code.generator.digest} for code in codes]
        choose_output(pixels, targets.shape[1]).save(made.last.images, [scratch / code.name for code in codes], texts)
        save_image(comparison([code.name for code in codes], targets, made.rungs), scratch / "sheet.png")
        write_json(scratch / REPORT, report)


def comparison(names: Sequence[str], targets: Tensor, rungs: Sequence[Rung]) -> np.ndarray:
    """A sheet with a row for each image, uint8 `[H', W', 3]`: the target, each stage of the projection, and the
    residual, grey where it is 0.

    Args:
        names: of the images.
        targets: float32 `[N, C, H, W]`.
        rungs: the stages.
    """
    shown = [targets.cpu(), *(rung.images.cpu() for rung in rungs)]
    left = (shown[0] - shown[-1]).clamp(-1, 1)
    if left.shape[1] in (2, 4):
        left[:, -1] = 1.0
    columns = ["target", *(rung.name for rung in rungs), "residual"]
    return table(
        torch.stack([*shown, left], 1).flatten(0, 1),
        len(columns),
        column_names=columns,
        row_names=names,
    )
