"""How much of a batch fits: found by trial, or from the free memory, before step 1, and kept in the configuration."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path

import pytest
import torch

import frugan
from frugan.config.options import Options
from frugan.config.resolve import Facts, resolve
from frugan.data import DataConfig
from frugan.errors import FruganError
from frugan.networks import Discriminator, Generator
from frugan.networks.activation_checkpointing import Recomputable
from frugan.run.build import make_phases
from frugan.run.plan import _compiling, plan
from frugan.training import Phases, trial

from .conftest import TINY


@pytest.fixture
def phases() -> Phases:
    config, _ = resolve(
        Options(**{k: v for k, v in TINY.items() if k not in ("held_out", "target")}),
        DataConfig("images"),
        Facts((16, 16), 3, 0, 40, 0),
    )
    return make_phases(config, Generator(config.generator), Discriminator(config.discriminator))


@pytest.mark.parametrize("phase", ["generator_loss", "path_length_penalty", "discriminator_loss", "gradient_penalty"])
def test_a_batch_survives_if_all_its_phases_do(phases: Phases, phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = getattr(phases, phase)

    def short_of_memory(first: object, *rest: object) -> object:
        images = len(first) if isinstance(first, torch.Tensor) else len(first.z)  # pyright: ignore
        if images > (2 if phase == "path_length_penalty" else 4):  # path length takes half
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(first, *rest)

    monkeypatch.setattr(phases, phase, short_of_memory)
    assert [trial.survives(phases, n) for n in (4, 8)] == [True, False]
    assert trial.largest_batch(8, 4, lambda n: trial.survives(phases, n)) == 4
    assert all(p.grad is None for net in (phases.G, phases.D) for p in net.parameters())
    assert all(p.requires_grad for net in (phases.G, phases.D) for p in net.parameters())


def test_other_errors_are_not_taken_for_want_of_memory(phases: Phases, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> object:
        raise RuntimeError("not that")

    monkeypatch.setattr(phases, "generator_loss", broken)
    with pytest.raises(RuntimeError, match="not that"):
        trial.survives(phases, 4)


@pytest.mark.parametrize("most, expected", [(100, 24), (12, 12), (11, 8), (4, 4)])
def test_divisors_in_whole_groups(most: int, expected: int) -> None:
    assert trial.largest_batch(24, 4, lambda n: n <= most) == expected


def test_nothing_fits() -> None:
    with pytest.raises(FruganError, match="not even 4 of a batch of 24"):
        trial.largest_batch(24, 4, lambda n: False)


def test_more_memory_affords_more(phases: Phases) -> None:
    def largest(free: int) -> int:
        fits = trial.affords(phases, 4, free)
        return max((n for n in range(4, 4097, 4) if fits(n)), default=0)

    weights = trial.weight_bytes(phases)
    assert largest(weights) == 0
    assert 4 < largest(weights + 2**24) < largest(weights + 2**25) < 4096


@pytest.mark.parametrize("free, expected", [(2**40, 8), ("tight", 4)])
def test_the_number_is_written_into_the_run(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phases: Phases, free: int | str, expected: int
) -> None:
    if free == "tight":
        plenty, weights = 2**40, trial.weight_bytes(phases)
        fits = trial.affords(phases, 4, plenty)
        most = bisect_left(range(2**30), True, key=lambda n: not fits(n)) - 1
        kept = 4 * (trial._USABLE * plenty - weights) / most  # by four images
        free = int(1.01 * (weights + kept) / trial._USABLE)
    monkeypatch.setattr(trial, "free_memory", lambda: free)
    options = {"mbstd_group": 4, "path_length_weight": 2.0, "device": "cpu"}
    next(iter(frugan.train(image_folder, tmp_path / "run", batch_per_device="auto", **TINY | options)))
    run = frugan.Run(tmp_path / "run")
    assert (run.config.training.batch, run.config.training.batch_per_device) == (8, expected)


def test_no_memory_at_all_is_refused_before_the_run_exists(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "free_memory", lambda: 1000)
    with pytest.raises(FruganError, match="free some memory"):
        frugan.train(image_folder, tmp_path / "run", batch_per_device="auto", device="cpu", **TINY)
    assert not (tmp_path / "run").exists()


Trial = tuple[bool, str]


def compiling(phases: Phases, monkeypatch: pytest.MonkeyPatch, *, kimg: float = 1e6, gain: float = 1.0) -> Trial:
    """The verdict where a compiled phase takes 1/gain of the time."""
    clock = iter(range(10**6))
    monkeypatch.setattr(trial.time, "perf_counter", lambda: float(next(clock)))
    made = []

    def make(compiled: bool) -> Phases:
        made.append(compiled)
        return phases

    monkeypatch.setattr(trial, "_timed", lambda *_: 1 / gain if made[-1] else 1.0)
    return trial.compiling_pays(make, 8, 4, kimg)


def test_compiling_must_pay_back(phases: Phases, monkeypatch: pytest.MonkeyPatch) -> None:
    pays, reason = compiling(phases, monkeypatch, gain=2)
    assert pays
    assert reason.startswith("tried: 289 s/kimg without, 145 with")  # 1 + 1 + 1/4 + 1/16 s for 8 images
    assert not compiling(phases, monkeypatch, gain=1)[0]
    assert not compiling(phases, monkeypatch, gain=0.5)[0]


def test_a_short_run_is_not_kept_waiting(phases: Phases, monkeypatch: pytest.MonkeyPatch) -> None:
    pays, reason = compiling(phases, monkeypatch, kimg=1, gain=1000)
    assert not pays
    assert "compiling takes minutes" in reason


def test_a_machine_without_a_compiler(phases: Phases, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(compiled: bool) -> Phases:
        if compiled:
            raise RuntimeError("no C++ compiler")
        return phases

    monkeypatch.setattr(trial, "_LONG", 0)
    assert trial.compiling_pays(make, 8, 4, 1.0) == (False, "torch.compile fails here: no C++ compiler")


@pytest.mark.parametrize("graphs", [True, False])
def test_nothing_is_compiled_beside_cuda_graphs(
    graphs: bool, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial times phases without graphs, so that compiling would seem to pay, after minutes before the first step."""
    options = Options(cuda_graphs=graphs, **{k: v for k, v in TINY.items() if k not in ("held_out", "target")})
    config, *_ = plan(options, DataConfig(str(image_folder)), device=torch.device("cpu"))
    monkeypatch.setattr("frugan.run.plan.compiling_pays", lambda *_: (True, "tried"))
    pays, reason = _compiling(config, torch.device("cuda"))
    assert pays is not graphs
    assert ("CUDA graphs" in reason) is graphs


def test_activation_checkpointing_reaches_the_networks(image_folder: Path) -> None:
    """… and is why nothing is compiled; on a CPU nothing is either way."""
    whys = []
    for on in (False, True):
        options = Options(
            activation_checkpointing=on, **{k: v for k, v in TINY.items() if k not in ("held_out", "target")}
        )
        config, derived, *_ = plan(options, DataConfig(str(image_folder)), device=torch.device("cpu"))
        networks = Generator(config.generator), Discriminator(config.discriminator)
        make_phases(config, *networks)
        layers = [m for net in networks for m in net.modules() if isinstance(m, Recomputable)]
        assert layers
        assert all(m.recompute is on for m in layers)
        whys += [row.reason for row in derived if row.name == "compile"]
    assert "on a CPU" in whys[0]
    assert "activation checkpointing" in whys[1]
