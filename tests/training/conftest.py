"""A tiny set of images and a tiny configuration, so that a run takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

TINY: dict[str, Any] = {
    "preset": "tiny",
    "batch": 8,
    "channel_base": 64,
    "channel_max": 8,
    "latent": 16,
    "kimg": 0.16,
    "tick_kimg": 0.04,
    "samples_kimg": 0.08,
    "checkpoint_kimg": 0.08,
    "ada_kimg": 0.1,
    "held_out": 8,
    "path_length_weight": 2.0,  # `tiny` has neither of these two, most presets have both
    "style_mixing": 0.9,
    "target": -0.9,  # p rises in every window, so that augmentation acts
}


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 RGB images of 16×16: coloured discs, two classes by folder."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16]
    for i in range(40):
        disc = ((x - rng.uniform(5, 11)) ** 2 + (y - rng.uniform(5, 11)) ** 2 < rng.uniform(9, 25))[..., None]
        pixels = np.where(disc, rng.integers(0, 255, 3), rng.integers(0, 255, 3)).astype(np.uint8)
        target = folder / ("even" if i % 2 == 0 else "odd") / f"{i:02d}.png"
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(target)
    return folder


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGAN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
