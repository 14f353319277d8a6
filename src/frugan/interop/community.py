"""The `.pt` layout of the MIT-licensed community implementation of StyleGAN2: g_ema, g, d, latent_avg.

Its weights are those of the releases under other names and with dimensions of one added; both ways go by one table.
"""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frugan.errors import FruganError, shown
from frugan.files import parse_json, replacing
from frugan.interop.nvidia import Imported, State, build_discriminator, build_generator, guarded
from frugan.interop.pickles import brief, read_torch
from frugan.networks import Discriminator, Generator
from frugan.networks.limits import LARGEST_SIDE
from frugan.networks.sampling import AVERAGE_LATENTS, estimate_average
from frugan.ops.fir import normalized_filter
from frugan.pixel_format import PixelFormat
from frugan.structure import converter

_PIXELS = "frugan_pixels"
"""Of the file, beside what that implementation knows: the pixel format of the generator's data, as JSON."""

_STYLED = {
    "weight": "conv.weight",
    "affine.weight": "conv.modulation.weight",
    "affine.bias": "conv.modulation.bias",
    "bias": "activate.bias",
    "noise_strength": "noise.weight",
}
_TO_RGB = {**_STYLED, "bias": "bias"}


def community_name(name: str, size: int) -> str | None:
    """The community's name of a weight, for networks of `size` pixels; None where there is no such weight."""
    if found := re.fullmatch(r"mapping\.fc(\d+)\.(weight|bias)", name):
        return f"style.{int(found[1]) + 1}.{found[2]}"
    if name == "mapping.w_avg":
        return "latent_avg"
    if name == "synthesis.b4.const":
        return "input.input"
    if found := re.fullmatch(r"synthesis\.b(\d+)\.(conv0|conv1|torgb)\.(.+)", name):
        level, layer, kind = int(found[1]).bit_length() - 3, found[2], found[3]
        number = 2 * level - 1 + int(layer == "conv1")  # of the layer, the first being conv1 of 4 pixels
        if layer == "torgb":
            return f"{f'to_rgbs.{level - 1}' if level else 'to_rgb1'}.{_TO_RGB[kind]}" if kind in _TO_RGB else None
        if kind == "noise_const":
            return f"noises.noise_{number}"
        return f"{f'convs.{number - 1}' if level else 'conv1'}.{_STYLED[kind]}" if kind in _STYLED else None
    fixed = {
        f"b{size}.fromrgb.weight": "convs.0.0.weight",
        f"b{size}.fromrgb.bias": "convs.0.1.bias",
        "b4.conv.weight": "final_conv.0.weight",
        "b4.conv.bias": "final_conv.1.bias",
        **{f"b4.{ours}.{kind}": f"final_linear.{i}.{kind}" for i, ours in enumerate(("fc", "out")) for kind in ("weight", "bias")},
    }  # fmt: skip
    if found := re.fullmatch(r"b(\d+)\.(conv0\.weight|conv0\.bias|conv1\.weight|conv1\.bias|skip\.weight)", name):
        block = size.bit_length() - int(found[1]).bit_length() + 1
        theirs = {
            "conv0.weight": "conv1.0.weight",
            "conv0.bias": "conv1.1.bias",
            "conv1.weight": "conv2.1.weight",
            "conv1.bias": "conv2.2.bias",
            "skip.weight": "skip.1.weight",
        }[found[2]]
        return f"convs.{block}.{theirs}"
    return fixed.get(name)


def _added(name: str) -> tuple[int, int]:
    """The numbers of dimensions of size one that the layout adds before and after a weight's own."""
    if name.startswith("noises."):
        return 2, 0
    if re.fullmatch(r"to_rgb(1|s\.\d+)\.bias", name):
        return 1, 2
    return int(name == "input.input" or name.endswith(("conv.weight", "noise.weight"))), 0


def read_community(path: str | Path) -> Imported:
    """Reads such a file; nothing in it is executed. Raises `FruganError`.

    The options that its training kept, an `argparse.Namespace`, are read as inert values, and left unused.
    """
    path = Path(path)
    content = read_torch(path)
    return guarded(path, lambda: _networks(content))


