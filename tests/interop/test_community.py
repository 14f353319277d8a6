"""The community layout, against an independent forward pass written from its description."""

from __future__ import annotations

import argparse
import datetime
import functools
import math
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from conftest import GOLDEN
from frugan.errors import FruganError
from frugan.interop import (
    read_community,
    read_network,
    read_notes,
    read_release,
    write_community,
    write_directory,
)
from frugan.networks import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    MappingConfig,
    SynthesisConfig,
)
from frugan.networks.layers import EqualizedLinear
from frugan.run.load import load_with_notes

State = dict[str, Tensor]


def small_networks() -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    synthesis = SynthesisConfig(channel_base=128, channel_max=12)
    G = Generator(
        GeneratorConfig((16, 16), z_dim=10, w_dim=10, mapping=MappingConfig(num_layers=3), synthesis=synthesis)
    )
    D = Discriminator(DiscriminatorConfig((16, 16), channel_base=128, channel_max=12))
    for network in (G, D):
        for parameter in network.parameters():
            if parameter.ndim < 2:
                torch.nn.init.normal_(parameter, 0.3, 0.5)
    torch.nn.init.normal_(G.mapping.w_avg)
    return G, D


def lrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def blur(x: Tensor, kernel: Tensor, pad: tuple[int, int]) -> Tensor:
    n, c, _, _ = x.shape
    x = F.pad(x, (*pad, *pad)).reshape(n * c, 1, x.shape[2] + sum(pad), x.shape[3] + sum(pad))
    x = F.conv2d(x, kernel.flip(0, 1)[None, None])
    return x.reshape(n, c, x.shape[2], x.shape[3])


