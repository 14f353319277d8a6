"""SeFa: directions of w that change the styles most (Shen & Zhou, "Closed-Form Factorization of Latent Semantics", 2021).

With A `[D, ΣC]` the affine weights of the chosen layers, one style channel a column, the directions are the eigenvectors of
A Aᵀ with the largest eigenvalues: the unit vectors n for which the styles change most, |Aᵀ n|.
"""

from __future__ import annotations

import torch
from torch import Tensor

from frugan.checks import check_number
from frugan.latent.direction import Direction, Identity, Order
from frugan.latent.statistics import Statistics, fix_signs
from frugan.networks import Generator


def style_affines(G: Generator, levels: tuple[int, ...] | None = None) -> Tensor:
    """The affine weights of the convolutions of these levels, and of the last ToRGB: float64 `[D, ΣC]`."""
    last = len(G.synthesis.sizes) - 1
    weights = [
        layer.affine.weight.detach().cpu().double()
        for level in (range(last + 1) if levels is None else levels)
        for kind, layer in G.synthesis.blocks[level].styled
        if kind != "torgb" or level == last
    ]
    return torch.cat(weights).T.contiguous()


def sefa_directions(
    G: Generator,
    statistics: Statistics,
    count: int = 20,
    *,
    levels: tuple[int, ...] | None = None,
    normalize: bool = True,
    order: Order = "after",
) -> list[Direction]:
    """Eigenvectors of the first layers' weights as directions, by descending eigenvalue; strength 1 is one standard
    deviation of samples.

    Shen & Zhou, "Closed-Form Factorization of Latent Semantics in GANs", 2021.

    Args:
        G: the generator.
        statistics: of its w.
        count: number of directions.
        levels: that they are found for and act on; None: all.
        normalize: whether each column of the weight matrix A is divided by its length, as in the paper; otherwise
            channels count by their gain.
        order: whether edits are added "after" or "before" truncation.
    """
    check_number("count", count, at_least=1, at_most=G.w_dim, whole=True)
    A = style_affines(G, levels)
    if normalize:
        A = A / A.norm(dim=0, keepdim=True).clamp_min(1e-12)
    values, vectors = torch.linalg.eigh(A @ A.T)
    rows, values = fix_signs(vectors.flip(1).T.contiguous()), values.flip(0)
    identity = Identity.of(G)
    return [
        Direction(
            f"sefa{i}",
            "w",
            n.float(),
            statistics.deviation_along(n),
            identity,
            centre=float(n @ statistics.mean),
            levels=levels,
            order=order,
            source={"method": "sefa", "eigenvalue": float(values[i]), "normalize": normalize},
        )
        for i, n in enumerate(rows[:count])
    ]
