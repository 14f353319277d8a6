"""Edits: directions applied to latents, with truncation, and rendered.

From a latent to an image there are four places to act: z, ws before truncation, ws after it, and the styles.

    z (+ edits) → w = mapping(z, c) → ws (+ edits "before") → truncation → (+ edits "after") → styles (+ edits) → image
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from frugan.checks import check_number
from frugan.errors import FruganError
from frugan.latent.direction import Direction
from frugan.latent.levels import ws_of_levels
from frugan.latent.statistics import flat_styles, split_styles
from frugan.networks import Generator
from frugan.networks.stylegan2.synthesis import Noise

Mode = Literal["relative", "centred", "absolute"]
MODES: tuple[Mode, ...] = ("relative", "centred", "absolute")


@dataclass(frozen=True)
class Truncation:
    """ws ← centre + ψ (ws - centre), with a ψ of its own for some levels.

    `centre` `[w_dim]` or `[num_ws, w_dim]`: None means the mapping network's running average of w.
    """

    psi: float = 1.0
    levels: tuple[int, ...] | None = None
    """Levels that ψ acts on; None: all."""
    centre: Tensor | None = None

    def __post_init__(self) -> None:
        check_number("truncation", self.psi, at_least=-4, at_most=4)

    def __call__(self, G: Generator, ws: Tensor) -> Tensor:
        """ws `[N, num_ws, w_dim]` → the same, truncated."""
        if self.psi == 1:
            return ws
        centre = (G.mapping.w_avg if self.centre is None else self.centre).to(ws.device)
        levels = tuple(range(len(G.synthesis.sizes))) if self.levels is None else self.levels
        psi = torch.ones(G.num_ws, 1, device=ws.device)
        psi[ws_of_levels(levels)] = self.psi
        return torch.lerp(centre.expand_as(ws), ws, psi.expand_as(ws))


NO_TRUNCATION = Truncation()


class Edit(NamedTuple):
    """A direction and how far to go along it, in its σ.

    relative: from where each image is; centred: from the mean along the direction, so that each image ends at the same
    coordinate; absolute: from coordinate 0.
    """

    direction: Direction
    strength: float
    mode: Mode = "relative"


@torch.no_grad()
def edited_styles(
    G: Generator,
    z: Tensor,
    c: Tensor | None = None,
    edits: Sequence[Edit] = (),
    truncation: Truncation = NO_TRUNCATION,
) -> list[Tensor]:
    """The styles of latents with edits: float32 `[N, width]` for each layer, on the generator's device.

    Args:
        G: the generator.
        z: `[N, z_dim]`.
        c: labels `[N, K]`, or None for a generator without.
        edits: each applied in its own space.
        truncation: before or after which edits of w are added, by the direction's order.

    Raises `FruganError` for an edit of another generator.
    """
    for edit in edits:
        check_edit(edit, G)
    return apply_edits(G, z, c, edits, truncation)


@torch.no_grad()
def apply_edits(
    G: Generator, z: Tensor, c: Tensor | None, edits: Sequence[Edit], truncation: Truncation
) -> list[Tensor]:
    """As `edited_styles`, with the same arguments, for edits that were checked already."""
    device = G.mapping.w_avg.device
    z, c = z.to(device), None if c is None else c.to(device)
    for edit in _of(edits, "z"):
        z = z + _step(G, z, edit)
    ws = G.mapping.features(z, c)[:, None].repeat(1, G.num_ws, 1)
    for edit in _of(edits, "w", "before"):
        ws = ws + _step(G, ws, edit)
    ws = truncation(G, ws)
    for edit in _of(edits, "w", "after"):
        ws = ws + _step(G, ws, edit)
    return styles_of(G, ws, edits)


@torch.no_grad()
def edit_ws(G: Generator, ws: Tensor, edits: Sequence[Edit], offset: Tensor | None = None) -> list[Tensor]:
    """The styles of ws with edits, as `edited_styles` gives them for latents.

    Args:
        G: the generator.
        ws: `[N, num_ws, w_dim]`, truncated already, for instance a code's.
        edits: checked ones.
        offset: `[N, ΣC]`, added to the styles, or None.

    Raises `FruganError` for an edit of z, which ws no longer have.
    """
    check_without_z(edits)
    for edit in _of(edits, "w"):
        ws = ws + _step(G, ws, edit)
    return styles_of(G, ws, edits, offset)


@torch.no_grad()
def styles_of(G: Generator, ws: Tensor, edits: Sequence[Edit] = (), offset: Tensor | None = None) -> list[Tensor]:
    """The styles of ws, with those edits applied that act in style space.

    Args:
        G: the generator.
        ws: `[N, num_ws, w_dim]`.
        edits: checked ones.
        offset: `[N, ΣC]`, added to the styles, or None.
    """
    styled = _of(edits, "style")
    if not styled and offset is None:
        return G.synthesis.styles(ws)
    flat = flat_styles(G, ws) if offset is None else flat_styles(G, ws) + offset
    for edit in styled:
        flat = flat + _step(G, flat, edit)
    return split_styles(G, flat)


def render_edited(
    G: Generator,
    z: Tensor,
    c: Tensor | None = None,
    edits: Sequence[Edit] = (),
    truncation: Truncation = NO_TRUNCATION,
    noise: Noise = "const",
) -> Tensor:
    """Images float32 `[N, C, H, W]` in [-1, 1] of latents with edits.

    The arguments are those of `edited_styles`, and `noise` as in `Synthesis.render`.
    """
    with torch.no_grad():
        return G.synthesis.render(edited_styles(G, z, c, edits, truncation), noise=noise).clamp_(-1, 1)


def check_edit(edit: Edit, G: Generator) -> None:
    """Raises `FruganError` where the direction is not one of G, or the edit makes no sense."""
    edit.direction.check(G)
    check_number(f"strength of {edit.direction.name!r}", edit.strength, at_least=-1000, at_most=1000)
    if edit.mode not in MODES:
        raise FruganError(f"mode {edit.mode!r}: choose one of {', '.join(MODES)}")
    if edit.mode == "centred" and edit.direction.vector.ndim == 2:
        raise FruganError(
            f"direction {edit.direction.name!r} has a vector for each of the ws, and so no mean along it; take mode relative"
        )


def check_without_z(edits: Sequence[Edit]) -> None:
    """Raises `FruganError` for an edit of z, which codes do not have."""
    for edit in _of(edits, "z"):
        raise FruganError(
            f"direction {edit.direction.name!r} is one of z, which a code does not have; edit it by directions of w or style"
        )


def _of(edits: Sequence[Edit], space: str, order: str | None = None) -> list[Edit]:
    return [e for e in edits if e.direction.space == space and order in (None, e.direction.order)]


def _step(G: Generator, code: Tensor, edit: Edit) -> Tensor:
    """The displacement of z `[N, z_dim]`, ws `[N, num_ws, D]` or styles `[N, ΣC]` by an edit."""
    direction, strength = edit.direction, edit.strength
    unit = direction.displacement(G).to(code.device)
    if edit.mode == "relative":
        return strength * unit
    vector = direction.vector.to(code.device)
    origin = direction.centre if edit.mode == "centred" else 0.0
    squared = vector.square().sum(-1, keepdim=True).clamp_min(1e-12)  # 1, but for some of the vectors of several ws
    away = ((code * vector).sum(-1, keepdim=True) / squared - origin) / direction.sigma
    return (strength - away) * unit
