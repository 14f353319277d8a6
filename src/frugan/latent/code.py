"""Codes: images of a generator as files, in place of seeds.

A code holds the ws of one image, after truncation, with the noise maps if they were fitted, its label, the hash of its generator
and how it was found. Whatever takes seeds takes codes: in a list of seeds, a name that ends in .safetensors is a code's file, and a
folder stands for all codes in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch
from torch import Tensor

from frugan.checks import beside, check_file_name
from frugan.command_line import command
from frugan.errors import FruganError, shown
from frugan.files import parse_json
from frugan.latent.direction import RELATED, Identity
from frugan.latent.edit import NO_TRUNCATION, Edit, Truncation, apply_edits, check_edit, edit_ws
from frugan.networks import Generator
from frugan.networks.serialization import save_tensors

SUFFIX = ".safetensors"
PointNoise = Literal["const"] | list[Tensor | None]
"""The network's constants, or maps `[N, 1, h, w]` for each convolution."""
_FORMAT = "frugan code 1"


@dataclass(frozen=True)
class Code:
    """One image of a generator."""

    name: str
    ws: Tensor
    """float32 `[num_ws, w_dim]`, as the synthesis network takes them."""
    generator: Identity
    noise: tuple[Tensor, ...] = ()
    """Fitted noise maps, float32 `[1, h, w]` for each convolution; empty: the network's constants."""
    c: Tensor | None = None
    """The label `[K]` that it was found with."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """How it was found: space, distances, the image's name."""
    offset: Tensor | None = None
    """float32 `[ΣC]`, added to the styles of ws: of a projection to styles, or of edits of styles in the explorer."""

    def check(self, G: Generator) -> None:
        """Raises `FruganError` unless G is the code's generator, or a parent or child of it."""
        if tuple(self.ws.shape) != (G.num_ws, G.w_dim):
            raise FruganError(
                f"code {self.name!r} has {self.ws.shape[0]} ws of {self.ws.shape[1]} numbers, and this generator reads "
                f"{G.num_ws} of {G.w_dim}; it belongs to another generator"
            )
        channels = sum(layer.width for layer in G.synthesis.style_layers)
        if self.offset is not None and tuple(self.offset.shape) != (channels,):
            raise FruganError(
                f"code {self.name!r} moves {self.offset.numel()} style channels, and this generator has {channels}; it belongs "
                "to another generator"
            )
        if (relation := self.generator.relation(G)) < RELATED:
            raise FruganError(
                f"code {self.name!r} belongs to another generator (hash {self.generator.digest[:12]}), which this one was not "
                f"tuned from: their ws correlate by {relation:.2f}, {RELATED} is needed; project the image anew"
            )


def save_code(code: Code, file: str | Path) -> Path:
    """Writes one code. Raises `FruganError` where the name does not end in .safetensors."""
    file = Path(file)
    if file.suffix != SUFFIX:
        raise FruganError(f"{file}: codes are kept in files that end in {SUFFIX}")
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"ws": code.ws, "probe": code.generator.probe}
    tensors |= {f"noise.{i}": n for i, n in enumerate(code.noise)}
    tensors |= {name: value for name, value in (("label", code.c), ("offset", code.offset)) if value is not None}
    about = {
        "name": code.name,
        "digest": code.generator.digest,
        "levels": list(code.generator.levels),
        "facts": dict(code.facts),
    }
    save_tensors(tensors, file, metadata={"format": _FORMAT, "code": json.dumps(about)})
    return file


