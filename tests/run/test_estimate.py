"""The estimate of a configuration's cost."""

from __future__ import annotations

from typing import Any

import pytest

import frugan.run.estimate
import frugan.run.plan
import frugan.training.pacing
from frugan.config.options import Options
from frugan.config.resolve import Facts, resolve
from frugan.data import DataConfig


@pytest.mark.parametrize(("seconds", "timed", "shown"), [(0.01, [4, 16], 4), (0.9, [4], 4), (30.0, [4], 1)])
def test_no_more_is_timed_than_is_soon_done(
    seconds: float, timed: list[int], shown: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole batch where that takes two seconds, a group else; and memory is looked at with one image where that is slow."""
    facts = Facts(resolution=(16, 16), channels=3, label_size=0, images=100, held_out=0)
    options = Options(preset="tiny", channel_base=64, channel_max=8, latent=16, batch=16)
    asked: list[int] = []

    def answer(phases: Any, n: int) -> float:
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
