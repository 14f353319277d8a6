"""The share of the time for which training waits for its images."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import Figures, seconds
from benchmarks.training import begin
from frugan.data import Dataset


class Timed:
    """A data set that counts the seconds spent in it."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.seconds = dataset, 0.0
        self.held_out_indices = dataset.held_out_indices

    def images(self, indices: np.ndarray, *, device: torch.device | str) -> tuple[Tensor, Tensor]:
        started = time.perf_counter()
        found = self.dataset.images(indices, device=device)
        self.seconds += time.perf_counter() - started
        return found


def waiting(resident: bool):
    def arm(device: str, *, size: int, steps: int, **options: Any) -> Figures:
        timed: list[Timed] = []

        def wrap(dataset: Dataset) -> Timed:
            if resident and not dataset.resident(device, limit_bytes=2**30):
                raise AssertionError("64 images fit into 1 GiB")
            timed.append(Timed(dataset))
            return timed[0]

        config, loop = begin(size, device, storage="png", wrap=wrap, **options)
        next(loop)
        timed[0].seconds = 0.0
        taken = seconds(lambda: next(islice(loop, steps - 1, None)), device)
        return {
            "s/kimg": taken / (steps * config.training.batch) * 1000,
            "waits, ms/step": timed[0].seconds / steps * 1000,
            "waits, %": 100 * timed[0].seconds / taken,
        }

    return arm
