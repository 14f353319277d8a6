"""Directions: moves in a generator's latent space that change one thing about its images.

A direction is a unit vector (or one for each of the ws), a unit of strength σ and the levels that it acts on. At strength a

    z ← z + a·σ·v,      ws_i ← ws_i + a·σ·v_i  for i of the levels,      or      s ← s + a·σ·v   (all styles side by side).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cattrs
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.checks import check_file_name, check_number
from frugan.command_line import command
from frugan.errors import FruganError, shown
from frugan.files import read_json, refilling, write_json
from frugan.latent.levels import level_names, ws_of_levels
from frugan.latent.statistics import draw_latents, tensor_converter
from frugan.networks import Generator
from frugan.networks.serialization import save_tensors, weights_digest
from frugan.shipped import resolve_shipped
from frugan.structure import reasons

Space = Literal["z", "w", "style"]
SPACES: tuple[Space, ...] = ("z", "w", "style")
Order = Literal["after", "before"]

_PROBES = 16
RELATED = 0.5
"""Generators whose ws of the same latents correlate by at least this much are taken for parent and child."""


@dataclass(frozen=True)
class Identity:
    """The identity of a generator: the hash of its weights, and the w of a few latents."""

    digest: str
    probe: Tensor
    """float32 `[_PROBES, D]`: w of latents that are always the same."""
    levels: tuple[str, ...]

    @classmethod
    def of(cls, G: Generator) -> Identity:
        """The identity of G, with tensors on the CPU."""
        return cls(weights_digest(G), _probe(G), tuple(level_names(G)))

    def relation(self, G: Generator) -> float:
        """1 for the same generator; else the correlation of the ws of the same latents with G's, about 0 for an unrelated one."""
        if weights_digest(G) == self.digest:
            return 1.0
        own = _probe(G)
        if own.shape != self.probe.shape:
            return 0.0
        a, b = (x - x.mean(0) for x in (own, self.probe))
        return float(F.cosine_similarity(a.flatten(), b.flatten(), dim=0))


