"""From options, preset, data and machine to the configuration of a run: derived values, limits, messages."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import fields, is_dataclass, replace
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from frugan.augment import PRESETS as TRANSFORMS
from frugan.augment.controller import CONTROLLERS
from frugan.config import schema
from frugan.config.options import Options
from frugan.config.presets import PRESETS
from frugan.config.resolve import Facts, resolve
from frugan.config.schema import RunConfig, load_config, save_config, to_dict
from frugan.data import DataConfig
from frugan.errors import FruganError
from frugan.resolution import base_grid

FACTS = Facts((256, 256), 3, 0, 5000, 0)
DATA = DataConfig("images")

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
    assert {"batch", "r1_gamma", "lr", "ema_half_life_kimg", "precision"} <= {row.name for row in derived}
    assert all(row.reason for row in derived)


# Karras et al. 2020, appendix D and the released training code: kimg, batch, group, channel base, lr, γ, EMA kimg, ramp, mapping
PAPER = {
    "stylegan2": (25000, 32, 4, 32768, 0.002, 10, 10, None, 8),
    "paper256": (25000, 64, 8, 16384, 0.0025, 1, 20, None, 8),
    "paper512": (25000, 64, 8, 32768, 0.0025, 0.5, 20, None, 8),
    "paper1024": (25000, 32, 4, 32768, 0.002, 2, 10, None, 8),
    "cifar": (100000, 64, 32, 32768, 0.0025, 0.01, 500, 0.05, 2),
    "cifarbaseline": (100000, 64, 32, 32768, 0.0025, 0.01, 500, 0.05, 8),
}
SIDES = {"stylegan2": 1024, "paper256": 256, "paper512": 512, "paper1024": 1024, "cifar": 32, "cifarbaseline": 32}
PROCESSES = {"stylegan2": 8, "paper256": 8, "paper512": 8, "paper1024": 8, "cifar": 2, "cifarbaseline": 2}


def constants(config: RunConfig) -> tuple:
    """The columns of the paper's table."""
    training, generator = config.training, config.generator
    assert training.generator_lr == training.discriminator_lr
    assert generator.synthesis.channel_base == config.discriminator.channel_base
    return (
        config.kimg,
        training.batch,
        config.discriminator.mbstd_group,
        generator.synthesis.channel_base,
        training.generator_lr,
        config.objective.r1_gamma,
        training.ema_half_life_kimg,
        training.ema_ramp,
        generator.mapping.num_layers,
    )


@pytest.mark.parametrize("name", PAPER)
def test_every_constant_of_the_papers_table(name: str) -> None:
    """On the paper's size, on one device and on as many as the paper used."""
    for processes in (1, PROCESSES[name]):
        facts = replace(FACTS, resolution=(SIDES[name], SIDES[name]), processes=processes)
        config, _ = resolve(Options(preset=name), DATA, facts)
        assert constants(config) == PAPER[name]
        objective, training, g, d = config.objective, config.training, config.generator, config.discriminator
        tuned = name == "cifar"
        assert objective.path_length_weight == (0 if tuned else 2)
        assert objective.style_mixing == (0 if tuned else 0.9)
        assert (g.synthesis.architecture, d.architecture) == ("skip", "orig" if tuned else "resnet")
        assert (objective.r1_interval, objective.path_length_interval, objective.path_length_shrink) == (16, 4, 2)
        assert objective.path_length_decay == 0.01
        assert (training.beta1, training.beta2, training.eps) == (0, 0.99, 1e-8)
        assert (g.z_dim, g.w_dim, g.synthesis.channel_max, d.channel_max) == (512, 512, 512, 512)
        assert (g.mapping.lr_multiplier, d.mapping.num_layers, d.mapping.lr_multiplier) == (0.01, 0, 0.1)
        assert (d.mbstd_channels, g.synthesis.resample_filter, d.resample_filter) == (1, (1, 3, 3, 1), (1, 3, 3, 1))
        controller = config.controller
        assert (controller.kind, controller.target, controller.interval, controller.speed_kimg) == ("rt", None, 4, 500)
        assert CONTROLLERS["rt"].target == 0.6
        assert config.augment.transforms == TRANSFORMS["bgc"]


