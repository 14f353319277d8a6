"""What `TrainState` sets up and keeps: Adam's rates, the EMA, and what configurations of earlier versions meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from frugan.config.options import Options
from frugan.config.presets import PRESETS
from frugan.config.resolve import Facts, resolve
from frugan.config.schema import RunConfig, load_config, save_config
from frugan.data import DataConfig, Sampler
from frugan.training import TrainState

FACTS = Facts(resolution=(8, 8), channels=3, label_size=0, images=100, held_out=10)
SMALL: dict[str, Any] = {"channel_base": 64, "channel_max": 4, "latent": 4, "mapping_layers": 1}

# lr and β₂ of G and D as published: lr·k/(k + 1) and 0.99^(k/(k + 1)), k = 4 for G and 16 for D; `tiny` has no path length.
RATES = {
    "auto": (0.0025 * 4 / 5, 0.99**0.8, 0.0025 * 16 / 17, 0.99 ** (16 / 17)),
    "stylegan2": (0.002 * 4 / 5, 0.99**0.8, 0.002 * 16 / 17, 0.99 ** (16 / 17)),
    "paper256": (0.0025 * 4 / 5, 0.99**0.8, 0.0025 * 16 / 17, 0.99 ** (16 / 17)),
    "paper512": (0.0025 * 4 / 5, 0.99**0.8, 0.0025 * 16 / 17, 0.99 ** (16 / 17)),
    "paper1024": (0.002 * 4 / 5, 0.99**0.8, 0.002 * 16 / 17, 0.99 ** (16 / 17)),
    "cifar": (0.0020, 0.99199, 0.0025 * 16 / 17, 0.99 ** (16 / 17)),
    "cifarbaseline": (0.0020, 0.99199, 0.0025 * 16 / 17, 0.99 ** (16 / 17)),
    "tiny": (0.01, 0.99, 0.01 * 16 / 17, 0.99 ** (16 / 17)),
}


def make(config: RunConfig) -> TrainState:
    return TrainState.create(
        config.generator,
        config.discriminator,
        config=config.training,
        objective=config.objective,
        controller=config.controller,
        sampler=Sampler(np.arange(100)),
        device=torch.device("cpu"),
    )


def configured(**options) -> RunConfig:
    return resolve(Options(**SMALL, **options), DataConfig("images"), FACTS)[0]


def rates(config: RunConfig) -> tuple[float, ...]:
    state = make(config)
    groups = [optimizer.param_groups[0] for optimizer in (state.optimizer_G, state.optimizer_D)]
    assert all(group["betas"][0] == 0 and group["eps"] == 1e-8 for group in groups)
    return tuple(value for group in groups for value in (group["lr"], group["betas"][1]))


@pytest.mark.parametrize("preset", PRESETS)
def test_rates_of_adam(preset: str) -> None:
    assert rates(configured(preset=preset)) == pytest.approx(RATES[preset], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"preset": "paper256", "path_length_weight": 0.0}, RATES["paper256"]),  # the phase is there, with weight 0
        ({"preset": "paper256", "r1_gamma": 0.0}, RATES["paper256"]),
        ({"preset": "tiny", "path_length_weight": 2.0}, (0.008, 0.99**0.8, *RATES["tiny"][2:])),
        ({"preset": "paper256", "method": "wgan-gp"}, (0.001, 0.99, 0.001, 0.99)),
        ({"preset": "paper256", "method": "r3gan"}, (0.0025, 0.99, 0.00125, 0.99**0.5)),  # R1 every step
    ],
    ids=str,
)
def test_rates_follow_the_phases(options: dict, expected: tuple[float, ...]) -> None:
    assert rates(configured(**options)) == pytest.approx(expected, rel=1e-5)


def test_a_run_of_an_earlier_version_keeps_its_rates(tmp_path: Path) -> None:
    """Its configuration says nothing of phases of weight 0: there Adam was not corrected."""
    config = configured(preset="cifar")
    save_config(config, tmp_path / "config.yaml")
    found = yaml.safe_load((tmp_path / "config.yaml").read_text("utf-8"))
    for name in ("keep_path_length_phase", "keep_r1_phase"):
        assert found["objective"].pop(name) is True
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(found), "utf-8")
    assert rates(load_config(tmp_path / "config.yaml"))[:2] == (0.0025, 0.99)
    assert rates(config)[:2] == pytest.approx((0.0020, 0.99199), rel=1e-5)


def test_the_ema_copies_buffers_and_ramps_up_with_the_images_before_the_batch() -> None:
    """β = ½^(batch / min(half-life, ramp·images before)); w's average is a buffer, so it is copied as it is."""
    state = make(configured(preset="tiny"))
    before = {k: v.clone() for k, v in state.ema.named_parameters()}
    for p in state.G.parameters():
        p.data.add_(torch.randn_like(p))
    state.G.mapping.w_avg.copy_(torch.randn(4))
    assert state.update_average(16, half_life_kimg=5.0, ramp=0.05) == 0
    for kept, live in zip(state.ema.state_dict().values(), state.G.state_dict().values(), strict=True):
        assert torch.equal(kept, live)
    for name, p in state.ema.named_parameters():
        p.copy_(before[name])
    state.G.mapping.w_avg.add_(1)
    state.images = 1000
    assert state.update_average(16, half_life_kimg=5.0, ramp=0.05) == pytest.approx(0.5 ** (16 / 50))
    beta = 0.5 ** (16 / 50)
    for name, p in state.G.named_parameters():
        torch.testing.assert_close(state.ema.get_parameter(name), beta * before[name] + (1 - beta) * p.data)
    assert torch.equal(state.ema.mapping.w_avg, state.G.mapping.w_avg)
    state.images = 10**6
    assert state.update_average(16, half_life_kimg=5.0, ramp=0.05) == pytest.approx(0.5 ** (16 / 5000))
    assert state.update_average(16, half_life_kimg=5.0, ramp=None) == pytest.approx(0.5 ** (16 / 5000))