def _networks(content: Any) -> Imported:
    notes: list[str] = []
    if not isinstance(content, dict):
        content = {}
    if "input.input" in content:
        content = {"g_ema": content}
        notes.append("the file holds the weights of one generator: taken as the EMA generator")
    if "g_ema" not in content and isinstance(content.get("g"), dict):
        content = {**content, "g_ema": content["g"]}
        notes.append("the file holds no EMA generator (g_ema): the raw one (g) was taken instead")
    if not isinstance(content.get("g_ema"), dict):
        raise FruganError("it holds no g_ema: it is no StyleGAN2 checkpoint of the community layout")
    average = content.get("latent_avg")
    raw, d = content.get("g"), content.get("d")
    found = Imported(
        _generator(content["g_ema"], average).eval().requires_grad_(False),
        _generator(raw, average) if raw else None,
        build_discriminator(_discriminator_state(d), {}) if d else None,
        _probability(content.get("ada_aug_p"), notes),
        notes,
    )
    G = found.generator
    G.config = replace(G.config, pixels=_pixels(content.get(_PIXELS), G.channels, notes))
    if not isinstance(average, Tensor):
        notes.append(
            f"the file holds no average of w (latent_avg): it was estimated from {AVERAGE_LATENTS:,} latents, "
            "always the same ones; truncation pulls towards it"
        )
    return found


def _pixels(value: Any, channels: int, notes: list[str]) -> PixelFormat | None:
    """The format of the data set's images, where frugan wrote that into the file."""
    if value is None:
        return None
    try:
        found = converter().structure(parse_json(value), PixelFormat)
        found.check_channels(channels)
        return found
    except Exception as error:  # it can be wrong in any way
        notes.append(f"{_PIXELS} is {brief(value)}, which tells no pixel format ({shown(error)}): it was left out")
        return None


def _probability(value: Any, notes: list[str]) -> float | None:
    """p of the augmentation, where the file has one."""
    if value is None:
        return None
    try:
        p = float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        p = math.nan
    if 0 <= p <= 1:
        return p
    notes.append(f"ada_aug_p is {brief(value)}, which is no probability: it was left out")
    return None


def _generator(theirs: dict[str, Tensor], average: Any) -> Generator:
    G = build_generator(_generator_state(theirs, average), {})
    if not isinstance(average, Tensor):
        G.mapping.w_avg.copy_(estimate_average(G.mapping.features, G.z_dim))
    return G


def _generator_state(theirs: dict[str, Tensor], average: Any) -> State:
    level = _largest(theirs, r"to_rgbs\.(\d+)\.") + 1
    size = 4 << level
    styles = sum(bool(re.fullmatch(r"style\.\d+\.weight", k)) for k in theirs)
    names = [f"mapping.fc{i}.{kind}" for i in range(min(styles, 100)) for kind in ("weight", "bias")]
    kinds = [*_STYLED, "noise_const"]
    names += ["synthesis.b4.const"]
    for s in (4 << i for i in range(level + 1)):
        layers = ("conv1", "torgb") if s == 4 else ("conv0", "conv1", "torgb")
        names += [f"synthesis.b{s}.{layer}.{kind}" for layer in layers for kind in kinds]
    state = _translate(names, theirs, size)
    made = [name for name in names if name.endswith(("conv0.noise_const", "conv1.noise_const"))]
    missing = [name for name in made if name not in state]  # buffers may be absent: they can be made anew
    if missing and size > _LARGEST_WITHOUT_NOISE:
        raise FruganError(
            f"the weight {missing[0]} is absent, which is made anew up to {_LARGEST_WITHOUT_NOISE} pixels only"
        )
    for name in missing:
        side = int(re.sub(r"\D", "", name.split(".")[1]))
        state[name] = torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    w_dim = state["mapping.fc0.weight"].shape[0] if "mapping.fc0.weight" in state else 0
    state["mapping.w_avg"] = average.reshape(-1) if isinstance(average, Tensor) else torch.zeros(w_dim)
    return state


_LARGEST_WITHOUT_NOISE = 1024
"""Pixels: what a file does not bring costs it nothing, and us memory."""


def _largest(theirs: dict[str, Tensor], pattern: str) -> int:
    """The largest number of a layer; -1 where there is none. Raises `FruganError` beyond what networks can have."""
    if not isinstance(theirs, dict) or not all(isinstance(name, str) for name in theirs):
        raise FruganError("a part of it is no table of weights by name")
    numbers = [found[1] for name in theirs if (found := re.match(pattern, name))]
    most = LARGEST_SIDE.bit_length() - 3
    if strange := [number for number in numbers if len(number) > 4 or int(number) > most]:
        raise FruganError(
            f"layer {shown(strange[0], 40)} is of a network above {LARGEST_SIDE} pixels: that is the limit"
        )
    return max(map(int, numbers), default=-1)


