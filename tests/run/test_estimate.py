"""The estimate of a configuration's cost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

import frugan.run.estimate
import frugan.run.plan
import frugan.training.pacing
from frugan.config.options import Options
from frugan.config.resolve import Facts, resolve
from frugan.data import DataConfig
from frugan.run.build import build_phases
from frugan.training.graphs import Graphs
from frugan.training.pacing import seconds_per_kimg
from frugan.training.trial import seconds_per_image
from tests.training.test_graphs import Simulated


@pytest.mark.parametrize(("seconds", "timed", "shown"), [(0.01, [4, 16], 4), (0.9, [4], 4), (30.0, [4], 1)])
def test_no_more_is_timed_than_is_soon_done(
    seconds: float, timed: list[int], shown: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole batch where that takes two seconds, a group else; and memory is looked at with one image where that is slow."""
    facts = Facts(resolution=(16, 16), channels=3, label_size=0, images=100, held_out=0)
    options = Options(preset="tiny", channel_base=64, channel_max=8, latent=16, batch=16)
    asked: list[int] = []

    def answer(phases: Any, n: int, *_: Any) -> float:
        asked.append(n)
        return seconds

    real, looked_at = frugan.run.estimate.passes, []
    monkeypatch.setattr(frugan.run.estimate, "passes", lambda p, n, rng: looked_at.append(n) or real(p, n, rng))
    monkeypatch.setattr(frugan.training.pacing, "seconds_per_image", answer)
    config = resolve(options, DataConfig(path="images"), facts)[0]
    cost = frugan.run.estimate.estimate(config, "cpu")
    assert asked == timed
    assert looked_at == [shown]
    assert cost.seconds_per_kimg == seconds * 1000
    asked.clear()
    assert frugan.run.plan.pace(config) == seconds * 1000
    assert asked == timed


@pytest.mark.parametrize(("fits", "timed"), [(True, [16]), (False, [16, 4])])
def test_on_a_gpu_the_micro_batch_of_training_is_timed(
    fits: bool, timed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first pass compiles kernels there, for seconds that say nothing of a step."""
    asked: list[int] = []

    def answer(phases: Any, n: int, execute: Any) -> float:
        assert execute is runner
        asked.append(n)
        if n == 16 and not fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 0.002

    runner: Any = object()
    phases: Any = SimpleNamespace(G=SimpleNamespace(mapping=SimpleNamespace(w_avg=torch.empty(0, device="meta"))))
    monkeypatch.setattr(frugan.training.pacing, "seconds_per_image", answer)
    assert seconds_per_kimg(phases, 4, 16, runner) == 2.0
    assert asked == timed


def test_where_training_replays_graphs_replays_are_timed() -> None:
    facts = Facts(resolution=(16, 16), channels=3, label_size=0, images=100, held_out=0)
    options = Options(preset="tiny", channel_base=64, channel_max=8, latent=16, batch=4, path_length_weight=2.0)
    phases = build_phases(resolve(options, DataConfig(path="images"), facts)[0], torch.device("cpu"))
    parameters = [*phases.G.parameters(), *phases.D.parameters()]
    graphs = Graphs(parameters, backend := Simulated(parameters))
    assert 0 < seconds_per_image(phases, 4, graphs) < 60
    assert [graph.replays for graph in backend.graphs] == [3] * 4, "of each phase: two to warm up, one timed"
    assert all(p.grad is None for p in parameters)
