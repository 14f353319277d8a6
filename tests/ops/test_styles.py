"""Scaling by styles and projection to images: derivatives of the operators, kernels against PyTorch's operations, and whole
networks with the operators against those without.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from frugan.losses import AUTOGRAD_TRACED, path_length_penalty, path_lengths, r1_penalty
from frugan.networks import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig, SynthesisConfig
from frugan.ops import epilogue, epilogue_triton, fir, fir_triton, styles, styles_triton
from frugan.ops.modulated_conv import modulated_conv2d
from tests.ops import test_epilogue

CASES = list(product((3, 16, 20, 200, 600), (1, 3, 4), (torch.float32, torch.bfloat16, torch.float16)))
"""Channels, maps, dtype."""


def given(
    channels: int, maps: int, dtype: torch.dtype, device: Any = "cpu", size: tuple[int, int] = (5, 7)
) -> list[Tensor]:
    """Feature maps, a scale and a weight."""
    torch.manual_seed(channels)
    x = torch.randn(2, channels, *size, dtype=dtype, device=device).contiguous(memory_format=torch.channels_last)
    wide = torch.promote_types(dtype, torch.float32)
    scale = torch.randn(2, channels, dtype=wide, device=device)
    return [x, scale, torch.randn(2, maps, channels, dtype=wide, device=device)]


def by_definition(x: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("nchw,nkc->nkhw", x.to(weight.dtype), weight)


def scaled_by_definition(x: Tensor, scale: Tensor) -> Tensor:
    return (x * scale[:, :, None, None]).to(x.dtype)


def gradients(up: Tensor, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(up.dtype, torch.float32)
    return scaled_by_definition(up, scale), (up.to(wide) * x.to(wide)).sum((2, 3))


def projection_gradients(up: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    wide = x.to(weight.dtype)
    return torch.einsum("nkhw,nkc->nchw", up, weight).to(x.dtype), torch.einsum("nkhw,nchw->nkc", up, wide)


@pytest.fixture
def on_a_gpu_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operators, with PyTorch's operations in place of the kernels."""
    test_epilogue.stand_in(monkeypatch)
    for name, function in {
        "scaled": scaled_by_definition,
        "scaled_backward": gradients,
        "projected": by_definition,
        "projected_backward": projection_gradients,
    }.items():
        monkeypatch.setattr(styles_triton, name, function)
    monkeypatch.setattr(
        fir_triton, "upfirdn", lambda x, w, up, down, pad: fir._upfirdn(x, w, tuple(up), tuple(down), tuple(pad))
    )


@pytest.mark.usefixtures("on_a_gpu_without_one")
def test_first_and_second_derivatives() -> None:
    x, scale, weight = (t.requires_grad_() for t in given(3, 2, torch.float64))
    up, maps = torch.randn_like(x, requires_grad=True), torch.randn(2, 2, 5, 7, dtype=x.dtype, requires_grad=True)
    for f, inputs in (
        (styles._scaled, (x, scale)),
        (styles._scaled_gradients, (up, x, scale)),
        (styles._projected, (x, weight)),
        (styles._projected_gradients, (maps, x, weight)),
    ):
        assert torch.autograd.gradcheck(f, inputs)
        assert torch.autograd.gradgradcheck(f, inputs)


@pytest.mark.usefixtures("on_a_gpu_without_one")
def test_results_have_the_shape_and_layout_that_is_traced() -> None:
    for channels, maps, dtype in CASES[:4]:
        x, scale, weight = given(channels, maps, dtype)
        up = styles._projected(x, weight)
        for found, traced in (
            (styles._scaled(x, scale), styles._like(x, scale)),
            (up, styles._maps(x, weight)),
            *zip(styles._scaled_gradients(x, x, scale), styles._gradients_like(x, x, scale), strict=True),
            *zip(styles._projected_gradients(up, x, weight), styles._gradients_like(up, x, weight), strict=True),
        ):
            assert (found.shape, found.dtype) == (traced.shape, traced.dtype)


