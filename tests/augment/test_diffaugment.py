"""DiffAugment (Zhao et al. 2020): its transforms against direct computation, and what it draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from frugan.augment import POLICIES, AugmentConfig, AugmentPipeline, Chain, DiffAugment
from frugan.errors import FruganError

RNG = np.random.default_rng(0)
IMAGES = torch.from_numpy(RNG.standard_normal((6, 3, 16, 24))).float()


def augment(policy: str, channels: int = 3) -> DiffAugment:
    return DiffAugment(policy, channels=channels, resolution=(16, 24))


def test_color_by_hand() -> None:
    u = torch.rand(6, 3)
    actual = augment("color").apply(IMAGES, {"color": u}).numpy()
    for i, (b, s, c) in enumerate(u.numpy()):
        x = IMAGES[i].numpy() + b - 0.5
        grey = x.mean(axis=0)
        x = grey + (x - grey) * 2 * s
        x = x.mean() + (x - x.mean()) * (c + 0.5)
        np.testing.assert_allclose(actual[i], x, atol=1e-5)


def test_color_leaves_alpha() -> None:
    images = torch.randn(2, 4, 16, 24)
    out = augment("color", 4).apply(images, {"color": torch.rand(2, 3)})
    assert torch.equal(out[:, 3], images[:, 3])
    assert not torch.allclose(out[:, :3], images[:, :3])


def test_translation_by_hand() -> None:
    """u is first the row: 0 → −m pixels … 1 → +m, with zeros behind."""
    u = torch.tensor([[0.0, 0.5], [0.999, 0.999], [0.5, 0.0], [0.5, 0.5], [0.1, 0.9], [0.7, 0.3]])
    actual = augment("translation").apply(IMAGES, {"translation": u}).numpy()
    for i, (a, b) in enumerate(u.numpy()):
        dy, dx = int(a * 5) - 2, int(b * 7) - 3  # 16/8 = 2 and 24/8 = 3 pixels at most
        padded = np.pad(IMAGES[i].numpy(), ((0, 0), (2, 2), (3, 3)))
        np.testing.assert_array_equal(actual[i], padded[:, 2 - dy : 18 - dy, 3 - dx : 27 - dx])


def test_cutout_is_half_of_each_side() -> None:
    T = augment("cutout")
    drawn = T.draw(500, 0.0, generator=torch.Generator().manual_seed(0))
    mask = (T.apply(torch.ones(500, 1, 16, 24), drawn) == 0)[:, 0]
    rows, columns = mask.any(dim=2).sum(dim=1), mask.any(dim=1).sum(dim=1)
    assert int(rows.max()) == 8
    assert int(columns.max()) == 12
    assert torch.equal(mask.sum(dim=(1, 2)), rows * columns)
    assert int(rows.min()) == 4  # half of it may hang over
    assert mask.any(dim=0).all()


def test_always_on_and_differentiable() -> None:
    T = augment(",".join(POLICIES))
    drawn = T.draw(2, 0.0, generator=torch.Generator().manual_seed(0))
    x = IMAGES[:2].double()
    assert not torch.allclose(T.apply(x, drawn), x)
    assert torch.autograd.gradcheck(lambda x: T.apply(x, drawn)[:, :, ::5, ::7], x.requires_grad_(), fast_mode=True)


def test_chain_is_one_after_the_other() -> None:
    both = Chain(AugmentPipeline(AugmentConfig(("xflip",)), channels=3, resolution=(16, 24)), augment("translation"))
    drawn = both.draw(6, 1.0, generator=torch.Generator().manual_seed(0))
    first, second = both.parts
    expected = second.apply(first.apply(IMAGES, drawn[0]), drawn[1])
    assert torch.equal(both.apply(IMAGES, drawn), expected)


def test_unknown_policy() -> None:
    with pytest.raises(FruganError, match="color, translation, cutout"):
        augment("colour")


def test_reach_scales_translations() -> None:
    """The whole-pixel shift goes up to ⅛ of the size, or to a quarter of that."""
    for reach, most in ((1.0, 4), (0.25, 1)):
        pipeline = AugmentPipeline(AugmentConfig(("xint",), reach=reach), channels=1, resolution=(32, 32))
        shifts = dict(pipeline.parameters(2000, 1.0, generator=torch.Generator().manual_seed(0)))["xint"]
        assert float(shifts.abs().max()) == most
    with pytest.raises(FruganError, match="reach 0: give a number above 0 and of at most 4"):
        AugmentConfig(reach=0)
