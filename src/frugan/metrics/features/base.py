"""Feature networks: frozen networks that turn images into vectors whose distances reflect perceived differences."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugan.channels import has_alpha
from frugan.errors import FruganError
from frugan.metrics.distances import Array, Features2D

RGB = tuple[float, float, float]
Resize = Literal["clean", "legacy"]
_CPU_BATCH = 16  # of more, the activations fall out of the caches and an image costs twice as much


class Features(Protocol):
    """A feature network.

    Attributes:
        name: which network.
        preprocessing: how images are brought to it.
        digest: a hash of weights and preprocessing, which are all that features depend on.
        classify: features `[N, D]` → logits `[N, K]` of the network's own classes; None if it has none.
    """

    name: str
    preprocessing: str
    digest: str
    classify: Callable[[Features2D], Array] | None

    def __call__(self, images: Tensor) -> Tensor:
        """Images float32 `[N, C, H, W]` in [-1, 1], on any device → features float32 `[N, D]`."""
        ...


class ModuleFeatures:
    """A torch module as a feature network. It is frozen, set to evaluation mode and moved to the device.

    Images reach the module as RGB: grey is repeated, transparency is laid on white, and of more channels the first
    three are taken.

    Args:
        module: RGB `[N, 3, S, S]` → features `[N, D]`, or maps `[N, D, h, w]`, which are averaged.
        name: for cards and messages.
        input_size: S in pixels.
        mean, std: normalisation of RGB in units of [0, 1]: (x − mean) / std.
        resize: how images are brought to S, a key of `RESIZE`.
        device: where it computes.
        classifier: weight `[K, D]` and bias `[K]` of the network's last layer, or None.
        weights_digest: stands for the weights of a module whose weights cannot be read, as of ONNX.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str,
        input_size: int,
        mean: RGB,
        std: RGB,
        resize: Resize = "clean",
        device: torch.device | str = "cpu",
        classifier: tuple[Tensor, Tensor] | None = None,
        weights_digest: str | None = None,
    ) -> None:
        if resize not in RESIZE or input_size < 1:
            raise FruganError(f"resize {resize!r} to {input_size}: choose {' or '.join(RESIZE)}, and 1 pixel or more")
        self.name, self.input_size, self.device, self.resize = name, input_size, torch.device(device), resize
        self.preprocessing = f"{resize} resize to {input_size}, white behind transparency"
        self.digest = _digest(weights_digest or module, self.preprocessing, mean, std)
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        self.module = module.eval().to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.mean, self.std = (torch.tensor(v, device=self.device)[:, None, None] for v in (mean, std))
        self.classify: Callable[[Features2D], Array] | None = _Classifier(*classifier) if classifier else None

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        batch = _CPU_BATCH if self.device.type == "cpu" else max(len(images), 1)
        return torch.cat([self._look(some) for some in images.split(batch)])

    def _look(self, images: Tensor) -> Tensor:
        x = on_white(images.to(self.device, torch.float32)).add(1).div(2)
        x = RESIZE[self.resize](x, self.input_size)
        features = self.module(((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last))
        if features.ndim == 4:
            features = features.mean(dim=(2, 3))
        if features.ndim != 2:
            raise FruganError(
                f"{self.name} gives a tensor {tuple(features.shape)}; it must give [N, D] or [N, D, h, w]"
            )
        return features.float()


class _Classifier:
    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = (t.detach().cpu().double().numpy() for t in (weight, bias))

    def __call__(self, features: Features2D) -> Array:
        return np.asarray(features, np.float64) @ self.weight.T + self.bias


def on_white(images: Tensor) -> Tensor:
    """Images of any number of channels as RGB, on a white background where there is alpha.

    `[N, C, H, W]` in [-1, 1] → `[N, 3, H, W]`; the last of 2 or 4 channels is alpha, and channels beyond the third are
    left out.
    """
    if has_alpha(images.shape[1]):
        images, alpha = images[:, :-1], images[:, -1:].add(1).div(2)
        images = 1 - (1 - images) * alpha
    return images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)


def _clean(x: Tensor, size: int) -> Tensor:
    return F.interpolate(x, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)


def _legacy(x: Tensor, size: int) -> Tensor:
    rows, columns = (_bilinear(n, size).to(x.device) for n in x.shape[2:])
    return rows @ x @ columns.T


@lru_cache(maxsize=16)
def _bilinear(before: int, after: int) -> Tensor:
    """`[after, before]`: output i lies at input i · before / after, between two neighbours; corners, not centres, meet."""
    at = np.arange(after) * (before / after)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, before - 1)
    matrix = np.zeros((after, before), np.float32)
    np.add.at(matrix, (np.arange(after), low), 1 - (at - low))
    np.add.at(matrix, (np.arange(after), high), at - low)
    return torch.from_numpy(matrix)


RESIZE: dict[str, Callable[[Tensor, int], Tensor]] = {"clean": _clean, "legacy": _legacy}
"""Images `[N, 3, H, W]` in [0, 1] → `[N, 3, size, size]`. `clean`: bicubic, antialiased, clipped (Parmar et al. 2022).
`legacy`: bilinear without antialiasing and without half-pixel centres, as TensorFlow 1 did and most published FIDs have it."""


def _digest(weights: nn.Module | str, *preprocessing: object) -> str:
    digest = hashlib.sha256(f"{preprocessing}".encode())
    if isinstance(weights, str):
        digest.update(weights.encode())
        return digest.hexdigest()
    digest.update(type(weights).__name__.encode())
    for key, value in sorted(weights.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
