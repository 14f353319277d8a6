"""Figures of leak reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frugan.errors import FruganError
from frugan.images import is_own_output
from frugan.leaks import GROUPS, QUESTIONS, SPECTRA, Leak
from frugan.leaks.plots import RunLeaks, plot_runs, plot_transforms, smallest


def test_smallest_knows_every_transform() -> None:
    for name in (*GROUPS, *SPECTRA):
        assert smallest(name, 0.3, 32) == pytest.approx(0.7, abs=0.08), name


def some_run(p: float) -> RunLeaks:
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
    return RunLeaks(f"run{p}", p, leaks, row)


def test_images_are_drawn(tmp_path: Path) -> None:
    row = np.random.default_rng(0).integers(0, 255, (16, 128, 3), dtype=np.uint8)
    leaks = some_run(0.5).leaks
    runs = [RunLeaks(f"run{p}", p, leaks, row, distance) for p, distance in ((0.8, 3.0), (0.5, None), (1.0, 5.0))]
    for path in (plot_runs(tmp_path / "runs.png", runs), plot_transforms(tmp_path / "transforms.png", side=32)):
        with Image.open(path) as image:
            assert is_own_output(image.info)
            assert len(set(np.asarray(image.convert("L")).ravel().tolist())) > 10
    plot_runs(tmp_path / "one.svg", runs[1:2])
    with pytest.raises(FruganError, match="give a file that ends in"):
        plot_transforms(tmp_path / "transforms.nonsense", side=32)


def test_curves_that_coincide_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn as one, under all their names; every name stands in the legend once."""
    figures = []
    monkeypatch.setattr("frugan.leaks.plots._save", lambda figure, path: figures.append(figure))
    names = (*GROUPS, *SPECTRA)
    plot_transforms(tmp_path / "x.png", side=32)
    (axes,) = figures[0].axes
    curves = [np.asarray(line.get_ydata()) for line in axes.lines]
    assert len(curves) < len(names)
    for i, one in enumerate(curves):
        assert not any(np.allclose(one, other, rtol=0, atol=1e-3) for other in curves[:i])
    labels = [text.get_text().replace("\n", " ") for text in axes.get_legend().get_texts()]
    assert sorted(", ".join(labels).split(", ")) == sorted(names)
    other = some_run(0.8)
    other.leaks[0] = replace(other.leaks[0], share=0.6, low=0.5, high=0.7)
    plot_runs(tmp_path / "x.png", [some_run(0.5), other])
    texts = [text.get_text() for text in figures[1].axes[0].get_legend().get_texts()]
    assert texts[0] == other.leaks[0].about
    assert len(texts) == 2  # all others coincide


def test_one_run_is_a_bar_for_each_transform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    monkeypatch.setattr("frugan.leaks.plots._save", lambda figure, path: figures.append(figure))
    run = some_run(0.5)
    plot_runs(tmp_path / "x.png", [run])
    axes = figures[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        leak.about for leak in run.leaks if leak.answerable
    ]
    assert [bar.get_width() for bar in axes.patches] == [leak.share for leak in run.leaks if leak.answerable]
    plot_runs(tmp_path / "x.png", [RunLeaks("none", 0.5, [], run.samples)])  # nothing to draw is no error
