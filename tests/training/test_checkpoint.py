"""What passes for a state that training can go on from."""

from __future__ import annotations

import math

import pytest
import torch

from frugan.training import TrainState, checkpoint

from .test_state import configured, make


@pytest.fixture(scope="module")
def state() -> TrainState:
    """After a step of both optimisers."""
    state = make(configured(preset="tiny"))
    for name, optimizer in state.optimizers().items():
        for p in state.networks()[name].parameters():
            p.grad = torch.randn_like(p)
        optimizer.step()
    return state


PARTS = ["G", "D", "ema", "optimizer_G", "optimizer_D"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", PARTS)
def test_one_value_that_is_not_finite_is_found(part: str, bad: float, state: TrainState) -> None:
    """In any tensor of the networks and of what the optimisers keep."""
    assert checkpoint.is_finite(state)
    tensors = [v for k, v in state.state_dict()[0].items() if k.startswith(f"{part}/") and v.is_floating_point()]
    assert len(tensors) > 10
    for tensor in (tensors[0], tensors[len(tensors) // 2], tensors[-1]):
        last = tensor.view(-1)[-1:] if tensor.is_contiguous() else tensor[tuple(n - 1 for n in tensor.shape)]
        before = last.clone()
        last.fill_(bad)
        assert not checkpoint.is_finite(state)
        last.copy_(before)
    assert checkpoint.is_finite(state)


@pytest.mark.parametrize("name", ["path_length_mean", "logit_means"])
def test_running_means_must_be_finite(name: str, state: TrainState) -> None:
    before = getattr(state, name)
    setattr(state, name, torch.full_like(before, math.nan))
    assert not checkpoint.is_finite(state)
    setattr(state, name, before)


def test_what_the_controller_has_not_observed_is_nan(state: TrainState) -> None:
    assert state.controller.r_v.isnan()
    assert checkpoint.is_finite(state)
