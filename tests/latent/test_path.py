"""Paths and videos: loops close, tours pass through their seeds, time is even, files can be read back."""

from __future__ import annotations

import builtins
import subprocess
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.interpolate
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from frugan.errors import FruganError
from frugan.images import pil_image
from frugan.latent.code import render_points
from frugan.latent.direction import Direction, Identity
from frugan.latent.directions import ganspace_directions
from frugan.latent.edit import Truncation
from frugan.latent.measure import pyramid_distance
from frugan.latent.path import (
    PeriodicSpline,
    class_path,
    edit_path,
    frame_times,
    loop,
    render_frames,
    slerp,
    tour,
    truncation_path,
)
from frugan.latent.statistics import Statistics
from frugan.latent.video import HELD, MOST_HELD, check_frames, tiled, write_video
from frugan.networks import Generator
from tests.latent.test_code import make_code

Make = Callable[..., Generator]


@pytest.fixture
def paths(G: Generator, statistics: Statistics, make: Make) -> dict[str, Any]:
    labelled = make(label_size=3)
    direction = ganspace_directions(G, statistics, 1)[0]
    return {
        "tour": tour(G, [0, 5, 9, 0]),
        "tour in z": tour(G, [0, 5, 0], space="z", truncation=Truncation(0.7)),
        "open tour": tour(G, [0, 5, 9]),
        "loop": loop(G, [0, 1, 2, 3]),
        "edit": edit_path(G, 3, direction, -2.0, 3.0),
        "classes": class_path(labelled, 1, torch.eye(3)),
        "labelled loop": loop(labelled, [0, 1, 2], torch.eye(3)[1]),
        "truncation": truncation_path(G, 2, 0.0, 1.0),
    }


@pytest.mark.parametrize("resolution", [(16, 16), (128, 128)])  # looked at as a whole, and by its first levels
def test_a_path_of_one_code_has_its_noise(resolution: tuple[int, int], make: Make) -> None:
    G = make(resolution)
    code, plain = (make_code(G, noise=noise) for noise in (True, False))
    direction = Direction("d", "w", torch.ones(12), 1.0, Identity.of(G))
    for path in (edit_path(G, code, direction, -1.0, 1.0), truncation_path(G, code, 1.0, 0.0)):
        assert torch.allclose(path.render(torch.zeros(1)), render_points(G, [code]), atol=1e-5)
        assert not torch.allclose(path.render(torch.zeros(1)), render_points(G, [plain]), atol=1e-2)
        assert path.render(torch.zeros(2), 64).shape[0] == 2


NAMES = ["tour", "tour in z", "open tour", "loop", "edit", "classes", "labelled loop", "truncation"]


@pytest.mark.parametrize("name", NAMES)
def test_closed_paths_end_where_they_begin_and_are_continuous(paths: dict[str, Any], name: str) -> None:
    path = paths[name]
    ends = path.render(torch.tensor([0.0, float(path.legs)]))
    assert torch.allclose(ends[0], ends[1], atol=1e-4) == path.closed
    legs = torch.arange(1, path.legs).double()
    if len(legs):
        before, after = path.render(legs - 1e-4), path.render(legs + 1e-4)
        assert (before - after).abs().max() < 0.02


@pytest.mark.parametrize("name", NAMES)
def test_even_frames_move_by_equal_distances(paths: dict[str, Any], name: str) -> None:
    path = paths[name]
    spread = {}
    for even in (True, False):
        times = frame_times(path, 48, even=even)
        assert times[0] == 0
        assert (times.diff() >= 0).all()
        assert times[-1] < path.legs if path.closed else times[-1] == pytest.approx(path.legs)
        images = torch.stack(list(render_frames(path, times)))
        steps = pyramid_distance(images[:-1], images[1:])
        spread[even] = float(steps.std() / steps.mean())
    assert spread[True] < 0.35
    assert spread[True] < spread[False] + 0.05


def test_smooth_easing_stops_at_key_frames(G: Generator) -> None:
    path = tour(G, [0, 5, 9])
    times = frame_times(path, 61, easing="smooth")
    images = torch.stack(list(render_frames(path, times)))
    steps = pyramid_distance(images[:-1], images[1:])
    assert times[30] == pytest.approx(1.0, abs=1e-3)
    assert steps[[0, 29, 30, 59]].max() < 0.4 * steps[[14, 15, 44, 45]].min()


def test_tours_pass_through_their_seeds(G: Generator) -> None:
    for space in ("w", "z"):
        path = tour(G, [3, 8, 1], space=space)  # pyright: ignore[reportArgumentType]
        assert torch.allclose(path.render(torch.tensor([0.0, 1.0, 2.0])), G.sample([3, 8, 1]), atol=1e-4)


def test_the_same_path_gives_the_same_frames(G: Generator) -> None:
    frames = [torch.stack(list(render_frames(p, frame_times(p, 12)))) for p in (loop(G, [0, 1, 2]), loop(G, [0, 1, 2]))]
    assert torch.equal(*frames)


def test_the_periodic_spline_is_scipys() -> None:
    points = np.random.default_rng(0).standard_normal((5, 3))
    t = np.linspace(0, 5, 41)
    exact = scipy.interpolate.CubicSpline(np.arange(6), np.concatenate([points, points[:1]]), bc_type="periodic")(t)
    assert np.allclose(PeriodicSpline(points)(t), exact)


