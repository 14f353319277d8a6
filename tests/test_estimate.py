from __future__ import annotations

from typing import Any

import pytest

import frugan.estimate
from frugan.config import Facts, Options, resolve
from frugan.data import DataConfig


@pytest.mark.parametrize(("seconds", "timed"), [(0.01, [4, 16]), (1.0, [4])])
def test_the_whole_batch_is_timed_where_that_is_soon_done(
    seconds: float, timed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = Facts(resolution=(16, 16), channels=3, label_size=0, images=100, held_out=0)
    options = Options(preset="tiny", channel_base=64, channel_max=8, latent=16, batch=16)
    asked: list[int] = []

    def answer(phases: Any, n: int) -> float:
        asked.append(n)
        return seconds

    monkeypatch.setattr(frugan.estimate, "seconds_per_image", answer)
    cost = frugan.estimate.estimate(resolve(options, DataConfig(path="pictures"), facts)[0], "cpu")
    assert asked == timed
    assert cost.seconds_per_kimg == seconds * 1000
