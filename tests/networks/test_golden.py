"""The networks agree with the reference implementation: values, first and second gradients."""

from __future__ import annotations

import pytest
import torch

from conftest import load_golden, relative_error
from frugan.losses import gradient_norm, path_lengths
from frugan.networks import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    MappingConfig,
    SynthesisConfig,
)

TOLERANCE = 1e-4


def state(golden: dict) -> dict:
    return {
        k.removeprefix("state/"): v
        for k, v in golden.items()
        if k.startswith("state/") and not k.endswith("resample_filter")
    }


def make_generator(golden: dict) -> Generator:
    config = golden["config"]
    synthesis = dict(config["synthesis_kwargs"])
    generator = Generator(
        GeneratorConfig(
            resolution=(config["img_resolution"],) * 2,
            channels=config["img_channels"],
            label_size=config["c_dim"],
            z_dim=config["z_dim"],
            w_dim=config["w_dim"],
            mapping=MappingConfig(**config["mapping_kwargs"]),
            synthesis=SynthesisConfig(clamp=synthesis.pop("conv_clamp", None), **synthesis),
        )
    )
    generator.load_state_dict(state(golden))
    return generator


def make_discriminator(golden: dict) -> Discriminator:
    config = dict(golden["config"])
    epilogue = config.pop("epilogue_kwargs")
    size = config.pop("img_resolution")
    discriminator = Discriminator(
        DiscriminatorConfig(
            resolution=(size, size),
            channels=config.pop("img_channels"),
            label_size=config.pop("c_dim"),
            clamp=config.pop("conv_clamp", None),
            mbstd_group=epilogue["mbstd_group_size"],
            mbstd_channels=epilogue.get("mbstd_num_channels", 1),
            **config,
        )
    )
    discriminator.load_state_dict(state(golden))
    return discriminator


@pytest.mark.parametrize("i", range(3))
def test_generator(i: int, device: torch.device) -> None:
    golden = load_golden(f"generator_{i}.npz")
    G = make_generator(golden).to(device)
    z, c = golden["z"].to(device), golden["c"].to(device)
    ws = G.mapping(z, c)
    cutoff = int(golden["truncation_cutoff"])
    results = {
        "ws": ws,
        "ws_psi05": G.mapping(z, c, truncation=0.5),
        "ws_psi07_cut": G.mapping(z, c, truncation=0.7, truncation_cutoff=cutoff),
        "img_noise_const": G.synthesis(ws, noise="const"),
        "img_noise_none": G.synthesis(ws, noise="none"),
        "img_noise_none_train_mode": G.train().synthesis(ws, noise="none"),
    }
    for name, result in results.items():
        assert relative_error(result, golden[name]) < TOLERANCE, name


@pytest.mark.parametrize("i", range(3))
def test_path_length(i: int, device: torch.device) -> None:
    golden = load_golden(f"generator_{i}.npz")
    G = make_generator(golden).to(device)
    ws = G.mapping(golden["z"].to(device), golden["c"].to(device))
    lengths = path_lengths(lambda ws: G.synthesis(ws, noise="const"), ws, golden["pl_y"].to(device))
    assert relative_error(lengths, golden["pl_lengths"]) < TOLERANCE
    penalty = (lengths - golden["pl_target"].to(device)).square().mean()
    assert relative_error(penalty, golden["pl_penalty"]) < TOLERANCE
    penalty.backward()
    for name in (k for k in golden if k.startswith("pl_grad/")):
        assert relative_error(G.get_parameter(name.removeprefix("pl_grad/")).grad, golden[name]) < TOLERANCE, name  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("i", range(4))
def test_discriminator(i: int, device: torch.device) -> None:
    golden = load_golden(f"discriminator_{i}.npz")
    D = make_discriminator(golden).to(device)
    x, c = golden["x"].to(device), golden["c"].to(device)
    logits = D(x, c)
    assert relative_error(logits, golden["logits"].squeeze(1)) < TOLERANCE
    inputs = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(D(inputs, c).sum(), inputs)
    assert relative_error(grad, golden["grad_x"]) < TOLERANCE
    r1 = gradient_norm(lambda x: D(x, c), x)
    assert relative_error(r1, golden["r1"]) < TOLERANCE
    (r1.mean() / 2).backward()
    for name in (k for k in golden if k.startswith("r1_grad/")):
        assert relative_error(D.get_parameter(name.removeprefix("r1_grad/")).grad, golden[name]) < TOLERANCE, name  # pyright: ignore[reportArgumentType]
