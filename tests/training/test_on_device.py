"""Training and sampling on the device of `--device`: finite, learning, the same with and without graphs, resumed, near the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

import frugan
from frugan.config.options import Options
from frugan.config.resolve import Facts, resolve
from frugan.data import DataConfig, open_dataset
from frugan.run.build import make_phases
from frugan.training import TrainState, train

from .conftest import TINY

PLAIN = {k: v for k, v in TINY.items() if k not in ("kimg", "tick", "samples_every", "checkpoint_every", "held_out")}


def begin(
    folder: Path, device: torch.device, *, graphs: bool = True, **options: Any
) -> tuple[TrainState, Iterator[Any]]:
    dataset = open_dataset(DataConfig(str(folder), held_out=8, labels="folders"))
    facts = Facts((16, 16), 3, dataset.label_size, 40, 8, device=device.type)
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
    phases = make_phases(config, state.G, state.D)
    return state, train(state, phases, dataset, dataset.label_pool.to(device), training)


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
