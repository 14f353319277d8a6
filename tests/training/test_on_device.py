"""Training and sampling on the device of `--device`: finite, learning, the same with and without graphs, resumed, near the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_map

import frugan
from frugan.config.options import Options
from frugan.config.resolve import Facts, resolve
from frugan.data import DataConfig, Dataset, open_dataset
from frugan.losses import path_length_noise
from frugan.run.build import make_phases
from frugan.training import TrainingConfig, TrainState, train
from frugan.training.phases import Phases, training_only

from .conftest import TINY

PLAIN = {k: v for k, v in TINY.items() if k not in ("kimg", "tick", "samples_every", "checkpoint_every", "held_out")}


def build(
    dataset: Dataset, device: torch.device, *, graphs: bool = True, size: int = 16, **options: Any
) -> tuple[TrainState, Phases, TrainingConfig]:
    facts = Facts((size, size), 3, dataset.label_size, 40, 8, device=device.type)
    config, _ = resolve(Options(**{**PLAIN, **options}), dataset.config, facts)
    training = replace(config.training, cuda_graphs=graphs)
    state = TrainState.create(
        config.generator,
        config.discriminator,
        config=training,
        objective=config.objective,
        controller=config.controller,
        sampler=dataset.sampler(0),
        device=device,
    )
    return state, make_phases(config, state.G, state.D), training


def begin(folder: Path, device: torch.device, **options: Any) -> tuple[TrainState, Iterator[Any]]:
    dataset = opened(folder)
    state, phases, training = build(dataset, device, **options)
    return state, train(state, phases, dataset, dataset.label_pool.to(device), training)


def opened(folder: Path) -> Dataset:
    return open_dataset(DataConfig(str(folder), held_out=8, labels="folders"))


def parameters(state: TrainState) -> torch.Tensor:
    return torch.cat([p.detach().double().cpu().flatten() for net in (state.G, state.D) for p in net.parameters()])


@pytest.mark.parametrize("batch_per_device", [8, 4])
@pytest.mark.parametrize("method", ["ada", "ada,apa,lecam"])
def test_graphs_train_like_eager_steps(
    image_folder: Path, device: torch.device, method: str, batch_per_device: int
) -> None:
    """In float32 without TF32, over three steps with R1: as near as two eager runs are, whose sums differ in their order."""
    ends = []
    for graphs in (False, True):
        options = {"precision": "fp32", "method": method, "batch_per_device": batch_per_device, "lr": 1e-4}
        options["target"] = -0.999  # p falls only where D takes every real image for a generated one
        state, steps = begin(image_folder, device, graphs=graphs, **options)
        start = parameters(state)
        record = list(islice(steps, 34))[-1].stats.collect()
        assert record["non_finite"] == 0
        ends.append((parameters(state), state.path_length_mean.item(), state.controller.p.item(), record))
    (eager, mean, p, record), (replayed, other_mean, other_p, other_record) = ends
    assert (eager - replayed).norm() < 0.02 * (eager - start).norm()
    assert p == other_p > 0
    assert mean == pytest.approx(other_mean, rel=1e-2)
    for key in ("loss/generator", "loss/discriminator", "penalty/r1"):
        assert record[key] == pytest.approx(other_record[key], rel=1e-2), key


WIDE = {"channel_base": 8192, "channel_max": 512, "latent": 512}
TOLERANCES = {"fp32": 1e-3, "bf16": 0.25, "fp16": 0.25}
"""Of a network's gradient: the norm of the difference from float32's on the CPU, as a share of its norm."""


def on(device: torch.device, drawn: Any) -> Any:
    """Draws moved to a device."""
    return tree_map(lambda t: t.to(device) if isinstance(t, torch.Tensor) else t, drawn)


def gradients(phases: Phases, device: torch.device, draws: Any, real: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradient of each of the four losses by the network that it trains, float64 on the CPU."""
    latents, view, both, y = on(device, draws)
    real, c, mean = real.to(device), latents.c, torch.zeros((), device=device)
    fake = phases.fakes(latents)
    losses: dict[str, Any] = {
        "generator": (phases.G, lambda: phases.generator_loss(latents, view, None, None, None)[0]),
        "path length": (phases.G, lambda: phases.path_length_penalty(latents, y, mean)[0]),
        "discriminator": (
            phases.D,
            lambda: phases.discriminator_loss(real, c, fake, c, both, None, torch.zeros(2, device=device))[0],
        ),
        "r1": (phases.D, lambda: phases.gradient_penalty(real, c, view, 1.0)),
    }
    found = {}
    for name, (network, loss) in losses.items():
        with training_only(network, phases.D if network is phases.G else phases.G):
            loss().backward()
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()]
        found[name] = torch.cat([part.double().cpu().flatten() for part in parts])
        network.zero_grad()
    return found


