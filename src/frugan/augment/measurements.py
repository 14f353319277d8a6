"""Measurements: random corruptions of known kind, behind which a generator can learn clean images.

In AmbientGAN no clean images exist, only measurements y = f(x) with f drawn at random; the discriminator compares them with
measurements of generated images (Bora, Price & Dimakis, "AmbientGAN: Generative models from lossy measurements", 2018). All
are differentiable in x, and what they drop is black (−1), which 8-bit files keep exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from math import pi
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.checks import check_choice
from frugan.errors import FruganError
from frugan.ops.rotations import quarter_turns

_DROPPED = -1.0

Shape = tuple[int, int, int, int]
Drawn = list[Tensor]


@dataclass(frozen=True)
class Kind:
    """One row of `MEASUREMENTS`. `draw` makes tensors for images of a shape, `apply` takes images and these.

    `defaults` are the parameters, `valid` says whether such are possible, and `about` what they are.
    """

    about: str
    defaults: tuple[float, ...]
    valid: Callable[..., bool]
    draw: Callable[..., Drawn]
    apply: Callable[..., Tensor]
    square: bool = field(default=False)
    """Whether it takes square images only."""
    on_masks: Literal["same", "none", "refuse"] = field(default="none")
    """Whether mask channels go through it, too, stay as they are, or cannot be."""


def _rand(rng: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=rng, device=rng.device)


def _keep(x: Tensor, kept: Tensor) -> Tensor:
    return torch.where(kept, x, _DROPPED)


def _pixels(shape: Shape, rng: torch.Generator, p: float) -> Drawn:
    return [_rand(rng, shape[0], 1, *shape[2:]) >= p]


def _rows(shape: Shape, rng: torch.Generator, p: float) -> Drawn:
    return [_rand(rng, shape[0], 1, shape[2], 1) >= p]


def _columns(shape: Shape, rng: torch.Generator, p: float) -> Drawn:
    return [_rand(rng, shape[0], 1, 1, shape[3]) >= p]


def _rows_and_columns(shape: Shape, rng: torch.Generator, p: float) -> Drawn:
    return [_rows(shape, rng, p)[0] & _columns(shape, rng, p)[0]]


def _patch(shape: Shape, rng: torch.Generator, side: float) -> Drawn:
    """Whether a pixel lies in a box of `side` of each side, which lies wholly in the image, anywhere."""
    inside = []
    for axis, size in enumerate(shape[2:]):
        length = max(round(size * side), 1)
        first = (_rand(rng, shape[0], 1) * (size - length + 1)).floor()
        at = torch.arange(size, device=rng.device) - first
        inside.append(((at >= 0) & (at < length)).unsqueeze(2 - axis))
    return [(inside[0] & inside[1])[:, None]]


def _outside(shape: Shape, rng: torch.Generator, side: float) -> Drawn:
    return [~_patch(shape, rng, side)[0]]


def _noise(shape: Shape, rng: torch.Generator, sigma: float) -> Drawn:
    return [torch.randn(shape, generator=rng, device=rng.device) * sigma]


def _add(x: Tensor, noise: Tensor) -> Tensor:
    return (x + noise).clamp(-1, 1)


def _blur_noise(shape: Shape, rng: torch.Generator, blur: float, sigma: float) -> Drawn:
    taps = torch.arange(-max(round(3 * blur), 1), max(round(3 * blur), 1) + 1, device=rng.device)
    kernel = torch.exp(-(taps**2) / (2 * blur**2))
    return [(kernel / kernel.sum()).expand(shape[0], -1), *_noise(shape, rng, sigma)]


def _blur_add(x: Tensor, kernel: Tensor, noise: Tensor) -> Tensor:
    c, r = x.shape[1], kernel.shape[1] // 2
    along = kernel[0].to(x.dtype).expand(c, 1, 1, -1)
    x = F.conv2d(F.pad(x, (r, r, r, r), mode="replicate"), along, groups=c)
    return _add(F.conv2d(x, along.mT, groups=c), noise)


def _turns(shape: Shape, rng: torch.Generator, *shares: float) -> Drawn:
    *bounds, total = accumulate(shares)
    drawn = _rand(rng, shape[0]) * total
    turns = torch.stack([drawn >= bound for bound in bounds]).sum(dim=0)
    return [F.one_hot(turns, 4).float()]


def _angle(shape: Shape, rng: torch.Generator) -> Drawn:
    return [_rand(rng, shape[0]) * pi]


def _project(x: Tensor, angle: Tensor) -> Tensor:
    """Padded to its diagonal, turned, and averaged along columns: every row of the result is that one measurement."""
    h, w = x.shape[2:]
    d = int((h * h + w * w) ** 0.5) + 1
    top, left = (d - h) // 2, (d - w) // 2
    x = F.pad(x, (left, d - w - left, top, d - h - top), value=_DROPPED)
    zero, cos, sin = torch.zeros_like(angle), angle.cos(), angle.sin()
    matrix = torch.stack([torch.stack([cos, -sin, zero], dim=1), torch.stack([sin, cos, zero], dim=1)], dim=1)
    where = F.affine_grid(matrix.to(x.dtype), list(x.shape), align_corners=False)
    line = (F.grid_sample(x + 1, where, align_corners=False) - 1).mean(dim=2, keepdim=True)
    return F.interpolate(line, size=(1, w), mode="bilinear", antialias=True, align_corners=False).expand(-1, -1, h, -1)


def _share(p: float) -> bool:
    return 0 <= p < 1


MEASUREMENTS: dict[str, Kind] = {
    "drop-pixels": Kind("each pixel is dropped with probability P", (0.5,), _share, _pixels, _keep),
    "drop-rows": Kind("each row is dropped with probability P", (0.5,), _share, _rows, _keep),
    "drop-columns": Kind("each column is dropped with probability P", (0.5,), _share, _columns, _keep),
    "drop-rows-columns": Kind("both, each with probability P", (0.3,), _share, _rows_and_columns, _keep),
    "drop-patch": Kind("a box of P of each side is dropped, anywhere", (0.5,), lambda s: 0 < s < 1, _outside, _keep),
    "keep-patch": Kind("all but such a box is dropped", (0.5,), lambda s: 0 < s <= 1, _patch, _keep),
    "noise": Kind(
        "normal noise of standard deviation S (pixels are in [-1, 1])", (0.2,), lambda s: s > 0, _noise, _add
    ),
    "blur-noise": Kind(
        "Gaussian blur of B pixels, then noise of S",
        (1.0, 0.1),
        lambda b, s: 0 < b <= 16 and s >= 0,
        _blur_noise,
        _blur_add,
    ),
    "rotate90": Kind(
        "0, 1, 2 or 3 quarter turns in these shares",
        (0.25, 0.25, 0.25, 0.25),
        lambda *q: min(q) >= 0 and abs(sum(q) - 1) < 1e-6,
        _turns,
        quarter_turns,
        square=True,
        on_masks="same",
    ),
    "pad-rotate-project": Kind(
        "turned by any angle, averaged along columns", (), lambda: True, _angle, _project, on_masks="refuse"
    ),
}
"""By name. Parameters follow it after a colon, joined by commas: "blur-noise:1,0.1"."""


class Measurement:
    """A measurement by its specification, such as "drop-pixels:0.5", for images of one resolution `(H, W)`.

    Whatever changes values leaves the last `masks` channels alone.
    """

    def __init__(self, specification: str, resolution: tuple[int, int], *, masks: int = 0) -> None:
        name, _, given = specification.partition(":")
        check_choice("unknown measurement", name, MEASUREMENTS)
        self.kind = kind = MEASUREMENTS[name]
        try:
            self.parameters = tuple(map(float, given.split(","))) if given else kind.defaults
        except ValueError:
            raise FruganError(f"measurement {specification!r}: {given!r} are not numbers joined by commas") from None
        if len(self.parameters) != len(kind.defaults) or not kind.valid(*self.parameters):
            example = ":".join(filter(None, [name, ",".join(f"{v:g}" for v in kind.defaults)]))
            raise FruganError(f"measurement {specification!r}: {kind.about}; for instance {example}")
        if kind.square and resolution[0] != resolution[1]:
            raise FruganError(
                f"measurement {name!r} needs square images, and these are {resolution[0]}x{resolution[1]}"
            )
        if masks and kind.on_masks == "refuse":
            raise FruganError(f"measurement {name!r} averages along columns, which leaves no mask; choose another")
        self.resolution, self.masks = resolution, masks if kind.on_masks == "none" else 0

    @torch.no_grad()
    def draw(self, n: int, channels: int, *, generator: torch.Generator) -> Drawn:
        """Draws the measurement of n images.

        Args:
            n: number of images.
            channels: C of the images.
            generator: on the device of the images.

        Returns:
            Random tensors `[n, …]`, for `apply`.
        """
        return self.kind.draw((n, channels - self.masks, *self.resolution), generator, *self.parameters)

    def apply(self, images: Tensor, draw: Drawn) -> Tensor:
        """Images `[N, C, H, W]` in [-1, 1] → their measurements, of the same shape."""
        if not self.masks:
            return self.kind.apply(images, *draw)
        image, masks = images.split([images.shape[1] - self.masks, self.masks], dim=1)
        return torch.cat([self.kind.apply(image, *draw), masks], dim=1)
