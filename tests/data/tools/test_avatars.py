"""Demo images: every style, repeatable, disjoint, labelled."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from frugan.data import DataConfig, open_dataset
from frugan.data.tools import SHAPES, STYLES, can_draw, draw_avatars
from frugan.data.tools.avatars import _style
from frugan.errors import FruganError


def _pixels(folder: Path) -> np.ndarray:
    return np.array(open_dataset(DataConfig(str(folder))).pixels)


@pytest.mark.parametrize("style", STYLES)
def test_every_style(style: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = draw_avatars(style, 12, 32, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    pixels = _pixels(tmp_path / "out")
    assert pixels.shape == (12, 32, 32, 3)
    assert len(np.unique(pixels.reshape(12, -1), axis=0)) == 12
    assert (pixels.reshape(12, -1).std(1) > 10).all()  # something is drawn in each
    assert seen[-1] == (12, 12)
    with open(report.path / "labels.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["name", *report.attributes]
    assert len(report.attributes) >= 3
    for row in rows:
        assert all(0 <= int(code) < len(names) for code, names in zip(row[1:], report.attributes.values()))


def test_labels_are_classes_with_names(tmp_path: Path) -> None:
    report = draw_avatars("critters", 40, 16, tmp_path / "out")
    data = open_dataset(DataConfig(str(report.path), labels="labels.csv:body"))
    assert data.class_names == report.attributes["body"]
    assert (data.labels.sum(1) == 1).all()
    every = open_dataset(DataConfig(str(report.path), labels="auto"))
    assert every.label_size == sum(map(len, report.attributes.values()))


def test_colour_labels_are_the_drawn_colours(tmp_path: Path) -> None:
    report = draw_avatars("critters", 20, 32, tmp_path / "out")
    data = open_dataset(DataConfig(str(report.path), labels="labels.csv:backgroundColor"))
    assert data.class_names is not None
    for pixels, label in zip(np.asarray(data.pixels), data.labels):
        colour = data.class_names[int(label.argmax())]
        assert pixels[0, 0].tolist() == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def test_seed_and_offset_choose_the_part_of_the_sequence(tmp_path: Path) -> None:
    runs = {"all": (20, 0, 0), "tail": (10, 0, 10), "other": (20, 1, 0)}
    for name, (count, seed, offset) in runs.items():
        draw_avatars("critters", count, 16, tmp_path / name, seed=seed, offset=offset)
    every, tail, other = (_pixels(tmp_path / name) for name in runs)
    np.testing.assert_array_equal(every[10:], tail)
    make_images = {pixels.tobytes() for pixels in every}
    assert not make_images & {pixels.tobytes() for pixels in other}


@pytest.mark.parametrize(("background", "channels"), [("white", 3), ("transparent", 4)])
@pytest.mark.parametrize("style", ["critters", SHAPES])
def test_backgrounds(style: str, background: str, channels: int, tmp_path: Path) -> None:
    report = draw_avatars(style, 5, 32, tmp_path / "out", background=background)  # type: ignore[arg-type]
    pixels = _pixels(report.path)
    assert pixels.shape[-1] == channels
    assert (pixels[:, 0, 0] == (255 if channels == 3 else 0)).all()
    assert "backgroundColor" not in report.attributes


@pytest.mark.parametrize("style", ["pixel-art", SHAPES])
def test_processes_draw_the_same(style: str, tmp_path: Path) -> None:
    draw_avatars(style, 70, 16, tmp_path / "one", processes=1)
    draw_avatars(style, 70, 16, tmp_path / "two", processes=2)
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


MISTAKES = {
    "unknown style 'goblins': .* critters": ("goblins", 1, 32, {}),
    "--count 0": ("critters", 0, 32, {}),
    "offset -1": ("critters", 1, 32, {"offset": -1}),
    "--size 4: give a whole number from 8 to 4,096": ("critters", 1, 4, {}),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes(message: str, tmp_path: Path) -> None:
    style, count, size, options = MISTAKES[message]
    with pytest.raises(FruganError, match=message):
        draw_avatars(style, count, size, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(FruganError, match="exists already"):
        draw_avatars("critters", 1, 32, tmp_path)


@pytest.mark.parametrize("package", ["dicebear", "resvg_py", "dicebear_styles"])
def test_a_missing_extra_is_told(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    _style.cache_clear()
    with pytest.raises(FruganError, match=r"pip install 'frugan\[demo\]'"):
        draw_avatars("critters", 1, 32, tmp_path / "out")
    _style.cache_clear()
    assert (can_draw("critters"), can_draw(SHAPES)) == (False, True)
    assert draw_avatars(SHAPES, 1, 32, tmp_path / "out").count == 1


def test_shapes_stay_whole_and_have_the_classes_that_they_show(tmp_path: Path) -> None:
    report = draw_avatars(SHAPES, 200, 48, tmp_path / "out", background="transparent")
    alpha = _pixels(report.path)[..., 3]
    edges = (alpha[:, 0], alpha[:, -1], alpha[:, :, 0], alpha[:, :, -1])
    assert max(int(edge.max()) for edge in edges) == 0  # nothing is cut off
    data = open_dataset(DataConfig(str(report.path), labels="labels.csv:kind"))
    kind = data.labels.argmax(1)
    assert len(np.unique(kind)) == len(report.attributes["kind"])
    filled = (alpha > 127).sum((1, 2)) / ((alpha.max(1) > 127).sum(1) * (alpha.max(2) > 127).sum(1))
    by_kind = {name: filled[kind == i].mean() for i, name in enumerate(report.attributes["kind"])}
    assert by_kind["triangle"] < by_kind["circle"]  # π / 4 of its box
    assert by_kind["star"] < by_kind["circle"]
    assert abs(by_kind["circle"] - np.pi / 4) < 0.03
