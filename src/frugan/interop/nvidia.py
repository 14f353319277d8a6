"""Generators and discriminators out of the files that StyleGAN2 and StyleGAN2-ADA were released in.

Their shape is read off the weights: widths, depths, labels, architecture and filters are found, never assumed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frugan.checks import check_number
from frugan.errors import FruganError, fault, shown
from frugan.interop.pickles import ForeignObject, read_pickle
from frugan.networks import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    MappingConfig,
    SynthesisConfig,
)
from frugan.networks.limits import LARGEST_SIDE
from frugan.networks.serialization import Network, fill
from frugan.networks.stylegan2.synthesis import BlockArchitecture

State = dict[str, Tensor]
Attributes = dict[str, Any]  # what weights do not tell, by "path.attribute" of the foreign module

_TOP = re.compile(r"(?:synthesis\.)?b(\d+)\.")


@dataclass(frozen=True)
class Imported:
    """`generator` is the averaged one, for use; `raw_generator` and `discriminator` are for training on. `p` is that of the
    augmentation when the file was written. `notes`: what was left out, and why."""

    generator: Generator
    raw_generator: Generator | None = None
    discriminator: Discriminator | None = None
    p: float | None = None
    notes: list[str] = field(default_factory=list)


def read_release(path: str | Path) -> Imported:
    """Reads a network pickle of the PyTorch releases (a dict of G, D, G_ema) or of the TensorFlow ones (G, D, Gs).

    Nothing in the file is executed. Raises `FruganError` where it asks for it, is damaged, or holds other networks.
    """
    path = Path(path)
    content = read_pickle(path)
    return guarded(path, lambda: _networks(content))


def guarded(path: Path, build: Callable[[], Imported]) -> Imported:
    """The networks that `build` makes of a file's content; every error of it becomes a `FruganError`."""
    try:
        return build()
    except FruganError as error:
        raise FruganError(f"{path}: {error}") from error
    except Exception as error:
        raise FruganError(f"{path} holds damaged networks: {fault(error)}") from error


def _networks(content: Any) -> Imported:
    if isinstance(content, dict) and isinstance(content.get("G_ema"), ForeignObject):
        parts = {name: _pytorch(content[key]) for name, key in _PARTS if isinstance(content.get(key), ForeignObject)}
        augment = content.get("augment_pipe")
        p = _flatten(augment)[0].get("p") if isinstance(augment, ForeignObject) else None
    elif isinstance(content, list) and len(content) == 3 and all(isinstance(part, ForeignObject) for part in content):
        raw, discriminator, average = content
        parts = {"raw": _tensorflow(raw), "discriminator": _tensorflow(discriminator), "average": _tensorflow(average)}
        p = None
    else:
        raise FruganError("it holds no StyleGAN2 networks: a dict with G_ema, or a tuple (G, D, Gs), is expected")
    notes: list[str] = []
    D = None
    if "discriminator" in parts:
        try:
            D = build_discriminator(*parts["discriminator"])
        except FruganError as error:
            notes.append(f"the discriminator was left out: {error}")
    return Imported(
        build_generator(*parts["average"]).eval().requires_grad_(False),
        build_generator(*parts["raw"]) if "raw" in parts else None,
        D,
        read_probability(p),
        notes,
    )


def read_probability(p: Any) -> float | None:
    """p of the augmentation as a file has it, which may be a number or an array of one. Raises `FruganError`."""
    value: Any = p.item() if isinstance(p, (np.ndarray, Tensor)) and math.prod(p.shape) == 1 else p
    check_number("p of the augmentation", value, at_least=0, at_most=1)
    return None if value is None else float(value)


_PARTS = (("average", "G_ema"), ("raw", "G"), ("discriminator", "D"))


