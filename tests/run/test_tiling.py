"""Training with --tile: whether the images repeat is measured, and each case is shown to D as it should be; generate repeats."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from frugan.augment import Chain, CircularShift
from frugan.cli.app import app
from frugan.config.options import Options
from frugan.config.resolve import Facts, resolve
from frugan.data import DataConfig
from frugan.errors import FruganError
from frugan.run import load
from frugan.run.build import build_phases
from tests.program import SMALL_NETWORKS

TINY = {"preset": "tiny", "batch": 4, "latent": 8, "mapping_layers": 1, "channel_base": 64, "channel_max": 8}


def configured(seams=None, **options):
    facts = Facts((16, 16), 3, 0, 50, 0, seams=seams)
    return resolve(Options(**TINY, **options), DataConfig("x"), facts)


@pytest.mark.parametrize(
    "seams, options, expected",
    [
        ((1.0, 0.9), {"tile": "xy"}, "xy"),
        ((1.0, 3.0), {"tile": "xy"}, "none"),
        ((1.0, 3.0), {"tile": "y"}, "y"),
        ((1.0, 3.0), {"tile": "xy", "images_tile": "yes"}, "xy"),
        ((1.0, 1.0), {"tile": "xy", "images_tile": "no"}, "none"),
        (None, {}, "none"),
    ],
)
def test_whether_images_repeat_is_measured_or_said(seams, options, expected):
    config, derived = configured(seams, **options)
    assert config.generator.synthesis.tile == options.get("tile", "none")
    assert config.discriminator.tile == expected
    assert ("images_tile" in [row.name for row in derived]) == ("tile" in options and "images_tile" not in options)


def test_images_tile_without_tile_is_refused():
    with pytest.raises(FruganError, match="add --tile"):
        configured(images_tile="yes")


def test_all_are_shown_from_anywhere_where_they_repeat_else_generated_ones_only():
    """Real images that are cut out of something larger are never moved around their border: that would show a seam in them."""
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(0)
    for repeats in (True, False):
        config, _ = configured(tile="xy", images_tile="yes" if repeats else "no", augment="none")
        phases = build_phases(config, torch.device("cpu"))
        assert isinstance(phases.augment, Chain) == repeats
        assert isinstance(phases.shift, CircularShift) != repeats
        view, images = phases.draw_view(6, 0.0, rng), torch.randn(6, 3, 16, 16)
        shown, measured = phases.augment.apply(images, view.augment), phases.measured(images, view)
        assert torch.equal(shown, images) != repeats
        assert torch.equal(measured, images) == repeats
        moved = shown if repeats else measured
        assert all(
            any(torch.equal(x.roll((i, j), (1, 2)), y) for i in range(16) for j in range(16))
            for x, y in zip(images, moved)
        )


def test_along_one_axis_images_move_along_it_only():
    shift = CircularShift("x", resolution=(8, 12))
    drawn = shift.draw(200, 1.0, generator=torch.Generator().manual_seed(0))
    assert set(drawn[:, 0].tolist()) == {0}
    assert set(drawn[:, 1].tolist()) == set(range(12))


def invoke(*args):
    result = CliRunner().invoke(app, [str(a) for a in args])
    if isinstance(result.exception, FruganError):
        return 2, str(result.exception)
    return result.exit_code, " ".join(result.output.split())


def test_on_the_command_line(tmp_path, make_crops):
    """Trained on crops from an untiled start, resumed, generated repeatedly, exported with its flag."""
    small = [*SMALL_NETWORKS.split(), "--mapping-layers", 1, "--device", "cpu", "--threads", 1]
    crops = make_crops(tmp_path / "crops")
    code, output = invoke("train", crops, tmp_path / "plain", *small, "--kimg", "0.008")
    assert code == 0, output
    code, output = invoke("generate", tmp_path / "plain", "--repeat", "2x1")
    assert code == 2
    assert "without --tile" in output
    start = ["--init-from", tmp_path / "plain", "--tile", "xy"]
    code, output = invoke("train", crops, tmp_path / "tiled", *small, *start, "--kimg", "0.024")
    assert code == 0, output
    assert "images_tile" in output
    assert invoke("resume", tmp_path / "tiled", "--kimg", "0.032")[0] == 0
    G = load.load(tmp_path / "tiled")
    assert G.config.synthesis.tile == "xy"
    code, output = invoke("generate", tmp_path / "tiled", "--repeat", "2x3", "--seeds", "5", "--out", tmp_path / "out")
    assert code == 0, output
    found = np.asarray(Image.open(tmp_path / "out" / "seed0005.png"))
    assert found.shape == (32, 48, 3)
    assert all(np.array_equal(found[:16, :16], found[16 * i :, 16 * j :][:16, :16]) for i in range(2) for j in range(3))
    code, output = invoke("generate", tmp_path / "tiled", "--repeat", "2", "--out", tmp_path / "out")
    assert code == 2
    assert "ROWSxCOLUMNS" in output
    code, output = invoke("export", tmp_path / "tiled", tmp_path / "hub", "--format", "pretrained")
    assert code == 0, output
    assert json.loads((tmp_path / "hub" / "config.json").read_text())["generator"]["synthesis"]["tile"] == "xy"
    code, output = invoke("export", tmp_path / "tiled", tmp_path / "x.pt", "--format", "community")
    assert code == 2
    assert "images that repeat" in output


@pytest.fixture
def make_crops():
    def make(folder):
        folder.mkdir()
        rng = np.random.default_rng(0)
        large = np.kron(rng.integers(0, 256, (20, 20, 3)), np.ones((4, 4, 1))).astype(np.uint8)
        for i in range(12):
            y, x = rng.integers(0, 60, 2)
            Image.fromarray(large[y : y + 16, x : x + 16]).save(folder / f"{i}.png")
        return folder

    return make
