"""Generator served to the explorer's page: what the page must know of it, latents to w, and ws to images.

The page does the arithmetic of latents (directions, truncation, mixing) itself, so that there is one code for it whichever
engine renders. An engine computes two functions only:

    z, c → w `[N, w_dim]`,      ws, offset → images = render(styles(ws) + offset)

where the offset `[N, ΣC]` is the sum of all edits in style space, which are relative and so do not depend on ws.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from frugan.images import software
from frugan.label_parts import label_parts
from frugan.latent.direction import Direction, Identity
from frugan.latent.levels import level_names
from frugan.latent.path import render_styles
from frugan.latent.statistics import flat_styles, split_styles
from frugan.networks import Generator
from frugan.networks.stylegan2.synthesis import Noise

if TYPE_CHECKING:
    from frugan.explorer.copies import TrainingImages

NoiseChoice = Literal["const", "none"] | int
"""The network's constants, none, or the seed of noise that `drawn_noise` makes."""

LARGEST_VALUE = 1e4
"""Magnitude of a coordinate of z, ws or styles that is computed with."""


@dataclass(eq=False)
class Network:
    """A generator, its directions, and in which units files hold its images."""

    name: str
    G: Generator
    directions: Sequence[Direction] = ()
    class_names: Sequence[str] | None = None
    warnings: Sequence[str] = field(default_factory=list)
    training_images: Callable[[], TrainingImages] | None = None
    """Opens the images that it was trained on; None where they are not known."""

    def __post_init__(self) -> None:
        self.G.eval().requires_grad_(False)
        for direction in self.directions:
            direction.check(self.G)

    def facts(self) -> dict[str, Any]:
        """The facts on a network for the page, as JSON; tensors are base64 of little-endian float32."""
        G, identity = self.G, Identity.of(self.G)
        pixels = G.pixels
        parts = label_parts(G.label_size, self.class_names, G.config.measured) if G.label_size else []
        return {
            "name": self.name,
            "version": software().removeprefix("frugan "),
            "resolution": list(G.resolution),
            "channels": G.channels,
            "pixels": {
                "dtype": pixels.dtype,
                "ranges": pixels.value_range and [list(pair) for pair in pixels.value_range],
                "alpha": pixels.alpha,
                "crisp": pixels.crisp,
            },
            "z_dim": G.z_dim,
            "w_dim": G.w_dim,
            "num_ws": G.num_ws,
            "label_size": G.label_size,
            "style_size": sum(layer.width for layer in G.synthesis.style_layers),
            "levels": level_names(G),
            "noise": [list(noise.shape[2:]) for noise in constant_noise(G)],
            "w_avg": encoded(G.mapping.w_avg),
            "digest": identity.digest,
            "probe": encoded(identity.probe),
            "labels": [
                {
                    "name": part.name,
                    "columns": [part.columns.start, part.columns.stop],
                    "classes": part.classes,
                    "flag": part.is_flag,
                    "range": part.measured and [part.measured.minimum, part.measured.maximum],
                }
                for part in parts
            ],
            "directions": [self.slider(direction) for direction in self.directions],
            "warnings": list(self.warnings),
        }

    def slider(self, direction: Direction) -> dict[str, Any]:
        """The description of a direction for the page."""
        return {
            "name": direction.name,
            "space": direction.space,
            "order": direction.order,
            "slider": list(direction.slider),
            "displacement": encoded(direction.displacement(self.G)),
        }

    def add(self, direction: Direction) -> Direction:
        """Takes up one more direction, numbered where its name is taken already."""
        taken, name, count = {d.name for d in self.directions}, direction.name, 1
        while name in taken:
            count += 1
            name = f"{direction.name} ({count})"
        added = replace(direction, name=name)
        self.directions = [*self.directions, added]
        return added

    @torch.no_grad()
    def map(self, z: Tensor, c: Tensor | None) -> Tensor:
        """z `[N, z_dim]`, labels c `[N, K]` → w float32 `[N, w_dim]` before truncation, on the CPU."""
        device = self.G.mapping.w_avg.device
        return self.G.mapping.features(z.to(device), None if c is None else c.to(device)).float().cpu()

    @torch.no_grad()
    def render(
        self, ws: Tensor, offset: Tensor | None, noise: NoiseChoice = "const", side: int | None = None
    ) -> Tensor:
        """ws `[N, num_ws, w_dim]`, offset `[N, ΣC]` → images float32 `[N, C, H, W]` in [-1, 1], on the CPU.

        `side`: a preview, by the first level of so many pixels (with constant noise only).
        """
        G, device = self.G, self.G.mapping.w_avg.device
        styles = G.synthesis.styles(ws.to(device))
        if offset is not None:
            styles = split_styles(G, flat_styles(G, ws.to(device)) + offset.to(device))
        if noise == "const":
            return render_styles(G, styles, side).cpu()
        maps: Noise = "none"
        if noise != "none" and G.synthesis.use_noise:
            maps = [m.expand(len(ws), -1, -1, -1).to(device) for m in drawn_noise(G, noise)]
        return G.synthesis.render(styles, noise=maps).clamp_(-1, 1).cpu()


def constant_noise(G: Generator) -> list[Tensor]:
    """The network's noise constants, `[1, 1, H, W]` for each convolution, on the CPU; none where it uses no noise."""
    if not G.synthesis.use_noise:
        return []
    convs = [conv for block in G.synthesis.blocks for conv in (block.conv0, block.conv1) if conv is not None]
    return [conv.noise_const[None, None].cpu() for conv in convs if conv.noise_const is not None]


def drawn_noise(G: Generator, seed: int) -> list[Tensor]:
    """Noise of a seed as the page draws it too: `[1, 1, H, W]` for each convolution, one after the other, from MT19937."""
    rng = np.random.RandomState(seed)
    return [torch.from_numpy(rng.randn(*noise.shape)).float() for noise in constant_noise(G)]


def encoded(tensor: Tensor) -> str:
    """Base64 of a tensor's values, little-endian float32, in the order of rows."""
    return b64encode(tensor.detach().cpu().contiguous().numpy().astype("<f4").tobytes()).decode("ascii")


def decoded(text: str) -> np.ndarray:
    """The float32 values of what `encoded` wrote, flat."""
    return np.frombuffer(b64decode(text), "<f4")
