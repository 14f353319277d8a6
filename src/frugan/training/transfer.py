"""Transfer learning: training that starts from trained networks of any shape, and the freezing of parts of them.

Weights are matched by layer and by level, counted from the base grid, so that networks of different resolutions share
what they can. A weight that does not fit is converted where that preserves the network's function (image channels,
labels); otherwise it starts fresh. A `StartReport` lists these.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from frugan.errors import FruganError, abbreviated
from frugan.networks import Discriminator, Generator, typical_labels
from frugan.networks.layers import normalize_2nd_moment
from frugan.networks.stylegan2.synthesis import block_name

Network = TypeVar("Network", Generator, Discriminator)


@dataclass(frozen=True)
class TransferConfig:
    """The start of training, and what is frozen.

    Attributes:
        init_from: a run, checkpoint or network file to start from; None: from scratch.
        allow_partial: whether weights may start fresh that the source lacks.
        freeze_d: the first layers of the discriminator, counted from the image in the order fromRGB, conv0, conv1, skip
            of each block (Freeze-D: Mo et al. 2020); or a size: "32px" is all blocks of 32 pixels and more.
        freeze_g: the first blocks of the synthesis network, counted from the base grid; "16px" is all blocks up to 16
            pixels.
        freeze_mapping: whether the mapping network is frozen.
    """

    init_from: str | None = None
    allow_partial: bool = False
    freeze_d: str | None = None
    freeze_g: str | None = None
    freeze_mapping: bool = False

    def __post_init__(self) -> None:
        for name in ("freeze_d", "freeze_g"):
            if (text := getattr(self, name)) is not None:
                _parse(name.replace("_", "-"), text)
        if not self.init_from and (self.freeze_d or self.freeze_g or self.freeze_mapping):
            raise FruganError("freezing keeps what a network has learned, and this one starts anew; add --init-from")


@dataclass(frozen=True)
class Difference:
    """One weight that was not transferred as it is. `network` is "generator" or "discriminator"."""

    network: str
    name: str
    outcome: Literal["adapted", "fresh", "unused"]
    reason: str


@dataclass
class StartReport:
    """A report on what a training run took from the networks that it starts from."""

    source: str
    kept: dict[str, int] = field(default_factory=dict)
    """Number of weights that were transferred as they are, by network."""
    total: dict[str, int] = field(default_factory=dict)
    """Number of all weights, by network."""
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every weight was transferred as it is, and none of the source's is left."""
        return not self.differences

    def lines(self) -> Iterator[str]:
        """The report as lines of text: one for each network, and one for all of its weights with the same outcome and reason."""
        for network, total in self.total.items():
            kept = self.kept[network]
            yield f"{network}: {kept:,} of {total:,} weights transferred ({kept / total:.1%})"
            groups: dict[tuple[str, str], list[str]] = {}
            for d in self.differences:
                if d.network == network:
                    groups.setdefault((d.outcome, d.reason), []).append(d.name)
            for (outcome, reason), names in groups.items():
                yield f"  {outcome}: {abbreviated(names, 4)}: {reason}"
        yield from self.notes


class Source(Protocol):
    """Trained networks: the EMA generator and, where they exist, the generator in training and the discriminator."""

    @property
    def generator(self) -> Generator: ...

    @property
    def raw_generator(self) -> Generator | None: ...

    @property
    def discriminator(self) -> Discriminator | None: ...


def transfer(target: tuple[Generator, Discriminator], source: Source, report: StartReport) -> Generator:
    """Fills new networks from a source.

    Without a generator in training, training starts from the EMA generator; without a discriminator, D stays fresh.

    Args:
        target: G and D, filled in place.
        source: the trained networks.
        report: which takes what was transferred and what was not.

    Returns:
        The EMA generator that goes with them.
    """
    G, D = target
    ema = copy.deepcopy(G)  # fresh parts are the same in both
    _copy(G, source.raw_generator or source.generator, "generator", report)
    _copy(ema, source.generator, "generator", StartReport(report.source))
    if source.raw_generator is None:
        report.notes.append("the source has only the EMA generator: training goes on from that")
    if source.discriminator is None:
        own = D.state_dict()
        report.kept["discriminator"], report.total["discriminator"] = 0, sum(v.numel() for v in own.values())
        report.differences += [Difference("discriminator", k, "fresh", "the source has no discriminator") for k in own]
    else:
        _copy(D, source.discriminator, "discriminator", report)
    return ema


