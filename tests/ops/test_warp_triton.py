"""The warp's kernels for GPUs against matrices and positions in float64: on a GPU, or on the CPU in Triton's interpreter where
Triton is installed; and what surrounds them with PyTorch's operations in their place.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from frugan.ops import warp, warp_triton
from frugan.ops.periodic import downsampling_matrix, folding, upsampling_matrix
from frugan.ops.tiling import TILES, Tile
from frugan.ops.warp import AffineWarp, AxisMap

from .conftest import affine, images

KINDS = ("reflected", "repeated", "down")
SMALL = list(product(KINDS, ((1, 1, 2, 3), (1, 2, 5, 4), (2, 1, 9, 6), (1, 1, 7, 18))))
LARGE = [
    ("reflected", (3, 3, 256, 256)),
    ("down", (3, 3, 256, 256)),
    ("repeated", (2, 8, 33, 20)),
    ("down", (1, 2, 20, 130)),
    ("repeated", (2, 1, 16, 255)),
    ("reflected", (1, 1, 1023, 1023)),
]
"""Few, since each takes four kernels of its own, and a kernel a second to compile."""

MATRICES = torch.cat([affine(1, angle=0.7, zoom=1.2, shift=(1.3, -0.6)), affine(1, zoom=3), affine(1, shift=(9, -20))])


def matrix(kind: str, size: int) -> np.ndarray:
    return downsampling_matrix(size) if kind == "down" else upsampling_matrix(size, repeats=kind == "repeated")


def close(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.cpu().double(), expected, rtol=0, atol=2e-6 * float(expected.abs().max()))


def check(cases: list[tuple[str, tuple[int, ...]]], device: torch.device) -> None:
    """Maps along both axes and their first and second derivatives, which repeat bit for bit."""
    for (kind, shape), axis in product(cases, (-1, -2)):
        whole = matrix(kind, shape[axis])
        mapped, dense = AxisMap(whole, device), torch.from_numpy(whole)
        x = images(*shape[:axis], dense.shape[1], *(shape[3:] if axis == -2 else ())).double()
        x = x.contiguous(memory_format=torch.channels_last).requires_grad_()

        def found(x: Tensor, mapped: AxisMap = mapped, axis: int = axis) -> tuple[Tensor, ...]:
            y = mapped(x, axis)
            return y, *derivatives(y, x)

        expected = dense @ x if axis == -2 else x @ dense.mT
        given = x.detach().float().to(device).requires_grad_()
        first, again = found(given), found(given)
        assert all(torch.equal(*pair) for pair in zip(first, again))
        for one, other in zip(first, (expected, *derivatives(expected, x)), strict=True):
            close(one.detach(), other.detach())


def derivatives(y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Of the sum of y·u, for another u at each output, and of the sum of that derivative's cubes by u."""
    up = images(*y.shape).to(y).flip(0, 2).requires_grad_()
    (once,) = torch.autograd.grad(y, x, up, create_graph=True)
    return once, torch.autograd.grad(once.pow(3).sum(), up)[0]


def check_positions(sizes: list[tuple[int, int]], device: torch.device) -> None:
    """Apart by whole periods at most, as rounding may fall on either side of one."""
    for size, tile in product(sizes, TILES):
        of_size = AffineWarp(size, tile=tile)
        expected = of_size._grid(MATRICES.double())
        axes = [folding(side, repeats=repeats) for side, repeats in zip(size, of_size.repeats)]
        found = warp_triton.positions(MATRICES.to(device), (len(of_size.y), len(of_size.x)), axes).cpu().double()
        assert found.shape == expected.shape
        assert torch.equal(found == 2, expected == 2)
        assert float(found[found != 2].abs().max()) <= 1
        apart = (found - expected).abs()
        assert float(torch.minimum(apart, 2 - apart).abs().max()) < 2e-6


