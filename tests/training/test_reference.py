"""Training, number by number, against the plain step of `reference_step`: every method, preset and kind of run, in float64."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from frugan.config.methods import METHODS
from frugan.config.options import Options
from frugan.config.presets import PRESETS
from frugan.config.resolve import Facts, resolve
from frugan.config.schema import RunConfig
from frugan.data import DataConfig, Sampler
from frugan.distributed import joined
from frugan.losses.terms import GradientPenalty
from frugan.run.build import make_phases
from frugan.training import TrainState, train
from tests.run.test_together import environment, free_port

from . import reference_step
from .reference_step import ReferenceRun, Settings, float64, widen

STEPS = 20
"""R1 at steps 0 and 16, path length at every fourth, p at the end of every fourth."""

IMAGES, HELD_OUT = 20, 6
SMALL: dict[str, Any] = {"channel_base": 64, "channel_max": 4, "latent": 4, "mapping_layers": 2, "mbstd_group": 2}
BATCH: dict[str, Any] = {"batch": 8, "batch_per_device": 4, "precision": "fp32", "ada_kimg": 0.1}
ADAPTIVE = [name for name, method in METHODS.items() if method.options.get("augment") == "ada"]
RISING = {"target": -0.9}
"""p moves in every window, so that it acts; else whether it does is for the logits to say."""


def method_cells() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Options of `frugan`, and the reference's settings, by name: each method alone, then several together."""
    reference = reference_step.METHODS
    cells: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for name in METHODS:
        rising = RISING if name in ADAPTIVE else {}
        cells[name] = {"method": name, **rising}, {**reference[name], **rising}

    def together(*names: str, options: dict[str, Any] | None = None, **settings: Any) -> None:
        merged = {k: v for name in names for k, v in reference[name].items()}
        label = ",".join(names) + "".join(f" {k}={v}" for k, v in (options or {}).items())
        cells[label] = {"method": ",".join(names), **(options or {})}, {**merged, **settings}

    far = {"consistency_reach": 4.0}
    together("ada", "bcr", "lecam", options={**RISING, **far}, **RISING, cr_reach=4.0)
    together("bcr", options={"consistency_reach": 4.0}, cr_reach=4.0)  # so that small images are shifted at all
    together("ada", "apa", "hinge", options=RISING, **RISING)
    together("r3gan", "scheduled")
    together("zcr", "cr", "spectral-norm", "r2")
    together("ada", "adaptive-dropout", "lecam", options=RISING, **RISING)
    together("diffaugment", "r2", options={"measurement": "noise:0.2"}, measurement="noise:0.2")
    together("zcr", "r2", options={"measurement": "drop-rows:0.5"}, measurement="drop-rows:0.5")
    together(
        "wgan-gp",
        options={"augment": "ada", "controller": "rv"},
        **{**reference_step.ADA, "controller": "r_v", "target": 0.5},
    )
    together("ada", options={"controller": "rv", "target": 0.1}, controller="r_v", target=0.1)
    together("ada", options={"batch_per_device": 8}, micro_batch=8)
    together("ada", options={"batch_per_device": 2, **RISING}, micro_batch=2, **RISING)
    together("none", options={"augment": "fixed", "p": 0.4}, **{**reference_step.ADA, "controller": "fixed", "p": 0.4})
    together("ada", options={"p_max": 0.0, "ada_kimg": 0.02, **RISING}, p_max=None, ada_images=20.0, **RISING)
    return cells


CELLS = method_cells()


class Set:
    """Images as the training loop takes them; `asked` are the indices that it asked for."""

    def __init__(self, resolution: tuple[int, int], labels: int) -> None:
        rng = torch.Generator().manual_seed(3)
        self.pixels = torch.rand(IMAGES + HELD_OUT, 3, *resolution, generator=rng).double() * 2 - 1
        self.labels = (
            torch.eye(labels).double()[torch.randint(labels, (len(self.pixels),), generator=rng)] if labels else None
        )
        if self.labels is None:
            self.labels = torch.zeros(len(self.pixels), 0).double()
        self.held_out_indices = np.arange(IMAGES, IMAGES + HELD_OUT)
        self.asked: list[np.ndarray] = []

    def images(self, indices: np.ndarray, *, device: torch.device | str) -> tuple[Tensor, Tensor]:
        self.asked.append(np.asarray(indices))
        return self.pixels[indices], self.labels[indices]


