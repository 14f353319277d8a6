"""Runs on grouped crops with measured labels and vicinity: every step stays on its side of the split, and a resume is exact."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import frugan
from frugan.config.options import Options
from frugan.data import DataConfig, open_dataset
from frugan.errors import FruganError
from frugan.run.plan import plan
from frugan.run.train import Run
from frugan.training.phases import Phases
from frugan.training.vicinity import Vicinity

from .conftest import TINY
from .test_resume import assert_same

DATA = {
    "crops": "8",
    "crop_size": 20,
    "crop_rotations": True,
    "held_out": 0.3,
    "labels": "labels.csv",
    "resolution": (16, 16),
}
NEAR = {"conditional": True, "vicinity": "soft", "mirror": True}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images with a year and a weight each."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    rows = ["name,year,weight"]
    for i in range(6):
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), np.uint8)).save(folder / f"{i}.png")
        rows.append(f"{i}.png,{1990 + 2.5 * i},{rng.normal():.3f}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


def options(**change: object) -> dict:
    return {**{k: v for k, v in TINY.items() if k not in DATA}, **DATA, **NEAR, **change}


@pytest.mark.parametrize("vicinity", ["hard", "soft"])
def test_a_resume_is_exact(vicinity: str, photos: Path, tmp_path: Path) -> None:
    given = options(vicinity=vicinity)
    list(frugan.train(photos, tmp_path / "whole", device="cpu", **given))
    list(frugan.train(photos, tmp_path / "run", device="cpu", **options(vicinity=vicinity, kimg=0.08)))
    list(Run(tmp_path / "run").train(kimg=given["kimg"], device="cpu"))
    assert_same(tmp_path / "run", tmp_path / "whole")
    facts = json.loads((tmp_path / "run/data.json").read_text())
    assert (facts["group"], facts["groups"], len(facts["held_out_groups"])) == ("source image", 6, 2)


def test_d_sees_training_images_near_targets_that_it_is_told(photos: Path, tmp_path: Path, monkeypatch) -> None:
    """The labels that D gets are the targets, and the images are near them; with other vicinities, other weights come out."""
    shown: list[tuple[np.ndarray, torch.Tensor]] = []
    draw = Vicinity.draw

    def noting(self: Vicinity, indices: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        picks, targets = draw(self, indices, rng)
        shown.append((picks, torch.from_numpy(targets)))
        return picks, targets

    monkeypatch.setattr(Vicinity, "draw", noting)
    judged: list[torch.Tensor] = []
    judge = Phases._discriminator_loss

    def judging(self: Phases, real, c, fake, c_fake, *rest):
        judged.append(c)
        assert {tuple(row) for row in c_fake.tolist()} <= {tuple(row) for row in shown[-1][1].tolist()}
        return judge(self, real, c, fake, c_fake, *rest)

    monkeypatch.setattr(Phases, "_discriminator_loss", judging)
    list(frugan.train(photos, tmp_path / "run", device="cpu", **options(kimg=0.05)))
    data = open_dataset(Run(tmp_path / "run").config.data)
    held_out = set(data.held_out_indices)
    assert len(shown) >= 2
    for (picks, targets), c in zip(shown, torch.cat(judged).split(len(shown[0][0]))):
        assert not held_out & set(picks % len(data))
        torch.testing.assert_close(c, targets)


MISTAKES = [
    ({"conditional": False}, "--vicinity soft needs --conditional with labels that are numbers"),
    ({"labels": "labels.csv:year=class"}, "--vicinity soft needs --conditional with labels that are numbers"),
    ({"vicinity": "none", "vicinity_kappa": 0.1}, "are widths of --vicinity hard or soft"),
    ({"vicinity": "near"}, "--vicinity 'near': choose from none, hard, soft"),
    ({"vicinity_sigma": -1.0}, "--vicinity-sigma -1.0: give"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES)
def test_mistakes(change: dict, message: str, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(FruganError, match=message):
        frugan.train(photos, tmp_path / "run", device="cpu", **options(**change))
    assert not (tmp_path / "run").exists()


def test_widths_are_derived_and_kept(photos: Path) -> None:
    data = DataConfig(str(photos), **{**DATA, "labels": "labels.csv:year"})  # type: ignore[arg-type]
    found = plan(Options(preset="tiny", threads=1, conditional=True, vicinity="hard"), data, device=torch.device("cpu"))
    years = found.dataset.labels[found.dataset.train_indices, 0]
    objective = found.config.objective
    assert objective.vicinity_kappa == pytest.approx((2 * np.diff(np.unique(years)).max(),))
    assert objective.vicinity_sigma == pytest.approx((1.06 * years.std() * len(years) ** -0.2,), rel=1e-3)
    named = {row.name for row in found.derived}
    assert {"vicinity_sigma", "vicinity_kappa"} <= named
