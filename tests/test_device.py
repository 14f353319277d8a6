"""Everything that runs on an accelerator, on a fake one: no tensors of two devices meet, and no step waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import frugan
import frugan.data.dataset
import frugan.device
import frugan.run.estimate
import frugan.run.evaluate
import frugan.run.membership
import frugan.run.sample_grid
import frugan.run.session
import frugan.run.train
from frugan.augment import MEASUREMENTS
from frugan.cli.app import app
from frugan.config.methods import METHODS
from frugan.data import DataConfig
from frugan.latent.code import save_code
from frugan.metrics import METRICS

from .fake_device import KIND, NAME, Pretence, needed, pretending
from .latent.test_code import make_code
from .training.conftest import TINY, _cache, image_folder  # noqa: F401

pytestmark = needed

PLAIN: dict[str, Any] = {"path_length_weight": 0.0, "style_mixing": 0.0}  # every method has them, where it may
CASES: dict[str, dict[str, Any]] = {
    **{name: {"method": name} for name in METHODS},
    **{f"measurement {name}": {"measurement": name, "augment": "none", **PLAIN} for name in MEASUREMENTS},
    **{f"augment {name}": {"transforms": name, **PLAIN} for name in ("bgcfnc", "color", "filter")},
    "bf16": {"precision": "bf16"},
    "fp16": {
        "precision": "fp16",
        **PLAIN,
    },  # path length in float16 crashes PyTorch's dispatch in Python, on this device alone
    "auto": {"preset": "auto", "channel_max": 16},
    "held out": {"controller": "rv", "target": 0.1},
    "labels": {"conditional": True, "labels": "folders"},
    "in parts": {"batch_per_device": 4},
    "mirrored": {"mirror": True},
    "activation checkpointing": {"activation_checkpointing": True},
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Backward passes stay in this thread: the device computes in Python, which autograd's own threads, with their small
    stacks, have been seen to crash on."""
    with torch.autograd.set_multithreading_enabled(False):
        yield


@pytest.fixture
def pretence(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pretence]:
    """The device is there, and copies to it from page-locked memory are free, as on CUDA."""
    monkeypatch.setattr(frugan.data.dataset, "_PINNED", ("cuda", KIND))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    for module in (frugan.device, frugan.run.estimate, frugan.run.evaluate, frugan.run.train):
        monkeypatch.setattr(module, "choose_device", torch.device)
    monkeypatch.setattr(frugan.run.sample_grid, "grid_shape", lambda size: (4, 2))
    with pretending(monkeypatch) as pretence:
        yield pretence


def test_what_is_noticed(pretence: Pretence) -> None:
    x = torch.arange(3.0, device=NAME)
    with pytest.raises(AssertionError, match="two devices"):
        torch.stack([x[0], torch.tensor(1.0)])
    with pytest.raises(TypeError, match="float64"):
        x.double()
    assert (x + torch.tensor(1.0)).device == torch.device(NAME)
    assert not pretence.waits
    for wait in (
        x[1].item,
        x.tolist,
        x.nonzero,
        lambda: x[x > 1],
        x.cpu,
        lambda: torch.tensor([1.0], device=NAME),
        lambda: torch.zeros(3).to(NAME),
        lambda: x.copy_(torch.zeros(3)),
    ):
        pretence.waits.clear()
        wait()
        assert pretence.waits.total() == 1


def train(image_folder: Path, out: Path, device: str, **options: Any) -> list[dict[str, Any]]:  # noqa: F811
    method = METHODS[options.get("method", "ada")]
    shared = {k: v for k, v in TINY.items() if k not in method.preset}  # an option would win over the method
    options = {**shared, "kimg": 0.016, "tick_kimg": 0.008, "precision": "fp32", **options}
    if method.options.get("augment", "none") != "ada" or "augment" in options:
        options.pop("target")
    source = {name: options.pop(name) for name in ("held_out", "mirror", "labels") if name in options}
    return list(frugan.train(DataConfig(str(image_folder), **source), out, device=device, **options))


