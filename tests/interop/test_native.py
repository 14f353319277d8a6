"""Directories of networks: what goes in comes out, from a foreign file and from a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from conftest import GOLDEN
from frugan.augment import ControllerConfig
from frugan.data import Sampler
from frugan.errors import FruganError
from frugan.interop import Imported, read_directory, read_network, read_release, write_directory
from frugan.losses import ObjectiveConfig
from frugan.networks import DiscriminatorConfig, GeneratorConfig, MappingConfig, SynthesisConfig, save_generator
from frugan.training import TrainingConfig, TrainState, checkpoint

MAPPING = MappingConfig(num_layers=2)
CONFIG = GeneratorConfig((12, 16), 1, 2, 8, 8, MAPPING, SynthesisConfig(channel_base=64, channel_max=8))
D_CONFIG = DiscriminatorConfig((12, 16), 1, 2, channel_base=64, channel_max=8, mapping=MappingConfig(num_layers=0))


def assert_same(found: Imported, expected: Imported) -> None:
    for name in ("generator", "raw_generator", "discriminator"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        if theirs is None:
            assert ours is None
        else:
            assert ours.config == theirs.config
            assert ours.state_dict().keys() == theirs.state_dict().keys()
            assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in ours.state_dict().items())
    assert found.p == expected.p


def test_a_foreign_file(tmp_path: Path) -> None:
    released = read_release(GOLDEN / "nvidia_pytorch.pkl")
    assert released.raw_generator is not None
    assert released.discriminator is not None
    found = read_network(write_directory(tmp_path / "new" / "network", released))
    assert_same(found, released)
    assert not any(p.requires_grad for p in found.generator.parameters())
    assert found.raw_generator is not None
    assert all(p.requires_grad for p in found.raw_generator.parameters())


def test_a_generator_alone(tmp_path: Path) -> None:
    released = read_release(GOLDEN / "nvidia_tensorflow.pkl")
    alone = Imported(released.generator)
    write_directory(tmp_path, released)
    assert_same(read_directory(write_directory(tmp_path, alone)), alone)  # nothing of before is left


@pytest.fixture
def saved(tmp_path: Path) -> tuple[TrainState, Path]:
    state = TrainState.create(
        CONFIG,
        D_CONFIG,
        config=TrainingConfig(),
        objective=ObjectiveConfig(),
        controller=ControllerConfig(),
        sampler=Sampler(torch.arange(4).numpy(), seed=0),
        device=torch.device("cpu"),
    )
    for parameter in state.ema.parameters():
        parameter.mul_(0.5)
    state.controller.p.fill_(0.25)
    return state, checkpoint.save(tmp_path, state).path


def test_a_checkpoint(saved: tuple[TrainState, Path]) -> None:
    state, path = saved
    assert_same(read_network(path), Imported(state.ema, state.G, state.D, 0.25))
    checkpoint.Checkpoint(path).verify()


def test_an_older_checkpoint_does_not_tell_its_discriminator(saved: tuple[TrainState, Path]) -> None:
    state, path = saved
    save_generator(path, state.ema)
    found = read_directory(path)
    assert_same(found, Imported(state.ema, state.G, None, 0.25))
    assert "discriminator was left out" in found.notes[0]


def test_what_is_wrong_is_named(saved: tuple[TrainState, Path], tmp_path: Path) -> None:
    _, path = saved
    config = json.loads((path / "config.json").read_text())

    def refused(generator: object, says: str) -> None:
        (path / "config.json").write_text(json.dumps({**config, "generator": generator}))
        with pytest.raises(FruganError, match=says):
            read_directory(path)

    refused({**config["generator"], "channels": 3}, r"torgb.* expected \(3,")
    refused({**config["generator"], "w_dim": 1 << 40}, "expected|holds no generator")  # no memory is set aside for it
    refused({**config["generator"], "surprise": 1}, "holds no generator")
    refused({**config["generator"], "resolution": [13, 17]}, "12x16")
    refused([], "holds no generator")
    (path / "config.json").write_text("{}")
    with pytest.raises(FruganError, match="describes no generator"):
        read_directory(path)
    (path / "config.json").write_text(json.dumps(config))
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FruganError, match=r"model.safetensors cannot be read"):
        read_directory(path)
    with pytest.raises(FruganError, match="holds no generator"):
        read_network(tmp_path)


def test_other_programs_can_read_it(tmp_path: Path) -> None:
    """Plain safetensors under the released names, and plain JSON."""
    released = read_release(GOLDEN / "nvidia_pytorch.pkl")
    write_directory(tmp_path, released)
    assert {p.name for p in tmp_path.iterdir()} == {
        "model.safetensors",
        "generator.safetensors",
        "discriminator.safetensors",
        "config.json",
    }
    tensors = safetensors.torch.load_file(tmp_path / "discriminator.safetensors")
    assert "b32.fromrgb.weight" in tensors
    assert json.loads((tmp_path / "config.json").read_text())["p"] == 0.375