def modulated(s: State, name: str, x: Tensor, w: Tensor, *, demodulate: bool = True) -> Tensor:
    """One grouped convolution a sample, with weights scaled by its style; upsampling by a transposed one, then a blur."""
    weight = s[f"{name}.conv.weight"]
    _, outputs, inputs, k, _ = weight.shape
    style = F.linear(w, s[f"{name}.conv.modulation.weight"] / math.sqrt(w.shape[1]), s[f"{name}.conv.modulation.bias"])
    weight = weight / math.sqrt(inputs * k * k) * style[:, None, :, None, None]
    if demodulate:
        weight = weight * (weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    n, _, h, wide = x.shape
    x = x.reshape(1, n * inputs, h, wide)
    if f"{name}.conv.blur.kernel" in s:
        weight = weight.transpose(1, 2).reshape(n * inputs, outputs, k, k)
        x = F.conv_transpose2d(x, weight, stride=2, groups=n)
        x = x.reshape(n, outputs, x.shape[2], x.shape[3])
        return blur(x, s[f"{name}.conv.blur.kernel"], (1, 1))
    x = F.conv2d(x, weight.reshape(n * outputs, inputs, k, k), padding=k // 2, groups=n)
    return x.reshape(n, outputs, h, wide)


def generate(content: dict, z: Tensor) -> Tensor:
    s = content["g_ema"]
    w = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
    for i in range(1, 1 + sum(name.startswith("style.") for name in s) // 2):
        w = lrelu(F.linear(w, s[f"style.{i}.weight"] * 0.01 / math.sqrt(w.shape[1]), s[f"style.{i}.bias"] * 0.01))

    def styled(name: str, x: Tensor, noise: int) -> Tensor:
        x = modulated(s, name, x, w) + s[f"{name}.noise.weight"] * s[f"noises.noise_{noise}"]
        return lrelu(x + s[f"{name}.activate.bias"][:, None, None])

    def to_rgb(name: str, x: Tensor) -> Tensor:
        return modulated(s, name, x, w, demodulate=False) + s[f"{name}.bias"]

    x = styled("conv1", s["input.input"].repeat(len(z), 1, 1, 1), 0)
    image = to_rgb("to_rgb1", x)
    for i in range(sum(name.startswith("noises.") for name in s) // 2):
        x = styled(f"convs.{2 * i}", x, 2 * i + 1)
        x = styled(f"convs.{2 * i + 1}", x, 2 * i + 2)
        n, c, h, wide = image.shape
        spread = image.new_zeros(n, c, h, 2, wide, 2)
        spread[:, :, :, 0, :, 0] = image
        image = blur(spread.reshape(n, c, 2 * h, 2 * wide), s[f"to_rgbs.{i}.upsample.kernel"], (2, 1))
        image = image + to_rgb(f"to_rgbs.{i}", x)
    return image


def discriminate(s: State, x: Tensor) -> Tensor:
    def conv(name: str, x: Tensor, stride: int = 1, pad: int = 0) -> Tensor:
        weight = s[f"{name}.weight"]
        return F.conv2d(x, weight / math.sqrt(weight[0].numel()), stride=stride, padding=pad)

    def biased(name: str, x: Tensor) -> Tensor:
        return lrelu(x + s[f"{name}.bias"][:, None, None])

    x = biased("convs.0.1", conv("convs.0.0", x))
    for i in range(1, 1 + sum(name.endswith("skip.1.weight") for name in s)):
        y = biased(f"convs.{i}.conv1.1", conv(f"convs.{i}.conv1.0", x, pad=1))
        y = conv(f"convs.{i}.conv2.1", blur(y, s[f"convs.{i}.conv2.0.kernel"], (2, 2)), stride=2)
        skip = conv(f"convs.{i}.skip.1", blur(x, s[f"convs.{i}.skip.0.kernel"], (1, 1)), stride=2)
        x = (biased(f"convs.{i}.conv2.2", y) + skip) / math.sqrt(2)
    n, c, h, w = x.shape
    group = min(n, 4)
    std = (x.reshape(group, -1, 1, c, h, w).var(0, correction=0) + 1e-8).sqrt().mean(dim=(2, 3, 4), keepdim=True)
    x = torch.cat([x, std.squeeze(2).repeat(group, 1, h, w)], dim=1)
    x = biased("final_conv.1", conv("final_conv.0", x, pad=1)).flatten(1)
    for name in ("final_linear.0", "final_linear.1"):
        weight = s[f"{name}.weight"]
        x = F.linear(x, weight / math.sqrt(weight.shape[1]), s[f"{name}.bias"])
        x = lrelu(x) if name == "final_linear.0" else x
    return x[:, 0]


def test_its_own_forward_pass_makes_the_same_images(tmp_path: Path) -> None:
    G, D = small_networks()
    content = torch.load(write_community(tmp_path / "x.pt", G, D), weights_only=True)
    z, x = torch.randn(3, 10), torch.randn(8, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(generate(content, z), G(z, noise="const"), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(discriminate(content["d"], x), D(x), rtol=1e-4, atol=1e-4)
    assert torch.equal(content["latent_avg"], G.mapping.w_avg)


def test_a_round_trip_changes_nothing(tmp_path: Path) -> None:
    G, D = small_networks()
    found = read_network(write_community(tmp_path / "x.pt", G, D))
    z, x = torch.randn(3, 10), torch.randn(4, 3, 16, 16)
    assert found.discriminator is not None
    with torch.no_grad():
        assert torch.equal(found.generator(z, truncation=0.5, noise="const"), G(z, truncation=0.5, noise="const"))
        assert torch.equal(found.discriminator(x), D(x))
    assert found.generator.config == G.config


def test_from_one_layout_into_the_other(tmp_path: Path) -> None:
    released = read_release(GOLDEN / "nvidia_pytorch.pkl")
    again = read_community(write_community(tmp_path / "x.pt", released.generator, released.discriminator))
    z = torch.randn(2, 32)
    with torch.no_grad():
        assert torch.equal(again.generator(z, noise="const"), released.generator(z, noise="const"))


def test_older_files_have_neither_noise_nor_average(tmp_path: Path) -> None:
    G, _ = small_networks()
    content = torch.load(write_community(tmp_path / "x.pt", G), weights_only=True)
    kept = {k: v for k, v in content["g_ema"].items() if not k.startswith("noises.")}
    torch.save({"g_ema": kept}, tmp_path / "old.pt")
    found = read_community(tmp_path / "old.pt")
    z = torch.randn(2, 10)
    with torch.no_grad():
        torch.testing.assert_close(found.generator(z, noise="none"), G(z, noise="none"))
        again = read_community(tmp_path / "old.pt").generator
        assert torch.equal(found.generator(z, noise="const"), again(z, noise="const"))
    assert "average of w (latent_avg): it was estimated" in found.notes[0]


def as_trained(path: Path, **changes: object) -> Path:
    """What that implementation's own training writes, its options included."""
    G, D = small_networks()
    content = torch.load(write_community(path, G, D), weights_only=True)
    content.pop("latent_avg")
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))], betas=(0.0, 0.99))
    options = argparse.Namespace(path="data", iter=800_000, size=16, r1=10.0, ckpt=None, augment=True)
    content |= {"g_optim": optimiser.state_dict(), "d_optim": optimiser.state_dict(), "args": options}
    torch.save({**content, "ada_aug_p": 0.37, **changes}, path)
    return path


OPTIONS = {
    "nested": argparse.Namespace(inner=argparse.Namespace(lr=0.002, deeper=[argparse.Namespace()])),
    "numpy": argparse.Namespace(lr=np.float64(0.002), n=np.int64(3), on=np.bool_(True), all=np.arange(3)),
    "plain": argparse.Namespace(a=None, b=[1, 2], c=(1, "x"), d={"e": 1.5}, f={1, 2}, g=b"bytes"),
    "paths": argparse.Namespace(path=Path("data"), out=PureWindowsPath("C:/out")),
    "torch": argparse.Namespace(device=torch.device("cpu"), dtype=torch.float32, sizes=torch.arange(3)),
    "dict": vars(argparse.Namespace(size=16)),
    "odd names": argparse.Namespace(**{"__class__x": 1, "__setstate__": "x", "values": 3}),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_options_of_its_training_are_read_as_inert_values(kind: str, tmp_path: Path) -> None:
    found = read_network(as_trained(tmp_path / "x.pt", args=OPTIONS[kind]))
    assert found.p == 0.37
    assert found.discriminator is not None
    assert found.raw_generator is not None


class OtherNamespace(argparse.Namespace):
    pass


@pytest.mark.parametrize(
    "options, says",
    [
        (OtherNamespace(a=1), "OtherNamespace"),
        (argparse.Namespace(run=print), "print"),
        (argparse.Namespace(inner=[OtherNamespace()]), "OtherNamespace"),
        (argparse.Namespace(since=datetime.date(2020, 1, 1)), "datetime.date"),
        (argparse.Namespace(call=functools.partial(print, 1)), "functools.partial"),
        (argparse.Namespace(objects=np.array([{}], dtype=object)), "array"),
    ],
)
def test_options_that_are_no_plain_values_are_refused(options: argparse.Namespace, says: str, tmp_path: Path) -> None:
    with pytest.raises(FruganError, match=says):
        read_network(as_trained(tmp_path / "x.pt", args=options))


@pytest.mark.parametrize("p", [torch.tensor(0.25), np.float32(0.25), 0, 1, None])
def test_p_of_the_augmentation(p: object, tmp_path: Path) -> None:
    assert read_network(as_trained(tmp_path / "x.pt", ada_aug_p=p)).p == (None if p is None else float(p))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("p", [math.nan, -0.5, 21.8, "much", [0.1]])
def test_p_that_is_no_probability_is_left_out_with_a_note(p: object, tmp_path: Path) -> None:
    found = read_network(as_trained(tmp_path / "x.pt", ada_aug_p=p))
    assert found.p is None
    assert "no probability" in found.notes[0]


def test_a_file_without_ema_generator(tmp_path: Path) -> None:
    """Only g, and only the weights of one generator: read, with a note that says which it is."""
    G, _ = small_networks()
    content = torch.load(write_community(tmp_path / "x.pt", G), weights_only=True)
    z = torch.randn(2, 10)
    for name, kept in (("only-g", {"g": content["g"]}), ("bare", content["g"])):
        torch.save(kept, tmp_path / f"{name}.pt")
        found = read_network(tmp_path / f"{name}.pt")
        with torch.no_grad():
            assert torch.equal(found.generator(z, noise="const"), G(z, noise="const"))
        assert "EMA generator" in found.notes[0]


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (32, 3), (16, 4)])
def test_without_an_average_truncation_is_nearly_the_same(side: int, channels: int, tmp_path: Path) -> None:
    torch.manual_seed(1)
    G = Generator(
        GeneratorConfig((side, side), channels, 0, 24, 24, MappingConfig(3), SynthesisConfig(128, 12))
    ).requires_grad_(False)
    for i in range(3):
        torch.nn.init.normal_(G.mapping.get_submodule(f"fc{i}").bias, 0, 40)  # pyright: ignore[reportArgumentType]
    w = G.mapping.features(torch.randn(50_000, 24), None)
    G.mapping.w_avg.copy_(w.mean(dim=0))
    content = torch.load(write_community(tmp_path / "x.pt", G), weights_only=True)
    torch.save({"g_ema": content["g_ema"]}, tmp_path / "y.pt")
    found = read_network(tmp_path / "y.pt")
    assert (found.generator.mapping.w_avg - w.mean(dim=0)).norm() < 0.1 * w.std(dim=0).norm()
    for psi in (0.0, 0.5):
        expected, made = (g.sample(range(8), truncation=psi) for g in (G, found.generator))
        assert (expected - made).abs().mean() < 0.03
    G.mapping.w_avg.zero_()
    assert (expected - G.sample(range(8), truncation=0.5)).abs().mean() > 0.06  # what it would be without
    assert len(found.notes) == 1


def test_notes_stay_with_an_import(tmp_path: Path) -> None:
    found = read_network(as_trained(tmp_path / "x.pt"))
    write_directory(tmp_path / "net", found)
    again = read_network(tmp_path / "net")
    assert again.notes == found.notes == read_notes(tmp_path / "net")
    assert again.p == 0.37
    assert load_with_notes(tmp_path / "net")[1] == load_with_notes(tmp_path / "x.pt")[1] == found.notes


@pytest.mark.parametrize(
    "change, says",
    [
        ({"g_ema": None}, "holds no g_ema"),
        ({"g_ema": {"surprise": torch.zeros(2)}}, "surprise"),
        ({"g_ema": {}}, "StyleGAN2"),
        ({"d": {"convs.0.0.weight": torch.zeros(3)}}, "blocks up to 4 pixels"),
    ],
)
def test_other_files_are_named(change: dict, says: str, tmp_path: Path) -> None:
    G, D = small_networks()
    content = torch.load(write_community(tmp_path / "x.pt", G, D), weights_only=True)
    torch.save({**content, **change}, tmp_path / "x.pt")
    with pytest.raises(FruganError, match=says):
        read_community(tmp_path / "x.pt")


class Sneaky:
    def __reduce__(self) -> tuple:
        return eval, ("1",)


def test_programs_and_damage_are_refused(tmp_path: Path) -> None:
    torch.save({"g_ema": Sneaky()}, tmp_path / "x.pt")
    with pytest.raises(FruganError, match=r"refused: .*eval"):
        read_community(tmp_path / "x.pt")
    G, _ = small_networks()
    whole = write_community(tmp_path / "y.pt", G).read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "y.pt").write_bytes(whole[:cut])
        with pytest.raises(FruganError):
            read_community(tmp_path / "y.pt")


