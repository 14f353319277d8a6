"""The Inception network that FID and the Inception score were defined with, in plain torch.

Szegedy et al., "Rethinking the Inception Architecture", 2015, as trained in TensorFlow in 2015 (1008 outputs) and used by
Heusel et al. 2017. Names of parameters are those of the widely used PyTorch conversion of its weights.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugan.errors import FruganError

WEIGHTS = "pt_inception-2015-12-05-6726825d.pth"
"""The file's name ends in the first digits of its SHA-256."""

CLASSES = 1008
DIMENSION = 2048

Kernel = int | tuple[int, int]
Conv = (
    tuple[str, int, Kernel] | tuple[str, int, Kernel, Literal["/2"]]
)  # name, outputs, kernel; "/2": stride, no padding
Step = Conv | str | list[Conv]  # a convolution, a pooling, or a fork into several

AVERAGE, MAXIMUM, REDUCE = "average pool 3/1", "max pool 3/1", "max pool 3/2"


def _a(pooled: int) -> list[list[Step]]:
    return [
        [("branch1x1", 64, 1)],
        [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)],
        [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)],
        [AVERAGE, ("branch_pool", pooled, 1)],
    ]


def _c(width: int) -> list[list[Step]]:
    row, column = (1, 7), (7, 1)
    double = [(width, 1), (width, column), (width, row), (width, column), (192, row)]
    return [
        [("branch1x1", 192, 1)],
        [("branch7x7_1", width, 1), ("branch7x7_2", width, row), ("branch7x7_3", 192, column)],
        [(f"branch7x7dbl_{i}", outputs, kernel) for i, (outputs, kernel) in enumerate(double, 1)],
        [AVERAGE, ("branch_pool", 192, 1)],
    ]


def _e(pool: str) -> list[list[Step]]:
    def fork(prefix: str, a: str, b: str) -> list[Conv]:
        return [(prefix + a, 384, (1, 3)), (prefix + b, 384, (3, 1))]

    return [
        [("branch1x1", 320, 1)],
        [("branch3x3_1", 384, 1), fork("branch3x3_", "2a", "2b")],
        [("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3), fork("branch3x3dbl_", "3a", "3b")],
        [pool, ("branch_pool", 192, 1)],
    ]


MIXED: dict[str, list[list[Step]]] = {
    "Mixed_5b": _a(32),
    "Mixed_5c": _a(64),
    "Mixed_5d": _a(64),
    "Mixed_6a": [
        [("branch3x3", 384, 3, "/2")],
        [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, "/2")],
        [REDUCE],
    ],
    "Mixed_6b": _c(128),
    "Mixed_6c": _c(160),
    "Mixed_6d": _c(160),
    "Mixed_6e": _c(192),
    "Mixed_7a": [
        [("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, "/2")],
        [
            ("branch7x7x3_1", 192, 1),
            ("branch7x7x3_2", 192, (1, 7)),
            ("branch7x7x3_3", 192, (7, 1)),
            ("branch7x7x3_4", 192, 3, "/2"),
        ],
        [REDUCE],
    ],
    "Mixed_7b": _e(AVERAGE),
    "Mixed_7c": _e(MAXIMUM),  # a slip of 2015 that all published numbers share
}


class ConvBlock(nn.Module):
    """Convolution without bias, batch normalisation in evaluation mode, ReLU.

    Args:
        inputs, outputs: feature maps.
        kernel: its size.
        stride: of the convolution.
        padding: whether the size is kept, at stride 1.
    """

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, stride: int = 1, padding: bool = True) -> None:
        super().__init__()
        kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
        pad = (kh // 2, kw // 2) if padding and stride == 1 else 0
        self.conv = nn.Conv2d(inputs, outputs, (kh, kw), stride, pad, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side over one input, joined along the channels. `outputs`: how many there are then."""

    def __init__(self, inputs: int, branches: list[list[Step]]) -> None:
        super().__init__()
        self.branches = branches
        self.outputs = 0
        for branch in branches:
            width = inputs
            for step in branch:
                if isinstance(step, str):
                    continue
                ends = step if isinstance(step, list) else [step]
                for name, outputs, kernel, *stride in ends:
                    self.add_module(name, ConvBlock(width, outputs, kernel, 2 if stride else 1))
                width = sum(outputs for _, outputs, *_ in ends)
            self.outputs += width

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._follow(branch, x) for branch in self.branches], dim=1)

    def _follow(self, branch: list[Step], x: Tensor) -> Tensor:
        for step in branch:
            if isinstance(step, str):
                x = POOLS[step](x)
            elif isinstance(step, list):
                x = torch.cat([self.get_submodule(name)(x) for name, *_ in step], dim=1)
            else:
                x = self.get_submodule(step[0])(x)
        return x


POOLS = {
    AVERAGE: lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    MAXIMUM: lambda x: F.max_pool2d(x, 3, 1, 1),
    REDUCE: lambda x: F.max_pool2d(x, 3, 2),
}


class Inception(nn.Module):
    """Images float32 `[N, 3, 299, 299]`, (pixel − 128) / 128 → pooled features `[N, 2048]`. `fc` gives the 1008 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvBlock(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvBlock(32, 32, 3, padding=False)
        self.Conv2d_2b_3x3 = ConvBlock(32, 64, 3)
        self.Conv2d_3b_1x1 = ConvBlock(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvBlock(80, 192, 3, padding=False)
        width = 192
        for name, branches in MIXED.items():
            block = Mixed(width, branches)
            self.add_module(name, block)
            width = block.outputs
        self.fc = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name in MIXED:
            x = self.get_submodule(name)(x)
        return x.mean(dim=(2, 3))


def load_inception(path: Path, *, verify: bool = True) -> Inception:
    """The network with the weights of the file. `verify` checks the file's hash against its name's.

    Raises `FruganError` where it is absent, is another file, or holds another network, naming the first difference.
    """
    if not path.is_file():
        raise FruganError(
            f"the Inception weights are not at {path}: put the file {WEIGHTS} there (the FID weights as converted for "
            "PyTorch, 95 MB), name it with --weights (evaluate has it), or choose --features efficientnet-lite0"
        )
    expected = WEIGHTS.removesuffix(".pth").rsplit("-", 1)[1]
    if verify:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(expected):
            raise FruganError(f"{path} is not {WEIGHTS}: its SHA-256 begins with {found[:8]}, not {expected}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file ends in many kinds of error
        raise FruganError(f"{path} cannot be read as PyTorch weights: {error}") from error
    network = Inception()
    own = _shapes(network.state_dict())
    given = _shapes(state) if isinstance(state, dict) else {}
    if wrong := [name for name in own | given if own.get(name) != given.get(name)]:
        name = wrong[0]
        raise FruganError(
            f"{path} holds another network than the Inception of 2015: {name} is {given.get(name, 'absent')}, "
            f"expected {own.get(name, 'absent')}; {len(wrong)} of {len(own)} entries differ"
        )
    network.load_state_dict(state, strict=False)
    return network


def _shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in state.items() if not k.endswith("num_batches_tracked")}