def _discriminator_state(theirs: dict[str, Tensor]) -> State:
    blocks = max(_largest(theirs, r"convs\.(\d+)\."), 0)
    size = 4 << blocks
    names = [f"b{size}.fromrgb.weight", f"b{size}.fromrgb.bias"]
    names += [f"b4.{layer}.{kind}" for layer in ("conv", "fc", "out") for kind in ("weight", "bias")]
    for s in (8 << i for i in range(blocks)):
        names += [
            f"b{s}.{kind}" for kind in ("conv0.weight", "conv0.bias", "conv1.weight", "conv1.bias", "skip.weight")
        ]
    return _translate(names, theirs, size)


def _translate(names: list[str], theirs: dict[str, Tensor], size: int) -> State:
    """Our state dict; what of theirs is neither taken nor a kernel is named as an error."""
    state, taken = {}, set()
    for name in names:
        other = community_name(name, size)
        if other in theirs and isinstance(theirs[other], Tensor):
            taken.add(other)
            state[name] = _squeeze(other, theirs[other])
    kernels = [k for k in theirs if k.endswith(".kernel")]
    if kernels:
        state["resample_filter"] = theirs[kernels[0]]
    left = [k for k in theirs if k not in taken and k not in kernels]
    if left:
        raise FruganError(f"the weight {shown(left[0])} ({len(left)} in all) has no place in a StyleGAN2 network")
    return state


def _squeeze(name: str, value: Tensor) -> Tensor:
    before, after = _added(name)
    own = value.shape[before : value.ndim - after]
    if value.ndim < before + after or value.numel() != own.numel():
        raise FruganError(f"the weight {name} of shape {tuple(value.shape)} has no place in a StyleGAN2 network")
    return value.reshape(own)


def community_state(network: Generator | Discriminator) -> State:
    """A network's weights under the community's names and in its shapes, with the kernels that it keeps.

    Raises `FruganError` where that implementation has no such network: labels, other architectures, not square.
    """
    config = network.config
    if isinstance(network, Generator):
        shape, expected = network.config.synthesis, "skip"
    else:
        shape, expected = network.config, "resnet"
    size, width = config.resolution
    strange = [
        (f"{size}x{width} pixels", size != width or size & (size - 1)),
        (f"architecture {shape.architecture}", shape.architecture != expected),
        (f"labels of size {config.label_size}", config.label_size),
        (f"images that repeat (--tile {shape.tile})", shape.tile != "none"),
    ]
    gain = 1.0
    if isinstance(network, Generator):
        strange += [
            (f"z of {network.z_dim} numbers beside w of {network.w_dim}", network.z_dim != network.w_dim),
            ("a generator without noise", not network.synthesis.use_noise),
        ]
        gain = network.config.mapping.lr_multiplier / 0.01  # which that implementation always has
    if reasons := [reason for reason, holds in strange if holds]:
        raise FruganError(
            f"the community layout has no place for {', '.join(reasons)}: it knows square networks without labels, "
            "generators of architecture skip and discriminators of architecture resnet"
        )
    state: State = {}
    for name, value in network.state_dict().items():
        theirs = community_name(name, size)
        if theirs is None or (name == "b4.out.weight" and len(value) > 1):
            raise FruganError(f"the weight {name} of shape {tuple(value.shape)} has no place in the community layout")
        before, after = _added(theirs)
        value = value * gain if name.startswith("mapping.fc") else value
        state[theirs] = value.reshape(*[1] * before, *value.shape, *[1] * after)
    kernel = normalized_filter(shape.resample_filter)
    for i in range(size.bit_length() - 3):
        if isinstance(network, Generator):
            state |= {f"convs.{2 * i}.conv.blur.kernel": kernel * 4, f"to_rgbs.{i}.upsample.kernel": kernel * 4}
        else:
            state |= {f"convs.{i + 1}.conv2.0.kernel": kernel, f"convs.{i + 1}.skip.0.kernel": kernel}
    return state


def write_community(
    path: str | Path,
    generator: Generator,
    discriminator: Discriminator | None = None,
    raw_generator: Generator | None = None,
) -> Path:
    """Writes a file that the community implementation loads: g_ema, latent_avg, g and d.

    Args:
        path: of the file.
        generator: the EMA generator.
        discriminator: or None.
        raw_generator: the generator in training; None: g is g_ema.
    """
    state, raw = community_state(generator), community_state(raw_generator or generator)
    content: dict[str, Any] = {"latent_avg": state.pop("latent_avg"), "g_ema": state, "g": raw}
    raw.pop("latent_avg")
    if generator.config.pixels is not None:
        content[_PIXELS] = json.dumps(converter().unstructure(generator.config.pixels))
    if discriminator is not None:
        content["d"] = community_state(discriminator)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = io.BytesIO()  # PyTorch hides why a file cannot be written
    torch.save(content, written)
    with replacing(path, durable=True) as unfinished:
        unfinished.write_bytes(written.getbuffer())
    return path
