"""Masks in augmentation: nothing but geometry and cutout touches them, and both move them with the image."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frugan.augment import (
    MEASUREMENTS,
    PRESETS,
    TRANSFORMS,
    AugmentConfig,
    AugmentPipeline,
    DiffAugment,
    Measurement,
    parse_transforms,
)
from frugan.errors import FruganError
from frugan.ops.tiling import TILES
from frugan.ops.warp import AffineWarp, NearestWarp
from tests.ops.conftest import affine

MOVING = [*PRESETS["blit"], *PRESETS["geom"]]


def pair(images, masks, size, dtype=torch.float32, seed=0):
    """Random images, and binary masks as their last channels."""
    rng = torch.Generator().manual_seed(seed)
    image = torch.rand(3, images, *size, generator=rng) * 2 - 1
    mask = (torch.rand(3, masks, *size, generator=rng) < 0.5) * 2.0 - 1
    return torch.cat([image, mask], dim=1).to(dtype)


def made(transforms, images, masks, size, **options):
    config = AugmentConfig(parse_transforms(transforms))
    return AugmentPipeline(config, channels=images + masks, resolution=size, masks=masks, **options)


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from([*TRANSFORMS]),
    st.sampled_from([1, 3, 5]),
    st.integers(1, 2),
    st.sampled_from([(4, 4), (8, 8), (12, 20)]),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    st.booleans(),
    st.sampled_from(["none", "xy"]),
    st.integers(0, 99),
)
def test_every_transform_on_every_kind_of_channels(name, images, masks, size, dtype, nearest, tile, seed):
    """The image becomes what it becomes without masks; masks stay, or move as they would alone."""
    x = pair(images, masks, size, dtype, seed)
    augment = made(name, images, masks, size, nearest_masks=nearest, tile=tile)
    alone = AugmentPipeline(augment_config(name), channels=images, resolution=size, tile=tile)
    draws = [a.draw(3, 1.0, generator=torch.Generator().manual_seed(seed)) for a in (augment, alone)]
    found = augment.apply(x, draws[0])
    close: Any = {"atol": 0.05, "rtol": 0.05} if dtype == torch.bfloat16 else {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(found[:, :images], alone.apply(x[:, :images], draws[1]), **close)
    mask = found[:, images:]
    inverse: Any = draws[0].inverse
    if name in MOVING and nearest:
        expected = NearestWarp(size, tile=tile)(x[:, images:].float(), inverse)
        assert torch.equal(mask.float(), expected)
        assert {*mask.unique().tolist()} <= {-1.0, 0.0, 1.0}  # 0 is what lies beyond the reflection
    elif name in MOVING:
        expected = AffineWarp(size, tile=tile)(x[:, images:].float(), inverse)
        torch.testing.assert_close(mask.float(), expected, **close)
    elif name == "cutout":
        gone = (found[:, :images] == 0).all(dim=1, keepdim=True) & (x[:, :images] != 0).any(dim=1, keepdim=True)
        assert gone.any()
        assert torch.equal(mask, torch.where(gone, 0, x[:, images:]))
    else:
        assert torch.equal(mask, x[:, images:])


def augment_config(name):
    return AugmentConfig(parse_transforms(name))


def test_a_mask_moves_with_its_image():
    """The image is the mask, drawn smoothly: after any geometry its threshold and the mask agree but at edges."""
    size = (32, 32)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    disc = ((0.5 - ((x - 0.2) ** 2 + (y + 0.1) ** 2).sqrt()) * 6).clamp(-1, 1)
    pairs = torch.stack([disc, disc.sign()])[None].expand(64, -1, -1, -1)
    for nearest in (True, False):
        augment = made("bg", 1, 1, size, nearest_masks=nearest)
        found = augment(pairs, 1.0, generator=torch.Generator().manual_seed(0))
        image, mask = found[:, 0] > 0, found[:, 1] > 0
        overlap = (image & mask).sum() / (image | mask).sum()
        assert overlap > 0.93
        mirrored = augment(pairs.flip(3), 1.0, generator=torch.Generator().manual_seed(0))
        assert not torch.allclose(mirrored, found)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([(4, 5), (8, 8), (7, 12)]),
    st.sampled_from(TILES),
    st.floats(-4, 4),
    st.floats(0.31, 2.47),
    st.integers(-9, 9),
)
def test_the_nearest_pixel_by_hand(size, tile, angle, zoom, shift):
    x = torch.arange(size[0] * size[1], dtype=torch.float64).view(1, 1, *size) + 1
    matrix = affine(1, angle=angle, zoom=zoom, shift=(shift / 3, -shift))
    found = NearestWarp(size, tile=tile)(x, matrix)[0, 0]
    h, w = size
    for i in range(h):
        for j in range(w):
            px, py, _ = (
                matrix[0].double() @ torch.tensor([j - (w - 1) / 2, i - (h - 1) / 2, 1], dtype=torch.float64)
            ).tolist()
            value, sure = 1.0, True
            places = []
            for p, n, repeats in ((py, h, "y" in tile), (px, w, "x" in tile)):
                sure &= abs((p + n / 2) % 1 - 0.5) < 0.499 and abs(abs(p) - (1.5 * n - 1)) > 1e-3
                k = int((p + n / 2) // 1)
                k = k % n if repeats else min(k % (2 * n - 2), 2 * n - 2 - k % (2 * n - 2))
                value = 0.0 if not repeats and abs(p) > 1.5 * n - 1 else value
                places.append(k)
            if sure:
                assert found[i, j] == value * x[0, 0, places[0], places[1]]


def test_derivatives_reach_masks_twice():
    x = pair(2, 1, (4, 5), torch.float64).requires_grad_()
    augment = made("bgcf", 2, 1, (4, 5), nearest_masks=True, color_channels=1)
    draw = augment.draw(3, 1.0, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda y: augment.apply(y, draw), x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda y: augment.apply(y, draw).square(), x, fast_mode=True)


@pytest.mark.parametrize("channels, masks", [(4, 1), (2, 1), (5, 2)])
@pytest.mark.parametrize("policy", ["color", "translation", "cutout"])
def test_diffaugment(policy, channels, masks):
    x = pair(channels - masks, masks, (16, 16))
    augment = DiffAugment(policy, channels=channels, resolution=(16, 16), masks=masks)
    alone = DiffAugment(policy, channels=channels - masks, resolution=(16, 16))
    draw = augment.draw(3, 1.0, generator=torch.Generator().manual_seed(0))
    found = augment.apply(x, draw)
    assert torch.equal(found[:, : channels - masks], alone.apply(x[:, : channels - masks], draw))
    if policy == "color":
        assert torch.equal(found[:, -masks:], x[:, -masks:])
    else:
        assert not torch.equal(found[:, -masks:], x[:, -masks:])


@pytest.mark.parametrize("name", [*MEASUREMENTS])
def test_measurements(name):
    x = pair(3, 1, (16, 16))
    if name == "pad-rotate-project":
        with pytest.raises(FruganError, match="leaves no mask"):
            Measurement(name, (16, 16), masks=1)
        return
    measure = Measurement(name, (16, 16), masks=1)
    draw = measure.draw(3, 4, generator=torch.Generator().manual_seed(1))
    found = measure.apply(x, draw)
    assert found.shape == x.shape
    assert torch.equal(found[:, 3:], x[:, 3:]) == (name != "rotate90")
    assert not torch.equal(found[:, :3], x[:, :3])
    if name == "rotate90":
        assert torch.equal(found, Measurement(name, (16, 16)).apply(x, draw))
