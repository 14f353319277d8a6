"""The Inception network against the same network in NumPy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from frugan.errors import FruganError
from frugan.metrics.features import inception
from frugan.metrics.features.inception import MIXED, Inception, load_inception

Array = np.ndarray


@pytest.fixture(scope="module")
def network() -> Inception:
    """Random weights and running statistics."""
    torch.manual_seed(0)
    network = Inception().eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.1)
    return network


# An independent reading of the paper's figures 5, 6, 7 and of the released graph, in NumPy, one image [C, H, W] at a time.


def windows(x: Array, kernel: tuple[int, int], stride: int, pad: tuple[int, int], fill: float) -> Array:
    """[C, H', W', kh, kw]"""
    padded = np.pad(x, ((0, 0), (pad[0],) * 2, (pad[1],) * 2), constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))[:, ::stride, ::stride]


class Reference:
    def __init__(self, network: Inception, block: str) -> None:
        self.state = {k: v.double().numpy() for k, v in network.state_dict().items()}
        self.block = block

    def conv(self, x: Array, name: str, stride: int = 1, pad: tuple[int, int] = (0, 0)) -> Array:
        prefix = f"{self.block}.{name}"
        weight = self.state[f"{prefix}.conv.weight"]
        patches = windows(x, weight.shape[2:], stride, pad, 0)
        y = np.einsum("chwij,ocij->ohw", patches, weight, optimize=True)
        gain, bias, mean, var = (
            self.state[f"{prefix}.bn.{k}"][:, None, None] for k in ("weight", "bias", "running_mean", "running_var")
        )
        return np.maximum((y - mean) / np.sqrt(var + 0.001) * gain + bias, 0)

    def average(self, x: Array) -> Array:
        return np.nanmean(windows(x, (3, 3), 1, (1, 1), np.nan), axis=(3, 4))

    def largest(self, x: Array, stride: int = 1) -> Array:
        return windows(x, (3, 3), stride, (stride % 2,) * 2, -np.inf).max(axis=(3, 4))  # pyright: ignore[reportArgumentType]

    def figure_5(self, x: Array) -> Array:
        five = self.conv(self.conv(x, "branch5x5_1"), "branch5x5_2", pad=(2, 2))
        three = self.conv(self.conv(x, "branch3x3dbl_1"), "branch3x3dbl_2", pad=(1, 1))
        three = self.conv(three, "branch3x3dbl_3", pad=(1, 1))
        return np.concatenate([self.conv(x, "branch1x1"), five, three, self.conv(self.average(x), "branch_pool")])

    def first_reduction(self, x: Array) -> Array:
        three = self.conv(self.conv(x, "branch3x3dbl_1"), "branch3x3dbl_2", pad=(1, 1))
        three = self.conv(three, "branch3x3dbl_3", stride=2)
        return np.concatenate([self.conv(x, "branch3x3", stride=2), three, self.largest(x, 2)])

    def figure_6(self, x: Array) -> Array:
        row: dict[str, Any] = {"pad": (0, 3)}
        column: dict[str, Any] = {"pad": (3, 0)}
        seven = self.conv(self.conv(self.conv(x, "branch7x7_1"), "branch7x7_2", **row), "branch7x7_3", **column)
        double = self.conv(self.conv(x, "branch7x7dbl_1"), "branch7x7dbl_2", **column)
        double = self.conv(self.conv(double, "branch7x7dbl_3", **row), "branch7x7dbl_4", **column)
        double = self.conv(double, "branch7x7dbl_5", **row)
        return np.concatenate([self.conv(x, "branch1x1"), seven, double, self.conv(self.average(x), "branch_pool")])

    def second_reduction(self, x: Array) -> Array:
        three = self.conv(self.conv(x, "branch3x3_1"), "branch3x3_2", stride=2)
        seven = self.conv(self.conv(x, "branch7x7x3_1"), "branch7x7x3_2", pad=(0, 3))
        seven = self.conv(self.conv(seven, "branch7x7x3_3", pad=(3, 0)), "branch7x7x3_4", stride=2)
        return np.concatenate([three, seven, self.largest(x, 2)])

    def figure_7(self, x: Array, pool: Callable[[Array], Array]) -> Array:
        one = self.conv(x, "branch3x3_1")
        two = self.conv(self.conv(x, "branch3x3dbl_1"), "branch3x3dbl_2", pad=(1, 1))
        ends = [
            self.conv(one, "branch3x3_2a", pad=(0, 1)),
            self.conv(one, "branch3x3_2b", pad=(1, 0)),
            self.conv(two, "branch3x3dbl_3a", pad=(0, 1)),
            self.conv(two, "branch3x3dbl_3b", pad=(1, 0)),
        ]
        return np.concatenate([self.conv(x, "branch1x1"), *ends, self.conv(pool(x), "branch_pool")])

    def __call__(self, x: Array) -> Array:
        return {
            "Mixed_5": self.figure_5,
            "Mixed_6": self.figure_6,
            "Mixed_6a": self.first_reduction,
            "Mixed_7a": self.second_reduction,
            "Mixed_7b": lambda x: self.figure_7(x, self.average),
            "Mixed_7c": lambda x: self.figure_7(x, self.largest),
        }.get(self.block, {"Mixed_5": self.figure_5, "Mixed_6": self.figure_6}.get(self.block[:7]))(x)  # pyright: ignore[reportOptionalCall]


INPUTS = dict(zip(MIXED, (192, 256, 288, 288, 768, 768, 768, 768, 768, 1280, 2048), strict=True))


@pytest.mark.parametrize("block", MIXED)
def test_blocks_agree_with_an_independent_reading(block: str, network: Inception) -> None:
    x = np.random.default_rng(0).normal(size=(INPUTS[block], 5, 6))
    found = network.double().get_submodule(block)(torch.from_numpy(x)[None])[0].numpy()
    network.float()
    expected = Reference(network, block)(x)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-8 * np.abs(expected).max())


def test_shapes_on_the_way(network: Inception) -> None:
    """The table of the paper (its Table 1), for 299 pixels."""
    seen: dict[str, tuple[int, ...]] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, tuple(out.shape[1:])))  # pyright: ignore[reportAttributeAccessIssue]
        for name, module in network.named_children()
    ]
    features = network(torch.zeros(1, 3, 299, 299))
    for hook in hooks:
        hook.remove()
    assert features.shape == (1, 2048)
    assert network.fc(features).shape == (1, 1008)
    assert sum(p.numel() for p in network.parameters()) == 23_850_960
    expected = {
        "Conv2d_1a_3x3": (32, 149, 149),
        "Conv2d_2b_3x3": (64, 147, 147),
        "Conv2d_4a_3x3": (192, 71, 71),
        "Mixed_5d": (288, 35, 35),
        "Mixed_6e": (768, 17, 17),
        "Mixed_7c": (2048, 8, 8),
    }
    assert {name: seen[name] for name in expected} == expected


def written(state: dict[str, torch.Tensor], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a state, which calls itself by its own hash."""
    torch.save(state, folder / "x.pth")
    digest = hashlib.sha256((folder / "x.pth").read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(inception, "WEIGHTS", f"pt_inception-{digest}.pth")
    return folder / "x.pth"


@pytest.mark.parametrize("counters", [True, False])
def test_a_state_in_the_real_layout_loads(
    counters: bool, network: Inception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {k: v for k, v in network.state_dict().items() if counters or not k.endswith("num_batches_tracked")}
    loaded = load_inception(written(state, tmp_path, monkeypatch)).eval()
    x = torch.randn(1, 3, 299, 299)
    assert torch.equal(loaded(x), network(x))


def test_another_state_is_named(network: Inception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = network.state_dict()
    imagenet = {**state, "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    with pytest.raises(FruganError, match=r"fc.weight is \(1000, 2048\), expected \(1008, 2048\); 2 of"):
        load_inception(written(imagenet, tmp_path, monkeypatch))
    with pytest.raises(FruganError, match=r"AuxLogits.conv is .* expected absent"):
        load_inception(written({**state, "AuxLogits.conv": torch.zeros(3)}, tmp_path, monkeypatch))
    del (short := dict(state))["Mixed_6b.branch1x1.conv.weight"]
    with pytest.raises(FruganError, match=r"Mixed_6b.branch1x1.conv.weight is absent"):
        load_inception(written(short, tmp_path, monkeypatch))
    file = written(state, tmp_path, monkeypatch)
    monkeypatch.undo()
    with pytest.raises(FruganError, match=r"its SHA-256 begins with .*, not 6726825d"):
        load_inception(file)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(FruganError, match="cannot be read as PyTorch weights"):
        load_inception(file, verify=False)