def build_generator(state: State, facts: Attributes) -> Generator:
    """The generator that a state dict under the released names belongs to, with its weights."""
    size = _resolution(state)
    widths = [len(_tensor(state, f"synthesis.b{s}.conv1.weight")) for s in _sizes(size)]
    mapping, label_size, z_dim, w_dim = _mapping(state, facts)
    base, most = _channels(widths)
    config = GeneratorConfig(
        resolution=(size, size),
        channels=len(_tensor(state, f"synthesis.b{size}.torgb.weight")),
        label_size=label_size,
        z_dim=z_dim,
        w_dim=w_dim,
        mapping=mapping,
        synthesis=SynthesisConfig(
            channel_base=base,
            channel_max=most,
            architecture=_architecture(state, "synthesis.b8", "torgb"),
            use_noise=f"synthesis.b{size}.conv1.noise_strength" in state,
            clamp=facts.get(f"synthesis.b{size}.conv1.conv_clamp"),
            resample_filter=_filter(state),
        ),
    )
    return _load(Generator, config, state)


def build_discriminator(state: State, facts: Attributes) -> Discriminator:
    """Builds the discriminator, as `build_generator` does the generator."""
    size = _resolution(state)
    widths = [_tensor(state, f"b{s}.conv0.weight").shape[1] for s in _sizes(size)[1:]]
    base, most = _channels([len(_tensor(state, "b4.conv.weight")), *widths])
    label_size, cmap_dim, mapping = 0, None, MappingConfig()
    outputs = len(_tensor(state, "b4.out.weight"))
    if "mapping.embed.weight" in state:
        mapping, label_size, _, cmap_dim = _mapping(state, facts)
    elif outputs > _MOST_OUTPUTS:
        raise FruganError(f"b4.out.weight has {outputs:,} outputs, one for each label: the limit is {_MOST_OUTPUTS:,}")
    elif outputs != 1:
        # One output a label: the dot product with an embedding that is the identity, whose gains undo one another.
        # Large, so that the constant in its normalisation does not count.
        mapping, label_size, cmap_dim = MappingConfig(num_layers=0), outputs, outputs
        embedding = {"mapping.embed.weight": torch.eye(outputs) * outputs, "mapping.embed.bias": torch.zeros(outputs)}
        state = state | embedding
    in_channels = _tensor(state, "b4.conv.weight").shape[1]
    config = DiscriminatorConfig(
        resolution=(size, size),
        channels=_tensor(state, f"b{size}.fromrgb.weight").shape[1],
        label_size=label_size,
        channel_base=base,
        channel_max=most,
        architecture=_architecture(state, f"b{size}", "fromrgb") if size > 8 else _architecture(state, "b8", "fromrgb"),
        clamp=facts.get(f"b{size}.conv0.conv_clamp"),
        resample_filter=_filter(state),
        mbstd_group=facts.get("b4.mbstd.group_size", 4),
        mbstd_channels=in_channels - len(_tensor(state, "b4.conv.weight")),
        cmap_dim=cmap_dim,
        mapping=mapping,
    )
    return _load(Discriminator, config, state)


_MOST_OUTPUTS = 4096
"""The embedding takes the square of them."""

_MOST_NAMES = 100_000
"""Of weights and attributes in a network; released ones have some thousand."""

_LONGEST_NAME = 200


def _load(kind: type[Network], config: GeneratorConfig | DiscriminatorConfig, state: State) -> Network:
    return fill(kind, config, {k: v for k, v in state.items() if not k.endswith("resample_filter")})


def _tensor(state: State, name: str) -> Tensor:
    if name not in state:
        raise FruganError(f"the weight {name} is absent: these are no StyleGAN2 networks that are known here")
    return state[name]


def _resolution(state: State) -> int:
    sizes = [int(found[1][:6]) for name in state if (found := _TOP.match(name))]
    size = max(sizes, default=0)
    if size < 8 or size & (size - 1) or size > LARGEST_SIDE:
        raise FruganError(f"blocks up to {size} pixels: these are no StyleGAN2 networks that are known here")
    return size


def _sizes(size: int) -> list[int]:
    return [4 << i for i in range(size.bit_length() - 2)]


def _channels(widths: list[int]) -> tuple[int, int]:
    """(base, most) of which each level's width is min(base / side, most)."""
    most = max(widths)
    bases = [width * (4 << i) for i, width in enumerate(widths) if width < most]
    return max(bases, default=most * (4 << (len(widths) - 1))), most


