"""Perceptual path length of generators whose path length is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from frugan.errors import FruganError
from frugan.metrics import perceptual_path_length, trimmed_mean
from frugan.metrics.path_length import slerp


class Linear:
    """w = A z (z on the unit sphere), image = w: path lengths are known."""

    z_dim, label_size = 6, 0

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def mapping(self, z: Tensor, c: Tensor | None) -> Tensor:
        return self.scale * z

    def synthesis(self, ws: Tensor, *, noise: str, generator: torch.Generator) -> Tensor:
        return ws[:, :, None, None]


def squared(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).double().square().sum(dim=(1, 2, 3))


def test_straight_paths_in_w_have_the_length_of_their_ends() -> None:
    """d = ε² ‖w₁ − w₀‖² wherever on the path; for Gaussian latents E ‖w₁ − w₀‖² = 2 D."""
    for sampling in ("full", "end"):
        values = perceptual_path_length(Linear(), squared, range(2000), space="w", sampling=sampling, epsilon=1e-2)
        assert values.mean() == pytest.approx(12, rel=0.05)


def test_full_paths_are_looked_at_anywhere_and_ends_at_their_beginning() -> None:
    """Where ‖w‖² is measured along a straight path between Gaussians: 1 − 2 t (1 − t) of its ends', ⅔ on average."""
    sizes = {}
    for sampling in ("full", "end"):
        seen: list[Tensor] = []
        perceptual_path_length(
            Linear(), lambda a, b, seen=seen: seen.append(a) or squared(a, b), range(2000), sampling=sampling
        )
        sizes[sampling] = float(torch.cat(seen).square().sum(1).mean())
    assert sizes["end"] == pytest.approx(6, rel=0.05)
    assert sizes["full"] == pytest.approx(4, rel=0.05)


def test_great_circles_in_z_have_the_length_of_their_angle() -> None:
    values = perceptual_path_length(Linear(3.0), squared, range(500), space="z", sampling="full", epsilon=1e-2)
    shorter = perceptual_path_length(Linear(1.0), squared, range(500), space="z", sampling="full", epsilon=1e-2)
    np.testing.assert_allclose(values, 9 * shorter, rtol=1e-3)
    angle = np.pi / 2  # on average, between two directions; E angle² is a little more
    assert np.mean(shorter) == pytest.approx(angle**2, rel=0.15)


def test_each_path_follows_from_its_number() -> None:
    options: dict[str, Any] = {"space": "w", "sampling": "full"}
    whole = perceptual_path_length(Linear(), squared, range(20), batch=7, **options)
    part = perceptual_path_length(Linear(), squared, range(5, 20), batch=64, **options)
    np.testing.assert_allclose(part, whole[5:], rtol=1e-3)
    assert not np.allclose(whole, perceptual_path_length(Linear(), squared, range(20), seed=1, **options))


def test_slerp() -> None:
    a, b = torch.tensor([[2.0, 0, 0]]).double(), torch.tensor([[0, 5.0, 0]]).double()
    torch.testing.assert_close(slerp(a, b, torch.tensor([0.0]).double()), a / 2)
    torch.testing.assert_close(slerp(a, b, torch.tensor([1.0]).double()), b / 5)
    half = slerp(a, b, torch.tensor([0.5]).double())
    torch.testing.assert_close(half, (a / 2 + b / 5) / 2**0.5)


def test_the_outermost_hundredths_do_not_count() -> None:
    values = np.concatenate([np.full(98, 2.0), [1e9, -1e9]])
    assert trimmed_mean(values) == 2
    with pytest.raises(FruganError, match="finite"):
        trimmed_mean(np.array([1.0, np.inf]))
