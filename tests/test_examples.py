"""The examples are programs that run."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def image_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRUGAN_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(20):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{i}.png")
    return tmp_path / "images"


def test_train_and_sample(image_folder: Path, tmp_path: Path) -> None:
    program = runpy.run_path(str(EXAMPLES / "train_and_sample.py"))
    program["main"](
        str(image_folder),
        str(tmp_path / "run"),
        preset="tiny",
        kimg=0.032,
        batch=8,
        channel_base=64,
        tick_kimg=0.016,
        device="cpu",
    )
    assert (tmp_path / "run" / "sixteen.png").is_file()


def test_own_loop(image_folder: Path) -> None:
    images = runpy.run_path(str(EXAMPLES / "own_loop.py"))["main"](str(image_folder), steps=3, batch=8, width=64)
    assert images.shape == (2, 3, 16, 16)
    assert np.isfinite(images).all()


def test_examples_are_short() -> None:
    for program in EXAMPLES.glob("*.py"):
        assert len(program.read_text().splitlines()) < 50, program.name
