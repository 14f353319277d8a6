"""Metrics measured while a run trains."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from frugan.config.schema import RunConfig
from frugan.data import Dataset
from frugan.metrics import Evaluator, ImageSet
from frugan.run.evaluate import image_set_of


def make_evaluator(config: RunConfig, dataset: Dataset, device: torch.device, *, most: int | None = None) -> Evaluator:
    """What measures a run while it trains, against the held-out images if there are any; `most`: of the images, to try it."""
    held_out = len(dataset.held_out_indices)

    def some(which: Literal["train", "held-out", "stream"]) -> ImageSet:
        image_set = image_set_of(dataset, which)
        return replace(image_set, rows=image_set.chosen[:most])

    return Evaluator(
        some("held-out" if held_out else "train"),
        config.evaluate,
        train=some("stream") if held_out else None,
        labels=dataset.label_pool.numpy(),
        device=device,
        cache=None if most else dataset.cache_folder / "features",
    )
