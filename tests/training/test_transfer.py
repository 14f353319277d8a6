"""Weights transferred from other networks: of other sizes, channels and labels; frozen parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import frugan
from frugan.config.options import Options
from frugan.data import DataConfig
from frugan.errors import FruganError
from frugan.interop import Imported
from frugan.networks import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig, MappingConfig
from frugan.networks.stylegan2.synthesis import SynthesisConfig
from frugan.run.load import read_source
from frugan.run.plan import plan
from frugan.run.train import Run
from frugan.training import StartReport, TransferConfig
from frugan.training.transfer import freeze, layers_from_image, transfer

from .conftest import TINY

GOLDEN = Path(__file__).parent.parent / "golden"
FINE_TUNE: dict[str, Any] = {
    k: v for k, v in TINY.items() if k not in ("channel_base", "channel_max", "latent", "held_out")
}


def networks(
    seed: int, size: tuple[int, int] = (16, 16), channels: int = 3, labels: int = 0, **mapping: Any
) -> tuple[Generator, Discriminator]:
    torch.manual_seed(seed)
    config = MappingConfig(num_layers=2, **mapping)
    G = Generator(GeneratorConfig(size, channels, labels, 8, 8, config, SynthesisConfig(128, 8)))
    D = Discriminator(DiscriminatorConfig(size, channels, labels, channel_base=128, channel_max=8))
    for net in (G, D):
        for p in net.parameters():
            p.data += torch.randn_like(p) * 0.1  # biases and noise strengths too
    return G, D


def start(target: tuple[Generator, Discriminator], source: tuple[Generator, Discriminator]) -> StartReport:
    report = StartReport("source")
    ema = transfer(target, Imported(source[0], source[0], source[1]), report)
    for a, b in zip(ema.state_dict().values(), target[0].state_dict().values(), strict=True):
        assert torch.equal(a, b)
    return report


def image_set_of(G: Generator, c: torch.Tensor | None = None) -> torch.Tensor:
    with torch.no_grad():
        return G(G.latents(range(4)), None if c is None else c.expand(4, -1), noise="const")


def test_same_shape_is_the_same_network() -> None:
    source, target = networks(0), networks(1)
    report = start(target, source)
    assert report.complete
    assert report.kept == report.total
    assert torch.equal(image_set_of(target[0]), image_set_of(source[0]))
    x = torch.randn(4, 3, 16, 16)
    assert torch.equal(target[1](x), source[1](x))


@pytest.mark.parametrize("size", [(32, 32), (8, 8), (12, 16)])
def test_other_resolution_shares_what_it_can(size: tuple[int, int]) -> None:
    source, target = networks(0), networks(1, size)
    report = start(target, source)
    assert not report.complete
    G, source_G = target[0], source[0]
    assert torch.equal(G.mapping.fc1.weight, source_G.mapping.fc1.weight)  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
    assert torch.equal(G.synthesis.blocks[1].conv1.weight, source_G.synthesis.blocks[1].conv1.weight)
    outcomes = {d.outcome for d in report.differences}
    assert outcomes == {(32, 32): {"fresh", "unused"}, (8, 8): {"fresh", "unused"}, (12, 16): {"fresh"}}[size]
    assert sum(report.kept.values()) > 0.5 * min(
        sum(v.numel() for net in pair for v in net.state_dict().values()) for pair in (source, target)
    )


def test_grey_from_rgb_is_the_mean_and_back() -> None:
    rgb, grey = networks(0), networks(1, channels=1)
    start(grey, rgb)
    torch.testing.assert_close(image_set_of(grey[0]), image_set_of(rgb[0]).mean(dim=1, keepdim=True))
    x = torch.randn(4, 1, 16, 16)
    torch.testing.assert_close(grey[1](x), rgb[1](x.expand(-1, 3, -1, -1)))
    again = networks(2)
    start(again, grey)
    torch.testing.assert_close(image_set_of(again[0]), image_set_of(grey[0]).expand(-1, 3, -1, -1))
    torch.testing.assert_close(again[1](x.expand(-1, 3, -1, -1)), grey[1](x))


def test_alpha_is_new_and_colour_stays() -> None:
    rgb, rgba = networks(0), networks(1, channels=4)
    start(rgba, rgb)
    torch.testing.assert_close(image_set_of(rgba[0])[:, :3], image_set_of(rgb[0]))


def test_labels_gained_count_for_nothing_at_first() -> None:
    plain, labelled = networks(0), networks(1, labels=3)
    start(labelled, plain)
    for c in torch.eye(3):
        torch.testing.assert_close(image_set_of(labelled[0], c), image_set_of(plain[0]))


def test_labels_lost_leave_their_average() -> None:
    labelled, plain = networks(0, labels=3, lr_multiplier=0.5), networks(1, lr_multiplier=0.5)
    start(plain, labelled)
    x = torch.randn(4, 3, 16, 16)
    mean = torch.stack([labelled[1](x, c.expand(4, -1)) for c in torch.eye(3)]).mean(dim=0)
    torch.testing.assert_close(plain[1](x), mean, atol=1e-5, rtol=1e-4)
    z = plain[0].latents(range(4))
    mapping = labelled[0].mapping
    mapping.num_layers = plain[0].mapping.num_layers = 1  # the average is taken before the first activation:
    first = [mapping.get_submodule("fc0"), plain[0].mapping.get_submodule("fc0")]
    for layer in first:
        layer.activation = "linear"  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
    mean = torch.stack([mapping.features(z, c.expand(4, -1)) for c in torch.eye(3)]).mean(dim=0)
    torch.testing.assert_close(plain[0].mapping.features(z, None), mean, atol=1e-5, rtol=1e-4)


def test_no_discriminator_starts_fresh() -> None:
    source, target = networks(0), networks(1)
    before = {k: v.clone() for k, v in target[1].state_dict().items()}
    report = StartReport("source")
    transfer(target, Imported(source[0]), report)
    assert {d.network for d in report.differences} == {"discriminator"}
    assert all(torch.equal(before[k], v) for k, v in target[1].state_dict().items())
    assert "EMA" in report.notes[0]
    assert report.kept["discriminator"] == 0


def test_freeze_d_counts_from_the_image() -> None:
    _, D = networks(0)
    order = [name for size in (16, 8) for name in (f"b{size}.conv0", f"b{size}.conv1", f"b{size}.skip")]
    names = {id(module): name for name, module in D.named_modules()}
    counted = [names[id(layer)] for _, layer in layers_from_image(D)]
    assert counted == ["b16.fromrgb", *order, "b4.conv", "b4.fc"]


FREEZES = {
    "4 layers": ({"freeze_d": "4"}, {"b16"}),
    "blocks of 8 pixels and more": ({"freeze_d": "8px"}, {"b16", "b8"}),
    "mapping": ({"freeze_mapping": True}, {"mapping"}),
    "one block": ({"freeze_g": "1"}, {"synthesis.b4"}),
    "blocks up to 8 pixels": ({"freeze_g": "8px"}, {"synthesis.b4", "synthesis.b8"}),
}


@pytest.mark.parametrize("name", FREEZES)
def test_freezing(name: str) -> None:
    options, frozen = FREEZES[name]
    G, D = networks(0)
    freeze(G, D, TransferConfig("source", **options))
    where = "D" if "freeze_d" in options else "G"
    for kind, net in (("G", G), ("D", D)):
        for key, p in net.named_parameters():
            inside = kind == where and any(key.startswith(f"{part}.") for part in frozen)
            assert p.requires_grad == (not inside), key


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze_d": "99"}, "there are 9 to freeze"),
        ({"freeze_d": "64px"}, "4, 8, 16"),
        ({"freeze_d": "many"}, "give a count"),
        ({"freeze_g": "0"}, "give a count"),
    ],
)
def test_impossible_freezes(options: dict, message: str) -> None:
    with pytest.raises(FruganError, match=message):
        freeze(*networks(0), TransferConfig("source", **options))
    with pytest.raises(FruganError, match="--init-from"):
        TransferConfig(freeze_mapping=True)


@pytest.fixture(scope="module")
def source_run(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Path:
    out = tmp_path_factory.mktemp("source") / "run"
    list(frugan.train(image_folder, out, device="cpu", **TINY))
    return out


def weights(net: torch.nn.Module | None) -> dict[str, torch.Tensor]:
    assert net is not None
    return dict(net.named_parameters())


def test_fine_tuning_a_run(tmp_path: Path, image_folder: Path, source_run: Path) -> None:
    """It starts from the source, leaves alone what is frozen, trains the rest, and resumes without the source."""
    out = tmp_path / "run"
    options = {**FINE_TUNE, "init_from": str(source_run), "freeze_d": "4", "freeze_mapping": True, "seed": 3}
    steps = frugan.train(image_folder, out, device="cpu", **options)
    next(steps)
    steps.close()  # pyright: ignore[reportAttributeAccessIssue]
    config = Run(out).config
    assert config.generator == Run(source_run).config.generator
    assert config.training.ema_ramp is None
    assert json.loads((out / "start.json").read_text())["differences"] == []
    first = sorted((out / "checkpoints").iterdir())[0]
    assert first.name == "checkpoint-000000.000"
    assert torch.equal(image_set_of(frugan.load(first)), image_set_of(frugan.load(source_run)))
    assert np.array_equal(
        np.asarray(Image.open(out / "samples" / "samples-init.png")),
        np.asarray(Image.open(sorted((source_run / "samples").glob("samples-0*.png"))[-1])),
    )
    list(Run(out).train(device="cpu"))
    unbroken = tmp_path / "unbroken"
    list(frugan.train(image_folder, unbroken, device="cpu", **options))
    one, other = (frugan.load(path) for path in (out, unbroken))
    assert torch.equal(image_set_of(one), image_set_of(other))
    before, after = (read_source(path) for path in (source_run, out))
    for key, value in weights(after.raw_generator).items():
        assert torch.equal(value, weights(before.raw_generator)[key]) == key.startswith("mapping."), key
    for key, value in weights(after.discriminator).items():
        assert torch.equal(value, weights(before.discriminator)[key]) == key.startswith("b16."), key


@pytest.mark.parametrize("release", ["pytorch", "tensorflow"])
def test_fine_tuning_a_released_file(tmp_path: Path, image_folder: Path, release: str) -> None:
    file = GOLDEN / f"nvidia_{release}.pkl"
    options = {**FINE_TUNE, "init_from": str(file), "allow_partial": True, "kimg": 0.04}
    list(frugan.train(image_folder, tmp_path / "run", device="cpu", **options))
    first = sorted((tmp_path / "run" / "checkpoints").iterdir())[0]
    G = frugan.load(file)
    assert frugan.load(first).resolution == G.resolution


def test_strictness(tmp_path: Path, image_folder: Path, source_run: Path) -> None:
    data = DataConfig(path=str(image_folder), resolution=(32, 32))
    options = {**FINE_TUNE, "init_from": str(source_run)}
    with pytest.raises(FruganError, match=r"b32(.|\n)*--allow-partial") as raised:
        plan(Options(**options), data, device=torch.device("cpu"))
    assert "weights transferred" in str(raised.value)
    planned = plan(Options(**options, allow_partial=True), data, device=torch.device("cpu"))
    assert planned.start is not None
    assert not planned.start.complete