def check_warps(cases: list[tuple[int, tuple[int, int], Tile]], device: torch.device) -> None:
    """Whole warps and their gradients, against float64 on the CPU. Warps repeat bit for bit, but not their gradients."""
    for n, size, tile in cases:
        inverse, x = MATRICES[:n], images(n, 1, *size).requires_grad_()
        expected = AffineWarp(size, tile=tile).whole(x.double(), inverse.double())
        given = x.detach().to(device).requires_grad_()
        of_size, inverse = AffineWarp(size, device, tile=tile), inverse.to(device)
        found = of_size.in_parts(given, inverse)
        assert torch.equal(found, of_size.in_parts(given, inverse))
        ups = images(n, 1, *size).flip(2)
        gradients = (
            torch.autograd.grad(expected, x, ups.double())[0],
            torch.autograd.grad(found, given, ups.to(device))[0],
        )
        torch.testing.assert_close(found.cpu().double(), expected, rtol=0, atol=2e-6 * max(size))
        torch.testing.assert_close(gradients[1].cpu(), gradients[0], rtol=0, atol=4e-6 * max(size))


def by_gathering(x: Tensor, columns: Tensor, weights: Tensor, axis: int) -> Tensor:
    """`warp_triton.mapped` by PyTorch's operations."""
    if axis == -2:
        return by_gathering(x.mT, columns, weights, -1).mT.contiguous()
    return sum((x[..., column.long()] * weight for column, weight in zip(columns, weights)), torch.zeros(()))


@pytest.fixture
def on_a_gpu_without_one(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The warp as on a GPU, with PyTorch's operations in place of the kernel of maps; the calls of that."""
    calls: list[Any] = []
    monkeypatch.setattr(warp, "_in_kernels", lambda _: True)
    monkeypatch.setattr(
        warp_triton, "mapped", lambda *args, **more: (calls.append(more["axis"]), by_gathering(*args, **more))[1]
    )
    monkeypatch.setattr(
        warp_triton, "positions", lambda inverse, size, _: AffineWarp(tuple(s // 2 - 5 for s in size))._grid(inverse)
    )
    return calls


@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_differentiable_any_number_of_times(kind: str, axis: int, on_a_gpu_without_one: list[Any]) -> None:
    """By gathering of both matrices' entries, without PyTorch's own derivative of that."""
    whole = matrix(kind, 6)
    x = images(1, 2, *((whole.shape[1], 3) if axis == -2 else (3, whole.shape[1]))).double().requires_grad_()
    mapped = AxisMap(whole)
    torch.testing.assert_close(
        mapped(x, axis),
        (torch.from_numpy(whole) @ x) if axis == -2 else x @ torch.from_numpy(whole).mT,
        atol=1e-6,
        rtol=0,
    )
    on_a_gpu_without_one.clear()
    (gradient,) = torch.autograd.grad(mapped(x, axis).square().sum(), x, create_graph=True)
    torch.autograd.grad(gradient.square().sum(), x)
    assert on_a_gpu_without_one == [axis] * 4
    assert torch.autograd.gradcheck(lambda x: mapped(x, axis), x)
    assert torch.autograd.gradgradcheck(lambda x: mapped(x, axis).square(), x)


def test_a_warp_with_the_kernels_equals_that_without(
    on_a_gpu_without_one: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warp, "_in_kernels", lambda x: x.dtype == torch.float32)
    check_warps([(3, (8, 8), "none"), (3, (12, 9), "none")], torch.device("cpu"))
    assert on_a_gpu_without_one == ([-2, -1, -1, -2] * 3) * 2


def test_kernels_on_a_gpu(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("needs --device cuda")
    assert warp_triton.usable(torch.device("cuda", 0))
    check(LARGE, device)


def test_positions_and_warps_on_a_gpu(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("needs --device cuda")
    check_positions([(4, 4), (5, 9), (64, 48), (256, 256)], device)
    check_warps(
        [(3, (33, 20), "none"), (3, (33, 20), "xy"), (3, (256, 256), "none"), (1, (1023, 1023), "none")], device
    )


def test_a_captured_warp_replays(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("needs --device cuda")
    of_size, x, inverse = AffineWarp((33, 20), device), images(3, 2, 33, 20, device=device), MATRICES.to(device)
    expected = of_size(-x, inverse.roll(1, 0))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = of_size(x, inverse)
    x.neg_()
    inverse.copy_(inverse.roll(1, 0))
    graph.replay()
    assert torch.equal(found, expected)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_kernels_in_the_interpreter() -> None:
    """In a process of its own: Triton decides at import whether it interprets."""
    code = """
from tests.ops.test_warp_triton import *
warp._in_kernels = lambda _: True
cpu = torch.device("cpu")
assert warp_triton._is_right(cpu)
check(SMALL, cpu)
check_positions([(4, 5), (9, 20)], cpu)
"""
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=Path(__file__).parents[2])
