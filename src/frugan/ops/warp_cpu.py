"""The affine warp on a CPU, each image by the cheapest method that its matrix allows.

Values of matrices can be read there without waiting for a device. An image under the identity is copied. Where rows remain
rows (scaling, translation, and rotation by 90° after a transposition), upsampling, sampling and downsampling combine to
one matrix along each axis. For other images a window of the upsampled extension is computed, that which the output shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from frugan.ops.linear import linear, linear_operator
from frugan.ops.periodic import bilinear, downsampling_matrix, fold, period, sample_places, spread, upsampling_matrix
from frugan.ops.tiling import TILES, Tile, tiles_along

_DENSE_UP_TO, _BLOCK = {-2: 160, -1: 48}, 32
"""By axis, most inputs with which a matrix is multiplied whole; larger ones are multiplied in blocks of so many outputs."""

_WORKSPACE = 2**20
"""Samples of upsampled extensions that are held at once; a larger batch is sampled in parts, each with windows of its own."""

_LANES = 16
"""The length of a window is a multiple of so many samples."""


class WindowMap:
    """A fixed linear map along an axis of `[N, C, H, W]` of which any range of outputs can be computed, and its adjoint.

    Args:
        matrix: `[outputs, inputs]`, banded.
    """

    def __init__(self, matrix: np.ndarray) -> None:
        self.size, self.inputs = len(matrix), matrix.shape[1]
        self.matrix = torch.as_tensor(matrix, dtype=torch.float32)
        touched = matrix != 0
        self.first = touched.argmax(1).tolist()
        self.end = (self.inputs - touched[:, ::-1].argmax(1)).tolist()

    def __call__(
        self, x: Tensor, axis: int, start: int = 0, length: int | None = None, *, adjoint: bool = False
    ) -> Tensor:
        """A range of the map's outputs, or the adjoint of that.

        Args:
            x: `[N, C, H, W]`: the inputs or, for the adjoint, the gradients of the range of outputs.
            axis: −2 or −1.
            start, length: the range of outputs; all of them by default.
            adjoint: whether to map outputs back to inputs.
        """
        length = length or self.size
        block = _BLOCK if self.inputs > _DENSE_UP_TO[axis] else self.size
        matrix = self.matrix.to(x.dtype)
        if length <= block:
            part = matrix[start : start + length].mT if adjoint else matrix[start : start + length]
            return part @ x if axis == -2 else x @ part.mT
        shape = list(x.shape)
        shape[axis] = self.inputs if adjoint else length
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
    """A range of an upsampled, infinitely extended axis: `length` samples from `start` on. Sample 0 lies on the first pixel."""

    start: int
    length: int


def _window(size: int, repeats: bool, lowest: float, highest: float) -> Window | None:
    """The range of the upsampled extension in which an axis is sampled.

    Args:
        size: pixels of the axis.
        repeats: whether it is extended periodically instead of by reflection.
        lowest, highest: the first and the last position sampled, in pixels from the centre.

    Returns:
        The window; None where it would be longer than a period, or where positions lie beyond the extension.
    """
    start, end = math.floor(2 * lowest - 1e-3) + size - 1, math.ceil(2 * highest + 1e-3) + size - 1
    length = -(-(end - start + 1) // _LANES) * _LANES
    beyond = not repeats and max(-lowest, highest) > 1.5 * size - 1
    return None if length > 4 * size or beyond else Window(start, length)


class CheapestWarp:
    """`AffineWarp` for images of one size on a CPU."""

    def __init__(self, resolution: tuple[int, int], tile: Tile = "none") -> None:
        self.resolution, self.repeats = resolution, tiles_along(tile)
        axes = list(zip(resolution, self.repeats))
        self.periods = [period(size, repeats=repeats) for size, repeats in axes]
        self.up = []
        for (size, repeats), length in zip(axes, self.periods):
            rows = np.arange(8 * size) % length  # two periods or more: every window is a range of these
            self.up.append(WindowMap(upsampling_matrix(size, repeats=repeats)[rows]))
        self.down = [WindowMap(downsampling_matrix(size)) for size in resolution]
        self.places = [sample_places(size) for size in resolution]
        self.y, self.x = (torch.as_tensor(places, dtype=torch.float32) for places in self.places)

    def __call__(self, images: Tensor, inverse: Tensor) -> Tensor:
        move, constants = self.plan(images, inverse)
        return linear(images, move, partial(move, adjoint=True), *constants)

    @property
    def _alike(self) -> bool:
        """Whether both axes have the same size and the same extension, so that one matrix serves both."""
        return self.resolution[0] == self.resolution[1] and self.repeats[0] == self.repeats[1]

    def plan(self, images: Tensor, matrices: Tensor) -> tuple[Callable[..., Tensor], list[Tensor]]:
        """`_move` for these matrices and images like these, and the tensors that it needs.

        Args:
            images: `[N, C, H, W]`, of which only dtype and size matter.
            matrices: `[N, 3, 3]`, as in `AffineWarp`.
        """
        dtype, at_once = images.dtype, max(1, _WORKSPACE // (16 * images.shape[1:].numel()))
        inverse = np.array(matrices.tolist())
        moves = (inverse != np.eye(3)).any((1, 2))
        turns = (inverse[:, (0, 1), (1, 0)] != 0).any(1)  # x depends on y, or y on x: rows do not remain rows
        quarter = (inverse[:, (0, 1), (0, 1)] == 0).all(1) & self._alike  # x depends on y alone, and y on x
        any_quarter = bool(quarter.any())
        if any_quarter:  # the rows of a transposed image remain rows
            inverse = np.where(quarter[:, None, None], inverse[:, (1, 0, 2)], inverse)
            turns &= ~quarter
        upright, turned = np.flatnonzero(moves & ~turns), np.flatnonzero(turns)
        transposed = quarter[upright] if any_quarter else quarter[:0]
        views = [self._view(inverse[turned[i : i + at_once]], dtype) for i in range(0, len(turned), at_once)]
        along = [matrix.to(dtype) for matrix in self._along(inverse[upright])]
        which = [torch.from_numpy(t) for t in (upright, transposed[:, None, None, None], turned)]
        move = partial(self._move, windows=[windows for windows, _ in views])
        return move, [*which, *along, *(grid for _, grid in views)]

    def _move(
        self,
        images: Tensor,
        upright: Tensor,
        transposed: Tensor,
        turned: Tensor,
        along_h: Tensor,
        along_w: Tensor,
        *grids: Tensor,
        windows: Sequence[tuple[Window, Window]],
        adjoint: bool = False,
    ) -> Tensor:
        """Warps images; those that are neither `upright` nor `turned` are copied.

        Args:
            images: `[N, C, H, W]`.
            upright: int64 `[n]`, numbers of the images that are warped by a matrix along each axis.
            transposed: bool `[n, 1, 1, 1]`, those among them that are transposed first; empty where none is.
            turned: int64 `[m]`, numbers of the images that are warped by sampling.
            along_h, along_w: the matrices of the upright images, see `_along`.
            grids: sampling positions of the turned images, see `_view`.
            windows: for each grid, the ranges of the upsampled extension (along y, x) that it samples.
            adjoint: whether the adjoint is computed.
        """
        out = images.clone()
        if len(upright):
            some = images.index_select(0, upright)
            if len(transposed) and not adjoint:
                some = torch.where(transposed, some.mT, some)
            left, right = (along_h.mT, along_w) if adjoint else (along_h, along_w.mT)
            some = left @ torch.bmm(some.flatten(1, 2), right).view_as(some)
            if len(transposed) and adjoint:
                some = torch.where(transposed, some.mT, some)
            out.index_copy_(0, upright, some)
        for which, seen, grid in zip(turned.split([len(grid) for grid in grids]), windows, grids):
            out.index_copy_(0, which, self._resample(images.index_select(0, which), seen, grid, adjoint=adjoint))
        return out

    def _along(self, inverse: np.ndarray) -> tuple[Tensor, Tensor]:
        """The warps of matrices under which rows remain rows, as a matrix along each axis: `[N, 1, H, H]` and `[N, W, W]`."""
        y, x = inverse[:, 1, 1:], inverse[:, 0, ::2]
        if self._alike:
            along_h, along_w = self._along_axis(np.concatenate([y, x]), 0).chunk(2)
        else:
            along_h, along_w = self._along_axis(y, 0), self._along_axis(x, 1)
        return along_h, along_w[:, 0]

    def _along_axis(self, line: np.ndarray, axis: int) -> Tensor:
        """(a, b) `[N, 2]` → up-sampling, sampling at a·position + b, and down-sampling along an axis (0: y)."""
        up, length = self.up[axis].matrix, self.periods[axis]
        pixels = self.places[axis] * line[:, :1] + line[:, 1:]
        turns, beyond = fold(torch.from_numpy(pixels).float(), self.resolution[axis], repeats=self.repeats[axis])
        place = turns * length
        before = place.long().clamp_max(length - 1)
        samples = torch.lerp(up[before], up[before + 1], (place - before)[..., None])
        if beyond.any():
            samples.masked_fill_(beyond[..., None], 0)
        return self.down[axis](samples[:, None], -2)

    def _view(self, inverse: np.ndarray, dtype: torch.dtype) -> tuple[tuple[Window, Window], Tensor]:
        """The ranges of the upsampled extension (along y, x) that these matrices show, and sampling positions within
        them, in [−1, 1].
        """
        # The positions a·x + b·y + c along (y, x): from c − reach to c + reach, as the places lie around 0.
        centre = inverse[:, 1::-1, 2]
        reach = np.abs(inverse[:, 1::-1, 1::-1]) @ [places[-1] for places in self.places]
        lowest, highest = centre - reach, centre + reach
        limits = zip(self.resolution, self.repeats, lowest.min(0).tolist(), highest.max(0).tolist())
        windows = [window for limit in limits if (window := _window(*limit))]
        whole = len(windows) < 2
        if whole:
            windows = [Window(0, length + 1) for length in self.periods]
        y, x = windows

        # Positions are scaled to [−1, 1] on each window. Both coordinates are computed at once, x as the real and y as the
        # imaginary part, in half as many passes over memory.
        rows, size = inverse[:, :2].copy(), np.array(self.resolution[::-1])
        rows[:, :, 2] += (size - 1 - (x.start, y.start)) / 2
        rows *= 4 / (np.array([[x.length], [y.length]]) - 1)
        rows[:, :, 2] -= 1
        a, b, c = torch.view_as_complex(torch.from_numpy(rows).to(dtype).mT.contiguous())[:, :, None, None].unbind(1)
        grid = torch.view_as_real(self.x * a + (self.y[:, None] * b + c))
        if whole:
            limit = np.where(self.repeats[::-1], np.inf, 1.5 * size - 1)
            far = np.flatnonzero((np.maximum(-lowest, highest)[:, ::-1] > limit).any(1))
            limit = torch.from_numpy(limit / (size - 1)).to(
                dtype
            )  # half a period has length 1, and the centre lies at −½
            beyond = (grid[far] + 0.5).abs() > limit
            grid.sub_((grid / 2).round_(), alpha=2)  # modulo the period, into [−1, 1]
            grid[far] = grid[far].masked_fill_(beyond, 2)
        return (y, x), grid

    def _resample(self, images: Tensor, windows: tuple[Window, Window], grid: Tensor, *, adjoint: bool) -> Tensor:
        """The images sampled at `grid` within `windows` (along y, x) of their upsampled extension; or the adjoint of that."""
        up, down = self.up, self.down
        parts = [(window.start % length, window.length) for window, length in zip(windows, self.periods)]
        if adjoint:
            samples = down[1](down[0](images, -2, adjoint=True), -1, adjoint=True)
            extended = spread(samples, grid, (windows[0].length, windows[1].length))
            return up[0](up[1](extended, -1, *parts[1], adjoint=True), -2, *parts[0], adjoint=True)
        samples = bilinear(up[1](up[0](images, -2, *parts[0]), -1, *parts[1]), grid)
        return down[0](down[1](samples, -1), -2)


_of_size = cache(CheapestWarp)


def warp(images: Tensor, inverse: Tensor, tile: Tile = "none") -> Tensor:
    """`AffineWarp` on a CPU: the arguments of its call, and `tile` as there.

    Compiled code calls it as an opaque operator, since the method depends on the matrices' values.
    """
    height, width = images.shape[2:]
    if torch.compiler.is_compiling():
        return _warp(images, inverse, height, width, TILES.index(tile), False)
    return _of_size((height, width), tile)(images, inverse)


def _warped(images: Tensor, inverse: Tensor, height: int, width: int, tile: int, adjoint: bool) -> Tensor:
    move, constants = _of_size((height, width), TILES[tile]).plan(images, inverse)
    return move(images, *constants, adjoint=adjoint)


_warp = linear_operator("warp", _warped, lambda images, *_: torch.empty_like(images))