@pytest.mark.parametrize(("size", "n"), [(16, 8), (32, 4)])
def test_gradients_are_the_cpus(image_folder: Path, device: torch.device, size: int, n: int) -> None:
    """Of all four phases with augmentation, from the same weights, images and draws; 32²: with networks as wide as `auto`'s."""
    if device.type == "cpu":
        pytest.skip("needs another device than the CPU")
    rng = torch.Generator().manual_seed(1)
    options: dict[str, Any] = {"size": size, **(WIDE if size > 16 else {})}
    state, phases, _ = build(opened(image_folder), torch.device("cpu"), precision="fp32", **options)
    latents = phases.draw_latents(n, torch.eye(2), rng)
    noise = path_length_noise(torch.Size((n, 3, size, size)), rng)
    draws = latents, phases.draw_view(n, 0.7, rng), phases.draw_view(2 * n, 0.7, rng), noise
    real = torch.rand(n, 3, size, size, generator=rng) * 2 - 1
    expected = gradients(phases, torch.device("cpu"), draws, real)
    for precision, tolerance in TOLERANCES.items():
        there, phases, _ = build(opened(image_folder), device, precision=precision, **options)
        there.G.load_state_dict(state.G.state_dict())
        there.D.load_state_dict(state.D.state_dict())
        found = gradients(phases, device, draws, real)
        apart = {name: float((found[name] - g).norm() / g.norm()) for name, g in expected.items()}
        assert max(apart.values()) < tolerance, (precision, apart)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_trains(image_folder: Path, device: torch.device, precision: str) -> None:
    if precision != "fp32" and device.type == "cpu":
        pytest.skip("needs a GPU")
    state, steps = begin(image_folder, device, precision=precision)
    record = list(islice(steps, 40))[-1].stats.collect()
    assert record["non_finite"] == 0
    assert torch.isfinite(parameters(state)).all()


def test_a_run_resumes_on_the_device(image_folder: Path, device: torch.device, tmp_path: Path) -> None:
    """To the end that the run without a break comes to, as near as the device repeats itself."""
    options = {**TINY, "device": str(device), "precision": "fp32", "augment": "none", "lr": 1e-4}
    options = {k: v for k, v in options.items() if k not in ("target", "ada_kimg")}
    whole = list(frugan.train(image_folder, tmp_path / "whole", **options))
    records = frugan.train(image_folder, tmp_path / "broken", **options)
    next(record for record in records if record["kimg"] >= 0.08)
    records.close()  # pyright: ignore[reportAttributeAccessIssue]
    rest = list(frugan.Run(tmp_path / "broken").train(device=str(device)))
    assert rest[-1]["kimg"] == whole[-1]["kimg"]
    nets = [frugan.load(tmp_path / name) for name in ("whole", "broken")]
    flat = [torch.cat([p.detach().double().cpu().flatten() for p in net.parameters()]) for net in nets]
    assert (flat[0] - flat[1]).norm() < 1e-3 * flat[0].norm()


def test_samples_are_the_cpus(image_folder: Path, device: torch.device) -> None:
    state, steps = begin(image_folder, device)
    next(steps)
    G = state.ema
    one = G.sample([3])
    many = G.sample([1, 3, 5])
    assert torch.allclose(one, many[1:2], atol=1e-4)
    assert torch.allclose(one.cpu(), G.cpu().sample([3]), atol=1e-3)
