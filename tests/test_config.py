from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from frugan.config import PRESETS, Facts, Options, load_config, resolve, save_config
from frugan.data import DataConfig
from frugan.errors import FruganError

FACTS = Facts((256, 256), 3, 0, 5000, 0)
DATA = DataConfig("pictures")

# The values that the formulas give on one GPU: side → batch, gamma, channel base, learning rate
AUTO = {
    128: (32, 0.1024, 16384, 0.0025),
    256: (16, 0.8192, 16384, 0.0025),
    512: (8, 6.5536, 32768, 0.0025),
    1024: (4, 52.4288, 32768, 0.002),
}


@pytest.mark.parametrize("side", AUTO)
def test_auto(side: int) -> None:
    config, derived = resolve(Options(), DATA, replace(FACTS, resolution=(side, side)))
    batch, gamma, base, lr = AUTO[side]
    assert config.training.batch == batch
    assert config.objective.r1_gamma == pytest.approx(gamma)
    assert config.generator.synthesis.channel_base == config.discriminator.channel_base == base
    assert config.training.generator_lr == lr
    assert config.training.ema_half_life_kimg == pytest.approx(batch * 10 / 32)
    assert {"batch", "gamma", "lr", "ema_kimg", "precision"} <= {row.name for row in derived}
    assert all(row.reason for row in derived)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_resolve_and_round_trip(name: str, tmp_path: Path) -> None:
    config, _ = resolve(Options(preset=name), DATA, FACTS)
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    preset = PRESETS[name]
    assert config.kimg == preset.kimg
    if preset.r1_gamma is not None:
        assert config.objective.r1_gamma == preset.r1_gamma


def test_what_is_asked_for_wins_and_is_not_derived() -> None:
    config, derived = resolve(Options(batch=8, gamma=3.0, lr=0.001, kimg=7), DATA, FACTS)
    assert (config.training.batch, config.objective.r1_gamma, config.training.generator_lr) == (8, 3.0, 0.001)
    assert config.kimg == 7
    assert not {"batch", "gamma", "lr", "kimg"} & {row.name for row in derived}


def test_precision_follows_the_device() -> None:
    for device, bf16, expected, clamp in (
        ("cpu", False, "fp32", None),
        ("cuda", True, "bf16", None),
        ("cuda", False, "fp16", 256),
    ):
        config, _ = resolve(Options(), DATA, replace(FACTS, device=device, bf16=bf16))
        assert config.training.precision == expected
        assert config.generator.synthesis.clamp == config.discriminator.clamp == clamp


def test_published_controller_is_reachable() -> None:
    config, _ = resolve(Options(p_max=0), DATA, FACTS)
    assert (config.controller.p_max, config.controller.speed_kimg, config.controller.kind) == (0, 500, "rt")
    assert resolve(Options(), DATA, FACTS)[0].controller.p_max == 0.85


@pytest.mark.parametrize(
    ("text", "message"),
    [("kimg: 3\n", "does not describe a run"), ("a: [", "cannot be read"), ("", "no settings in it")],
)
def test_a_spoilt_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(FruganError, match=message):
        load_config(tmp_path / "config.yaml")


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    config, _ = resolve(Options(), DATA, FACTS)
    save_config(config, tmp_path / "config.yaml")
    text = (tmp_path / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("r1_gamma", "r1_gama"))
    with pytest.raises(FruganError, match="r1_gama"):
        load_config(tmp_path / "config.yaml")