@pytest.mark.usefixtures("on_a_gpu_without_one")
def test_compiled_code_has_the_operators_in_it_with_their_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel is launched while a first or second derivative is traced: then tensors have no memory."""

    def launched(kernel: Any, *args: Any) -> Any:
        assert all(t.data_ptr() for t in args if isinstance(t, Tensor))
        return kernel(*args)

    kernels = [(epilogue_triton, name) for name in ("forward", "backward", "tangent")]
    kernels += [(styles_triton, name) for name in ("scaled", "scaled_backward", "projected", "projected_backward")]
    for module, name in kernels:
        monkeypatch.setattr(module, name, partial(launched, getattr(module, name)))
    x, scale, weight = (t.requires_grad_() for t in given(3, 2, torch.float32))
    bias = torch.randn(3, requires_grad=True)

    def loss(x: Tensor) -> Tensor:
        y = epilogue._epilogue(styles._scaled(x, scale), scale, None, bias, 0.7)
        return styles._projected(y, weight).square().sum((1, 2, 3))

    inputs = [scale, weight, bias]
    with torch._dynamo.config.patch(AUTOGRAD_TRACED):
        for f in (lambda: loss(x).sum(), lambda: r1_penalty(loss, x, 1.0)):
            found = torch.autograd.grad(torch.compile(f, backend="aot_eager")(), inputs, allow_unused=True)
            for a, b in zip(found, torch.autograd.grad(f(), inputs, allow_unused=True)):
                torch.testing.assert_close(torch.zeros(()) if a is None else a, torch.zeros(()) if b is None else b)


def test_scaling_is_its_definition_anywhere() -> None:
    for channels, maps, dtype in CASES:
        x, scale, _ = given(channels, maps, dtype)
        assert torch.equal(styles.scaled(x, scale), x * scale.to(dtype)[:, :, None, None])
        assert not styles.projects(x, maps)


class Pair(nn.Module):
    """A generator and a discriminator, with every parameter that begins at zero moved from there."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        synthesis = SynthesisConfig(channel_base=128, channel_max=12)
        self.G = Generator(GeneratorConfig((16, 16), z_dim=8, w_dim=8, synthesis=synthesis))
        self.D = Discriminator(DiscriminatorConfig((16, 16), channel_base=128, channel_max=12))
        for p in self.parameters():
            p.data += 0.1 * torch.randn_like(p)


def losses_and_gradients(G: Generator, D: Discriminator) -> list[Tensor]:
    """Images, and the gradients of the adversarial loss, of the path-length penalty and of R1 by all parameters."""
    torch.manual_seed(1)
    n = 4
    ws = G.mapping(torch.randn(n, G.z_dim), None)
    noise = G.synthesis.draw_noise(n, torch.Generator().manual_seed(2))
    images = G.synthesis(ws, noise=noise)
    parameters = [*G.parameters(), *D.parameters()]
    lengths = path_lengths(lambda ws: G.synthesis(ws, noise=noise), ws, torch.randn(images.shape))
    penalty, _ = path_length_penalty(lengths, torch.zeros(()), 0.01)
    r1 = r1_penalty(lambda x: D(x, None), images.detach().requires_grad_(), 1.0)
    found = [images]
    for loss in (D(images, None).mean(), penalty, r1):
        grads = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
        found += [torch.zeros(()) if g is None else g for g in grads]
    return [t.detach() for t in found]


