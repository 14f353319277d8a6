"""What every augmentation promises (`frugan.losses.Augmentation`), alone and in a chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from frugan.augment import Augmentation, AugmentConfig, AugmentPipeline, Chain, CircularShift, DiffAugment
from frugan.augment.transforms import TRANSFORMS
from frugan.losses import Drawn

SIZE = (12, 16)
MADE: dict[str, Callable[[], Augmentation]] = {
    "pipeline": lambda: AugmentPipeline(AugmentConfig(tuple(TRANSFORMS)), channels=3, resolution=SIZE),
    "diffaugment": lambda: DiffAugment("color,translation,cutout", channels=3, resolution=SIZE),
    "shift": lambda: CircularShift("xy", resolution=SIZE),
}
MADE["chain"] = lambda: Chain(*(MADE[name]() for name in ("shift", "pipeline", "diffaugment")))


def rows(drawn: Drawn, part: slice) -> Drawn:
    """What was drawn for some of the images, in the same structure."""
    if drawn is None or isinstance(drawn, Tensor):
        return drawn if drawn is None else drawn[part]
    if isinstance(drawn, Mapping):
        return {name: rows(value, part) for name, value in drawn.items()}
    parts = [rows(value, part) for value in drawn]
    return type(drawn)(*parts) if hasattr(drawn, "_fields") else parts


@pytest.mark.parametrize("p", [0.4, torch.tensor(1.0)], ids=["0.4", "tensor"])
@pytest.mark.parametrize("name", MADE)
def test_a_draw_has_one_row_an_image(name: str, p: float | Tensor) -> None:
    """Each image is transformed by its own rows, whatever batch it is in; the same draw gives the same images."""
    augmentation, images = MADE[name](), torch.rand(6, 3, *SIZE) * 2 - 1
    drawn = augmentation.draw(6, p, generator=torch.Generator().manual_seed(0))
    whole = augmentation.apply(images, drawn)
    assert whole.shape == images.shape
    assert not torch.equal(whole, images)
    parts = [augmentation.apply(images[part], rows(drawn, part)) for part in (slice(2), slice(2, 6))]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=1e-5)
    assert torch.equal(augmentation.apply(images, drawn), whole)


@pytest.mark.parametrize("name", MADE)
def test_it_is_differentiable(name: str) -> None:
    augmentation, images = MADE[name](), torch.rand(4, 3, *SIZE, requires_grad=True)
    drawn = augmentation.draw(4, 1.0, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad(augmentation.apply(images, drawn).square().sum(), images)
    assert gradient.flatten(1).norm(dim=1).min() > 0