@pytest.mark.parametrize("side", [32, 64, 128, 256, 512, 1024, 2048])
@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_auto_is_the_published_formula_on_powers_of_two(side: int, processes: int) -> None:
    config, _ = resolve(Options(), DATA, replace(FACTS, resolution=(side, side), processes=processes))
    batch = max(min(int(processes * min(4096 / side, 32)), 64), processes)
    gamma = 0.0002 * side**2 / batch
    base, lr = 32768 if side >= 512 else 16384, 0.002 if side >= 1024 else 0.0025
    expected = (25000, batch, min(batch // processes, 4), base, lr, gamma, batch * 10 / 32, 0.05, 2)
    assert constants(config) == pytest.approx(expected)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_round_trip(name: str, tmp_path: Path) -> None:
    """Every field comes back from config.yaml with its value and type, also where it is not the default."""
    for options in (Options(preset=name), replace(EVERYTHING, preset=name)):
        config, _ = resolve(options, DATA, replace(FACTS, resolution=(48, 64), held_out=20, label_size=3))
        save_config(config, tmp_path / "config.yaml")
        again = load_config(tmp_path / "config.yaml")
        for (where, value), (_, found) in zip(leaves(config), leaves(again), strict=True):
            assert (type(found), found) == (type(value), value), where
        assert again == config


@pytest.mark.parametrize(
    "name", ["Müllers Fotos", "写真 2024", "a'b\"c: #d", "\udcff.tar", "🙂", "\u202e\x85\x1b", "true", "1e3"]
)
def test_names_come_back_and_can_be_read(name: str, tmp_path: Path) -> None:
    config, _ = resolve(Options(), DataConfig(name), FACTS)
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml").data.path == name
    assert name in (tmp_path / "config.yaml").read_text("utf-8") or not name.replace(" ", "").isalnum()


EVERYTHING = Options(
    kimg=7.5, batch=12, batch_per_device=6, r1_gamma=3.25, lr=0.00001, rollback_lr=0.5, controller="rv", target=0.25, p_max=0.5,
    ada_kimg=77, transforms="bg", diffaugment="color", measurement="drop-pixels:0.25", conditional=True, seed=2**32 - 1,
    precision="bf16", activation_checkpointing=True, mapping_layers=3, d_mapping_layers=4, channel_base=4096, channel_max=96,
    d_capacity=0.5, latent=64, g_architecture="resnet", d_architecture="skip", mbstd_group=3, style_mixing=0.125,
    path_length_weight=1.5, ema_half_life_kimg=2.5, tick_kimg=0.5, samples_kimg=1.5, checkpoint_kimg=2.5, keep_last=5,
    evaluate_kimg=3, evaluate_samples=123, metrics="recall,fid", features="clip", weights="w", init_from="elsewhere",
    allow_partial=True, freeze_d="10", freeze_g="16px", freeze_mapping=True, method="ada,bcr", consistency_transforms="xflip",
    consistency_reach=0.5, tracker="mlflow,wandb",
)  # fmt: skip


def leaves(config: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    for field in fields(config):
        value, name = getattr(config, field.name), f"{where}.{field.name}"
        yield from leaves(value, name) if is_dataclass(value) else [(name, value)]


SIZES = sorted({
    (h << k, w << k) for k in range(1, 8) for h in range(3, 17) for w in range(3, 17) if max(h, w) << k <= 1024
} | {(2048, 2048), (1536, 2048)})  # fmt: skip


def check_sizes(config: RunConfig, processes: int) -> None:
    training, group = config.training, config.discriminator.mbstd_group
    assert training.batch % (training.batch_per_device * processes) == 0
    assert group
    assert training.batch_per_device % group == 0
    assert group > 1 or training.batch_per_device == 1


def test_every_legal_size_trains_under_the_default_preset() -> None:
    for size in SIZES:
        base_grid(*size)
        config, _ = resolve(Options(), DATA, replace(FACTS, resolution=size, images=1))
        check_sizes(config, 1)
        assert abs(config.training.batch - min(4096 / math.sqrt(size[0] * size[1]), 32)) < 3


@given(
    st.sampled_from(SIZES),
    st.sampled_from(list(PRESETS)),
    st.sampled_from([*range(1, 9), 16, 100]),
    st.integers(1, 100),
    st.sampled_from([None, *range(1, 70)]),
    st.sampled_from([None, "auto", *range(1, 40)]),
    st.sampled_from([None, *range(1, 40)]),
)
@settings(max_examples=400)
def test_sizes_presets_processes(size, preset, processes, images, batch, at_once, group) -> None:
    """Nothing set is never refused; what is set is kept, or refused with numbers that work, each of them."""
    facts = replace(FACTS, resolution=size, processes=processes, images=images)
    check_sizes(resolve(Options(preset=preset), DATA, facts)[0], processes)
    options = Options(preset=preset, batch=batch, batch_per_device=at_once, mbstd_group=group)
    try:
        config, _ = resolve(options, DATA, facts)
    except FruganError as error:
        for remedy in str(error).split("choose ")[1].split(" or "):
            pairs = re.findall(r"--([a-z-]+) (\d+)", remedy)
            resolve(replace(options, **{k.replace("-", "_"): int(v) for k, v in pairs}), DATA, facts)
        return
    if group != 1:
        check_sizes(config, processes)
    found = (config.training.batch, config.training.batch_per_device, config.discriminator.mbstd_group)
    for asked, value in zip((batch, at_once, group), found):
        assert asked in (None, "auto", value)


def test_a_group_that_changes_is_told() -> None:
    """`cifar` compares 32 images; where 8 processes see 8 each, it says so, and its advice works."""
    facts = replace(FACTS, resolution=(32, 32), processes=8)
    config, derived = resolve(Options(preset="cifar"), DATA, facts)
    reason = next(row.reason for row in derived if row.name == "mbstd_group")
    assert (config.training.batch, config.discriminator.mbstd_group) == (64, 8)
    assert "32, more than 8 images at once" in reason
    batch = int(re.findall(r"--batch (\d+)", reason)[0])
    assert resolve(Options(preset="cifar", batch=batch), DATA, facts)[0].discriminator.mbstd_group == 32
    reason = {row.name: row.reason for row in resolve(Options(batch=21), DATA, FACTS)[1]}["mbstd_group"]
    assert "does not divide 21" in reason


def test_fine_tuning_is_five_times_as_fast() -> None:
    """p goes from 0 to 1 in 100 kimg, and the EMA is not ramped up; a faster preset, or what is asked for, stays."""
    for preset, asked, expected in (("auto", None, 100), ("tiny", None, 50), ("auto", 300, 300)):
        options = Options(preset=preset, ada_kimg=asked, init_from="elsewhere")
        config, derived = resolve(options, DATA, FACTS)
        assert config.controller.speed_kimg == expected
        assert config.training.ema_ramp is None
        assert resolve(replace(options, init_from=None), DATA, FACTS)[0].training.ema_ramp == 0.05
    assert {row.name: row.value for row in derived}["ema_ramp"] == "none"


BAD = (math.nan, math.inf, -math.inf, -1, 0, 1.5, 1e300, 10**400, True, "x")
ZERO = {
    "mapping_layers",
    "d_mapping_layers",
    "r1_gamma",
    "path_length_weight",
    "evaluate_kimg",
    "p",
    "p_max",
    "style_mixing",
    "seed",
}
TYPES = {name: {hint, *get_args(hint)} for name, hint in get_type_hints(Options).items()}


@pytest.mark.parametrize("name", [name for name, types in TYPES.items() if types & {int, float} and name != "target"])
def test_every_number_of_options_is_checked(name: Any) -> None:
    """A new field is tested the moment it exists. (A target's range is that of its heuristic: tests/augment.)"""
    factor = name not in ("p", "p_max", "style_mixing", "rollback_lr")
    legal = {0: name in ZERO, 1.5: float in TYPES[name] and factor}
    for value in BAD:
        if not legal.get(value, False) or value is True:
            with pytest.raises(FruganError, match=f"^--{name.replace('_', '-')} "):
                Options(**{name: cast(Any, value)})
        else:
            Options(**{name: cast(Any, value)})


@pytest.mark.parametrize(
    "name", [name for name, types in TYPES.items() if any(get_origin(t) is Literal for t in types)]
)
def test_every_word_of_options_is_checked(name: Any) -> None:
    with pytest.raises(FruganError, match=f"^--{name.replace('_', '-')} "):
        Options(**{name: cast(Any, "nonsense")})


SECTIONS = [(), *((name,) for name in ("data", "augment", "controller", "objective", "training", "report", "evaluate"))]
SECTIONS += [
    ("generator",),
    ("generator", "mapping"),
    ("generator", "synthesis"),
    ("discriminator",),
    ("discriminator", "mapping"),
]


def test_every_number_in_config_yaml_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of each number stand ones that make no sense, a text, a truth value and a list: all refused, by name."""
    file = tmp_path / "config.yaml"
    config, _ = resolve(replace(EVERYTHING, init_from=None, freeze_d=None, freeze_g=None, freeze_mapping=False,
                                allow_partial=False), DATA, replace(FACTS, held_out=20, label_size=3))  # fmt: skip
    whole = to_dict(config)
    tried = 0
    for section in SECTIONS:
        settings_ = reduce(getitem, section, whole)
        for key, value in settings_.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            for bad in (math.nan, math.inf, -3, 10**400, "x", True, [1]):
                changed = deepcopy(whole)
                reduce(getitem, section, changed)[key] = bad
                if (
                    section
                ):  # of the sections what a file gives; those above it through the file itself, which takes long
                    monkeypatch.setattr(schema, "read_yaml", lambda _, changed=changed: changed)
                else:
                    file.write_text(yaml.dump(changed, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)))
                with pytest.raises(FruganError, match=key.replace("_", "[-_]")):
                    load_config(file)
                tried += 1
    assert tried > 150


def test_small_numbers_are_numbers_without_a_point(tmp_path: Path) -> None:
    """YAML takes 1e-5 for text; who writes it means the number."""
    config, _ = resolve(Options(lr=1e-5), DATA, FACTS)
    save_config(config, tmp_path / "config.yaml")
    text = (tmp_path / "config.yaml").read_text()
    assert "1.0e-05" in text
    (tmp_path / "config.yaml").write_text(text.replace("1.0e-05", "1e-5"))
    assert load_config(tmp_path / "config.yaml") == config


def test_numbers_of_numpy_are_written_as_numbers(tmp_path: Path) -> None:
    config, _ = resolve(Options(batch=np.int64(8), lr=np.float32(0.5), seed=np.uint8(3)), DATA, FACTS)  # pyright: ignore[reportArgumentType]
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


def test_what_is_asked_for_wins_and_is_not_derived() -> None:
    config, derived = resolve(Options(batch=8, r1_gamma=3.0, lr=0.001, kimg=7), DATA, FACTS)
    assert (config.training.batch, config.objective.r1_gamma, config.training.generator_lr) == (8, 3.0, 0.001)
    assert config.kimg == 7
    assert not {"batch", "r1_gamma", "lr", "kimg"} & {row.name for row in derived}


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


@pytest.mark.parametrize(
    ("channels", "path", "kept"), [(4, "photos", "RGBA"), (3, "photos", "auto"), (4, "set.npz", "auto")]
)
def test_runs_from_before_value_ranges_keep_their_pixels(channels: int, path: str, kept: str, tmp_path: Path) -> None:
    config, _ = resolve(Options(), DataConfig(path), replace(FACTS, channels=channels))
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    old = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del old["data"]["value_range"], old["data"]["use_generated"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(old))
    data = load_config(tmp_path / "config.yaml").data
    assert (data.value_range, data.channels) == ("full", kept)


def test_runs_from_before_the_name_of_latent_consistency_keep_its_weights() -> None:
    """The file is one that `train --method zcr` wrote then."""
    file = Path(__file__).with_name("before_latent_consistency.yaml")
    assert "  near_generator: 0.02\n" in file.read_text()
    objective = load_config(file).objective
    assert (objective.latent_consistency_sigma, objective.latent_consistency_generator) == (0.1, 0.02)
    assert objective.latent_consistency_discriminator == 0.2
