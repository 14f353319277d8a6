"""Scores for membership inference that look into a run: its discriminator's output, and reconstruction by its generator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from frugan.errors import FruganError
from frugan.images import to_float
from frugan.interop import read_network
from frugan.latent.fitting.distances import open_distance
from frugan.latent.projection import ProjectionConfig, project
from frugan.latent.statistics import compute_statistics
from frugan.metrics import ImageScore
from frugan.networks import Discriminator, Generator

MOST_JUDGED, MOST_RECONSTRUCTED = 2000, 24
RECONSTRUCTED_AT_ONCE = 8
STATISTICS_SAMPLES = 2000
RECONSTRUCTION = ProjectionConfig(space="w+", start="mean", steps_w=40, steps=40)


def membership_scores(
    folder: Path, generator: Generator, device: torch.device
) -> tuple[dict[str, ImageScore], dict[str, str]]:
    """The scores for membership inference that some networks allow.

    Args:
        folder: a checkpoint, or a file of networks, which may hold the discriminator.
        generator: the one that is attacked.
        device: where the discriminator computes.

    Returns:
        Scores by the attack's name, and the reasons why other attacks have none, by theirs.
    """
    scores = {"reconstruction": ImageScore(_Reconstruction(generator), MOST_RECONSTRUCTED, RECONSTRUCTED_AT_ONCE)}
    untried = {}
    try:
        discriminator = read_network(folder).discriminator
    except FruganError as error:
        discriminator, untried["discriminator"] = None, str(error)
    if discriminator is not None:
        judge = _Judge(discriminator.to(device).eval(), device)
        return {"discriminator": ImageScore(judge, MOST_JUDGED, with_masks=True), **scores}, untried
    untried.setdefault("discriminator", f"{folder} holds no discriminator, which is good: it tells most")
    return scores, untried


class _Judge:
    """The logit of each image by itself: minibatch standard deviation sees no others, so that nothing depends on a batch."""

    def __init__(self, discriminator: Discriminator, device: torch.device) -> None:
        self.discriminator, self.device = discriminator, device

    @torch.no_grad()
    def __call__(self, pixels: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        images = to_float(torch.from_numpy(pixels)).to(self.device)
        c = _labels(labels, self.discriminator.config.label_size, self.device)
        return self.discriminator(images, c, batches=len(images)).cpu().double().numpy()


class _Reconstruction:
    """Minus the distance between an image and the nearest one that a short projection into W+ finds."""

    def __init__(self, generator: Generator) -> None:
        self.generator, self.statistics = generator, None
        self.distance = open_distance("pixels")

    def __call__(self, pixels: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        device = self.generator.mapping.w_avg.device
        if self.statistics is None:
            self.statistics = compute_statistics(self.generator, samples=STATISTICS_SAMPLES)
        found = project(
            self.generator,
            to_float(torch.from_numpy(pixels)),
            self.distance,
            self.statistics,
            RECONSTRUCTION,
            labels=_labels(labels, self.generator.label_size, device),
        )
        return -found.last.distance.cpu().double().numpy()


def _labels(labels: np.ndarray | None, size: int, device: torch.device) -> torch.Tensor | None:
    if not size:
        return None
    if labels is None or labels.shape[1] != size:
        raise FruganError(f"this network needs labels of size {size}, and the images have none of that size")
    return torch.from_numpy(np.ascontiguousarray(labels, np.float32)).to(device)
