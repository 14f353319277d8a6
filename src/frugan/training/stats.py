"""Statistics gathered on the device between two reports, and read by the host once in a report."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from frugan.augment import heuristics
from frugan.distributed import add_up, least, world_size
from frugan.tracking import Histogram

SOURCES = ("real", "generated", "held_out")


class Stats:
    """Means, maxima, overfitting heuristics and logit distributions since the last `collect`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._clear()

    def _clear(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._maxima: dict[str, Tensor] = {}
        self._windows: Tensor | None = None
        self.logits = {source: Histogram(device=self.device) for source in SOURCES}

    @torch.no_grad()
    def mean(self, name: str, value: Tensor) -> None:
        """Adds a scalar to the mean of that name."""
        self._sums[name] = self._sums[name] + value.detach() if name in self._sums else value.detach().clone()
        self._counts[name] = self._counts.get(name, 0) + 1

    def total(self, name: str, value: Tensor) -> None:
        """Adds a scalar to the sum of that name."""
        self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
        self._counts[name] = 1

    def maximum(self, name: str, value: Tensor) -> None:
        """Raises the maximum of that name to a scalar, if that is larger."""
        self._maxima[name] = torch.maximum(self._maxima[name], value) if name in self._maxima else value.clone()

    @torch.no_grad()
    def window(self, sums: Tensor) -> None:
        """Adds the sums of a controller window, unless they are not finite; all processes have the same."""
        sums = torch.where(torch.isfinite(sums).all(), sums, 0)
        self._windows = sums if self._windows is None else self._windows + sums

    def collect(self) -> dict[str, Any]:
        """The statistics of all processes as Python values; gathering begins anew. Maxima must be the same in all processes."""
        sums = [v.float() for v in self._sums.values()]
        counts = torch.tensor(list(map(float, self._counts.values())), device=self.device)
        add_up([*sums, counts])
        maxima = [v.float() for v in self._maxima.values()]
        values = [*(torch.stack(sums) / counts), *maxima] if sums else maxima
        names = [*self._sums, *self._maxima]
        record: dict[str, Any] = dict(zip(names, torch.stack(values).tolist())) if values else {}
        if world_size() > 1:
            for histogram in self.logits.values():
                histogram.combine(add_up, least)
        if self._windows is not None:
            record["r_t"], record["r_v"] = torch.stack(heuristics(self._windows)).tolist()
        record |= {f"logits/{source}": h.to_dict() for source, h in self.logits.items() if h.seen}
        self._clear()
        return record