@pytest.mark.usefixtures("on_a_gpu_without_one")
def test_networks_with_the_operators_equal_those_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images, first derivatives, and second ones through the path-length penalty and R1."""
    pair = Pair()
    expected = losses_and_gradients(pair.G, pair.D)
    calls: Counter[str] = Counter()

    def counted(module: Any, name: str, key: str) -> None:
        inner = getattr(module, name)

        def call(*args: Any) -> Any:
            calls[key] += 1
            return inner(*args)

        monkeypatch.setattr(module, name, call)

    for module, name, key in (
        (styles, "_scaled", "scaled"),
        (styles, "_projected", "projected"),
        (epilogue, "_epilogue", "epilogue"),
        (fir, "_in_one", "upfirdn"),
    ):
        counted(module, name, key)
    for where in ("ops.styles.fused", "ops.epilogue.fused", "networks.layers.fused", "ops.fir._in_one_kernel"):
        monkeypatch.setattr(f"frugan.{where}", lambda *_: True)
    found = losses_and_gradients(pair.G, pair.D)
    assert len(calls) == 4, calls
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


def derivatives(f: Callable[..., Tensor], up: Tensor, x: Tensor, other: Tensor) -> list[Tensor]:
    """Gradients of ⟨f(x, other), up⟩ by x and `other`, and those of a random combination of them by `up`, x and `other`."""
    torch.manual_seed(0)
    factors = [torch.randn(t.shape).to(x.device, torch.bfloat16) for t in (x, other)]
    leaves = [t.detach().requires_grad_() for t in (up, x, other)]
    first = torch.autograd.grad(f(*leaves[1:]), leaves[1:], leaves[0], create_graph=True)
    combined = torch.stack([(g.to(other.dtype) * t.to(other.dtype)).sum() for g, t in zip(first, factors)]).sum()
    return [t.detach() for t in (*first, *torch.autograd.grad(combined, leaves))]


def check(cases: list, device: Any) -> None:
    """Values, first and second derivatives against float64, of feature maps in either layout."""
    for channels, maps, dtype in cases:
        size = (5, 7) if channels > 20 else (46, 47)  # several programs for each image
        x, scale, weight = given(channels, maps, dtype, device, size)
        x = x.contiguous() if channels == 3 else x
        eps = torch.finfo(dtype).eps
        for f, definition, other in (
            (styles._scaled, lambda x, scale: x * scale[:, :, None, None], scale),
            (styles._projected, by_definition, weight),
        ):
            y, expected = f(x, other), definition(x.double(), other.double())
            assert y.dtype == (dtype if other is scale else torch.float32)
            if other is scale:
                assert y.is_contiguous(memory_format=torch.channels_last)
            up = torch.randn_like(y)
            found = derivatives(f, up, x, other)
            exact = derivatives(definition, up.double(), x.double(), other.double())
            for a, b in zip((y, *found), (expected, *exact), strict=True):
                error, largest = float((a.double() - b).abs().max()), float(b.abs().max())
                assert error <= max(1e-5, 4 * eps * (a.dtype == dtype)) * largest, (channels, maps, dtype, error)


def test_other_shapes_are_refused_before_the_kernel_reads_them() -> None:
    x, scale, weight = given(3, 2, torch.float32)
    for call in (
        lambda: styles_triton.scaled(x, scale[:1]),
        lambda: styles_triton.scaled_backward(x, x, scale[:, :2]),
        lambda: styles_triton.projected(x, weight[:, :, :2]),
        lambda: styles_triton.projected_backward(x[:, :2], x, weight[:1]),
    ):
        with pytest.raises(ValueError, match="is needed"):
            call()


def test_kernels_on_a_gpu(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("needs --device cuda")
    assert styles_triton.usable(torch.device("cuda", 0))
    check(CASES[::2], device)  # each of which compiles kernels


def test_modulated_convolution_on_a_gpu(device: torch.device) -> None:
    """With the kernels, against float64 on the CPU."""
    x, scale, _ = given(16, 1, torch.float32)
    weight = torch.randn(8, 16, 3, 3)
    expected = modulated_conv2d(x.double(), weight.double(), scale.double())
    found = modulated_conv2d(x.to(device), weight.to(device), scale.to(device)).cpu().double()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_kernels_in_the_interpreter() -> None:
    """In a process of its own: Triton decides at import whether it interprets."""
    code = "from tests.ops.test_styles import *; check(CASES[::4], torch.device('cpu'))"
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=Path(__file__).parents[2])
