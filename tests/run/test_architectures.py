"""Another architecture: a folder's worth of classes and a row of the table train, resume, export and generate."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import yaml
from torch import Tensor, nn

import frugan
from frugan.channels import MaskChannel
from frugan.config.schema import load_config, save_config
from frugan.errors import FruganError
from frugan.interop import ExportConfig, export_program, read_network, save_pretrained
from frugan.label_parts import Measured
from frugan.networks import Extras, Generator, GeneratorConfig, MappingConfig, SynthesisConfig
from frugan.networks.registry import ARCHITECTURES, DEFAULT, Architecture, architecture_of, find_architecture
from frugan.networks.serialization import weights_digest
from frugan.pixel_format import PixelFormat
from frugan.run.train import Run

from .conftest import TINY
from .test_resume import assert_same

# The folder of a new architecture: its configurations and its networks.


@dataclass(frozen=True)
class ToyGeneratorConfig:
    """Latents of `z_dim` numbers, one layer of `width` feature maps; `gain` is what no other architecture has."""

    resolution: tuple[int, int]
    channels: int = 3
    label_size: int = 0
    z_dim: int = 8
    w_dim: int = 8
    width: int = 16
    gain: float = 2.0
    measured: tuple[Measured, ...] = ()
    pixels: PixelFormat | None = None
    masks: tuple[MaskChannel, ...] = ()
    mapping: MappingConfig = MappingConfig(num_layers=1)
    synthesis: SynthesisConfig = SynthesisConfig()


class ToyGenerator(Generator):
    """A generator with a last layer of its own."""

    def __init__(self, config: ToyGeneratorConfig) -> None:
        shared = {f.name: getattr(config, f.name) for f in dataclasses.fields(GeneratorConfig)}
        super().__init__(GeneratorConfig(**shared))
        self.config: Any = config
        self.synthesis.register_forward_hook(lambda module, inputs, image: (image * config.gain).tanh())
        self.tone = nn.Parameter(torch.ones(config.width))


@dataclass(frozen=True)
class ToyDiscriminatorConfig:
    """`features` of one dense layer."""

    resolution: tuple[int, int]
    channels: int = 3
    label_size: int = 0
    measured: tuple[Measured, ...] = ()
    features: int = 12
    mbstd_group: int | None = 1


class ToyDiscriminator(nn.Module):
    """Two dense layers."""

    largest = 1 << 40

    def __init__(self, config: ToyDiscriminatorConfig) -> None:
        super().__init__()
        self.config, self.label_size = config, config.label_size
        height, width = config.resolution
        self.first = nn.Linear(height * width * config.channels, config.features)
        self.last = nn.Linear(config.features, 1)

    def draw_extras(self, n: int, p: float | Tensor, rng: torch.Generator) -> Extras:
        return Extras()

    def power_iteration(self) -> None: ...

    def forward(self, images: Tensor, c: Tensor | None = None, **_: Any) -> Tensor:
        return self.last(self.first(images.float().flatten(1)).sin())[:, 0]


TOY = Architecture(ToyGeneratorConfig, ToyDiscriminatorConfig, ToyGenerator, cast(Any, ToyDiscriminator))


@pytest.fixture(autouse=True)
def _row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of the table."""
    monkeypatch.setitem(ARCHITECTURES, "toy", TOY)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Path:
    out = tmp_path_factory.mktemp("toy") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "toy", TOY)
        patch.setenv("FRUGAN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        list(frugan.train(image_folder, out, device="cpu", architecture="toy", **TINY))
    return out


def test_trains(whole: Path) -> None:
    config = load_config(whole / "config.yaml")
    assert config.architecture == "toy"
    assert type(config.generator) is ToyGeneratorConfig
    assert type(config.discriminator) is ToyDiscriminatorConfig
    assert config.generator.resolution == config.discriminator.resolution == (16, 16)
    G = frugan.load(whole)
    assert type(G) is ToyGenerator
    torch.manual_seed(0)
    assert weights_digest(G) != weights_digest(ToyGenerator(config.generator))


def test_resumes(whole: Path, image_folder: Path, tmp_path: Path) -> None:
    """Bit for bit."""
    out = tmp_path / "run"
    for report in frugan.train(image_folder, out, device="cpu", architecture="toy", **TINY):
        if report["kimg"] >= 0.08:
            break
    list(Run(out).train(device="cpu"))
    assert_same(out, whole)


def test_exports_and_generates(whole: Path, tmp_path: Path) -> None:
    G = frugan.load(whole)
    images = G.sample(range(3), noise="none")
    assert images.shape == (3, 3, 16, 16)
    again = frugan.from_pretrained(save_pretrained(G, tmp_path / "network"))
    assert type(again) is ToyGenerator
    torch.testing.assert_close(again.sample(range(3), noise="none"), images)
    kept = read_network(Path(Run(whole).latest().path))
    assert type(kept.raw_generator) is ToyGenerator
    assert type(kept.discriminator) is ToyDiscriminator
    done = export_program(tmp_path / "network.pt2", G, ExportConfig(noise="none"))
    assert done.difference is not None
    assert done.difference < 1e-4


def test_runs_and_networks_without_a_name_are_stylegan2(whole: Path, tmp_path: Path) -> None:
    """As all had none before there was a choice."""
    G = Generator(GeneratorConfig((8, 8), z_dim=8, w_dim=8, mapping=MappingConfig(1), synthesis=SynthesisConfig(64, 8)))
    folder = save_pretrained(G, tmp_path / "network")
    file = folder / "config.json"
    file.write_text(file.read_text().replace('"architecture": "stylegan2",', "", 1))
    assert type(frugan.from_pretrained(folder)) is Generator
    config = dataclasses.replace(
        load_config(whole / "config.yaml"), architecture=DEFAULT, generator=G.config, discriminator=_discriminator()
    )
    save_config(config, tmp_path / "config.yaml")
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert written.pop("architecture") == "stylegan2"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(written))
    assert load_config(tmp_path / "config.yaml") == config