@torch.no_grad()
def _copy(target: Network, source: Network, network: str, report: StartReport) -> None:
    """Fills a network's weights from the source's, and reports on each; `network` is its name in the report."""
    own, given = _by_place(target), _by_place(source)
    new = _converted(target, source)
    report.total[network], report.kept[network] = sum(v.numel() for _, v in own.values()), 0
    for place, (name, value) in own.items():
        theirs = given[place][1] if place in given else None
        if place in new:
            changed, reason = new[place]
            value.copy_(changed)
            report.differences.append(Difference(network, name, "adapted", reason))
        elif theirs is None:
            report.differences.append(Difference(network, name, "fresh", "the source has no such layer"))
        elif theirs.shape != value.shape:
            reason = f"{_shape(theirs)} in the source, {_shape(value)} here"
            report.differences.append(Difference(network, name, "fresh", reason))
        else:
            value.copy_(theirs)
            report.kept[network] += value.numel()
    left = [name for place, (name, _) in given.items() if place not in own and place not in new]
    report.differences += [Difference(network, k, "unused", "there is no such layer here") for k in left]


def _by_place(net: Generator | Discriminator) -> dict[str, tuple[str, Tensor]]:
    """The weights by place: their names with each block's size replaced by its level, counted from the base grid. The
    values are (own name, tensor).
    """
    sizes = net.synthesis.sizes if isinstance(net, Generator) else net.sizes[::-1]
    levels = {block_name(size): f"level{i}" for i, size in enumerate(sizes)}
    return {
        ".".join(levels.get(part, part) for part in name.split(".")): (name, value)
        for name, value in net.state_dict().items()
    }


Converted = dict[str, tuple[Tensor, str]]
"""Converted weights by place, with the reason for converting them."""


def _converted(target: Network, source: Network) -> Converted:
    """Weights, by place, that must be converted to preserve the network's function: for other image channels, and
    labels gained or lost.
    """
    found: Converted = {}
    own, given = _by_place(target), _by_place(source)
    before, after = source.config.channels, target.config.channels
    if before != after:
        reason = f"from {before} to {after} channels"
        for place, (_, value) in own.items():
            if place not in given:
                continue
            if place.endswith((".torgb.weight", ".torgb.bias")):
                found[place] = _channels(given[place][1], value, before, after, mean=True), reason
            elif place.endswith(".fromrgb.weight"):
                rows = _channels(given[place][1].transpose(0, 1), value.transpose(0, 1), before, after, mean=False)
                found[place] = rows.transpose(0, 1) * math.sqrt(after / before), reason  # 1/√fan-in changes too
    if source.config.label_size and not target.config.label_size:
        found |= _without_labels(target, source)
    elif target.config.label_size and not source.config.label_size and isinstance(target, Generator):
        weight, value = given["mapping.fc0.weight"][1], own["mapping.fc0.weight"][1]
        if len(weight) == len(value):
            wider = torch.cat([weight, weight.new_zeros(len(weight), value.shape[1] - weight.shape[1])], dim=1)
            scale = math.sqrt(value.shape[1] / weight.shape[1])
            found["mapping.fc0.weight"] = wider * scale, "labels gained: they count for nothing at first"
    return found


def _channels(given: Tensor, own: Tensor, before: int, after: int, *, mean: bool) -> Tensor:
    """The weights of a layer for another number of image channels.

    Args:
        given: the source's weights, a row for each of its channels.
        own: fresh weights, a row for each channel of the new network; channels without a source keep them.
        before, after: the numbers of channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha, others as they are.
        mean: of the three rows of RGB, whether grey has their mean (outputs) or their sum (inputs); and the reverse.
    """
    rows = own.clone()
    colour, mine = (3 if n in (3, 4) else 1 if n in (1, 2) else 0 for n in (before, after))
    if colour and mine:
        if mine == colour:
            rows[:mine] = given[:colour]
        elif mine == 1:
            rows[0] = given[:3].mean(dim=0) if mean else given[:3].sum(dim=0)
        else:
            rows[:3] = given[:1] / (1 if mean else 3)
    extra = min(before - colour, after - mine)
    rows[mine : mine + extra] = given[colour : colour + extra]
    return rows


