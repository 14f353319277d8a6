"""The table of methods: each trains as its row says, and combinations are accepted or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import frugan
from frugan.augment import MEASUREMENTS
from frugan.config.methods import METHODS, choose
from frugan.config.options import Options
from frugan.config.presets import PRESETS, Preset
from frugan.config.resolve import Facts, resolve
from frugan.data import DataConfig
from frugan.errors import FruganError
from frugan.losses import ObjectiveConfig
from frugan.networks import Discriminator, DiscriminatorConfig, Generator
from frugan.run.build import make_phases
from frugan.run.estimate import estimate
from frugan.run.train import Run
from frugan.training import phases as phases_module
from frugan.training.phases import training_only
from frugan.training.trial import passes
from tests.training.conftest import TINY, _cache, image_folder  # noqa: F401

ROOT = Path(__file__).parents[2]
FACTS = Facts(resolution=(16, 16), channels=3, label_size=0, images=100, held_out=10)
DATA = DataConfig(path="images")


def config(method: str, **options):
    return resolve(Options(method=method, **options), DATA, FACTS)[0]


@pytest.mark.parametrize("name", METHODS)
def test_rows_name_settings_that_exist(name: str) -> None:
    method = METHODS[name]
    for settings, where in (
        (method.preset, Preset),
        (method.options, Options),
        (method.objective, ObjectiveConfig),
        (method.discriminator, DiscriminatorConfig),
    ):
        assert settings.keys() <= where.__dataclass_fields__.keys()
    assert method.excludes.keys() <= METHODS.keys()
    resolved = config(name)
    for settings, part in ((method.objective, resolved.objective), (method.discriminator, resolved.discriminator)):
        for key, value in settings.items():
            assert getattr(part, key) == value


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_and_resumes_bit_for_bit(name: str, tmp_path: Path, image_folder: Path) -> None:  # noqa: F811
    options = {**TINY, "kimg": 0.064, "tick_kimg": 0.032, "method": name, "seed": 1, "precision": "fp32"}
    if METHODS[name].options.get("augment", "none") != "ada":
        del options["target"]
    options = {k: v for k, v in options.items() if k not in METHODS[name].preset}  # an option would win over the method
    whole = list(frugan.train(image_folder, tmp_path / "whole", device="cpu", **options))
    steps = frugan.train(image_folder, tmp_path / "parts", device="cpu", **options)
    next(steps)
    steps.close()  # pyright: ignore[reportAttributeAccessIssue]
    resumed = list(Run(tmp_path / "parts").train(device="cpu"))
    for key in ("loss/generator", "loss/discriminator", "p", "r_t"):
        assert whole[-1][key] == resumed[-1][key], key
        assert whole[-1][key] == whole[-1][key], f"{key} is not a number"
    a, b = (torch.cat([v.flatten() for v in frugan.load(tmp_path / k).parameters()]) for k in ("whole", "parts"))
    assert torch.equal(a, b)


@pytest.mark.parametrize("name", METHODS)
def test_cost_is_told_and_the_page_lists_it(name: str) -> None:
    small = config(name, preset="tiny", channel_base=64, channel_max=8, latent=16, batch=8)
    cost = estimate(small, "cpu")
    assert cost.seconds_per_kimg > 0
    assert cost.memory_bytes > 0
    assert f"| `{name}` | {METHODS[name].about} |" in (ROOT / "docs" / "reference" / "methods.md").read_text("utf-8")


@pytest.mark.parametrize("name", METHODS)
def test_real_and_generated_images_at_once_or_apart(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same loss and gradients, to rounding."""
    small = config(name, preset="tiny", channel_base=64, channel_max=8, latent=16, batch=8, precision="fp32")
    torch.manual_seed(0)
    phases = make_phases(small, Generator(small.generator), Discriminator(small.discriminator))
    found, looks = [], []
    phases.D.register_forward_hook(lambda *_: looks.append(len(found)))
    for most in (0, phases.D.largest * 16):
        monkeypatch.setattr(phases_module, "_AT_ONCE", most)
        phases.D.zero_grad()
        with training_only(phases.D, phases.G):
            loss = passes(phases, 8, torch.Generator().manual_seed(0))[1].run()[0]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in phases.D.parameters()]
        found.append((loss, torch.cat([gradient.flatten() for gradient in gradients])))
    assert looks.count(1) == looks.count(0) - 1
    torch.testing.assert_close(*(loss for loss, _ in found))
    assert (found[0][1] - found[1][1]).norm() < 1e-4 * found[0][1].norm()


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("ada,none", "want augment"),
        ("wgan-gp,hinge", "want loss"),
        ("wgan-gp,ada", "r_t cannot steer"),
        ("r3gan,ada", "r_t cannot steer"),
        ("pagan,ada", "another target"),
        ("lecam,wgan-gp", "centred"),
        ("nonsense", "unknown method"),
    ],
)
def test_what_does_not_go_together(method: str, message: str) -> None:
    with pytest.raises(FruganError, match=message):
        choose(method.split(","))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "wgan-gp", "augment": "ada"}, "no zero point"),
        ({"method": "ada,auxiliary-rotation"}, "unanswerable"),
        ({"method": "apa", "measurement": "drop-pixels"}, "clean"),
        ({"measurement": "nonsense"}, "unknown measurement"),
        ({"method": "ada", "d_capacity": 0.0}, "d-capacity"),
        ({"method": "ada", "consistency_reach": 1.0}, "--method bcr"),
    ],
)
def test_what_options_do_not_allow(options: dict, message: str) -> None:
    with pytest.raises(FruganError, match=message):
        config(**{"method": "ada", **options})


