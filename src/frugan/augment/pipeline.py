"""The augmentation pipeline T: all that the discriminator sees goes through it, each transform with probability p.

Drawing and applying are apart. `draw` is random and needs no gradient; `apply` is a pure function of the images,
linear up to an offset and so differentiable as often as needed (R1 is taken with respect to the images before T).
Neither reads a value back from the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from statistics import NormalDist
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from frugan.augment.transforms import PRESETS, TRANSFORMS, band_gains, band_matrices
from frugan.channels import colour_channels
from frugan.checks import Limits, check_choice, check_fields
from frugan.errors import FruganError
from frugan.losses import Augmentation, Drawn
from frugan.ops.tiling import Tile, tiles_along
from frugan.ops.warp import AffineWarp, NearestWarp

_SMALLEST = 4

Parameters = list[tuple[str, Tensor]]
"""Transform names in the order of application, each with its parameters `[N, k]` (see `TRANSFORMS`)."""


class Draw(NamedTuple):
    """The drawn transforms of N images, ready to apply; a part is None where none of its transforms is enabled."""

    inverse: Tensor | None
    """`[N, 3, 3]`: output position (x, y, 1) in pixels from the centre → input position."""
    color: Tensor | None
    """`[N, C', C' + 1]`: linear map of the C' colour channels, and an offset."""
    gains: Tensor | None
    """`[N, 4]`: factor of each octave band, the lowest first."""
    noise: Tensor | None
    """`[N, C', H, W]` to add; C' are all channels but masks where none is declared as colour."""
    box: Tensor | None
    """`[N, 3]`: side and centre (x, y) of the box to cut out, as fractions of W and H."""


@dataclass(frozen=True)
class AugmentConfig:
    transforms: tuple[str, ...] = PRESETS["bgc"]
    """Names from `TRANSFORMS`, applied in that table's order; `parse_transforms` makes them from presets."""
    reach: Annotated[float, Limits(above=0, at_most=4)] = 1.0
    """How far translations go, as a multiple of the paper's (⅛ of the size at most, or its standard deviation)."""

    def __post_init__(self) -> None:
        for name in self.transforms:
            check_choice("unknown transform", name, TRANSFORMS)
        check_fields(self)


class Chain:
    """Several augmentations, one after another."""

    def __init__(self, *parts: Augmentation) -> None:
        self.parts = parts

    def draw(self, n: int, p: float | Tensor, *, generator: torch.Generator) -> list[Drawn]:
        """The draws of all parts. See `Augmentation`."""
        return [part.draw(n, p, generator=generator) for part in self.parts]

    def apply(self, images: Tensor, draw: list[Drawn]) -> Tensor:
        for part, drawn in zip(self.parts, draw, strict=True):
            images = part.apply(images, drawn)
        return images