def configured(options: dict[str, Any]) -> RunConfig:
    """Non-square images of three classes, but where turning them by quarters forbids it."""
    turning = "auxiliary-rotation" in options.get("method", "")
    resolution, labels = ((8, 8), 0) if turning else ((8, 16), 3)
    facts = Facts(resolution=resolution, channels=3, label_size=labels, images=IMAGES, held_out=HELD_OUT)
    chosen = Options(**{**SMALL, **BATCH, "conditional": bool(labels), **options})
    return resolve(chosen, DataConfig("images"), facts)[0]


def begin(config: RunConfig) -> tuple[TrainState, Any, Set]:
    """A training state in float64 with fresh networks, its phases, and images."""
    state = TrainState.create(
        config.generator,
        config.discriminator,
        config=config.training,
        objective=config.objective,
        controller=config.controller,
        sampler=Sampler(np.arange(IMAGES), seed=config.training.seed),
        device=torch.device("cpu"),
    )
    rng = torch.Generator().manual_seed(5)
    for network in (state.G, state.D):
        for p in network.parameters():  # biases and strengths of the noise are zero at first
            p.data += torch.randn(p.shape, generator=rng) * 0.1
    state.ema.load_state_dict(state.G.state_dict())
    widen(state.G, state.D)
    state.ema.double()
    state.path_length_mean, state.logit_means = state.path_length_mean.double(), state.logit_means.double()
    phases = make_phases(config, state.G, state.D)
    phases.dtype = torch.float64
    draw = phases.draw_view

    def draw_view(*given: Any) -> Any:
        view: Any = draw(*given)
        penalties = [isinstance(term, GradientPenalty) for term in phases.terms]
        return view._replace(terms=tuple(d.double() if yes else d for yes, d in zip(penalties, view.terms)))

    phases.draw_view = draw_view  # type: ignore[method-assign]
    return state, phases, Set(config.generator.resolution, config.generator.label_size)


def reference_of(state: TrainState, images: Set, settings: Settings) -> ReferenceRun:
    labels = images.labels[:IMAGES]
    held_out = images.pixels[IMAGES:], images.labels[IMAGES:]
    return ReferenceRun(state.G, state.D, settings, labels, held_out)


def numbers(state: TrainState) -> dict[str, Tensor]:
    """All that a step moves."""
    found = {f"{name}/{k}": v for name, net in state.networks().items() for k, v in net.state_dict().items()}
    for name, optimizer in state.optimizers().items():
        for key, p in state.networks()[name].named_parameters():
            if optimizer.state[p]:
                found |= {f"adam_{name}/{key}/{slot}": optimizer.state[p][slot] for slot in ("exp_avg", "exp_avg_sq")}
    controller = {name: getattr(state.controller, name) for name in ("p", "r_t", "r_v")}
    return found | controller | {"path_length_mean": state.path_length_mean, "logit_means": state.logit_means}


def expected_numbers(run: ReferenceRun) -> dict[str, Tensor]:
    networks = {"G": run.G, "D": run.D, "ema": run.ema}
    found = {f"{name}/{k}": v for name, net in networks.items() for k, v in net.state_dict().items()}
    for name, adam in (("G", run.adam_G), ("D", run.adam_D)):
        for (key, _), m, v, t in zip(networks[name].named_parameters(), adam.m, adam.v, adam.t):
            if t:
                found |= {f"adam_{name}/{key}/exp_avg": m, f"adam_{name}/{key}/exp_avg_sq": v}
    controller = {"p": torch.tensor(run.p), "r_t": torch.tensor(run.r_t), "r_v": torch.tensor(run.r_v)}
    means = torch.stack([run.logits_real, run.logits_fake])
    return found | controller | {"path_length_mean": run.path_length_mean, "logit_means": means}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], what: str) -> None:
    """To 10⁻⁶; r_v, a quotient of differences of float32 sums, to 10⁻³."""
    assert found.keys() == expected.keys()
    for name, value in found.items():
        rtol = 1e-3 if name == "r_v" else 1e-6
        same = torch.allclose(value.double(), expected[name].double(), rtol=rtol, atol=1e-8, equal_nan=True)
        assert same, f"{what}: {name}: {value} instead of {expected[name]}"