def _architecture(state: State, block: str, image_layer: str) -> BlockArchitecture:
    """resnet has a skip convolution in each block, skip an image layer below (or, in D, above) the outermost too."""
    if any(re.search(r"b\d+\.skip\.weight", name) for name in state):
        return "resnet"
    images = [name for name in state if name.endswith(f"{image_layer}.weight")]
    return "skip" if len(images) > 1 else "orig"


def _mapping(state: State, facts: Attributes) -> tuple[MappingConfig, int, int, int]:
    """(config, label_size, z_dim, w_dim)"""
    layers = [state[f"mapping.fc{i}.weight"] for i in range(100) if f"mapping.fc{i}.weight" in state]
    embed = state.get("mapping.embed.weight")
    label_size, embedding = (0, 0) if embed is None else (embed.shape[1], len(embed))
    if not layers:
        w_dim = embedding or len(_tensor(state, "mapping.w_avg"))
        return MappingConfig(num_layers=0, lr_multiplier=_lr(facts, "mapping.embed")), label_size, w_dim, w_dim
    z_dim, w_dim = layers[0].shape[1] - embedding, len(layers[-1])
    hidden = len(layers[0]) if len(layers) > 1 and len(layers[0]) != w_dim else None
    config = MappingConfig(num_layers=len(layers), layer_features=hidden, lr_multiplier=_lr(facts, "mapping.fc0"))
    return config, label_size, z_dim, w_dim


def _lr(facts: Attributes, layer: str) -> float:
    """A layer's bias is multiplied by the learning-rate multiplier; the releases' default where nothing tells."""
    return float(facts.get(f"{layer}.bias_gain", 0.01 if layer.endswith("fc0") else 0.1))


def _filter(state: State) -> tuple[float, ...]:
    """The resampling filter's taps, the outermost 1, from the two-dimensional filters kept with the weights."""
    kept = [v for k, v in state.items() if k.endswith("resample_filter") and v.numel() > 1]
    if not kept:
        return (1, 3, 3, 1)
    taps = kept[0].double().sum(dim=1) if kept[0].ndim == 2 else kept[0].double()
    return tuple(round(float(tap), 5) for tap in taps / taps[0])


def _pytorch(module: ForeignObject) -> tuple[State, Attributes]:
    state, facts = _flatten(module)
    return {k: v for k, v in state.items() if isinstance(v, Tensor)}, facts


def _flatten(module: ForeignObject) -> tuple[State, Attributes]:
    """Parameters and buffers of a module and of those in it, by their full names; and their plain attributes."""
    state, facts = {}, {}
    for prefix, part in _walk("", module, set()):
        for kind in ("_parameters", "_buffers"):
            state.update({_name(prefix, k): v for k, v in part.get(kind, {}).items() if v is not None})
        facts.update({_name(prefix, k): v for k, v in part.items() if isinstance(v, (int, float, str, np.ndarray))})
        if len(state) + len(facts) > _MOST_NAMES:
            raise FruganError(f"more than {_MOST_NAMES:,} weights and attributes: these are no StyleGAN2 networks")
    return state, facts


def _name(prefix: str, name: Any) -> str:
    """The full name. Long ones are refused: what a file holds once would be written out for every module."""
    if not isinstance(name, str) or len(name) > _LONGEST_NAME:
        raise FruganError(f"{prefix}{shown(name)} is no name of a weight")
    return prefix + name


