"""The distribution of a tensor's values over many steps, gathered on its device and read by the host once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

LOW, HIGH, BINS = -16.0, 16.0, 64
_AT_ONCE = 64


class Histogram:
    """Counts in equal bins over [low, high), and moments; by default for logits: 64 bins of 0.5 from −16 to 16.

    Bin i holds low + i·w ≤ x < low + (i + 1)·w; what lies outside, and what is not finite, is counted apart.

    Args:
        low, high: range of the bins.
        bins: of equal width, beside three for values below, above and not finite.
        device: that values come from.
    """

    def __init__(
        self, *, low: float = LOW, high: float = HIGH, bins: int = BINS, device: torch.device | str = "cpu"
    ) -> None:
        self.low, self.high = low, high
        self.seen = False  # known to the host, unlike the counts: whether anything was added
        self._waiting: list[Tensor] = []  # values not counted yet: many small tensors are counted at once
        self._edges = torch.linspace(low, high, bins + 1, device=device)
        self._counts = torch.zeros(bins + 3, dtype=torch.int32, device=device)  # below, the bins, above, not finite
        self._sums = torch.zeros(2, device=device)  # Σx, Σx²
        self._range = torch.full((2,), torch.inf, device=device)  # min x, min −x

    @torch.no_grad()
    def add(self, values: Tensor) -> None:
        """Counts float values of any shape, which must not change later. Waits for nothing: no value is read back."""
        if not values.numel():
            return
        self.seen = True
        self._waiting.append(values.detach().flatten().float())
        if len(self._waiting) == _AT_ONCE:
            self._count()

    @torch.no_grad()
    def _count(self) -> None:
        """Counts the values that wait."""
        if not self._waiting:
            return
        x = torch.cat(self._waiting)
        self._waiting.clear()
        finite = torch.isfinite(x)
        index = torch.bucketize(x, self._edges, right=True, out_int32=True)
        index = torch.where(finite, index, len(self._counts) - 1)
        self._counts.scatter_add_(0, index.long(), torch.ones_like(index))
        signed = torch.stack([x, -x])
        self._range = torch.minimum(self._range, torch.where(finite, signed, torch.inf).amin(1))
        x = torch.where(finite, x, 0)
        self._sums += torch.stack([x, x * x]).sum(1)

    def combine(self, add_up: Callable[[Sequence[Tensor]], None], least: Callable[[Tensor], None]) -> None:
        """Takes in what other processes have counted. `add_up` replaces float32 tensors by sums over all of them, `least` one
        by its minimum. The host waits for the device here."""
        self._count()
        counts = self._counts.float()
        add_up([counts, self._sums])
        least(self._range)
        self._counts = counts.to(torch.int32)
        self.seen = bool(counts.any())

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: moments and range (None while empty), bin edges [low, high], counts.

        `std` is that of the population. The host waits for the device here.
        """
        self._count()
        below, *counts, above, not_finite = self._counts.tolist()
        total, squares, low, minus_high = torch.cat([self._sums, self._range]).tolist()
        n = below + sum(counts) + above
        mean = total / n if n else None
        return {
            "mean": mean,
            "std": max(squares / n - mean * mean, 0.0) ** 0.5 if mean is not None else None,
            "min": low if n else None,
            "max": -minus_high if n else None,
            "count": n,
            "not_finite": not_finite,
            "edges": [self.low, self.high],
            "below": below,
            "counts": counts,
            "above": above,
        }
