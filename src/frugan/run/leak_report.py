"""Leak report: whether augmentations show in a run's samples, or cannot be undone on a set of images."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import torch

from frugan.augment import AugmentConfig, AugmentPipeline, parse_transforms
from frugan.data import DataConfig, open_dataset
from frugan.device import choose_device
from frugan.errors import FruganError
from frugan.images import grid, to_uint8
from frugan.leaks import Question, Recovery, fitting, measure_leaks, question_about, recovery
from frugan.leaks.features import Function
from frugan.leaks.plots import RunLeaks
from frugan.run.directory import Advance, RunDirectory
from frugan.run.load import load
from frugan.tracking import read_stats


def leaks_of_run(
    path: Path,
    *,
    data: str | None = None,
    function: str | None = None,
    transforms: str | None = None,
    samples: int = 2000,
    device: str = "auto",
    progress: Advance = lambda done, total: None,
) -> RunLeaks:
    """Measures the leaks of a run: for every question that fits its images, the share of its generator's samples.

    Args:
        path: the run.
        data: where the run's images are now.
        function: another augmentation, "module:name" of a function of images `[N, C, H, W]` in [-1, 1].
        transforms: further ones of ADA's transforms, as `parse_transforms` takes them.
        samples: number of samples, and of training images.
        device: to compute on.
        progress: called with (done, total) samples.
    """
    run = RunDirectory(path)
    dataset = run.open_data(data)
    picks = np.sort(np.random.default_rng(0).permutation(dataset.train_indices)[:samples])
    real, _ = dataset.images(picks)
    G = load(path).to(choose_device(device))
    labels = dataset.label_pool[np.random.default_rng(0).integers(len(dataset.label_pool), size=samples)]
    made = []
    for images in G.sample_batches(range(samples), c=labels if G.label_size else None, batch=32, noise="random"):
        made.append(images.cpu())
        progress(len(made) * 32, samples)
    images = torch.cat(made)
    questions = _questions(function, transforms, dataset.channels, dataset.resolution)
    records = read_stats(path / "stats.jsonl")
    measured = [v for r in records for k, v in r.items() if k.startswith("metric/") and v is not None]
    return RunLeaks(
        path.name,
        records[-1]["p"] if records else run.config.controller.p_init,
        measure_leaks(images, real, questions),
        grid(to_uint8(images[:16]), columns=16),
        measured[-1] if measured else None,
    )


def recovery_of_images(
    data: str, *, function: str | None = None, transforms: str | None = None, p: float = 1.0, samples: int = 2000
) -> Recovery:
    """Measures how much of an augmentation's effect on images can be recovered (`leaks.recovery`).

    Args:
        data: path of the images.
        function: `module:name` of a function of images; or None.
        transforms: names of transforms, if there is no function.
        p: their probability.
        samples: number of images.

    Raises `FruganError` unless exactly one of both is given.
    """
    if (function is None) == (transforms is None):
        raise FruganError("--data needs either --function module:name or --transforms")
    dataset = open_dataset(DataConfig(path=data))
    picks = np.sort(np.random.default_rng(0).permutation(len(dataset))[:samples])
    images, _ = dataset.images(picks)
    if transforms is None:
        return recovery(images, load_function(str(function)))
    config = AugmentConfig(parse_transforms(transforms))
    pipeline = AugmentPipeline(config, channels=dataset.channels, resolution=dataset.resolution)
    rng = torch.Generator().manual_seed(0)
    return recovery(images, lambda x: pipeline(x, p, generator=rng))


def load_function(text: str) -> Function:
    """The function that "module:name" names; modules in the working directory are found, too."""
    module, _, name = text.partition(":")
    sys.path.insert(0, ".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise FruganError(f"--function {text}: {error}; give module:name of a function") from error


def _questions(
    function: str | None, transforms: str | None, channels: int, resolution: tuple[int, int]
) -> dict[str, Question]:
    """The questions that fit the images, and one on further transforms or a function."""

    def fired(name: str) -> Function:
        pipeline = AugmentPipeline(AugmentConfig((name,)), channels=channels, resolution=resolution)
        return lambda x: pipeline(x, 1.0, generator=torch.Generator().manual_seed(0))

    questions = fitting(channels, resolution)
    for name in parse_transforms(transforms or "none"):
        questions.setdefault(name, question_about(name, fired(name)))
    return questions | ({function: question_about(function, load_function(function))} if function else {})
