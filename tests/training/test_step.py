"""The four phases of a training step: equal by every route, compiled or not, in parts or whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters

import frugan
from frugan.augment import AugmentConfig, AugmentPipeline
from frugan.config.methods import METHODS
from frugan.data import DataConfig
from frugan.errors import FruganError
from frugan.losses import AUTOGRAD_TRACED, ObjectiveConfig, path_length_noise
from frugan.networks import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    MappingConfig,
    SynthesisConfig,
)
from frugan.training import Phases
from frugan.training.phases import training_only

from .conftest import TINY

PHASES = ("generator", "path_length", "discriminator", "r1")


def losses(phases: Phases, phase: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A phase's loss, and all its parameters' gradients as one vector, for draws that `seed` decides."""
    rng = torch.Generator().manual_seed(seed)
    latents = phases.draw_latents(8, torch.zeros(8, 0), rng)
    views = phases.draw_view(16, 0.5, rng)
    view, view_real = views.halves()
    real, fake = torch.rand(2, 8, 3, 16, 16, generator=rng) * 2 - 1
    y = path_length_noise(real.shape, rng)
    G, D = phases.G, phases.D
    network, other = (G, D) if phase in ("generator", "path_length") else (D, G)
    with training_only(network, other):
        if phase == "generator":
            loss = phases.generator_loss(latents, view, real, latents.c, view_real)[0]
        elif phase == "path_length":
            loss = phases.path_length_penalty(latents, y, torch.zeros(()))[0]
        elif phase == "discriminator":
            loss = phases.discriminator_loss(real, latents.c, fake, latents.c, views, None, torch.zeros(2))[0]
        else:
            loss = phases.gradient_penalty(real, latents.c, view, 1.0)
        loss.backward()
    return loss.detach(), torch.cat([_taken(p) for p in network.parameters()])


def _taken(p: nn.Parameter) -> Tensor:
    grad = torch.zeros_like(p) if p.grad is None else p.grad
    p.grad = None
    return grad.flatten()


@pytest.fixture
def parts() -> tuple[Generator, Discriminator, AugmentPipeline]:
    torch.manual_seed(0)
    synthesis, mapping = SynthesisConfig(256, 16), MappingConfig(num_layers=2)
    G = Generator(GeneratorConfig((16, 16), z_dim=16, w_dim=16, mapping=mapping, synthesis=synthesis))
    D = Discriminator(DiscriminatorConfig((16, 16), channel_base=64, channel_max=8))
    return G, D, AugmentPipeline(AugmentConfig(), channels=3, resolution=(16, 16))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from inside torch's compiler
@pytest.mark.parametrize("phase", PHASES)
def test_compiled_is_eager(parts: tuple[Generator, Discriminator, AugmentPipeline], phase: str) -> None:
    """In float32, to rounding. (In bfloat16 they part by 0.02 to 2 % of the loss: fused operations round less often.)"""
    (eager, grad), (compiled, compiled_grad) = (
        losses(Phases(*parts, ObjectiveConfig(), compiled=on), phase) for on in (False, True)
    )
    torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-7)
    assert (compiled_grad - grad).norm() < 3e-4 * grad.norm()


@pytest.mark.skipif(not AUTOGRAD_TRACED, reason="this PyTorch does not trace autograd")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from inside torch's compiler
@pytest.mark.parametrize("phase", ["path_length", "r1"])
def test_compiled_penalties_have_our_derivatives_of_convolutions(
    parts: tuple[Generator, Discriminator, AugmentPipeline], phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not PyTorch's, with kernels as large as the image. And the warp stays one operation, its derivatives too."""
    called: list[tuple[str, tuple[int, ...]]] = []

    def note(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable:
        for node in graph.graph.nodes:
            if isinstance(node.target, torch._ops.OpOverload):
                shapes = [tuple(arg.meta["val"].shape) for arg in node.args[:2] if isinstance(arg, torch.fx.Node)]
                called.append((node.target.name(), shapes[-1] if shapes else ()))
        return make_boxed_func(graph)

    compiled, backend = torch.compile, aot_autograd(fw_compiler=note, bw_compiler=note)
    monkeypatch.setattr(torch, "compile", lambda f, **how: compiled(f, backend=backend, fullgraph=True, **how))
    losses(Phases(*parts, ObjectiveConfig(), compiled=True), phase)
    names = Counter(name for name, _ in called)
    assert names["frugan::weight_gradient"] > names["frugan::convolution"] / 2 > 5
    assert names["frugan::warp"] == (4 if phase == "r1" else 0)  # there and back, and the derivatives of both
    assert max(max(shape[2:]) for name, shape in called if name == "aten::convolution") <= 4  # FIR resampling


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from inside torch's compiler
@pytest.mark.parametrize(
    "options", [{}, {"preset": "auto", "channel_max": 8, "precision": "bf16"}], ids=["tiny", "auto"]
)
def test_each_phase_is_one_graph_and_compiled_once(
    options: dict[str, Any], image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As p moves, at the penalties' intervals, with held-out images. Traced only, which takes seconds."""
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **how: compiled(f, backend="eager", fullgraph=True, **how))
    options = {**TINY, "kimg": 0.136, "compile": "on", **options}
    data = DataConfig(str(image_folder), held_out=options.pop("held_out"))
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        records = list(frugan.train(data, tmp_path / "run", device="cpu", **options))
    assert records[-1]["p"] > 0
    phases = {"generator", "discriminator", "fakes", "logits"}
    if AUTOGRAD_TRACED:
        phases |= {"r1", "path length"} if "penalty/path_length" in records[-1] else {"r1"}
    assert counters["stats"]["unique_graphs"] == len(phases)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from inside torch's compiler
def test_without_a_compiler_there_is_a_sentence(parts: tuple[Generator, Discriminator, AugmentPipeline]) -> None:
    torch._dynamo.reset()
    nowhere = torch._inductor.config.patch({"cpp.cxx": (None, "/nowhere/g++"), "fx_graph_cache": False})  # pyright: ignore[reportAttributeAccessIssue]
    with nowhere, pytest.raises(FruganError, match=r"/nowhere/g.*compile nothing"):
        losses(Phases(*parts, ObjectiveConfig(), compiled=True), "generator")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from inside torch's compiler
@pytest.mark.parametrize("name", METHODS)
def test_every_method_traces_whole_and_trains_as_it_does_eager(
    name: str, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With everything that the compiler knows of gradients, but nothing compiled; float32, two steps."""
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **how: compiled(f, backend="aot_eager", fullgraph=True, **how))
    torch._dynamo.reset()
    options = {**TINY, "kimg": 0.016, "tick_kimg": 0.008, "method": name, "precision": "fp32"}
    if METHODS[name].options.get("augment", "none") != "ada":
        del options["target"]
    found = []
    for on in ("on", "off"):
        records = list(frugan.train(image_folder, tmp_path / on, device="cpu", compile=on, **options))
        found.append([(r["loss/generator"], r["loss/discriminator"]) for r in records])
    assert found[0] == [pytest.approx(losses, rel=1e-2) for losses in found[1]]  # signs of tiny gradients rule a step
