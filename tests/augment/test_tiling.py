"""Augmentation of images that repeat: it acts alike everywhere, the border included."""

import pytest
import torch

from frugan.augment import AugmentConfig, AugmentPipeline, DiffAugment, parse_transforms
from frugan.ops.tiling import TILES, tiles_along


def rolled(x, tile, by=(3, -5)):
    return x.roll(
        [step for step, repeats in zip(by, tiles_along(tile)) if repeats] or 0,
        [axis for axis, repeats in zip((2, 3), tiles_along(tile)) if repeats] or 2,
    )


@pytest.mark.parametrize("tile", TILES[1:])
@pytest.mark.parametrize("resolution", [(8, 8), (12, 20), (16, 16)])
@pytest.mark.parametrize("transforms", ["xint", "xfrac", "color", "filter", "xint,xfrac,color,filter"])
def test_an_image_moved_around_its_border_is_augmented_alike(tile, resolution, transforms):
    x = torch.rand(6, 3, *resolution) * 2 - 1
    augment = AugmentPipeline(AugmentConfig(parse_transforms(transforms)), channels=3, resolution=resolution, tile=tile)
    draw = augment.draw(6, 1.0, generator=torch.Generator().manual_seed(1))
    found, moved = augment.apply(x, draw), augment.apply(rolled(x, tile), draw)
    torch.testing.assert_close(rolled(found, tile), moved, atol=1e-4, rtol=1e-4)
    plain = AugmentPipeline(AugmentConfig(parse_transforms(transforms)), channels=3, resolution=resolution)
    if transforms != "color" and resolution != (8, 8):  # of 8 pixels whole shifts may all be along one axis
        assert not torch.allclose(plain.apply(x, draw), found, atol=1e-2)


@pytest.mark.parametrize("tile", TILES)
def test_translations_of_diffaugment_go_around_the_border(tile):
    x = torch.rand(64, 2, 16, 16) + 0.1
    augment = DiffAugment("translation", channels=2, resolution=(16, 16), tile=tile)
    draw = augment.draw(64, 1.0, generator=torch.Generator().manual_seed(0))
    found = augment.apply(x, draw)
    plain = DiffAugment("translation", channels=2, resolution=(16, 16)).apply(x, draw)
    assert (found == 0).any() == (tile != "xy")
    assert torch.equal(torch.where(plain == 0, found, plain), found)  # where the plain one has no zeros they agree
    if tile == "xy":
        assert torch.equal(found.flatten(1).sort().values, x.flatten(1).sort().values)


@pytest.mark.parametrize("resolution", [(8, 8), (12, 20)])
def test_all_of_it_is_twice_differentiable(resolution):
    x = torch.rand(2, 3, *resolution, dtype=torch.float64, requires_grad=True)
    augment = AugmentPipeline(AugmentConfig(parse_transforms("bgcf")), channels=3, resolution=resolution, tile="xy")
    draw = augment.draw(2, 1.0, generator=torch.Generator().manual_seed(0))
    v = torch.rand_like(x)
    (gradient,) = torch.autograd.grad((augment.apply(x, draw).square() * v).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), x)
    with torch.no_grad():  # along one direction, against finite differences
        u, step = torch.rand_like(x), 1e-5
        value = lambda t: (augment.apply(t, draw).square() * v).sum()  # noqa: E731
        slope = (value(x + step * u) - value(x - step * u)) / (2 * step)
    torch.testing.assert_close((gradient * u).sum(), slope, rtol=1e-5, atol=1e-6)
    assert second.isfinite().all()