def compare(options: dict[str, Any], settings: Settings, steps: int) -> None:
    """Trains both for some steps; all numbers agree after each."""
    with float64():
        config = configured(options)
        state, phases, images = begin(config)
        reference = reference_of(state, images, settings)
        sampler = Sampler(np.arange(IMAGES), seed=config.training.seed)
        loop = train(state, phases, images, images.labels[:IMAGES], config.training)
        for _ in range(steps):
            picks = sampler.next(settings.batch)
            reference.step(images.pixels[picks], images.labels[picks])
            record = next(loop).stats.collect()
            losses = {k: v for k, v in record.items() if k in reference.losses or k.startswith(("loss/", "penalty/"))}
            assert losses == pytest.approx(reference.losses, rel=1e-5), f"step {reference.t}"  # reported in float32
            assert_same(numbers(state), expected_numbers(reference), f"step {reference.t}")
        assert reference.t == state.step == steps


def all_steps_if_slow(names: Iterable[str], at_first: dict[str, int]) -> list[Any]:
    """Each name with its number of steps, and with all of them where those are fewer."""
    short = [pytest.param(name, at_first.get(name, STEPS), id=name) for name in names]
    rest = [name for name in names if name in at_first]
    return short + [pytest.param(name, STEPS, id=f"{name}, all steps", marks=pytest.mark.slow) for name in rest]


@pytest.mark.parametrize(("name", "steps"), all_steps_if_slow(CELLS, dict.fromkeys(CELLS.keys() - METHODS.keys(), 9)))
def test_every_method_trains_as_its_paper_says(name: str, steps: int) -> None:
    options, settings = CELLS[name]
    preset = dict(reference_step.PRESETS["auto"])
    if "auxiliary-rotation" in name:
        preset["gamma"] = 0.0002 * 8 * 8 / 8
    compare(options, Settings(**{"ada_images": 100.0, **preset, **settings}), steps)


@pytest.mark.parametrize(("preset", "steps"), all_steps_if_slow(PRESETS, dict.fromkeys(PRESETS, 6)))
def test_every_preset_trains_as_its_table_says(preset: str, steps: int) -> None:
    """p moves at the preset's own speed, too."""
    own = {"ada_images": reference_step.PRESETS[preset].get("ada_images", 500_000.0)}
    settings = {**reference_step.PRESETS[preset], **reference_step.ADA, **RISING, **own}
    compare({"preset": preset, "ada_kimg": None, **RISING}, Settings(**settings), steps)


def _as_one_of_two(index: int, port: int, out: str, options: dict[str, Any]) -> None:
    """Trains as one of two processes, and writes the numbers after each step."""
    os.environ.update(environment(index, 2, port))
    torch.set_num_threads(1)
    with float64(), joined("cpu"):
        config = configured(options)
        state, phases, images = begin(config)
        loop = train(state, phases, images, images.labels[:IMAGES], config.training)
        records, found = [], []
        for _ in range(STEPS):
            records.append(next(loop).stats.collect())
            found.append({k: v.clone() for k, v in numbers(state).items()})
        torch.save((records, found), Path(out) / f"{index}.pt")


def test_two_processes_train_as_the_reference(tmp_path: Path) -> None:
    """Each on two of four micro-batches, steered by r_v, with the running means of w, path length and LeCam."""
    options = {"method": "ada,lecam", "controller": "rv", "target": 0.1, "batch_per_device": 2}
    torch.multiprocessing.start_processes(
        _as_one_of_two, args=(free_port(), str(tmp_path), options), nprocs=2, start_method="forkserver"
    )
    rv = {"controller": "r_v", "target": 0.1, "micro_batch": 2, "ada_images": 100.0}
    settings = Settings(**{**reference_step.PRESETS["auto"], **reference_step.ADA, "lecam": 3e-7, **rv})
    with float64():
        config = configured(options)
        state, _, images = begin(config)
        for records, steps in (torch.load(tmp_path / f"{i}.pt", weights_only=False) for i in range(2)):
            reference, sampler = reference_of(state, images, settings), Sampler(np.arange(IMAGES))
            for record, found in zip(records, steps, strict=True):
                picks = sampler.next(settings.batch)
                reference.step(images.pixels[picks], images.labels[picks])
                assert {k: record[k] for k in reference.losses} == pytest.approx(reference.losses, rel=1e-5)
                assert_same(found, expected_numbers(reference), f"step {reference.t}")
