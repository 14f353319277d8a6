"""LPIPS, the learned perceptual distance (Zhang et al., "The Unreasonable Effectiveness of Deep Features", 2018), version 0.1.

d(a, b) = Σ_l mean over pixels of Σ_c w_lc (f̂_lc(a) - f̂_lc(b))², with f̂ = f / (‖f‖ + 1e-10) over channels and w ≥ 0.

Nothing is fetched. The networks' weights are looked for by name in frugan's and PyTorch's cache folders, the linear heads in the
packages `lpips` and `torchmetrics` too, and all of them are checked against the hashes of the files that the authors published.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from frugan.errors import FruganError
from frugan.metrics.features.networks import weights_folder

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
EPSILON = 1e-10


@dataclass(frozen=True)
class Trunk:
    """A network and its heads: names of their files, what their SHA-256 begins with, and the layers that are looked at."""

    file: str
    digest: str
    head: str
    head_digest: str
    taps: tuple[int, ...]
    """Indices of `features` (its ReLUs) after which feature maps are taken."""
    widths: tuple[int, ...]
    """Channels there."""
    smallest: int
    """Pixels a side that the network needs."""


TRUNKS = {
    "vgg": Trunk(
        "vgg16-397923af.pth",
        "397923af",
        "vgg.pth",
        "a78928a0af1e5f0f",
        (3, 8, 15, 22, 29),
        (64, 128, 256, 512, 512),
        16,
    ),
    "alex": Trunk(
        "alexnet-owt-7be5be79.pth",
        "7be5be79",
        "alex.pth",
        "df73285e35b22355",
        (1, 4, 7, 9, 11),
        (64, 192, 384, 256, 256),
        64,
    ),
}


def vgg_features() -> nn.Sequential:
    """The convolutions of VGG16 up to relu5_3, numbered as in its published weights."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()] if outputs else [nn.MaxPool2d(2)]
        inputs = outputs or inputs
    return nn.Sequential(*layers)


def alex_features() -> nn.Sequential:
    """The convolutions of AlexNet up to relu5, numbered as in its published weights."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    )  # fmt: skip


FEATURES = {"vgg": vgg_features, "alex": alex_features}


class LpipsTaps(nn.Module):
    """RGB images in [-1, 1] → feature maps that are unit vectors over channels, times √w."""

    def __init__(self, net: str) -> None:
        super().__init__()
        self.taps = TRUNKS[net].taps
        self.features = FEATURES[net]()
        widths = TRUNKS[net].widths
        self.heads = nn.ParameterList([nn.Parameter(torch.zeros(width)) for width in widths])
        self.shift: Tensor
        self.scale: Tensor
        for name, values in (("shift", SHIFT), ("scale", SCALE)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """`[N, 3, H, W]` → `[N, C_l, h_l, w_l]` of each layer."""
        x, found = (images - self.shift) / self.scale, []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                unit = x / (x.square().sum(1, keepdim=True) + 1e-20).sqrt().add(EPSILON)
                found.append(unit * self.heads[len(found)].clamp_min(0).sqrt()[:, None, None])
        return found


def load_lpips(net: str) -> LpipsTaps:
    """LPIPS with its published weights. Raises `FruganError`, naming the places, where a file is missing or another one."""
    row = TRUNKS[net]
    trunk = read_checked(row.file, row.digest, list(_trunk_places(row.file)))
    heads = read_checked(row.head, row.head_digest, list(_head_places(row.head)))
    taps = LpipsTaps(net)
    kept = {k: v for k, v in trunk.items() if k.startswith("features.")}
    own = taps.state_dict()
    state = {k: kept[k] for k in own if k in kept}
    state |= {f"heads.{i}": heads[f"lin{i}.model.1.weight"].flatten() for i in range(len(row.taps))}
    taps.load_state_dict(state)
    return taps.eval().requires_grad_(False)


def is_available(net: str) -> bool:
    """Whether both files are there; their content is checked when they are read."""
    row = TRUNKS[net]
    return any(map(Path.is_file, _trunk_places(row.file))) and any(map(Path.is_file, _head_places(row.head)))


def read_checked(name: str, digest: str, places: list[Path]) -> dict[str, Tensor]:
    """The tensors of a published file of weights, whose hash is verified.

    Args:
        name: of the file, for messages.
        digest: the beginning of its SHA-256.
        places: where it may lie; the first that exists is read.

    Raises `FruganError` where it is nowhere, or another file.
    """
    found = next((file for file in places if file.is_file()), None)
    if found is None:
        looked = " and ".join(str(file.parent) for file in places)
        raise FruganError(
            f"LPIPS needs the file {name} (SHA-256 {digest}…), which was looked for in {looked}; put it there, or choose the "
            "distance efficientnet, discriminator or pixels"
        )
    actual = hashlib.sha256(found.read_bytes()).hexdigest()
    if not actual.startswith(digest):
        raise FruganError(f"{found} is not the published file: its SHA-256 is {actual[:16]}…, {digest}… is expected")
    return torch.load(found, map_location="cpu", weights_only=True)


def _trunk_places(name: str) -> Iterator[Path]:
    yield weights_folder() / name
    yield Path(torch.hub.get_dir()) / "checkpoints" / name


def _head_places(name: str) -> Iterator[Path]:
    yield weights_folder() / f"lpips-{name}"
    for package, inside in (("lpips", "weights/v0.1"), ("torchmetrics", "functional/image/lpips_models")):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin).parent / inside / name
