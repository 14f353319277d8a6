"""Labelled images as attributes with values, to fit a joint model to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from frugan.data import DataConfig, open_dataset
from frugan.data.dataset import Dataset
from frugan.errors import FruganError
from frugan.label_parts import label_parts
from frugan.latent.text.captions import Attributes


@dataclass(frozen=True)
class Labelled:
    """Images with the value of each attribute, some of them held out."""

    dataset: Dataset
    attributes: Attributes
    values: np.ndarray
    """int `[all, A]`: the number of each image's value of each attribute."""

    def train(self, rows: np.ndarray) -> Tensor:
        """Training images by row: float32 `[n, C, H, W]` in [-1, 1]."""
        return self.dataset.images(self.dataset.train_indices[rows])[0]

    @property
    def train_values(self) -> np.ndarray:
        """int `[N, A]`."""
        return self.values[self.dataset.train_indices]

    @property
    def test_values(self) -> np.ndarray:
        """int `[M, A]` of held-out images, 1,000 at most."""
        return self.values[self.dataset.held_out_indices[:1000]]

    def test_images(self) -> Tensor:
        """The held-out images."""
        return self.dataset.images(self.dataset.held_out_indices[:1000])[0]


def read_attributes(path: str, labels: str = "auto", held_out: float = 0.1) -> Labelled:
    """Reads images with their classes, for captions.

    Args:
        path: of the images.
        labels: as in `DataConfig`.
        held_out: the share of images that training leaves out.

    Raises `FruganError` where there are no labels of several classes.
    """
    if labels == "none":
        raise FruganError("captions are made from labels: name a table of them, for instance labels.csv")
    dataset = open_dataset(DataConfig(path, labels=labels, held_out=held_out))
    if dataset.labels is None or not dataset.labels.shape[1]:
        raise FruganError(f"{path} has no labels; captions are made from attributes, for instance a labels.csv")
    parts = label_parts(dataset.labels.shape[1], dataset.class_names, dataset.measured)
    attributes, columns = dict[str, list[str]](), []
    for part in parts:
        if part.measured is None and len(part.classes) > 1 and len(part.columns) > 1:
            attributes[part.name or "kind"] = list(part.classes)
            columns.append(dataset.labels[:, part.columns.start : part.columns.stop].argmax(1))
    if not attributes:
        raise FruganError(f"{path} has no label of several classes; measured numbers alone make no captions")
    return Labelled(dataset, attributes, np.stack(columns, 1))