def _without_labels(target: Network, source: Network) -> Converted:
    """The weights with which a network without labels does what the source does on average over its labels."""
    own, given = _by_place(target), _by_place(source)
    every = typical_labels(source.config.label_size, source.config.measured)
    if isinstance(source, Generator):
        weight, bias = given["mapping.fc0.weight"][1], given["mapping.fc0.bias"][1]
        value = own["mapping.fc0.weight"][1]
        if len(weight) != len(value):
            return {}
        label = normalize_2nd_moment(source.mapping.embed(every)).mean(dim=0)
        z, width = value.shape[1], weight.shape[1]
        reason = "labels lost: their average is kept"
        return {
            "mapping.fc0.weight": (weight[:, :z] * math.sqrt(z / width), reason),
            "mapping.fc0.bias": (bias + weight[:, z:] @ label / math.sqrt(width), reason),
        }
    label = source.mapping.features(None, every).mean(dim=0) / math.sqrt(source.cmap_dim)
    reason = "labels lost: their average is kept"
    return {f"level0.out.{k}": ((label @ given[f"level0.out.{k}"][1])[None], reason) for k in ("weight", "bias")}


def freeze(G: Generator, D: Discriminator, config: TransferConfig) -> None:
    """Switches off the gradients of what is to be frozen. Raises `FruganError` where there are not so many layers or blocks.

    Args:
        G, D: the networks.
        config: which parts.
    """
    parts: list[nn.Module] = [G.mapping] if config.freeze_mapping else []
    if config.freeze_d is not None:
        parts += _chosen("freeze-d", config.freeze_d, layers_from_image(D), at_least=True)
    if config.freeze_g is not None:
        blocks = list(zip(G.synthesis.sizes, G.synthesis.blocks))
        parts += _chosen("freeze-g", config.freeze_g, blocks, at_least=False)
    for part in parts:
        part.requires_grad_(False)


Sized = Sequence[tuple[tuple[int, int], nn.Module]]


def layers_from_image(D: Discriminator) -> Sized:
    """The layers that Freeze-D counts, from the image on, each with the size of its block. The output layer is not among them."""
    found: list[tuple[tuple[int, int], nn.Module]] = []
    for size in D.sizes:
        block = D.get_submodule(block_name(size))
        names = ("fromrgb", "conv0", "conv1", "skip") if size != D.sizes[-1] else ("fromrgb", "conv", "fc")
        found += [(size, layer) for name in names if (layer := getattr(block, name)) is not None]
    return found


def _chosen(option: str, text: str, parts: Sized, *, at_least: bool) -> list[nn.Module]:
    number, pixels = _parse(option, text)
    if pixels:
        chosen = [part for size, part in parts if (max(size) >= number if at_least else max(size) <= number)]
        sizes = sorted({max(size) for size, _ in parts})
        if not chosen or number not in sizes:
            raise FruganError(f"--{option} {text}: there are blocks of {', '.join(map(str, sizes))} pixels")
        return chosen
    if number > len(parts):
        raise FruganError(f"--{option} {text}: there are {len(parts)} to freeze; give a number up to that")
    return [part for _, part in parts[:number]]


def _parse(option: str, text: str) -> tuple[int, bool]:
    """ "10" → (10, False); "32px" → (32, True)."""
    digits = text.removesuffix("px")
    if not digits.isdecimal() or len(digits) > 9 or int(digits) < 1:
        raise FruganError(f"--{option} {text}: give a count, for instance 10, or a size in pixels, for instance 32px")
    return int(digits), digits != text


def _shape(value: Tensor) -> str:
    return "×".join(map(str, value.shape)) or "scalar"
