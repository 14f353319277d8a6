"""Affine warps of images through an orthonormal wavelet filter: band-limited, of fixed cost, twice differentiable.

The image is extended by reflection, upsampled twofold with the sym6 low-pass, sampled bilinearly, and downsampled
with the time-reversed filter (Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020,
appendix B). sym6 is orthonormal, so the identity warp returns the image up to rounding.

Two observations keep the cost fixed. A signal of W samples extended by reflection has the period 2(W − 1), so all of
its upsampled extension is a ring of 4(W − 1) samples, whatever the transform: nothing depends on the drawn values.
And "extend and upsample" and "downsample and crop" are linear maps along one axis: a dense matrix for short axes, the
blocks of its band for long ones.

On a CPU values can be looked at for nothing. There, only the window of the ring that the output shows is made, and a warp
without a rotation is one small matrix along each axis, per image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
"""Orthonormal low-pass analysis filter of the symlet with 6 vanishing moments (Daubechies 1992)."""

_REACH = 5
"""Index of the filter's largest tap, which counts as its middle: so many taps lie before it, and one more behind it."""

_DENSE_UP_TO, _DENSE_UP_TO_CPU, _BLOCK = 160, {-2: 160, -1: 48}, 32
"""Axes of more inputs than this use the band of their matrix, in blocks of so many outputs (measured on a CPU, where it
depends on the axis)."""

_WORKSPACE, _WORKSPACE_CPU = 2**26, 2**22
"""Ring samples held at once; a larger batch is warped in parts."""

_LANES = 16
"""A CPU's windows are a multiple of so many samples long."""


def reflect(index: np.ndarray, size: int) -> np.ndarray:
    """Positions on an axis extended by reflection about its ends, as often as needed → positions in [0, size)."""
    period = 2 * (size - 1)
    index = index % period
    return np.minimum(index, period - index)