def test_labels_and_turns_exclude_each_other() -> None:
    facts = Facts(resolution=(16, 16), channels=3, label_size=2, images=100, held_out=0)
    with pytest.raises(FruganError, match="without labels"):
        resolve(Options(method="auxiliary-rotation", conditional=True), DATA, facts)


def test_combinations() -> None:
    both = config("ada,bcr")
    assert both.augment.transforms
    assert both.objective.consistency_fake == 10
    assert both.controller.kind == "rt"
    assert config("apa").augment.transforms == ()
    assert config("apa,ada").augment.transforms
    assert config("bcr").controller.kind == "none"
    assert config("r3gan,scheduled").controller.p_max == pytest.approx(0.3)
    assert config("wgan-gp", controller="rv", augment="ada").controller.kind == "rv"
    assert config("pagan").controller.target == pytest.approx(0.95)


def test_what_the_user_gives_wins() -> None:
    assert config("wgan-gp").training.generator_lr == pytest.approx(0.001)
    assert config("bcr", consistency_transforms="rotate90").objective.consistency_transforms == ("rotate90",)
    assert config("wgan-gp", lr=0.5).training.generator_lr == 0.5
    assert config("pagan", target=0.5).controller.target == 0.5
    assert config("shallow-mapping", preset="stylegan2").generator.mapping.num_layers == 2
    assert config("none", preset="stylegan2").generator.mapping.num_layers == PRESETS["stylegan2"].mapping_layers


def test_capacity_is_of_the_discriminator() -> None:
    half, whole = config("ada", d_capacity=0.5), config("ada")
    assert half.generator == whole.generator
    assert half.discriminator.channel_base * 2 == whole.discriminator.channel_base
    assert half.discriminator.channel_max * 2 == whole.discriminator.channel_max


@pytest.mark.parametrize("name", ["drop-pixels", "blur-noise", "pad-rotate-project"])
def test_learning_behind_a_measurement(name: str, tmp_path: Path, image_folder: Path) -> None:  # noqa: F811
    assert name in MEASUREMENTS
    records = list(
        frugan.train(image_folder, tmp_path / "run", device="cpu", **{**TINY, "measurement": name, "kimg": 0.04})  # pyright: ignore[reportArgumentType]
    )
    assert records[-1]["loss/generator"] > 0
