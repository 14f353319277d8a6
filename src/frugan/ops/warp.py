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
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.ops.linear import linear

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

_WORKSPACE, _WORKSPACE_CPU = 2**26, 2**20
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
    """The same on a CPU and its adjoint, where any window of the outputs can be had alone."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.size, inputs = len(matrix), matrix.shape[1]
        self.block = {axis: _BLOCK if inputs > limit else self.size for axis, limit in _DENSE_UP_TO_CPU.items()}
        self.matrix = torch.as_tensor(matrix, dtype=torch.float32)
        touched = matrix != 0
        self.first = touched.argmax(1).tolist()
        self.end = (inputs - touched[:, ::-1].argmax(1)).tolist()

    def __call__(
        self, x: Tensor, axis: int, start: int = 0, length: int | None = None, *, adjoint: bool = False
    ) -> Tensor:
        """`[N, C, H, W]` → `length` outputs from `start` on, along axis −2 or −1; adjoint: from these to the inputs."""
        length, block = length or self.size, self.block[axis]
        matrix = self.matrix.to(x.dtype)
        if length <= block:
            part = matrix[start : start + length].mT if adjoint else matrix[start : start + length]
            return part @ x if axis == -2 else x @ part.mT
        shape = list(x.shape)
        shape[axis] = matrix.shape[1] if adjoint else length
        blocks = range(start, start + length, block)
        x, y = x.contiguous(), x.new_zeros(shape) if adjoint else x.new_empty(shape)
        # Along rows this is one product, along columns one for each channel.
        sources, targets = (t.view(-1, t.shape[-1]) if axis == -1 else t.flatten(0, 1) for t in (x, y))
        for at in blocks:
            end = min(at + block, start + length)
            first, last = min(self.first[at:end]), max(self.end[at:end])
            part = matrix[at:end, first:last]
            outputs, inputs = (at - start, len(part)), (first, part.shape[1])
            source = sources.narrow(axis, *(outputs if adjoint else inputs))
            target = targets.narrow(axis, *(inputs if adjoint else outputs))
            if axis == -1:
                target.addmm_(source, part if adjoint else part.mT, beta=int(adjoint))
            else:
                part = part.expand(len(source), -1, -1)
                target.baddbmm_(part.mT if adjoint else part, source, beta=int(adjoint))
        return y


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
        self.places = [(np.arange(2 * size + 2 * _REACH) - (size - 1 + _REACH)) / 2 for size in resolution]
        self.y, self.x = (torch.as_tensor(places, dtype=torch.float32, device=device) for places in self.places)

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
        ring = 16 * self.resolution[0] * self.resolution[1] * images.shape[1]
        if images.device.type != "cpu" or torch.compiler.is_compiling():
            return _in_parts(self._warp, max(1, _WORKSPACE // ring), images, inverse)
        move, constants = self._plan(np.array(inverse.tolist()), images.dtype, max(1, _WORKSPACE_CPU // ring))
        return linear(images, move, partial(move, adjoint=True), *constants)

    def _warp(self, images: Tensor, inverse: Tensor) -> Tensor:
        """Every image by way of the whole rings."""
        rings, grid = self.up[1](self.up[0](images, -2), -1), self._grid(inverse).to(images.dtype)
        samples = linear(rings, _bilinear, partial(_spread, size=rings.shape), grid)
        return self.down[0](self.down[1](samples, -1), -2)

    def _grid(self, inverse: Tensor) -> Tensor:
        """Sampling positions (x, y) `[N, 2H + 10, 2W + 10, 2]` on the rings, in [−1, 1]; 2 where nothing is to be seen."""
        coordinates = []
        for row, size in enumerate(self.resolution[::-1]):
            a, b, c = (inverse[:, row, k, None, None] for k in range(3))
            turns, beyond = _fold(self.x * a + (self.y[:, None] * b + c), size)
            coordinates.append((turns * 2 - 1).masked_fill(beyond, 2))
        return torch.stack(coordinates, dim=-1)

    def _plan(self, inverse: np.ndarray, dtype: torch.dtype, some: int) -> tuple[Callable[..., Tensor], list[Tensor]]:
        """`_move` for these matrices, so many turned images at once, and the tensors that it needs."""
        turns, moves = (inverse[:, (0, 1), (1, 0)] != 0).any(1), (inverse != np.eye(3)).any((1, 2))
        quarter = (inverse[:, (0, 1), (0, 1)] == 0).all(1)
        if self.resolution[0] != self.resolution[1]:
            quarter[:] = False
        if swaps := quarter.any():  # after a transposition, their rows are rows again
            inverse, turns = np.where(quarter[:, None, None], inverse[:, (1, 0, 2)], inverse), turns & ~quarter
        upright, turned = np.flatnonzero(moves & ~turns), np.flatnonzero(turns)
        quarter = quarter[upright if swaps else upright[:0], None, None, None]
        views = [self._view(inverse[turned[i : i + some]], dtype) for i in range(0, len(turned), some)]
        along = [matrices.to(dtype) for matrices in self._along(inverse[upright])]
        which = [torch.from_numpy(t) for t in (upright, quarter, turned)]
        move = partial(self._move, windows=[windows for windows, _ in views])
        return move, [*which, *along, *(grid for _, grid in views)]

    def _move(
        self,
        images: Tensor,
        upright: Tensor,
        quarter: Tensor,
        turned: Tensor,
        along_h: Tensor,
        along_w: Tensor,
        *grids: Tensor,
        windows: Sequence[tuple[Window, Window]],
        adjoint: bool = False,
    ) -> Tensor:
        """Warps the `upright` images, `quarter` of these transposed, by matrices, and the `turned` ones by sampling."""
        out = images.clone()
        if len(upright):
            some = images.index_select(0, upright)
            if len(quarter) and not adjoint:
                some = torch.where(quarter, some.mT, some)
            left, right = (along_h.mT, along_w) if adjoint else (along_h, along_w.mT)
            some = left @ torch.bmm(some.flatten(1, 2), right).view_as(some)
            if len(quarter) and adjoint:
                some = torch.where(quarter, some.mT, some)
            out.index_copy_(0, upright, some)
        for which, seen, grid in zip(turned.split([len(grid) for grid in grids]), windows, grids):
            out.index_copy_(0, which, self._resample(images.index_select(0, which), seen, grid, adjoint=adjoint))
        return out

    def _along(self, inverse: np.ndarray) -> tuple[Tensor, Tensor]:
        """Where rows stay rows, all of it is a matrix along each axis, `[N, 1, H, H]` and `[N, W, W]`: nothing to sample."""
        y, x = inverse[:, 1, 1:], inverse[:, 0, ::2]
        if self.resolution[0] == self.resolution[1]:
            along_h, along_w = self._along_axis(np.concatenate([y, x]), 0).chunk(2)
        else:
            along_h, along_w = self._along_axis(y, 0), self._along_axis(x, 1)
        return along_h, along_w[:, 0]

    def _along_axis(self, line: np.ndarray, axis: int) -> Tensor:
        """(a, b) `[N, 2]` → up-sampling, sampling at a·position + b, and down-sampling along an axis (0: y)."""
        up, down = (maps[axis] for maps in self.windowed)
        size, pixels = self.resolution[axis], self.places[axis] * line[:, :1] + line[:, 1:]
        turns, beyond = _fold(torch.from_numpy(pixels).float(), size)
        place = turns * (4 * (size - 1))
        before = place.long().clamp_max(4 * (size - 1) - 1)
        samples = torch.lerp(up.matrix[before], up.matrix[before + 1], (place - before)[..., None])
        if beyond.any():
            samples.masked_fill_(beyond[..., None], 0)
        return down(samples[:, None], -2)

    def _view(self, inverse: np.ndarray, dtype: torch.dtype) -> tuple[tuple[Window, Window], Tensor]:
        """Which windows of the rings (along y, x) these matrices show, and the positions on them as `_grid` gives them."""
        centre = inverse[:, 1::-1, 2]
        reach = np.abs(inverse[:, 1::-1, 1::-1]) @ ((np.array(self.resolution) + _REACH) / 2)
        lowest, highest = centre - reach, centre + reach
        limits = zip(self.resolution, lowest.min(0).tolist(), highest.max(0).tolist())
        windows = [window for limit in limits if (window := _window(*limit))]
        whole = len(windows) < 2
        if whole:
            windows = [Window(0, 4 * size - 3) for size in self.resolution]
        y, x = windows

        # −1 to 1 on each window, x and y at once as complex numbers
        rows, size = inverse[:, :2].copy(), np.array(self.resolution[::-1])
        rows[:, :, 2] += (size - 1 - (x.start, y.start)) / 2
        rows *= 4 / (np.array([[x.length], [y.length]]) - 1)
        rows[:, :, 2] -= 1
        a, b, c = torch.view_as_complex(torch.from_numpy(rows).to(dtype).mT.contiguous())[:, :, None, None].unbind(1)
        grid = torch.view_as_real(self.x * a + (self.y[:, None] * b + c))
        if whole:
            limit = 1.5 * size - 1
            far = np.flatnonzero((np.maximum(-lowest, highest)[:, ::-1] > limit).any(1))
            beyond = (grid[far] + 0.5).abs() > torch.from_numpy(limit / (size - 1)).to(
                dtype
            )  # half a ring is 1, the image's centre −½
            grid.sub_((grid / 2).round_(), alpha=2)
            grid[far] = grid[far].masked_fill_(beyond, 2)
        return (y, x), grid

    def _resample(self, images: Tensor, windows: tuple[Window, Window], grid: Tensor, *, adjoint: bool) -> Tensor:
        """On windows of the rings, (along y, x)."""
        up, down = self.windowed
        parts = [(window.start % (4 * size - 4), window.length) for window, size in zip(windows, self.resolution)]
        if adjoint:
            samples = down[1](down[0](images, -2, adjoint=True), -1, adjoint=True)
            rings = _spread(samples, grid, torch.Size((*images.shape[:2], *(window.length for window in windows))))
            return up[0](up[1](rings, -1, *parts[1], adjoint=True), -2, *parts[0], adjoint=True)
        samples = _bilinear(up[1](up[0](images, -2, *parts[0]), -1, *parts[1]), grid)
        return down[0](down[1](samples, -1), -2)


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


def _bilinear(image: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def _spread(samples: Tensor, grid: Tensor, size: torch.Size) -> Tensor:
    """The adjoint: adds every sample to the four pixels around its position.

    `grid_sample` alone is twice differentiable in recent PyTorch only, and keeps the whole rings for a derivative that
    nobody asks for: the grid's.
    """
    shape_only = samples.new_zeros(1).expand(size)
    backward = torch.ops.aten.grid_sampler_2d_backward
    return backward(samples.contiguous(), shape_only, grid, 0, 0, True, [True, False])[0]