def upsampling_matrix(size: int) -> np.ndarray:
    """float64 `[4(size − 1) + 1, size]`: one period of the reflected, twofold upsampled axis, and its first row again.

    Row m sits at pixel m/2: the largest tap is the middle of the filter.
    """
    period = 4 * (size - 1)
    matrix = np.zeros((period + 1, size))
    rows = np.arange(period + 1)
    for tap, weight in enumerate(SYM6):
        hit = (rows - tap + _REACH) % 2 == 0
        matrix[rows[hit], reflect((rows[hit] - tap + _REACH) // 2, size)] += weight * np.sqrt(2)
    return matrix


def downsampling_matrix(size: int) -> np.ndarray:
    """float64 `[size, 2·size + 10]`: filtering by the time-reversed sym6 and taking every second sample.

    Column m sits at pixel (m − 5)/2.
    """
    matrix = np.zeros((size, 2 * size + 2 * _REACH))
    for tap, weight in enumerate(SYM6):
        matrix[np.arange(size), 2 * np.arange(size) + tap] = weight / np.sqrt(2)
    return matrix


class AxisMap:
    """A fixed linear map along an axis of `[N, C, H, W]`, from a matrix whose rows touch few neighbours."""

    def __init__(self, matrix: np.ndarray, device: torch.device | str | None = None) -> None:
        self.size, inputs = matrix.shape
        self.touched: Tensor | None = None
        if inputs > _DENSE_UP_TO:
            matrix = np.pad(matrix, ((0, -self.size % _BLOCK), (0, 0))).reshape(-1, _BLOCK, inputs)
            touched = [np.flatnonzero(block.any(0)) for block in matrix]
            width = max(t[-1] - t[0] + 1 for t in touched)
            columns = np.stack([min(t[0], inputs - width) + np.arange(width) for t in touched])
            matrix = np.stack([block[:, column] for block, column in zip(matrix, columns)])
            self.touched = torch.as_tensor(columns.ravel(), device=device)
        self.matrix = torch.as_tensor(matrix, dtype=torch.float32, device=device)

    def __call__(self, x: Tensor, axis: int) -> Tensor:
        """`[N, C, H, W]` → `[N, C, H', W]` (axis −2) or `[N, C, H, W']` (axis −1)"""
        if axis == -2:
            return self(x.mT, -1).mT
        matrix = self.matrix.to(x.dtype)
        if self.touched is None:
            return x @ matrix.mT
        blocks = x.mT.index_select(-2, self.touched).unflatten(-2, (matrix.shape[0], matrix.shape[2]))
        return (matrix @ blocks).flatten(-3, -2)[..., : self.size, :].mT


class WindowMap:
    """The same on a CPU, where any window of the outputs can be had alone."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.size, inputs = matrix.shape
        self.block = {axis: _BLOCK if inputs > limit else self.size for axis, limit in _DENSE_UP_TO_CPU.items()}
        self.matrix = torch.as_tensor(matrix, dtype=torch.float32)
        touched = matrix != 0
        self.first = touched.argmax(1).tolist()
        self.end = (inputs - touched[:, ::-1].argmax(1)).tolist()

    def __call__(self, x: Tensor, axis: int, start: int = 0, length: int | None = None) -> Tensor:
        """`[N, C, H, W]` → `length` outputs from `start` on, along axis −2 or −1"""
        return _Product.apply(x, self, axis, start, self.size if length is None else length, False)


class _Product(torch.autograd.Function):
    """Some outputs of a `WindowMap`, or the adjoint of that: each is the other's derivative."""

    @staticmethod
    def forward(x: Tensor, along: WindowMap, axis: int, start: int, length: int, adjoint: bool) -> Tensor:
        matrix, block, shape = along.matrix.to(x.dtype), along.block[axis], list(x.shape)
        shape[axis] = matrix.shape[1] if adjoint else length
        blocks = range(start, start + length, block)
        sums = adjoint and len(blocks) > 1
        x, y = x.contiguous(), x.new_zeros(shape) if sums else x.new_empty(shape)
        # Along rows this is one product, along columns one for each channel.
        sources, targets = (t.view(-1, t.shape[-1]) if axis == -1 else t.flatten(0, 1) for t in (x, y))
        for at in blocks:
            end = min(at + block, start + length)
            first, last = (
                (min(along.first[at:end]), max(along.end[at:end])) if len(blocks) > 1 else (0, matrix.shape[1])
            )
            part = matrix[at:end, first:last]
            outputs, inputs = (at - start, len(part)), (first, part.shape[1])
            source = sources.narrow(axis, *(outputs if adjoint else inputs))
            target = targets.narrow(axis, *(inputs if adjoint else outputs))
            if axis == -1:
                target.addmm_(source, part if adjoint else part.mT, beta=int(sums))
            else:
                part = part.expand(len(source), -1, -1)
                target.baddbmm_(part.mT if adjoint else part, source, beta=int(sums))
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, WindowMap, int, int, int, bool], output: Tensor) -> None:
        _, *ctx.window, ctx.adjoint = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _Product.apply(gradients[0], *ctx.window, not ctx.adjoint), *[None] * 5


class Window(NamedTuple):
    """`length` samples of an upsampled axis extended by reflection, from `start` on; sample 0 lies on the first pixel."""

    start: int
    length: int