def _walk(prefix: str, module: Any, seen: set[int]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each module of a network with the prefix of its names, once: what shares modules is none of the networks known here."""
    if not isinstance(module, ForeignObject) or not isinstance(module.state, dict) or len(prefix) > _LONGEST_NAME:
        raise FruganError(
            f"{shown(prefix) or 'the network'} is no module: these are no StyleGAN2 networks that are known here"
        )
    seen.add(id(module))
    yield prefix, module.state
    for name, inner in (module.state.get("_modules") or {}).items():
        if inner is not None and id(inner) not in seen:
            yield from _walk(f"{prefix}{name}.", inner, seen)


# TensorFlow: variables of the network and of its parts; convolutions are [h, w, in, out], dense layers [in, out].
_MODULATED = {"weight": "weight", "bias": "bias", "mod_weight": "affine.weight", "mod_bias": "affine.bias"}
_PLAIN = {"weight": "weight", "bias": "bias"}
_LAYERS: dict[str, tuple[str, Mapping[str, str]]] = {
    "Conv0_up": ("conv0", _MODULATED),
    "Conv1": ("conv1", _MODULATED),
    "ToRGB": ("torgb", _MODULATED),
    "FromRGB": ("fromrgb", _PLAIN),
    "Conv0": ("conv0", _PLAIN),
    "Conv1_down": ("conv1", _PLAIN),
    "Skip": ("skip", _PLAIN),
    "Dense0": ("fc", _PLAIN),
}


def _tensorflow(network: ForeignObject) -> tuple[State, Attributes]:
    """The released names and layouts for a TensorFlow network's variables."""
    settings = network.state if isinstance(network.state, dict) else {}
    parts = settings.get("components") or {}
    variables: dict[str, Any] = {}
    for prefix, part in (
        ("", settings),
        *((f"{k}/", v.state) for k, v in parts.items() if isinstance(v, ForeignObject)),
    ):
        for name, value in part.get("variables") or []:
            if not isinstance(value, np.ndarray):
                raise FruganError(f"the variable {shown(name)} is no array of numbers")
            variables[_name(prefix, name)] = torch.from_numpy(value)
            if len(variables) > _MOST_NAMES:
                raise FruganError(f"more than {_MOST_NAMES:,} variables: these are no StyleGAN2 networks")
    if not variables:
        raise FruganError("a part without variables: these are no StyleGAN2 networks that are known here")
    return dict(filter(None, (_tensorflow_entry(k, v) for k, v in variables.items()))), {}


def _tensorflow_entry(name: str, value: Tensor) -> tuple[str, Tensor] | None:
    if name in ("lod",):
        return None
    if name == "dlatent_avg":
        return "mapping.w_avg", value
    if name.endswith(("Output/weight", "Output/bias")):
        return f"b4.out.{name.rsplit('/', 1)[1]}", _layout(value)
    if found := re.fullmatch(r"(?:mapping/)?(?:LabelEmbed|Dense(\d+)|Mapping(\d+))/(weight|bias)", name):
        number = found[1] or found[2]
        return f"mapping.{'embed' if number is None else f'fc{number}'}.{found[3]}", _layout(value)
    if found := re.fullmatch(r"synthesis/noise(\d+)", name):
        n = int(found[1])  # noise 2i − 1 and 2i belong to the block of 4·2ⁱ
        return f"synthesis.b{4 << ((n + 1) // 2)}.conv{1 - n % 2}.noise_const", value[0, 0]
    if found := re.fullmatch(r"(synthesis/)?(\d+)x\2/(\w+)/(\w+)", name):
        home, size, layer, kind = found.groups()
        prefix = f"synthesis.b{size}" if home else f"b{size}"
        if layer == "Const":
            return f"{prefix}.const", value[0]
        target, kinds = (
            ("conv1", _MODULATED) if (home and layer == "Conv") else _LAYERS.get(layer, (layer.lower(), _PLAIN))
        )
        value = _layout(value)
        if home and layer == "Conv0_up" and kind == "weight":
            value = value.flip(2, 3)  # a transposed convolution's kernel
        if kind == "mod_bias":
            value = value + 1  # kept without the 1 that styles start from
        if kind in ("noise_strength", *kinds):
            return f"{prefix}.{target}.{kinds.get(kind, kind)}", value
    raise FruganError(f"the variable {shown(name)} is of no StyleGAN2 network that is known here")


def _layout(value: Tensor) -> Tensor:
    return value.permute(3, 2, 0, 1) if value.ndim == 4 else value.T if value.ndim == 2 else value