def test_what_the_layout_does_not_know() -> None:
    G = Generator(GeneratorConfig((16, 16), label_size=2, z_dim=8, w_dim=8))
    with pytest.raises(FruganError, match="labels of size 2"):
        write_community("x.pt", G)
    with pytest.raises(FruganError, match="12x16"):
        write_community("x.pt", Generator(GeneratorConfig((12, 16), z_dim=8, w_dim=8)))
    with pytest.raises(FruganError, match="z of 4 numbers beside w of 8, a generator without noise"):
        write_community(
            "x.pt", Generator(GeneratorConfig((8, 8), 3, 0, 4, 8, synthesis=SynthesisConfig(use_noise=False)))
        )


def test_one_output(tmp_path: Path) -> None:
    G, D = small_networks()
    D.get_submodule("b4").out = EqualizedLinear(12, 5)
    with pytest.raises(FruganError, match=r"b4.out.weight of shape \(5, 12\)"):
        write_community(tmp_path / "x.pt", G, D)


def test_what_the_layout_keeps_elsewhere(tmp_path: Path) -> None:
    """The mapping network's learning rate is a constant there, so its weights are scaled; the filter is a buffer."""
    synthesis = SynthesisConfig(channel_base=128, channel_max=12, resample_filter=(1, 2, 1))
    G = Generator(GeneratorConfig((16, 16), 3, 0, 10, 10, MappingConfig(2, lr_multiplier=0.5), synthesis))
    again = read_community(write_community(tmp_path / "x.pt", G)).generator
    z = torch.randn(3, 10)
    with torch.no_grad():
        torch.testing.assert_close(again(z, noise="const"), G(z, noise="const"), rtol=1e-4, atol=1e-5)
    assert again.config.synthesis == G.config.synthesis


def test_the_raw_generator_is_kept(tmp_path: Path) -> None:
    G, _ = small_networks()
    torch.manual_seed(1)
    raw = Generator(G.config)
    raw.mapping.w_avg.copy_(G.mapping.w_avg)
    found = read_community(write_community(tmp_path / "x.pt", G, raw_generator=raw))
    assert found.raw_generator is not None
    for ours, theirs in ((found.generator, G), (found.raw_generator, raw)):
        assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in ours.state_dict().items())
