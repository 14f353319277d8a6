"""The shapes that signatures state hold at run time, and are checked while tests run."""

from __future__ import annotations

import inspect

import pytest
import torch

from frugan.losses import LOSSES, lecam_penalty, penalties
from frugan.networks import Mapping, MappingConfig
from frugan.ops import conv, fir, modulated_conv
from frugan.ops.conv import conv2d
from tests import shapes

pytestmark = pytest.mark.skipif(not shapes.AVAILABLE, reason="needs jaxtyping and beartype")


@pytest.mark.parametrize("module", [conv, fir, modulated_conv, penalties])
def test_every_function_of_image_tensors_is_checked(module: object) -> None:
    """But the most general ones: those take filters of any rank, or a callable alone."""
    general = {"upfirdn", "normalized_filter", "input_gradient"}
    for name, f in inspect.getmembers(module, inspect.isfunction):
        if f.__module__ == module.__name__ and not name.startswith("_") and "Tensor" in str(f.__annotations__):  # pyright: ignore[reportAttributeAccessIssue]
            assert (f"{f.__module__}.{name}" in shapes.CHECKED) != (name in general), name


def test_wrong_shapes_are_refused() -> None:
    x = torch.zeros(2, 3, 8, 8)
    conv2d(x, torch.zeros(4, 3, 3, 3), padding=1)
    wrong = [
        lambda: conv2d(x[0], torch.zeros(4, 3, 3, 3)),
        lambda: lecam_penalty(torch.zeros(4), torch.zeros(5), torch.zeros(2)),
        lambda: LOSSES["hinge"].discriminator(torch.zeros(4, 1), torch.zeros(4, 1)),
        lambda: Mapping(4, 0, 4, 2, MappingConfig())(torch.zeros(4)),
    ]
    for call in wrong:
        with pytest.raises(TypeError):
            call()


def test_a_wrong_result_is_refused() -> None:
    def half(x: object) -> object:
        return x[:1]  # pyright: ignore[reportIndexIssue]

    half.__annotations__ = {"x": 'Float[Tensor, "N C"]', "return": 'Float[Tensor, "N C"]'}
    with pytest.raises(TypeError):
        shapes._checked(half)(torch.zeros(2, 3))  # pyright: ignore[reportArgumentType]


def test_a_result_that_is_another_for_the_same_arguments_is_looked_at() -> None:
    sizes = iter([2, 2, 1])

    def first(x: object) -> object:
        return x[: next(sizes)]  # pyright: ignore[reportIndexIssue]

    first.__annotations__ = {"x": 'Float[Tensor, "N C"]', "return": 'Float[Tensor, "N C"]'}
    checked = shapes._checked(first)  # pyright: ignore[reportArgumentType]
    for _ in range(2):
        assert checked(torch.zeros(2, 3)).shape == (2, 3)
    with pytest.raises(TypeError):
        checked(torch.zeros(2, 3))


def test_numbers_that_a_shape_depends_on_are_looked_at() -> None:
    x = torch.zeros(1, 2, 4, 4)
    taps = fir.normalized_filter((1, 3, 3, 1))
    for factor in (2, 4, 2):
        assert fir.upsample(x, taps, factor=factor).shape == (1, 2, 4 * factor, 4 * factor)
