"""The augmentation pipeline against the golden arrays, its derivatives, and the independence of its draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import load_golden, relative_error
from frugan.augment import PRESETS, TRANSFORMS, AugmentConfig, AugmentPipeline, parse_transforms
from frugan.errors import FruganError
from frugan.losses import AUTOGRAD_TRACED
from frugan.losses.penalties import input_gradient

GOLDEN_FILES = ["augment_1x24x24.npz", "augment_3x24x40.npz", "augment_3x32x32.npz"]
ALIASES = {"imgfilter": "filter", "bgcfc": "bgcf,cutout"}


def pipeline(transforms: Any, channels: int, height: int, width: int, **options) -> AugmentPipeline:
    return AugmentPipeline(
        AugmentConfig(parse_transforms(transforms)),
        channels=channels,
        resolution=(height, width),
        **options,  # pyright: ignore[reportArgumentType]
    )


def seeded(device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(0)


def images(*shape: int, device: torch.device | str = "cpu") -> Tensor:
    return torch.rand(shape, generator=seeded(device), device=device) * 2 - 1


@pytest.mark.parametrize("file", GOLDEN_FILES)
def test_agrees_with_golden(file: str, device: torch.device) -> None:
    golden = load_golden(file)
    x = golden["x"].to(device)
    seen = set()
    for key in (key for key in golden if key.startswith("y/")):
        name = key.removeprefix("y/")
        augment = pipeline(ALIASES.get(name, name), *x.shape[1:], device=device)
        for q, expected in zip(golden["percentiles"].tolist(), golden[key]):
            draw = augment.draw(len(x), 0.0, generator=seeded(device), percentile=q)
            assert relative_error(augment.apply(x, draw), expected) < 2e-5, f"{name} at {q}"
        seen.add(name)
    assert set(TRANSFORMS) - {"noise"} <= seen


def test_derivatives_agree_with_golden(device: torch.device) -> None:
    golden = load_golden("augment_grad.npz")
    x = golden["x"].to(device).requires_grad_()
    augment = pipeline("bgcf,cutout", *x.shape[1:], device=device)
    draw = augment.draw(len(x), 0.0, generator=seeded(device), percentile=float(golden["percentile"]))
    y = augment.apply(x, draw)
    (grad,) = torch.autograd.grad((y.square() * golden["v"].to(device)).sum(), x, create_graph=True)
    (grad_of_grad,) = torch.autograd.grad(grad.square().sum(), x)
    assert relative_error(y, golden["y"]) < 2e-5
    assert relative_error(grad, golden["grad"]) < 5e-5
    assert relative_error(grad_of_grad, golden["grad_of_grad_square"]) < 5e-5


@pytest.mark.parametrize("resolution", [(4, 4), (8, 8), (16, 16), (12, 16), (48, 64)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_any_size_and_channels(channels: int, resolution: tuple[int, int]) -> None:
    x = images(2, channels, *resolution)
    augment = pipeline("bgcfnc", channels, *resolution)
    out = augment(x, 1.0, generator=seeded())
    assert out.shape == x.shape
    assert out.isfinite().all()
    assert not torch.allclose(out, x, atol=0.01)
    unchanged = augment(x, 0.0, generator=seeded())
    assert torch.allclose(unchanged, x, atol=5e-5)


def test_p_zero_is_exact_without_geometry() -> None:
    x = images(3, 3, 16, 16)
    assert torch.equal(pipeline("noise,cutout", 3, 16, 16)(x, 0.0, generator=seeded()), x)


@pytest.mark.parametrize("transforms, channels", [("none", 3), ("color", 5), ("hue,saturation", 1)])
def test_nothing_to_do_returns_the_input_itself(transforms: str, channels: int) -> None:
    x = images(2, channels, 8, 8)
    assert pipeline(transforms, channels, 8, 8)(x, 0.5, generator=seeded()) is x


def test_alpha_keeps_its_values_under_colour_and_noise() -> None:
    x = images(4, 4, 16, 16)
    out = pipeline("color,noise", 4, 16, 16)(x, 1.0, generator=seeded())
    assert torch.equal(out[:, 3], x[:, 3])
    assert not torch.allclose(out[:, :3], x[:, :3], atol=0.05)
    out = pipeline("geom,filter,cutout", 4, 16, 16)(x, 1.0, generator=seeded())
    assert not torch.allclose(out[:, 3], x[:, 3], atol=0.05)


def test_alpha_follows_the_geometry_of_the_colours() -> None:
    x = images(4, 1, 16, 16).expand(-1, 4, -1, -1)
    out = pipeline("bg,filter,cutout", 4, 16, 16)(x, 0.7, generator=seeded())
    assert torch.allclose(out, out[:, :1].expand_as(out), atol=1e-6)


def test_declared_colour_channels() -> None:
    x = images(4, 6, 8, 8)
    out = pipeline("color", 6, 8, 8, color_channels=3)(x, 1.0, generator=seeded())
    assert torch.equal(out[:, 3:], x[:, 3:])
    expected = pipeline("color", 3, 8, 8)(x[:, :3], 1.0, generator=seeded())
    assert torch.allclose(out[:, :3], expected, atol=1e-6)
    noisy = pipeline("noise", 6, 8, 8)(x, 1.0, generator=seeded())
    assert ((noisy - x).std((0, 2, 3)) > 0.01).all()


@pytest.mark.parametrize(
    "channels, resolution, color_channels, says",
    [(3, (3, 8), None, "3x8"), (3, (8, 8), 2, "color_channels is 2"), (1, (8, 8), 3, "color_channels is 3")],
)
def test_bad_construction_is_refused(
    channels: int, resolution: tuple[int, int], color_channels: int | None, says: str
) -> None:
    with pytest.raises(FruganError, match=says):
        pipeline("bgc", channels, *resolution, color_channels=color_channels)


def test_bad_input_is_refused() -> None:
    with pytest.raises(FruganError, match="sharpen"):
        AugmentConfig(("sharpen",))
    augment = pipeline("bgc", 3, 8, 8)
    draw = augment.draw(2, 0.5, generator=seeded())
    with pytest.raises(FruganError, match="3, 8, 8"):
        augment.apply(images(2, 3, 8, 9), draw)
    for percentile in (0.0, 1.0):
        with pytest.raises(FruganError, match="percentile"):
            augment.draw(2, 0.5, generator=seeded(), percentile=percentile)


def test_tensor_and_number_p_draw_the_same() -> None:
    augment = pipeline("bgcfnc", 3, 8, 8)
    for a, b in zip(augment.draw(5, 0.3, generator=seeded()), augment.draw(5, torch.tensor(0.3), generator=seeded())):
        assert a is not None
        assert torch.equal(a, b)  # pyright: ignore[reportArgumentType]


def test_p_is_clipped() -> None:
    augment = pipeline("bgcfnc", 3, 8, 8)
    for above, at in zip(augment.draw(5, 7.5, generator=seeded()), augment.draw(5, 1.0, generator=seeded())):
        assert torch.equal(above, at)  # pyright: ignore[reportArgumentType]
        assert above.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    x = images(2, 3, 16, 16).to(dtype)
    augment = pipeline("bgcf", 3, 16, 16)
    draw = augment.draw(2, 0.8, generator=seeded())
    expected = augment.apply(x.float(), draw)
    out = augment.apply(x, draw)
    assert out.dtype == dtype
    assert torch.equal(out, expected.to(dtype))


def test_autocast_does_not_reach_inside() -> None:
    x = images(2, 3, 16, 16)
    augment = pipeline("bgcf", 3, 16, 16)
    expected = augment(x, 0.8, generator=seeded())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(augment(x, 0.8, generator=seeded()), expected)


def test_channels_last_images() -> None:
    x = images(2, 3, 16, 12)
    augment = pipeline("bgcfnc", 3, 16, 12)
    draw = augment.draw(2, 0.8, generator=seeded())
    out = augment.apply(x.to(memory_format=torch.channels_last), draw)
    assert torch.equal(out, augment.apply(x, draw))


def test_each_image_has_its_own_draw() -> None:
    x = images(1, 3, 16, 16).expand(6, -1, -1, -1)
    augment = pipeline("bgcf", 3, 16, 16)
    draw = augment.draw(6, 0.9, generator=seeded())
    together = augment.apply(x, draw)
    for i in range(6):
        alone = augment.apply(x[i : i + 1], type(draw)(*(None if part is None else part[i : i + 1] for part in draw)))
        assert torch.allclose(alone, together[i : i + 1], atol=1e-5)


@pytest.mark.parametrize("channels", [1, 4])
def test_derivatives_in_float64(channels: int) -> None:
    augment = pipeline("bgcfnc", channels, 4, 5)
    draw = augment.draw(2, 0.8, generator=seeded())
    x = images(2, channels, 4, 5).double().requires_grad_()
    assert augment.apply(x, draw).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda x: augment.apply(x, draw), x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: augment.apply(x, draw).square(), x, fast_mode=True)


def penalty(augment: AugmentPipeline, grad: Callable) -> Callable:
    """A gradient penalty of a small critic behind the augmentation, as a function of (weights, images, draw)."""

    def critic(x: Tensor, w: Tensor, draw) -> Tensor:
        return (augment.apply(x, draw) * w).square().mul(0.1).sin().sum()

    return lambda w, x, draw: grad(critic)(x, w, draw).square().sum()


def by_input_gradient(f: Callable) -> Callable:
    return lambda x, *rest: input_gradient(lambda x: f(x, *rest), x)


@pytest.mark.skipif(torch.__version__ < "2.13", reason="grid_sample is differentiable once in this PyTorch")
def test_works_under_torch_func_grad() -> None:
    augment = pipeline("bgcfnc", 3, 8, 8)
    draw = augment.draw(2, 0.8, generator=seeded())
    x, w = images(2, 3, 8, 8), torch.randn(3, 1, 1, generator=seeded(), requires_grad=True)
    results = []
    for grad in (torch.func.grad, by_input_gradient):
        value = penalty(augment, grad)(w, x, draw)
        results.append((value, torch.autograd.grad(value, w)[0]))
    for a, b in zip(*results):
        assert torch.allclose(a, b, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not AUTOGRAD_TRACED, reason="this PyTorch does not trace autograd")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile uses what PyTorch deprecates
@pytest.mark.parametrize("transforms", ["bgc", "bgcfnc"])
def test_compiles_whole(transforms: str) -> None:
    augment = pipeline(transforms, 3, 8, 8)
    draw = augment.draw(2, 0.8, generator=seeded())
    x = images(2, 3, 8, 8)
    compiled = torch.compile(augment.apply, fullgraph=True, dynamic=False)
    assert torch.allclose(compiled(x, draw), augment.apply(x, draw), atol=1e-5)

    w = torch.randn(3, 1, 1, generator=seeded(), requires_grad=True)
    f = penalty(augment, by_input_gradient)
    results = []
    for g in (f, torch.compile(f, fullgraph=True, dynamic=False)):
        with torch._dynamo.config.patch(AUTOGRAD_TRACED):
            value = g(w, x.requires_grad_(), draw)
        results.append((value, torch.autograd.grad(value, w)[0]))
    for a, b in zip(*results):
        assert torch.allclose(a, b, rtol=1e-4)


def test_draws_follow_the_generator_alone() -> None:
    augment = pipeline("bgcfnc", 3, 8, 8)
    state = torch.get_rng_state()
    first, second = (augment.draw(4, 0.5, generator=seeded()) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first, second))  # pyright: ignore[reportArgumentType]


def test_every_preset_runs() -> None:
    x = images(2, 3, 8, 8)
    for preset in PRESETS:
        out = pipeline(preset, 3, 8, 8)(x, 0.5, generator=seeded())
        assert out.shape == x.shape
