"""What a record says of the steps since the one before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from frugan.augment import Controller, ControllerConfig, logit_sums
from frugan.training.stats import Stats


def observe(steps: int, broken: int | None = None) -> tuple[dict[str, Any], Tensor, Tensor, Tensor]:
    """The record after some minibatches of 8 in windows of 4, and all logits: real, generated, held-out."""
    stats, controller = Stats(torch.device("cpu")), Controller(ControllerConfig())
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, steps, 8, generator=generator) + torch.tensor([1.0, -1.0, 0.2])[:, None, None]
    if broken is not None:
        logits[:, broken] = torch.nan
    for real, generated, held_out in logits.unbind(1):
        controller.merge(logit_sums(real=real, generated=generated, held_out=held_out))
        if (window := controller.update(8)) is not None:
            stats.window(window)
    real, generated, held_out = logits
    return stats.collect(), real, generated, held_out


def test_heuristics_cover_all_windows_since_the_last_record() -> None:
    record, real, generated, held_out = observe(12)
    assert record["r_t"] == pytest.approx(float(real.sign().mean()))
    expected = (real.mean() - held_out.mean()) / (real.mean() - generated.mean())
    assert record["r_v"] == pytest.approx(float(expected), rel=1e-5)


def test_a_window_that_has_not_ended_waits() -> None:
    record, real, *_ = observe(11)
    assert record["r_t"] == pytest.approx(float(real[:8].sign().mean()))
    assert "r_t" not in observe(3)[0]


def test_a_broken_window_is_left_out() -> None:
    record, real, *_ = observe(8, broken=2)
    assert record["r_t"] == pytest.approx(float(real[4:].sign().mean()))


def test_a_record_begins_anew() -> None:
    stats = Stats(torch.device("cpu"))
    stats.window(torch.ones(3, 3))
    assert stats.collect()["r_t"] == 1
    assert "r_t" not in stats.collect()
