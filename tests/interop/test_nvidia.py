"""Released checkpoints give the images that the reference implementation makes of them."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import GOLDEN, relative_error
from frugan.errors import FruganError
from frugan.interop import read_network, read_release
from frugan.interop.nvidia import _networks, build_discriminator, build_generator
from frugan.interop.pickles import read_pickle
from frugan.networks import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    MappingConfig,
    SynthesisConfig,
)

TOLERANCE = 1e-4


def expected(kind: str) -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / f"nvidia_{kind}_expected.npz") as data:
        return {k: torch.from_numpy(data[k]) for k in data}


@pytest.mark.parametrize("kind", ["pytorch", "tensorflow"])
def test_golden_files(kind: str) -> None:
    found, golden = read_network(GOLDEN / f"nvidia_{kind}.pkl"), expected(kind)
    c = golden.get("c")
    with torch.no_grad():
        assert relative_error(found.generator(golden["z"], c, noise="const"), golden["img_ema"]) < TOLERANCE
        assert found.raw_generator is not None
        assert relative_error(found.raw_generator(golden["z"], c, noise="const"), golden["img"]) < TOLERANCE
        if "ws_ema" in golden:
            assert relative_error(found.generator.mapping(golden["z"], c), golden["ws_ema"]) < TOLERANCE
        if "logits" in golden:
            assert found.discriminator is not None
            assert relative_error(found.discriminator(golden["x"]), golden["logits"][:, 0]) < TOLERANCE
    assert not any(p.requires_grad for p in found.generator.parameters())


def test_a_tensorflow_release_is_g_d_and_their_average() -> None:
    """Gs is for use, G for training on; in the golden file they are equal, so their averages of w are told apart here."""
    content = read_pickle(GOLDEN / "nvidia_tensorflow.pkl")
    for part, value in ((content[0], 1.0), (content[2], 2.0)):
        for network in (part, *part.state["components"].values()):
            for name, array in network.state["variables"]:
                if name == "dlatent_avg":
                    array[:] = value
    found = _networks(content)
    assert found.raw_generator is not None
    assert [float(G.mapping.w_avg.mean()) for G in (found.raw_generator, found.generator)] == [1.0, 2.0]


def test_what_stands_beside_the_weights() -> None:
    pytorch, tensorflow = (read_release(GOLDEN / f"nvidia_{kind}.pkl") for kind in ("pytorch", "tensorflow"))
    assert pytorch.p == 0.375
    assert pytorch.notes == []
    assert tensorflow.p is None
    assert tensorflow.notes == []


def test_outputs_chosen_by_label() -> None:
    """A TensorFlow discriminator without an embedding: label k's logit is that of a network whose only output is output k."""
    D = read_release(GOLDEN / "nvidia_tensorflow.pkl").discriminator
    assert D is not None
    size, state = D.config.label_size, D.state_dict()
    x = torch.randn(4, 3, *D.config.resolution)
    for k in range(size):
        alone = {name: v for name, v in state.items() if not name.startswith("mapping.")}
        alone |= {name: state[name][k : k + 1] for name in ("b4.out.weight", "b4.out.bias")}
        with torch.no_grad():
            logits = D(x, torch.eye(size)[k].expand(4, -1))
            torch.testing.assert_close(logits, build_discriminator(alone, {})(x), rtol=1e-5, atol=1e-5)
    assert size > 1


SHAPES = [
    {},
    {"label_size": 3, "z_dim": 12, "w_dim": 20, "mapping": MappingConfig(num_layers=3, layer_features=24)},
    {"resolution": (8, 8), "channels": 1, "synthesis": {"architecture": "orig"}},
    {
        "resolution": (64, 64),
        "synthesis": {"architecture": "resnet", "channel_base": 300, "resample_filter": (1, 2, 1)},
    },
    {"synthesis": {"use_noise": False, "channel_base": 1 << 14, "channel_max": 16}},
    {"mapping": MappingConfig(num_layers=0, lr_multiplier=0.1)},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes_are_read_off_the_weights(shape: dict[str, Any]) -> None:
    """Whatever the generator, its bare weights are enough to build it again."""
    synthesis = {"channel_base": 512, "channel_max": 32, **shape.get("synthesis", {})}
    options = {"resolution": (16, 16), "z_dim": 16, "w_dim": 16, "mapping": MappingConfig(num_layers=2), **shape}
    config = GeneratorConfig(**{**options, "synthesis": SynthesisConfig(**synthesis)})
    G = Generator(config)
    state = dict(G.state_dict())
    taps = torch.tensor(config.synthesis.resample_filter).float()
    state["synthesis.b8.resample_filter"] = torch.outer(taps, taps) / taps.sum() ** 2
    again = build_generator(state, {})
    assert again.config.mapping == config.mapping
    assert again.config.synthesis.resample_filter == pytest.approx(config.synthesis.resample_filter)
    z, c = torch.randn(2, config.z_dim), torch.eye(3)[:2] if config.label_size else None
    with torch.no_grad():
        noise = "const" if config.synthesis.use_noise else "none"
        assert torch.equal(again(z, c, noise=noise), G(z, c, noise=noise))


@pytest.mark.parametrize("architecture", ["resnet", "skip", "orig"])
@pytest.mark.parametrize("label_size", [0, 3])
@pytest.mark.parametrize("size", [8, 32])
def test_discriminators_too(architecture: Any, label_size: int, size: int) -> None:
    config = DiscriminatorConfig(
        (size, size),
        label_size=label_size,
        channel_base=300,
        channel_max=24,
        architecture=architecture,
        mapping=MappingConfig(num_layers=2),
    )
    D = Discriminator(config)
    again = build_discriminator(D.state_dict(), {})
    x, c = torch.randn(4, 3, size, size), torch.eye(4)[:, :3] if label_size else None
    with torch.no_grad():
        assert torch.equal(again(x, c), D(x, c))


def test_a_wrong_weight_is_named() -> None:
    G = read_release(GOLDEN / "nvidia_pytorch.pkl").generator
    state = dict(G.state_dict())
    for change, says in (
        ({"synthesis.b8.conv0.weight": torch.zeros(32, 31, 3, 3)}, r"synthesis.b8.conv0.weight is \(32, 31, 3, 3\)"),
        ({"synthesis.b8.extra": torch.zeros(1)}, "synthesis.b8.extra is .* expected absent"),
    ):
        with pytest.raises(FruganError, match=says):
            build_generator({**state, **change}, {})
    del (short := copy.copy(state))["synthesis.b32.conv1.weight"]
    with pytest.raises(FruganError, match=r"synthesis.b32.conv1.weight is absent"):
        build_generator(short, {})
    with pytest.raises(FruganError, match="blocks up to 0 pixels"):
        build_generator({"weight": torch.zeros(3)}, {})


@pytest.mark.parametrize("value", [3, {}, {"G_ema": 1}, [1, 2, 3], {"a": b"x"}, ("G", "D", "Gs")])
def test_pickles_of_something_else(value: Any, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(FruganError, match="holds no StyleGAN2 networks"):
        read_release(tmp_path / "x.pkl")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FruganError, match="there is no file"):
        read_network(tmp_path / "x.pkl")
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(FruganError, match=r"end in .pkl, "):
        read_network(tmp_path / "x.txt")