@pytest.mark.parametrize("case", CASES)
def test_training(
    case: str,
    image_folder: Path,  # noqa: F811
    tmp_path: Path,
    pretence: Pretence,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first losses are the CPU's, and within a step the host waits for nothing, after a resume either."""
    steps, waits = 0, Counter[str]()

    def watched(*parts: Any) -> Iterator[Any]:
        nonlocal steps
        training = real_steps(*parts)
        while True:
            pretence.waits.clear()
            report = next(training)
            steps += 1
            waits.update(pretence.waits)
            yield report

    real_steps = frugan.run.session.training_steps
    with monkeypatch.context() as patched:
        patched.setattr(frugan.run.session, "training_steps", watched)
        there = train(image_folder, tmp_path / "there", NAME, **CASES[case])
        list(frugan.Run(tmp_path / "there").train(kimg=0.024, device=NAME))
    assert steps == 3
    assert not waits
    here = train(image_folder, tmp_path / "here", "cpu", **{**CASES[case], "kimg": 0.008})
    exact = 1e-4 if "precision" not in CASES[case] else 0.05
    # rounding; which a step of Adam magnifies
    for name, tolerance in (("loss/generator", exact), ("loss/discriminator", 0.05)):
        assert there[0][name] == pytest.approx(here[0][name], rel=tolerance, abs=tolerance), name


def averages() -> nn.Module:
    """A feature network."""
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten())


@pytest.fixture
def run(image_folder: Path, tmp_path: Path, pretence: Pretence) -> Path:  # noqa: F811
    train(image_folder, tmp_path / "run", NAME, held_out=10)
    return tmp_path / "run"


def test_images_are_the_cpus(run: Path) -> None:
    there, here = frugan.load(run).to(NAME), frugan.load(run)
    for noise in ("const", "random", "none"):
        found = there.sample(seeds=range(3), noise=noise, truncation=0.7)
        assert found.device == torch.device(NAME)
        torch.testing.assert_close(found.cpu(), here.sample(seeds=range(3), noise=noise, truncation=0.7))


@pytest.mark.parametrize(
    "command",
    [
        "generate RUN --seeds 0-2 --out OUT",
        "generate RUN --seeds 0-2 --grid --noise random --out OUT",
        "train DATA --out OUT --preset tiny --dry-run",
        "train DATA --out OUT --preset tiny --batch 8 --batch-per-device auto --kimg 0.032",
    ],
)
def test_commands(command: str, run: Path, image_folder: Path, tmp_path: Path) -> None:  # noqa: F811
    places = {"RUN": run, "OUT": tmp_path / "out", "DATA": image_folder}
    result = CliRunner().invoke(app, [str(places.get(word, word)) for word in command.split()] + ["--device", NAME])
    assert result.exit_code == 0, result.output


def test_commands_of_a_trained_generator(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_code(replace(make_code(frugan.load(run), noise=True), c=None), tmp_path / "me.safetensors")
    for command in (
        "directions RUN --count 1 --samples 500 --out found",
        "directions RUN --method sefa --count 1 --samples 500 --out shape",
        "directions RUN --method difference --seeds 0 --to-seeds 1 --samples 500 --out two",
        "edit RUN --direction found:0 --seeds 0-1 --strengths 0,1 --out edited",
        "mix RUN --rows 0-1 --columns 2 --levels 4",
        "mix RUN --rows me.safetensors,1 --columns 2 --levels 4 --out fitted.png",
        "sweep RUN --seeds 0-1 --truncation 0:1:2",
        "sweep RUN --seeds me.safetensors --truncation 0:1:2 --out fitted-sweep.png",
        "video RUN --truncation 1:0 --seeds me.safetensors --seconds 0.1 --out fitted.webp",
        "blend RUN RUN --at 8 --out blended",
        "video RUN --loop --seeds 0-2 --seconds 0.1 --out loop.webp",
        "video RUN --morph RUN --seeds 0-2 --seconds 0.1 --out morph.webp",
    ):
        words = [str(run) if word == "RUN" else word for word in command.split()]
        result = CliRunner().invoke(app, [*words, "--device", NAME])
        assert result.exit_code == 0, (command, result.output, result.exception)


def test_metrics(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, to rounding the CPU's; images are reconstructed in a few steps."""
    quick = replace(frugan.run.membership.RECONSTRUCTION, steps_w=2, steps=2)
    monkeypatch.setattr(frugan.run.membership, "RECONSTRUCTION", quick)
    options: dict[str, Any] = {
        "metrics": tuple(set(METRICS) - {"is"}),  # which needs classes
        "samples": 64,
        "features": f"{__name__}:averages",
        "input_size": 16,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }
    there, here = (frugan.evaluate(run, device=device, **options).values for device in (NAME, "cpu"))
    assert there.keys() == here.keys()
    for name, value in here.items():
        assert there[name] == pytest.approx(value, rel=1e-2, abs=1e-3), name