def test_slerp_keeps_to_the_circle_and_survives_parallels() -> None:
    a, b = torch.tensor([[2.0, 0, 0]]), torch.tensor([[0, 4.0, 0]])
    middle = slerp(a, b, torch.tensor([[0.5]]))
    assert torch.allclose(middle, torch.tensor([[3 / 2**0.5, 3 / 2**0.5, 0]]), atol=1e-6)
    assert torch.allclose(slerp(a, a, torch.tensor([[0.3]])), a)
    assert slerp(a, -a, torch.tensor([[0.5]])).isfinite().all()


@pytest.mark.parametrize("wrong", ["tour", "loop", "classes"])
def test_too_few_stops(G: Generator, wrong: str) -> None:
    make = {
        "tour": lambda: tour(G, [1]),
        "loop": lambda: loop(G, [1, 2, 1]),
        "classes": lambda: class_path(G, 0, torch.eye(1)),
    }
    with pytest.raises(FruganError, match=r"give at least|at least two"):
        make[wrong]()


# files


def frames_of(channels: int, n: int = 6, size: tuple[int, int] = (15, 22)) -> list[torch.Tensor]:
    ramp = torch.linspace(-1, 1, n)
    return [torch.full((channels, *size), float(v)) for v in ramp]


@pytest.mark.parametrize("suffix", [".mp4", ".webp", ".gif", ".png"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_videos_can_be_read_back(tmp_path: Path, suffix: str, channels: int) -> None:
    file = tmp_path / f"v{suffix}"
    assert write_video(file, frames_of(channels), fps=10) == 6
    assert [p.name for p in tmp_path.iterdir()] == [file.name]
    if suffix == ".mp4":
        import imageio_ffmpeg

        program = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", file, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        done = subprocess.run(program, capture_output=True, check=True)
        assert b"22x16" in done.stderr  # even sides
        assert b"10 fps" in done.stderr
        assert b"yuv420p" in done.stderr
        levels = np.frombuffer(done.stdout, np.uint8).reshape(6, -1).mean(1).tolist()
    else:
        with Image.open(file) as image:
            assert getattr(image, "n_frames") == 6  # noqa: B009
            assert image.size == (22, 15)
            levels = []
            for i in range(6):
                image.seek(i)
                assert image.info.get("duration", 100) == 100
                levels.append(np.asarray(image.convert("RGB"), np.float32).mean())
    if channels != 4:
        assert levels == sorted(levels)
        assert levels[-1] - levels[0] > 200


@pytest.mark.parametrize(("channels", "mode"), [(2, "LA"), (4, "RGBA")])
def test_opacity_is_where_there_is_some(tmp_path: Path, channels: int, mode: str) -> None:
    for alpha in (True, False):
        write_video(tmp_path / "v.png", frames_of(channels, 2), alpha=alpha)
        with Image.open(tmp_path / "v.png") as image:
            assert image.mode == (mode if alpha else {"LA": "L", "RGBA": "RGB"}[mode])


def test_tiles_lie_row_by_row() -> None:
    tracks = [iter([torch.full((1, 2, 3), v)]) for v in (0.1, 0.2, 0.3)]
    sheet = next(tiled(tracks, 2))
    assert sheet.shape == (1, 4, 6)
    assert (sheet[0, 0, [0, 3]] - torch.tensor([0.1, 0.2])).abs().max() < 1e-6
    assert sheet[0, 2, 0] == pytest.approx(0.3)
    assert sheet[0, 2, 3] == -1


def test_what_cannot_be_written_is_said_before_the_first_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def frames():
        raise AssertionError("no frame may be made")
        yield

    (tmp_path / "folder.mp4").mkdir()
    for name, words in (("v.avi", "ends in"), ("folder.mp4", "is a folder"), ("v", "ends in")):
        with pytest.raises(FruganError, match=words):
            write_video(tmp_path / name, frames())
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "imageio_ffmpeg":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FruganError, match="pip install 'frugan\\[video\\]'"):
        write_video(tmp_path / "v.mp4", frames())


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    def frames():
        yield torch.zeros(3, 8, 8)
        raise KeyboardInterrupt

    for suffix in (".mp4", ".webp"):
        with pytest.raises(KeyboardInterrupt):
            write_video(tmp_path / f"v{suffix}", frames())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_frames_are_written_as_they_come(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any number of frames only a few are alive at once."""
    alive: list[weakref.ref[Image.Image]] = []
    most = 0

    def made(pixels: np.ndarray) -> Image.Image:
        nonlocal most
        image = pil_image(pixels)
        alive.append(weakref.ref(image))
        most = max(most, sum(one() is not None for one in alive))
        return image

    monkeypatch.setattr("frugan.latent.video.pil_image", made)
    assert write_video(tmp_path / f"v{suffix}", frames_of(3, 40), fps=12) == 40
    assert most <= 4
    if suffix == ".gif":
        with Image.open(tmp_path / "v.gif") as video:
            times = [frame.info["duration"] for frame in ImageSequence.Iterator(video)]
        assert sum(times) == round(100 * 40 / 12) * 10
        assert set(times) == {80, 90}


@given(st.sampled_from([".mp4", ".gif", ".webp", ".png"]), st.integers(1, 10**5), st.integers(1, 4096))
def test_kinds_whose_frames_are_kept_have_a_limit(suffix: str, frames: int, side: int) -> None:
    too_many = suffix in HELD and frames * side**2 * HELD[suffix] > MOST_HELD
    with pytest.raises(FruganError, match=r"name an \.mp4") if too_many else nullcontext():
        check_frames(Path(f"v{suffix}"), frames, (side, side))


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_the_limit_holds_where_nobody_knew_the_number(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frugan.latent.video.MOST_HELD", 1000)
    with pytest.raises(FruganError, match="more than 0 GiB"):
        write_video(tmp_path / f"v{suffix}", frames_of(3, 40))
    assert not list(tmp_path.iterdir())
