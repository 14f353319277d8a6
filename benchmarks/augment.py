"""What augmentation costs, against the same transforms composed from kornia."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.harness import Figures, seconds
from frugan.augment import AugmentConfig, AugmentPipeline


def measure(transform: Callable[[Tensor], Tensor], device: str, size: int, batch: int) -> Figures:
    """Milliseconds per image, drawing included: the median of several runs, as what is drawn varies."""
    torch.manual_seed(0)
    images = (torch.rand(batch, 3, size, size, device=device) * 2 - 1).requires_grad_(True)
    weights = torch.rand_like(images)

    def forward() -> object:
        with torch.no_grad():
            return transform(images)

    def both() -> object:
        return torch.autograd.grad(transform(images), images, weights)

    found = {}
    for name, run in (("forward, ms", forward), ("with backward, ms", both)):
        for _ in range(3):
            run()
        found[name] = seconds(run, device, repeats=max(10, 1280 // size)) / batch * 1000
    return found


def ours(device: str, *, size: int, batch: int, p: float) -> Figures:
    pipeline = AugmentPipeline(AugmentConfig(), channels=3, resolution=(size, size), device=device)
    generator = torch.Generator(device).manual_seed(0)
    return measure(lambda images: pipeline(images, p, generator=generator), device, size, batch)


def kornia(device: str, *, size: int, batch: int, p: float) -> Figures:
    """One kornia transform for each of `bgc`: bilinear where ours filter, each resampling anew; a flip fires half as often."""
    import kornia.augmentation as K

    warp = {"p": p, "padding_mode": "reflection"}
    turn = K.RandomAffine(180.0, p=1 - (1 - p) ** 0.5, padding_mode="reflection")
    pipeline = torch.nn.Sequential(
        K.RandomHorizontalFlip(p=p / 2),
        K.RandomRotation90((0, 3), p=p),
        K.RandomAffine(0.0, translate=(0.125, 0.125), resample="NEAREST", **warp),
        K.RandomAffine(0.0, scale=(0.76, 1.32), **warp),
        turn,
        K.RandomAffine(0.0, scale=(0.76, 1.32, 0.76, 1.32), **warp),
        turn,
        K.RandomAffine(0.0, translate=(0.125, 0.125), **warp),
        K.RandomBrightness((0.8, 1.2), clip_output=False, p=p),
        K.RandomContrast((0.5, 2.0), clip_output=False, p=p),
        K.RandomInvert(p=p / 2),
        K.RandomHue((-0.5, 0.5), p=p),
        K.RandomSaturation((0.5, 2.0), p=p),
    ).to(device)
    warnings.simplefilter("ignore")
    return measure(lambda images: pipeline(images * 0.5 + 0.5) * 2 - 1, device, size, batch)