def _discriminator() -> Any:
    return ARCHITECTURES[DEFAULT].discriminator_config((8, 8), channel_base=64, channel_max=8)


@pytest.mark.parametrize("name", ["toi", "", None, 3, ["stylegan2"], "x" * 9999])
def test_unknown_names_are_told(name: object, whole: Path, tmp_path: Path, image_folder: Path) -> None:
    with pytest.raises(FruganError, match=r"choose one of stylegan2, toy"):
        find_architecture(name)
    content = yaml.safe_load((whole / "config.yaml").read_text()) | {"architecture": name}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(FruganError, match=r"config\.yaml cannot be read: .*choose one of stylegan2, toy"):
        load_config(tmp_path / "config.yaml")
    if isinstance(name, str) and name:
        with pytest.raises(FruganError, match="choose one of stylegan2, toy"):
            frugan.train(image_folder, tmp_path / "run", device="cpu", **{**TINY, "architecture": name})  # pyright: ignore[reportArgumentType]
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"method": "adaptive-dropout"}, "--method adaptive-dropout sets .*which ToyDiscriminatorConfig does not have"),
        ({"d_architecture": "skip"}, "an option sets architecture, which ToyDiscriminatorConfig does not have"),
    ],
)
def test_settings_that_an_architecture_lacks_are_told(
    asked: dict[str, Any], message: str, image_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(FruganError, match=message):
        frugan.train(image_folder, tmp_path / "run", device="cpu", architecture="toy", **{**TINY, **asked})


def test_starting_from_another_architecture_is_refused(whole: Path, image_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FruganError, match="has networks of architecture toy, not stylegan2"):
        frugan.train(
            image_folder, tmp_path / "run", device="cpu", init_from=str(whole), architecture="stylegan2", **TINY
        )


def test_names_of_configurations() -> None:
    toy = ToyGeneratorConfig((8, 8))
    assert architecture_of(toy) == architecture_of(toy, ToyDiscriminatorConfig((8, 8))) == "toy"
    with pytest.raises(FruganError, match="no architecture has ToyGeneratorConfig and DiscriminatorConfig"):
        architecture_of(toy, _discriminator())
