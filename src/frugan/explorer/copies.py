"""Nearest training images of an image, by the features that metrics use: is it a copy?"""

from __future__ import annotations

from base64 import b64encode
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frugan.data import Dataset
from frugan.images import pil_image, to_bytes, to_float, to_uint8
from frugan.metrics import EvaluateConfig, Evaluator
from frugan.metrics.neighbours import nearest
from frugan.run.evaluate import image_set_of

NEIGHBOURS = 6
_COMPARED = 200
"""Training images whose own nearest neighbours say what a usual distance is."""


class TrainingImages:
    """The images that a network was trained on, and their features: from the cache of measurements, else computed once."""

    def __init__(self, dataset: Dataset, device: torch.device | str = "cpu") -> None:
        self.images, self.device = image_set_of(dataset, "stream"), device
        self._cache = dataset.cache_folder / "features"

    @cached_property
    def _evaluator(self) -> Evaluator:
        return Evaluator(self.images, EvaluateConfig(metrics=("kid",)), device=self.device, cache=self._cache)

    @cached_property
    def usual(self) -> float:
        """The median distance of a training image to the nearest other one."""
        features = np.asarray(self._evaluator.real.features)
        rows = np.linspace(0, len(features) - 1, min(_COMPARED, len(features))).astype(int)
        return float(np.median(nearest(features[rows], features, 2)[0][:, 1]))

    def nearest(self, image: Tensor) -> dict[str, Any]:
        """An image float32 `[C, H, W]` in [-1, 1] → its nearest training images, nearest first, as JSON."""
        seen = to_float(torch.from_numpy(to_uint8(image[None])))
        features = self._evaluator.features(seen).cpu().numpy()
        count = min(NEIGHBOURS, len(self.images))
        distances, rows = nearest(features, np.asarray(self._evaluator.real.features), count)
        found = [
            {
                "name": self.images.name(int(row)),
                "distance": round(float(distance), 4),
                "pixels": self._pixels(int(row)),
            }
            for distance, row in zip(distances[0], rows[0])
        ]
        return {"usual": round(self.usual, 4), "nearest": found}

    def _pixels(self, row: int) -> dict[str, Any]:
        """RGBA, as a canvas takes them."""
        values = np.asarray(pil_image(to_bytes(self.images[np.array([row])][0])).convert("RGBA"))
        return {"h": len(values), "w": values.shape[1], "data": b64encode(values.tobytes()).decode("ascii")}
