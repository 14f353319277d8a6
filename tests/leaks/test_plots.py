from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frugan.errors import FruganError
from frugan.leaks import GROUPS, QUESTIONS, SPECTRA, Leak
from frugan.leaks.plots import RunLeaks, plot_runs, plot_transforms, smallest
from frugan.pictures import is_own_output


def test_smallest_knows_every_transform() -> None:
    for name in (*GROUPS, *SPECTRA):
        assert smallest(name, 0.3, 32) == pytest.approx(0.7, abs=0.08), name


def test_pictures_are_drawn(tmp_path: Path) -> None:
    row = np.random.default_rng(0).integers(0, 255, (16, 128, 3), dtype=np.uint8)
    leaks = [
        Leak(
            name,
            question.about,
            {"here": 0.7, "there": 0.3},
            0.0,
            0.3,
            0.27,
            0.34,
            0.001,
            0.1 if name == "hue" else 0.9,
        )
        for name, question in QUESTIONS.items()
    ]
    runs = [RunLeaks(f"run{p}", p, leaks, row, distance) for p, distance in ((0.8, 3.0), (0.5, None), (1.0, 5.0))]
    for path in (plot_runs(tmp_path / "runs.png", runs), plot_transforms(tmp_path / "transforms.png", side=32)):
        with Image.open(path) as image:
            assert is_own_output(image.info)
            assert len(set(np.asarray(image.convert("L")).ravel().tolist())) > 10
    plot_runs(tmp_path / "one.svg", runs[1:2])
    with pytest.raises(FruganError, match="cannot be drawn"):
        plot_transforms(tmp_path / "transforms.nonsense", side=32)