class AffineWarp:
    """Warps images of one size `(H, W)`, H and W ≥ 2, each by its own matrix.

    Workspace per image: at most 16 times its pixels for the upsampled rings, about 4 times for the samples.
    """

    def __init__(self, resolution: tuple[int, int], device: torch.device | str | None = None) -> None:
        self.resolution = resolution
        self.up = [AxisMap(upsampling_matrix(size), device) for size in resolution]
        self.down = [AxisMap(downsampling_matrix(size), device) for size in resolution]
        self.y, self.x = (
            (torch.arange(2 * size + 2 * _REACH, device=device) - (size - 1 + _REACH)) / 2 for size in resolution
        )

    @cached_property
    def windowed(self) -> tuple[list[WindowMap], list[WindowMap]]:
        """`up`, twice around so that any window of a ring is rows of its matrix, and `down`."""
        turns = [np.arange(8 * size) % (4 * size - 4) for size in self.resolution]
        up = [WindowMap(upsampling_matrix(size)[turn]) for size, turn in zip(self.resolution, turns)]
        return up, [WindowMap(downsampling_matrix(size)) for size in self.resolution]

    def __call__(self, images: Tensor, inverse: Tensor) -> Tensor:
        """`[N, C, H, W]` float32 or float64 → the same shape.

        `inverse` `[N, 3, 3]` takes an output position (x, y, 1), in pixels from the image's centre, x to the right
        and y downwards, to the input position shown there. Beyond H − 1 or W − 1 reflected pixels on a side all is
        zero.
        """
        if images.device.type != "cpu" or torch.compiler.is_compiling():
            return _in_parts(self._warp, self._at_once(images, _WORKSPACE), images, inverse)
        quarter = (inverse[:, (0, 1), (0, 1)] == 0).all(1)[:, None, None]
        if self.resolution[0] == self.resolution[1] and quarter.any():  # a transposition, then rows stay rows
            images = torch.where(quarter[..., None], images.mT, images)
            inverse = torch.where(quarter, inverse[:, (1, 0, 2)], inverse)
        moves = (inverse != torch.eye(3, dtype=inverse.dtype)).flatten(1).any(1)
        turns = (inverse[:, (0, 1), (1, 0)] != 0).any(1)
        out = images
        for some, warp in ((moves & ~turns, self._warp_upright), (turns, self._warp_turned)):
            which = some.nonzero().flatten()
            if len(which) == len(images):
                return warp(images, inverse)
            if len(which):
                out = out.index_copy(0, which, warp(images[which], inverse[which]))
        return out

    def _at_once(self, images: Tensor, workspace: int) -> int:
        h, w = self.resolution
        return max(1, workspace // (16 * h * w * images.shape[1]))

    def _warp(self, images: Tensor, inverse: Tensor) -> Tensor:
        return self._resample(images, self._grid(inverse), self.up, self.down)

    def _warp_turned(self, images: Tensor, inverse: Tensor) -> Tensor:
        some = self._at_once(images, _WORKSPACE_CPU)
        return _in_parts(self._warp_windows, some, images, inverse, *self._shown(inverse))

    def _warp_upright(self, images: Tensor, inverse: Tensor) -> Tensor:
        """Where rows stay rows, all of it is one matrix along each axis: nothing to sample, or to scatter for a gradient."""
        y, x = inverse[:, 1, 1:], inverse[:, 0, ::2]
        if self.resolution[0] == self.resolution[1]:
            along_h, along_w = self._upright(torch.cat([y, x]), 0).to(images.dtype).chunk(2)
        else:
            along_h, along_w = (self._upright(line, axis).to(images.dtype) for axis, line in enumerate((y, x)))
        return along_h @ images @ along_w.mT

    @torch.no_grad()
    def _upright(self, line: Tensor, axis: int) -> Tensor:
        """(a, b) `[N, 2]` → upsampling, sampling at a·position + b, and downsampling along an axis (0: y): `[N, 1, size, size]`."""
        up, down = (maps[axis] for maps in self.windowed)
        size, places = self.resolution[axis], (self.y, self.x)[axis]
        a, b = line.to(places.dtype)[..., None].unbind(1)
        turns, beyond = _fold(places * a + b, size)
        place = turns * (4 * (size - 1))
        before = place.long().clamp_max(4 * (size - 1) - 1)
        samples = torch.lerp(up.matrix[before], up.matrix[before + 1], (place - before)[..., None])
        samples.masked_fill_(beyond[..., None], 0)
        return down(samples[:, None], -2)

    def _warp_windows(self, images: Tensor, inverse: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
        limits = zip(self.resolution, lowest.amin(0).tolist(), highest.amax(0).tolist())
        windows = [window for limit in limits if (window := _window(*limit))]
        if len(windows) == 2:
            grid = self._grid_on(windows, inverse)
        else:
            windows = [Window(0, 4 * size - 3) for size in self.resolution]
            grid = self._around(self._grid_on(windows, inverse), lowest, highest)
        up, down = self.windowed
        starts = [window.start % (4 * size - 4) for size, window in zip(self.resolution, windows)]
        up = [partial(along, start=start, length=window.length) for along, start, window in zip(up, starts, windows)]
        return self._resample(images, grid, up, down)

    def _resample(
        self,
        images: Tensor,
        grid: Tensor,
        up: Sequence[Callable[[Tensor, int], Tensor]],
        down: Sequence[Callable[[Tensor, int], Tensor]],
    ) -> Tensor:
        samples = _sample(up[1](up[0](images, -2), -1), grid.to(images.dtype))
        return down[0](down[1](samples, -1), -2)

    def _shown(self, inverse: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds `[N, 2]` of the positions (y, x) that are sampled, in pixels from the centre."""
        centre = inverse[:, :2, 2]
        reach = inverse[:, :2, :2].abs() @ torch.stack([self.x[-1], self.y[-1]]).to(inverse.dtype)
        return (centre - reach).flip(1), (centre + reach).flip(1)

    def _grid(self, inverse: Tensor) -> Tensor:
        """Sampling positions (x, y) `[N, 2H + 10, 2W + 10, 2]` on the rings, in [−1, 1]; 2 where nothing is to be seen."""
        coordinates = []
        for row, size in enumerate(self.resolution[::-1]):
            a, b, c = (inverse[:, row, k, None, None] for k in range(3))
            turns, beyond = _fold(self.x * a + (self.y[:, None] * b + c), size)
            coordinates.append((turns * 2 - 1).masked_fill(beyond, 2))
        return torch.stack(coordinates, dim=-1)

    def _grid_on(self, windows: Sequence[Window], inverse: Tensor) -> Tensor:
        """The same on windows, from −1 to 1 on each, x and y at once as complex numbers; nothing is folded."""
        per_pixel = [4 / (window.length - 1) for window in windows[::-1]]
        first = [(size - 1 - window.start) / 2 for size, window in zip(self.resolution[::-1], windows[::-1])]
        rows = inverse[:, :2].clone()
        rows[:, :, 2] += rows.new_tensor(first)
        rows *= rows.new_tensor(per_pixel)[:, None]
        rows[:, :, 2] -= 1
        a, b, c = torch.view_as_complex(rows.mT.contiguous())[:, :, None, None].unbind(1)
        return torch.view_as_real(self.x * a + (self.y[:, None] * b + c))

    def _around(self, grid: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
        """What `_grid_on` gives for whole rings, folded onto them; overwrites it."""
        size = grid.new_tensor(self.resolution[::-1])
        limit = 1.5 * size - 1
        far = (torch.maximum(-lowest, highest).flip(1) > limit).any(1).nonzero().flatten()
        beyond = (grid[far] + 0.5).abs() > limit / (size - 1)  # half a ring is 1, the image's centre −½
        grid -= 2 * (grid / 2).round_()
        return grid.index_copy_(0, far, grid[far].masked_fill_(beyond, 2)) if len(far) else grid


def _fold(pixels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Positions in pixels from the centre → in turns of the ring, [0, 1), and which of them nothing is to be seen at."""
    turns = pixels / (2 * (size - 1)) + 0.25
    return turns - turns.floor(), pixels.abs() > 1.5 * size - 1


def _in_parts(f: Callable[..., Tensor], some: int, *tensors: Tensor) -> Tensor:
    parts = [f(*part) for part in zip(*[tensor.split(some) for tensor in tensors])]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _window(size: int, lowest: float, highest: float) -> Window | None:
    """What holds the positions between two, in pixels from the centre; None if that is more than the ring, or they go beyond it."""
    start, end = math.floor(2 * lowest - 1e-3) + size - 1, math.ceil(2 * highest + 1e-3) + size - 1
    length = -(-(end - start + 1) // _LANES) * _LANES
    return None if length > 4 * size or max(-lowest, highest) > 1.5 * size - 1 else Window(start, length)


def _sample(image: Tensor, grid: Tensor) -> Tensor:
    # In a compiled region a custom Function inside `torch.func.grad` has no second derivative (PyTorch 2.13).
    return _grid_sample(image, grid) if torch.compiler.is_compiling() else _Sample.apply(image, grid)


def _grid_sample(image: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


class _Sample(torch.autograd.Function):
    """Bilinear sampling as a linear map of the image: its derivative is its adjoint, whose derivative it is in turn.

    `grid_sample` alone is twice differentiable in recent PyTorch only, and keeps the whole rings for a derivative that
    nobody asks for: the grid's.
    """

    forward = staticmethod(_grid_sample)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.size = inputs[0].shape

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Spread.apply(gradients[0], ctx.saved_tensors[0], ctx.size), None


class _Spread(torch.autograd.Function):
    """The adjoint of `_Sample`: adds every sample to the four pixels around its position."""

    @staticmethod
    def forward(samples: Tensor, grid: Tensor, size: torch.Size) -> Tensor:
        shape_only = samples.new_zeros(1).expand(size)
        return torch.ops.aten.grid_sampler_2d_backward(
            samples.contiguous(), shape_only, grid, 0, 0, True, [True, False]
        )[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, torch.Size], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _Sample.apply(gradients[0], ctx.saved_tensors[0]), None, None
