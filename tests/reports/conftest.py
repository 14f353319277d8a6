"""A run that takes seconds, and a report's context on it."""

from __future__ import annotations

from pathlib import Path

import pytest

import frugan
from frugan.reports.context import Context, Settings
from frugan.reports.subject import open_subject
from tests.training.conftest import TINY, _cache, image_folder

__all__ = ["_cache", "image_folder"]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Path:
    """Class-conditional, 40 images of 16×16, half of which are held out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRUGAN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        out = tmp_path_factory.mktemp("reported") / "a <b>run"
        options = {**TINY, "kimg": 0.08, "held_out": 20, "conditional": True, "labels": "folders"}
        list(frugan.train(image_folder, out, device="cpu", **options))
        return out


@pytest.fixture
def context(run: Path, tmp_path: Path) -> Context:
    return Context(open_subject(run, device="cpu"), Settings(samples=120), tmp_path / "cards")