class AugmentPipeline:
    """The ADA augmentation pipeline, for images `[N, C, H, W]` of one size.

    Geometry and cutout act on every channel, the filter on all but masks, colour transforms on the colour channels,
    noise on these or, where there are none, on all.

    Args:
        config: the transforms.
        channels: C, masks included.
        resolution: (height, width), each 4 or more.
        color_channels: how many of the first channels are colour: 0, 1 or 3, where hue and saturation need 3. By
            default 1 for grey (with or without alpha), 3 for RGB, 0 for five or more channels.
        masks: how many of the last channels are masks.
        nearest_masks: whether geometry takes the nearest pixel in masks, instead of interpolating.
        tile: axes along which images repeat and are continued periodically; along others by reflection.
        device: of the constants, which should be that of the images.
    """

    def __init__(
        self,
        config: AugmentConfig,
        *,
        channels: int,
        resolution: tuple[int, int],
        color_channels: int | None = None,
        masks: int = 0,
        nearest_masks: bool = False,
        tile: Tile = "none",
        device: torch.device | str | None = None,
    ) -> None:
        self.image_channels = channels - masks
        if color_channels is None:
            color_channels = colour_channels(self.image_channels)
        if color_channels not in (0, 1, 3) or color_channels > self.image_channels:
            raise FruganError(
                f"color_channels is {color_channels} of {self.image_channels} channels; it can be 0, 1 or 3 of them"
            )
        if min(resolution) < _SMALLEST:
            raise FruganError(f"images of {resolution[0]}x{resolution[1]} are too small to augment; use at least 4x4")
        self.channels, self.resolution, self.color_channels = channels, resolution, color_channels
        self.steps = _steps(config.transforms, color_channels)
        groups = {TRANSFORMS[name].group for name in self.steps}

        self._size = torch.tensor(resolution[::-1], dtype=torch.float32, device=device) * config.reach
        first = [name not in self.steps[:i] for i, name in enumerate(self.steps)]
        self._first = torch.tensor(first, dtype=torch.float32, device=device)
        self._rotation = torch.tensor([name == "rotate" for name in self.steps], dtype=torch.bool, device=device)
        rows = [TRANSFORMS[name] for name in self.steps]
        self._drawn = {kind: [row.variates.count(kind) for row in rows] for kind in "un"}
        size = self._size.cpu()
        self._widths = [row.parameters(torch.zeros(1, len(row.variates)), size).shape[1] for row in rows]
        owners = torch.arange(len(rows)).repeat_interleave(torch.tensor(self._widths, dtype=torch.long))
        self._owners = owners.to(device)
        self._geometry = self._warp = self._nearest = self._color = self._bands = None
        if groups & {"blit", "geometry"}:
            self._geometry = _Matrices(self.steps, ("blit", "geometry"), device)
            self._warp = AffineWarp(resolution, device, tile=tile)
            self._nearest = NearestWarp(resolution, device, tile=tile) if masks and nearest_masks else None
        if "color" in groups:
            self._color = _Matrices(self.steps, ("color",), device)
        if "filter" in groups:
            self._bands = [
                torch.as_tensor(band_matrices(size, repeats=repeats), dtype=torch.float32, device=device)
                for size, repeats in zip(resolution, tiles_along(tile))
            ]

    def __call__(self, images: Tensor, p: float | Tensor, *, generator: torch.Generator) -> Tensor:
        """Augmented images: `draw` and `apply` in one.

        Args:
            images: `[N, C, H, W]`.
            p: the probability of each transform.
            generator: on the pipeline's device.
        """
        return self.apply(images, self.draw(images.shape[0], p, generator=generator))

    @torch.no_grad()
    def draw(self, n: int, p: float | Tensor, *, generator: torch.Generator, percentile: float | None = None) -> Draw:
        """Draws the transforms of n images.

        Args:
            n: number of images.
            p: the probability of each transform: a number or a 0-d tensor, clipped to [0, 1].
            generator: on the pipeline's device.
            percentile: q in (0, 1): every transform is applied, at a fixed value. Uniform variates take q, normal ones
                erfinv(2q − 1), which is the quantile over √2; of the two rotations only the first turns, and of the
                noise only σ is fixed.
        """
        with torch.autocast(self._size.device.type, enabled=False):
            parameters = self.parameters(n, p, generator=generator, percentile=percentile)
            drawn = dict(parameters)
            inverse = color = gains = noise = None
            if self._geometry:
                inverse = reduce(torch.matmul, self._geometry(parameters))
            if self._color:
                color = reduce(lambda before, matrix: matrix @ before, self._color(parameters))
                color = color[:, :3] if self.color_channels == 3 else _to_grey(color)
            if self._bands:
                off = self._size.new_zeros(n, 1)
                gains = band_gains(torch.cat([drawn.get(f"band{i}", off) for i in range(4)], dim=1))
            if "noise" in drawn:
                shape = (n, self.color_channels or self.image_channels, *self.resolution)
                noise = torch.randn(shape, generator=generator, device=self._size.device)
                noise *= drawn["noise"][..., None, None]
            return Draw(inverse, color, gains, noise, drawn.get("cutout"))

    @torch.no_grad()
    def parameters(
        self, n: int, p: float | Tensor, *, generator: torch.Generator, percentile: float | None = None
    ) -> Parameters:
        """The parameters of every transform for n images, before `draw` combines them; zero where a transform is not applied.

        An arbitrary rotation occurs twice, before and after the anisotropic scaling, each with probability 1 − √(1 −
        p), so that p is the probability of any rotation.

        The arguments are those of `draw`.
        """
        device = self._size.device
        shapes = {kind: (n, sum(counts)) for kind, counts in self._drawn.items()}
        if percentile is None:
            p = p.to(torch.float32) if isinstance(p, Tensor) else torch.full((), p, dtype=torch.float32, device=device)
            p = p.clamp(0, 1)
            rates = torch.where(self._rotation, 1 - (1 - p).sqrt(), p)
            fires = (torch.rand(n, len(self.steps), generator=generator, device=device) < rates).to(torch.float32)
            variates = {
                "u": torch.rand(shapes["u"], generator=generator, device=device),
                "n": torch.randn(shapes["n"], generator=generator, device=device),
            }
        elif 0 < percentile < 1:
            fires = self._first.expand(n, -1)
            values = {"u": percentile, "n": NormalDist().inv_cdf(percentile) / 2**0.5}
            variates = {kind: torch.full(shapes[kind], value, device=device) for kind, value in values.items()}
        else:
            raise FruganError(f"percentile is {percentile}; it must lie between 0 and 1")

        if not self.steps:
            return []
        own = [variates[kind].split(counts, dim=1) for kind, counts in self._drawn.items()]
        values = [
            TRANSFORMS[name].parameters(u if u.shape[1] else normal, self._size)
            for name, u, normal in zip(self.steps, *own)
        ]
        fired = torch.cat(values, dim=1) * fires.index_select(1, self._owners)
        return list(zip(self.steps, fired.split(self._widths, dim=1)))

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Images `[N, C, H, W]`, nominally in [-1, 1] → the same shape and dtype, by way of float32 (or float64)."""
        if not self.steps:
            return images
        if images.shape[1:] != (self.channels, *self.resolution):
            raise FruganError(
                f"images are {tuple(images.shape)}; this pipeline was made for {(self.channels, *self.resolution)} each"
            )
        dtype = images.dtype if images.dtype == torch.float64 else torch.float32
        with torch.autocast(images.device.type, enabled=False):
            x = images.to(dtype).contiguous()
            if self._warp and draw.inverse is not None:
                x = self._moved(x, draw.inverse, self._warp)
            if draw.color is not None:
                x = _on_first(x, draw.color.shape[1], partial(_recolor, color=draw.color))
            if self._bands and draw.gains is not None:
                x = _on_first(x, self.image_channels, partial(_filter, gains=draw.gains, bands=self._bands))
            if draw.noise is not None:
                x = _on_first(x, draw.noise.shape[1], draw.noise.to(dtype).add)
            if draw.box is not None:
                x = _cut_out(x, draw.box)
            return x.to(images.dtype)

    def _moved(self, x: Tensor, inverse: Tensor, warp: AffineWarp) -> Tensor:
        if self._nearest is None:
            return warp(x, inverse)
        image, masks = x.split([self.image_channels, self.channels - self.image_channels], dim=1)
        return torch.cat([warp(image.contiguous(), inverse), self._nearest(masks, inverse)], dim=1)


def _steps(transforms: tuple[str, ...], color_channels: int) -> tuple[str, ...]:
    """The enabled transforms in the order of application, less those that these channels have no use for."""
    order = list(TRANSFORMS)
    order.insert(order.index("aniso") + 1, "rotate")
    useless = {0: PRESETS["color"], 1: ("hue", "saturation"), 3: ()}[color_channels]
    return tuple(name for name in order if name in transforms and name not in useless)


class _Matrices:
    """Makes the matrices I + Σᵢ fᵢ·Bᵢ of all steps of some groups at once."""

    def __init__(self, steps: tuple[str, ...], groups: tuple[str, ...], device: torch.device | str | None) -> None:
        self.groups = groups
        rows = [TRANSFORMS[name] for name in steps if TRANSFORMS[name].group in groups]
        bases = [row.basis for row in rows if row.basis is not None]
        self.eye = torch.eye(bases[0].shape[-1], device=device)
        self.basis = torch.block_diag(*(basis.flatten(1) for basis in bases)).to(device)
        self.shape = (len(bases), *self.eye.shape)

    def __call__(self, parameters: Parameters) -> tuple[Tensor, ...]:
        """A matrix `[N, m, m]` for each step, in the order of application."""
        coefficients = [
            f(values)
            for name, values in parameters
            if TRANSFORMS[name].group in self.groups and (f := TRANSFORMS[name].coefficients)
        ]
        return ((torch.cat(coefficients, dim=1) @ self.basis).unflatten(1, self.shape) + self.eye).unbind(1)


def _to_grey(color: Tensor) -> Tensor:
    """`[N, 4, 4]` → `[N, 1, 2]`: the mean of the three channels that it makes of a grey image."""
    mean = color[:, :3].mean(dim=1, keepdim=True)
    return torch.cat([mean[..., :3].sum(dim=2, keepdim=True), mean[..., 3:]], dim=2)


def _on_first(x: Tensor, channels: int, change: Callable[[Tensor], Tensor]) -> Tensor:
    return change(x) if channels == x.shape[1] else torch.cat([change(x[:, :channels]), x[:, channels:]], dim=1)


def _recolor(x: Tensor, color: Tensor) -> Tensor:
    linear, offset = color.to(x.dtype).tensor_split([x.shape[1]], dim=2)
    return torch.baddbmm(offset, linear, x.flatten(2)).view_as(x)


def _filter(x: Tensor, gains: Tensor, bands: list[Tensor]) -> Tensor:
    """Each image through its own symmetric filter Σ_b gains_b·b, along both axes, as one dense matrix for each."""
    along_h, along_w = (torch.einsum("nb,bij->nij", gains, matrices).to(x.dtype)[:, None] for matrices in bands)
    return along_h @ x @ along_w.mT


def _cut_out(x: Tensor, box: Tensor) -> Tensor:
    """Zeroes the pixels whose centres lie in the box."""
    half = box[:, :1] / 2
    inside_w, inside_h = (
        (((torch.arange(size, device=x.device) + 0.5) / size - box[:, k : k + 1]).abs() < half)
        for k, size in ((1, x.shape[3]), (2, x.shape[2]))
    )
    return x.masked_fill((inside_h[:, :, None] & inside_w[:, None, :])[:, None], 0)
