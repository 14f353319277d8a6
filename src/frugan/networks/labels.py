"""Embedding of labels with measured columns: the magnitude of a number survives normalisation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from frugan.errors import FruganError
from frugan.label_parts import Measured
from frugan.networks.layers import EqualizedLinear, normalize_2nd_moment

FREQUENCIES = tuple(math.pi / 16 * 2**k for k in range(5))
"""ω_k in radians per standard deviation. Their common period, 32, exceeds the range of any column of 12,000 numbers."""


class MeasuredEmbedding(nn.Module):
    """Labels c `[N, K]` in their own units, some columns of which are measured numbers → `[N, out_features]`.

    The mapping network normalises an embedding to unit length, which keeps only the direction of W·c: 1990 and 2020 are
    the same. A number x is therefore turned into a direction first: standardised, x' = (x − mean) / std; compressed,
    t = 4·asinh(x' / 4), so that outliers stay apart; then φ(t) = √2·(cos ω_k·t, sin ω_k·t), which is equally long for all
    x and differs for any two (Fourier features, Tancik et al. 2020). The other columns (classes) are normalised together.
    All parts are scaled to the same length, so that a number weighs as much as a class, however many classes there are.

    Args:
        label_size: K.
        measured: the columns that are numbers, with their mean and standard deviation.
        out_features: of the embedding.
    """

    columns: Tensor
    classes: Tensor
    center: Tensor
    inverse: Tensor
    omega: Tensor

    def __init__(self, label_size: int, measured: tuple[Measured, ...], out_features: int) -> None:
        super().__init__()
        columns = [m.column for m in measured]
        if not columns or len(set(columns)) < len(columns) or max(columns) >= label_size:
            raise FruganError(
                f"measured label columns {columns} of {label_size}: give each column from 0 to {label_size - 1} once"
            )
        classes = [k for k in range(label_size) if k not in columns]
        sizes = [2 * len(FREQUENCIES)] * len(columns) + [len(classes)] * bool(classes)
        self.register_buffer("columns", torch.tensor(columns), persistent=False)
        self.register_buffer("classes", torch.tensor(classes, dtype=torch.int64), persistent=False)
        self.scales = [math.sqrt(sum(sizes) / (len(sizes) * size)) for size in sizes]
        self.register_buffer("center", torch.tensor([m.mean for m in measured]), persistent=False)
        inverse = [1 / m.std if m.std else 0.0 for m in measured]
        self.register_buffer("inverse", torch.tensor(inverse), persistent=False)
        self.register_buffer("omega", torch.tensor(FREQUENCIES), persistent=False)
        self.linear = EqualizedLinear(sum(sizes), out_features)

    def forward(self, c: Tensor) -> Tensor:
        t = 4 * torch.asinh((c.index_select(1, self.columns) - self.center) * self.inverse / 4)
        angles = t[:, :, None] * self.omega
        waves = math.sqrt(2) * self.scales[0] * torch.cat([angles.cos(), angles.sin()], dim=2)
        parts = [waves.flatten(1)]
        if len(self.classes):
            parts.append(self.scales[-1] * normalize_2nd_moment(c.index_select(1, self.classes)))
        return self.linear(torch.cat(parts, dim=1))


def typical_labels(label_size: int, measured: tuple[Measured, ...] = ()) -> Tensor:
    """Labels float32 `[R, K]` as a training set has them: each class, with numbers across their range."""
    columns = {m.column for m in measured}
    classes = torch.eye(label_size)[[k for k in range(label_size) if k not in columns]]
    if not measured:
        return classes
    steps = torch.linspace(-1.5, 1.5, 7)
    rows = (classes if len(classes) else torch.zeros(1, label_size)).repeat_interleave(len(steps), dim=0)
    for m in measured:
        rows[:, m.column] = (m.mean + m.std * steps).clamp(m.minimum, m.maximum).repeat(len(rows) // len(steps))
    return rows
