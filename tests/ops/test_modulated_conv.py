"""Modulated convolution: its normalisation and the derivatives of that."""

from __future__ import annotations

import torch

from frugan.ops.conv import image_gradients
from frugan.ops.modulated_conv import demodulated_conv2d


def inputs(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 5, 6, dtype=dtype)
    return (
        x,
        torch.randn(2, 4, 3, 3, dtype=dtype, requires_grad=True),
        torch.randn(3, 4, dtype=dtype, requires_grad=True),
    )


def scale(weight: torch.Tensor, styles: torch.Tensor) -> torch.Tensor:
    return demodulated_conv2d(inputs()[0], weight, styles, gain=1.3)[1]


def test_weights_of_each_output_have_the_norm_of_the_gain() -> None:
    _, weight, styles = inputs()
    modulated = styles[:, None, :, None, None] * weight * scale(weight, styles)[:, :, None, None, None]
    torch.testing.assert_close(modulated.flatten(2).norm(dim=2), torch.full((3, 2), 1.3, dtype=torch.float64))


def test_first_and_second_derivatives() -> None:
    _, weight, styles = inputs()
    assert torch.autograd.gradcheck(scale, (weight, styles))
    assert torch.autograd.gradgradcheck(scale, (weight, styles))


def test_gradients_of_weights_are_left_out_where_only_images_count() -> None:
    """In `image_gradients`, as those of convolutions are; the gradient by styles has its own gradient by weights."""
    _, weight, styles = inputs()
    with image_gradients():
        d = scale(weight, styles)
        by_styles, by_weight = torch.autograd.grad(d.sum(), (styles, weight), create_graph=True, allow_unused=True)
        assert by_weight is None
    torch.testing.assert_close(by_styles, torch.autograd.grad(scale(weight, styles).sum(), styles)[0])
    assert torch.autograd.grad(by_styles.sum(), weight)[0].abs().min() > 0


def test_transforms_of_functions() -> None:
    _, weight, styles = inputs()
    found = torch.func.grad(lambda s: scale(weight, s).sum())(styles.detach())
    torch.testing.assert_close(found, torch.autograd.grad(scale(weight, styles).sum(), styles)[0])
