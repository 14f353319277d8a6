"""Networks come back from disk whole, on their own memory, and at once."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from frugan.networks import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig, SynthesisConfig
from frugan.networks.serialization import build, save_generator, weights_digest

SMALL: dict[str, Any] = {"channel_base": 64, "channel_max": 8}
GENERATOR: dict[str, Any] = {"z_dim": 8, "w_dim": 8}
NETWORKS = {
    "generator": (Generator, GeneratorConfig((8, 8), **GENERATOR, synthesis=SynthesisConfig(**SMALL))),
    "labels": (Generator, GeneratorConfig((8, 8), label_size=3, **GENERATOR, synthesis=SynthesisConfig(**SMALL))),
    "resnet": (
        Generator,
        GeneratorConfig((6, 8), **GENERATOR, synthesis=SynthesisConfig(**SMALL, architecture="resnet")),
    ),
    "discriminator": (Discriminator, DiscriminatorConfig((8, 8), **SMALL)),
    "variants": (Discriminator, DiscriminatorConfig((8, 8), **SMALL, spectral_norm=True, bits=2, rotation_head=True)),
    "labelled discriminator": (Discriminator, DiscriminatorConfig((8, 8), label_size=3, **SMALL)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_built_network_is_the_one_that_was_kept(name: str, dtype: torch.dtype) -> None:
    kind, config = NETWORKS[name]
    state = {k: v.to(dtype) for k, v in kind(config).state_dict().items()}
    built, direct = build(kind, asdict(config), state, Path("file")), kind(config)
    direct.load_state_dict(state)
    for mine, other in (
        (built.state_dict(), direct.state_dict()),
        (dict(built.named_buffers()), dict(direct.named_buffers())),
    ):
        assert mine.keys() == other.keys()
        for key, value in other.items():
            torch.testing.assert_close(mine[key], value, rtol=0, atol=0)
    assert all(p.requires_grad for p in built.parameters())
    for value in state.values():
        value.zero_()
    torch.testing.assert_close(built.state_dict(), direct.state_dict(), rtol=0, atol=0)


def test_loading_imports_no_compiler(tmp_path: Path) -> None:
    save_generator(tmp_path, Generator(NETWORKS["generator"][1]))
    code = "import sys, frugan; frugan.load(sys.argv[1]); assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)


def test_the_digest_follows_names_types_shapes_and_every_value() -> None:
    make = lambda: Generator(NETWORKS["generator"][1])  # noqa: E731
    torch.manual_seed(0)
    G = make()
    first = weights_digest(G)
    torch.manual_seed(0)
    assert weights_digest(make()) == first
    for name, value in G.state_dict().items():
        kept = value.clone()
        value.reshape(-1)[-1].add_(1)  # buffers too
        assert weights_digest(G) != first, name
        value.copy_(kept)
    assert weights_digest(G) == first
    assert weights_digest(G.double()) != first