def load_code(file: str | Path) -> Code:
    """Reads a code that `save_code` wrote. Raises `FruganError`."""
    file = Path(file)
    if not file.is_file():
        raise FruganError(f"there is no code {file}{beside(file)}")
    try:
        with safetensors.safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise FruganError(f"{file} is no code of an image; codes are written by {command('project', '--help')}")
            about = parse_json(metadata["code"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        noise = tuple(tensors[f"noise.{i}"] for i in range(sum(name.startswith("noise.") for name in tensors)))
        ws, probe = tensors["ws"], tensors["probe"]
        if ws.ndim != 2 or not all(t.is_floating_point() and t.isfinite().all() for t in tensors.values()):
            raise ValueError("its numbers are not those of a code")
        identity = Identity(str(about["digest"]), probe, tuple(map(str, about["levels"])))
        facts = dict(about["facts"])
        check_file_name("code", str(about["name"]))
        return Code(str(about["name"]), ws, identity, noise, tensors.get("label"), facts, tensors.get("offset"))
    except FruganError:
        raise
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FruganError(f"{file} is a damaged code ({shown(error)}); project the image again") from error


Point = int | Code
"""A seed, or a code."""


def find_codes(text: str) -> list[str | Code]:
    """ "0-3,me.safetensors,9" → "0-3", the code, "9": texts of seeds and codes as they stand. Raises `FruganError`."""
    found: list[str | Code] = []
    whole = text.endswith(SUFFIX) and Path(text).is_file()  # a name with a comma
    for part in [text] if whole else filter(None, (part.strip() for part in text.split(","))):
        if re.fullmatch(r"\d+(-\d+)?", part):
            found.append(part)
        elif Path(part).is_dir():
            files = sorted(Path(part).glob(f"*{SUFFIX}"))
            if not files:
                raise FruganError(f"{part} holds no codes (files that end in {SUFFIX})")
            found += map(load_code, files)
        else:
            found.append(load_code(part) if part.endswith(SUFFIX) else part)
    return found


def point_names(points: Sequence[Point]) -> list[str]:
    """A seed's number, or a code's name."""
    return [str(point) if isinstance(point, int) else point.name for point in points]


def file_stems(points: Sequence[Point]) -> list[str]:
    """ "seed0003", or a code's name, each different: of codes with the same name the later ones get a number."""
    return different([f"seed{point:04d}" if isinstance(point, int) else point.name for point in points])


def different(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """Names of files, with a number where one is among `taken` or was there before, whatever its case."""
    used, made = {name.casefold() for name in taken}, []
    for name in names:
        number, free = 2, name
        while free.casefold() in used:
            number, free = number + 1, f"{name}-{number}"
        used.add(free.casefold())
        made.append(free)
    return made


def is_same_point(a: Point, b: Point) -> bool:
    """Whether two points are the same seed, or codes of the same ws."""
    if isinstance(a, Code) and isinstance(b, Code):
        return torch.equal(a.ws, b.ws)
    return isinstance(a, int) and isinstance(b, int) and a == b


@torch.no_grad()
def point_ws(
    G: Generator, points: Sequence[Point], c: Tensor | None = None, truncation: Truncation = NO_TRUNCATION
) -> Tensor:
    """ws `[N, num_ws, w_dim]` of points in latent space, on the generator's device.

    Args:
        G: the generator.
        points: seeds, and codes, which are taken as they are.
        c: the seeds' labels, `[K]` or `[N, K]`, or None for a generator without.
        truncation: of seeds.

    Raises `FruganError` for a code of another generator, or one that moves styles.
    """
    device = G.mapping.w_avg.device
    check_points(G, points)
    rows: list[Tensor] = []
    for i, point in enumerate(points):
        if isinstance(point, int):
            label = None if c is None else (c if c.ndim == 1 else c[i])[None].to(device)
            w = G.mapping.features(G.latents([point]).to(device), label)
            rows.append(truncation(G, w[:, None].repeat(1, G.num_ws, 1)))
        else:
            rows.append(code_ws(point)[None].to(device))
    return torch.cat(rows)


def code_ws(code: Code) -> Tensor:
    """The ws of a code that is nothing but ws. Raises `FruganError` for one that moves styles, too."""
    if code.offset is not None:
        raise FruganError(
            f"code {code.name!r} moves styles as well as ws, so that its ws alone are another image: it can be generated and "
            "edited; to mix it, sweep it or tour through it, project the image to w, pn or w+"
        )
    return code.ws


def check_points(G: Generator, points: Sequence[Point]) -> None:
    """Raises `FruganError` unless all codes are of G, or of a parent or child of it."""
    belong = {point.generator.digest: point for point in points if isinstance(point, Code)}
    for point in belong.values():
        point.check(G)
    for point in points:
        if isinstance(point, Code) and tuple(point.ws.shape) != (G.num_ws, G.w_dim):
            point.check(G)


def point_noise(G: Generator, points: Sequence[Point]) -> PointNoise:
    """The noise to render points with: the network's constants, but where a code has fitted maps of its own."""
    if not any(isinstance(p, Code) and p.noise for p in points):
        return "const"
    device = G.mapping.w_avg.device
    convs = [conv for block in G.synthesis.blocks for conv in (block.conv0, block.conv1) if conv is not None]
    maps: list[Tensor | None] = []
    for i, conv in enumerate(convs):
        constant = conv.noise_const
        if constant is None:
            maps.append(None)
            continue
        each = [p.noise[i] if isinstance(p, Code) and len(p.noise) > i else constant[None] for p in points]
        if any(tuple(n.shape) != (1, *constant.shape) for n in each):
            raise FruganError("the noise maps of these codes are those of another generator; project the images anew")
        maps.append(torch.stack([n.to(device) for n in each]))
    return maps


@torch.no_grad()
def render_points(
    G: Generator,
    points: Sequence[Point],
    c: Tensor | None = None,
    edits: Sequence[Edit] = (),
    truncation: Truncation = NO_TRUNCATION,
    *,
    batch: int = 16,
) -> Tensor:
    """Images float32 `[N, C, H, W]` in [-1, 1] of points in latent space, with edits.

    Args:
        G: the generator.
        points: seeds and codes.
        c: the seeds' labels, `[K]` or `[N, K]`, or None for a generator without.
        edits: applied to all of them.
        truncation: of seeds.
        batch: images at once.

    Raises `FruganError` for a code or an edit of another generator.
    """
    check_points(G, points)
    for edit in edits:
        check_edit(edit, G)
    made = []
    for i in range(0, len(points), batch):
        some = points[i : i + batch]
        labels = [None if c is None else c if c.ndim == 1 else c[i + k] for k in range(len(some))]
        each = [point_styles(G, point, label, edits, truncation) for point, label in zip(some, labels)]
        styles = [torch.cat(layer) for layer in zip(*each)]
        made.append(G.synthesis.render(styles, noise=point_noise(G, some)).clamp_(-1, 1))
    return torch.cat(made)


def point_styles(
    G: Generator, point: Point, c: Tensor | None, edits: Sequence[Edit], truncation: Truncation
) -> list[Tensor]:
    """The styles of one point, `[1, width]` for each layer, with edits.

    Args:
        G: the generator.
        point: a seed or a code of G.
        c: a seed's label `[K]`, or None.
        edits: checked ones (`check_edit`).
        truncation: of a seed.
    """
    if isinstance(point, int):
        return apply_edits(G, G.latents([point]), None if c is None else c[None], edits, truncation)
    device = G.mapping.w_avg.device
    offset = None if point.offset is None else point.offset[None].to(device)
    return edit_ws(G, point.ws[None].to(device), edits, offset)