@dataclass(frozen=True)
class Direction:
    """One direction. Directions of one generator and space can be added, scaled, restricted to levels, made orthogonal."""

    name: str
    space: Space
    vector: Tensor
    """float32 of unit length: `[z_dim]`; `[w_dim]`, or `[num_ws, w_dim]` whose longest row has unit length; or `[ΣC]`."""
    sigma: float
    """How far strength 1 goes: as a rule the standard deviation of samples along the vector."""
    generator: Identity
    centre: float = 0.0
    """The mean coordinate ⟨w, v⟩ of samples, from which absolute strengths count."""
    levels: tuple[int, ...] | None = None
    """What it acts on (space w and style); None: all."""
    order: Order = "after"
    """Whether it is added after truncation, or before it, so that ψ shrinks it too."""
    slider: tuple[float, float] = (-3.0, 3.0)
    """Strengths that are worth trying."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """Method and settings that it comes from."""

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise FruganError(f"space {self.space!r}: choose one of {', '.join(SPACES)}")
        if not self.vector.isfinite().all() or not self.vector.any():
            raise FruganError(f"direction {self.name!r}: its vector must be finite and not all 0")
        check_file_name("direction", self.name)
        check_number(f"direction {self.name!r}: sigma", self.sigma, above=0)

    def displacement(self, G: Generator) -> Tensor:
        """The displacement by strength 1 of z `[z_dim]`, ws `[num_ws, w_dim]` or styles `[ΣC]`; 0 outside its levels."""
        step = self.vector * self.sigma
        if self.space == "z":
            return step
        levels = tuple(range(len(G.synthesis.sizes))) if self.levels is None else self.levels
        if self.space == "w":
            step = step.expand(G.num_ws, -1)
            keep = torch.zeros(G.num_ws, 1)
            keep[ws_of_levels(levels)] = 1
        else:
            layers = G.synthesis.style_layers
            keep = torch.cat([torch.full((layer.width,), float(layer.level in levels)) for layer in layers])
        return step * keep

    def check(self, G: Generator) -> None:
        """Raises `FruganError` unless this direction can act on G: its own generator, or a parent or child of it."""
        wanted = {"z": G.z_dim, "w": G.w_dim, "style": sum(layer.width for layer in G.synthesis.style_layers)}[
            self.space
        ]
        if self.vector.shape[-1] != wanted:
            raise FruganError(
                f"direction {self.name!r} is of a space {self.space} of {self.vector.shape[-1]} dimensions, and this "
                f"generator's has {wanted}; find directions in this generator with {command('directions')}"
            )
        if self.vector.ndim == 2 and len(self.vector) != G.num_ws:
            raise FruganError(
                f"direction {self.name!r} holds a vector for each of {len(self.vector)} ws, and this generator has {G.num_ws}"
            )
        if (relation := self.generator.relation(G)) < RELATED:
            raise FruganError(
                f"direction {self.name!r} was found in another generator (hash {self.generator.digest[:12]}), which this one "
                f"was not fine-tuned from: their ws correlate by {relation:.2f}, {RELATED} is needed; find directions anew"
            )

    def restricted(self, levels: tuple[int, ...]) -> Direction:
        """The direction on these levels only (and on those that it had)."""
        if self.space == "z":
            raise FruganError(f"direction {self.name!r} is one of z, which reaches all levels; it cannot be restricted")
        kept = levels if self.levels is None else tuple(level for level in self.levels if level in levels)
        if not kept:
            raise FruganError(f"direction {self.name!r} acts on none of these levels")
        return replace(self, levels=kept)

    def scaled(self, factor: float) -> Direction:
        """Strength 1 of it is strength `factor` of this one; a negative factor turns it around."""
        check_number("factor", factor)
        if not factor:
            raise FruganError("factor 0 leaves nothing of a direction")
        sign = 1 if factor > 0 else -1
        low, high = (bound / factor for bound in self.slider[::sign])
        return replace(
            self,
            vector=sign * self.vector,
            sigma=self.sigma * abs(factor),
            centre=sign * self.centre,
            slider=(low, high),
        )

    def plus(self, other: Direction, G: Generator, name: str = "") -> Direction:
        """The sum of two directions: their displacements are added, and the strength of the result is in units of the
        sum's length.

        Args:
            other: a direction of the same space and order.
            G: the generator.
            name: of the sum; by default both names.

        Raises `FruganError` where spaces or orders differ, or the two cancel out.
        """
        _alike((self, other))
        total = self.displacement(G) + other.displacement(G)
        sigma = float(total.norm(dim=-1).max())
        if sigma == 0:
            raise FruganError(f"directions {self.name!r} and {other.name!r} cancel out")
        source = {"sum": [dict(self.source), dict(other.source)]}
        return Direction(
            name or f"{self.name}+{other.name}",
            self.space,
            total / sigma,
            sigma,
            self.generator,
            order=self.order,
            source=source,
        )

    def projected_out(self, others: Sequence[Direction]) -> Direction:
        """The part of this direction that is orthogonal to others: moving along it does not change their coordinates.

        n' = n - C (CᵀC)⁻¹ Cᵀ n (Shen et al., "Interpreting the Latent Space of GANs", 2020), by least squares, so that
        others which are nearly parallel do no harm.
        """
        if not others:
            return self
        by_row = self.vector.ndim == 2 and others[0].vector.ndim == 1  # of a vector for each of the ws, each by itself
        longest = self.vector.norm(dim=-1).argmax() if by_row else slice(None)
        _alike((replace(self, vector=self.vector[longest]), *others))
        rows = torch.stack([d.vector for d in others]).double().flatten(1)
        own = self.vector.double().reshape(-1, rows.shape[1])
        rest = own - (rows.T @ torch.linalg.lstsq(rows.T, own.T, driver="gelsd").solution).T
        rest = rest.reshape(self.vector.shape)
        length = float(rest.norm(dim=-1).max())
        share = length / float(self.vector.norm(dim=-1).max())
        if share < 1e-3:
            raise FruganError(f"direction {self.name!r} lies in the span of those to be projected out; nothing is left")
        vector = (rest / length).float()
        source = {**self.source, "projected_out": [d.name for d in others]}
        return replace(self, vector=vector, sigma=self.sigma * share, centre=0.0, source=source)


def orthonormalised(directions: Sequence[Direction]) -> list[Direction]:
    """Each with all before it projected out."""
    made: list[Direction] = []
    for direction in directions:
        made.append(direction.projected_out(made))
    return made


def overlap(directions: Sequence[Direction]) -> Tensor:
    """Cosines between directions, `[M, M]`: 1 on the diagonal, 0 where two have nothing in common."""
    _alike(directions)
    rows = F.normalize(torch.stack([d.vector.double().flatten() for d in directions]), dim=1)
    return (rows @ rows.T).float()


def _alike(directions: Sequence[Direction]) -> None:
    first = directions[0]
    for other in directions[1:]:
        if other.space != first.space or other.order != first.order or other.vector.shape != first.vector.shape:
            raise FruganError(
                f"directions {first.name!r} ({first.space}, added {first.order} truncation) and {other.name!r} ({other.space}, "
                f"{other.order}) are of different spaces or orders; combine directions of one kind"
            )
        if other.generator.digest != first.generator.digest:
            raise FruganError(f"directions {first.name!r} and {other.name!r} were found in different generators")


def _probe(G: Generator) -> Tensor:
    z, c = draw_latents(G, _PROBES, 1 << 20)
    device = G.mapping.w_avg.device
    with torch.no_grad():
        return G.mapping.features(z.to(device), None if c is None else c.to(device)).float().cpu()


WEIGHTS, FACTS = "directions.safetensors", "directions.json"


def save_directions(directions: Sequence[Direction], folder: str | Path) -> Path:
    """Writes directions of one generator as directions.safetensors and directions.json into a folder."""
    if not directions or len({d.name for d in directions}) < len(directions):
        raise FruganError("give at least one direction, and a name of its own to each")
    folder = Path(folder)
    generator = directions[0].generator
    tensors = {f"vector.{i}": d.vector.float().contiguous() for i, d in enumerate(directions)}
    plain = [
        {k: v for k, v in vars(d).items() if k not in ("vector", "generator")} | {"source": dict(d.source)}
        for d in directions
    ]
    facts = {"format": 1, "generator": {"digest": generator.digest, "levels": generator.levels}, "directions": plain}
    with refilling(folder, FACTS) as scratch:
        save_tensors(tensors | {"probe": generator.probe}, scratch / WEIGHTS)
        write_json(scratch / FACTS, facts)
    return folder


def load_directions(folder: str | Path) -> list[Direction]:
    """Reads directions that `save_directions` wrote; of "sample", those that come with frugan. Raises `FruganError`."""
    folder = resolve_shipped(folder)
    if not (folder / FACTS).is_file() or not (folder / WEIGHTS).is_file():
        raise FruganError(
            f"{folder} holds no directions ({FACTS} and {WEIGHTS}); make some with {command('directions')}"
        )
    try:
        facts = read_json(folder / FACTS)
        tensors = safetensors.torch.load_file(folder / WEIGHTS)
        identity = Identity(facts["generator"]["digest"], tensors["probe"], tuple(facts["generator"]["levels"]))
        return [
            _converter.structure({**plain, "vector": tensors[f"vector.{i}"], "generator": identity}, Direction)
            for i, plain in enumerate(facts["directions"])
        ]
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError, cattrs.BaseValidationError) as error:
        reason = reasons(error, "direction") if isinstance(error, cattrs.BaseValidationError) else shown(error)
        raise FruganError(f"{folder} holds damaged directions ({reason}); make them again") from error


_converter = tensor_converter()
_converter.register_structure_hook(Identity, lambda value, _: value)


def find_direction(text: str) -> Direction:
    """ "FOLDER:3" (by number, from 0) or "FOLDER:name" → the direction. Raises `FruganError`."""
    folder, colon, which = text.rpartition(":")
    if not colon:
        folder, which = text, "0"
    found = load_directions(folder)
    named = [d for d in found if d.name == which]
    if named:
        return named[0]
    if re.fullmatch(r"\d{1,6}", which) and int(which) < len(found):
        return found[int(which)]
    names = ", ".join(f"{i} {d.name}" for i, d in enumerate(found[:20]))
    raise FruganError(f"{folder} holds no direction {which!r}; it has {names}")
