"""A run with masks: what it keeps of them, what it shows, what it writes, and what looks at its images alone."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from frugan.channels import MaskChannel
from frugan.cli.app import app
from frugan.data import DataConfig, open_dataset
from frugan.errors import FruganError
from frugan.images import beside_masks, mask_pixels
from frugan.metrics import EvaluationCard, UtilityConfig, held_out
from frugan.networks import Generator, GeneratorConfig, SynthesisConfig
from frugan.run import load, membership
from frugan.run.evaluate import image_set_of
from tests.program import SMALL_NETWORKS

SMALL = [*SMALL_NETWORKS.split(), "--mapping-layers", 1, "--device", "cpu", "--threads", 1]


def invoke(*args):
    result = CliRunner().invoke(app, [str(a) for a in args])
    if isinstance(result.exception, FruganError):
        return 2, str(result.exception)
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained for a few steps on images with masks of three colours."""
    root = tmp_path_factory.mktemp("masks")
    for name in ("photos", "masks"):
        (root / name).mkdir()
    rng = np.random.default_rng(0)
    for i in range(24):
        plane = np.kron(rng.integers(0, 3, (4, 4)), np.ones((4, 4), int))
        plane[0, :3] = (0, 1, 2)
        colours = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 255]], np.uint8)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)).save(root / "photos" / f"{i}.jpg")
        Image.fromarray(colours[plane]).save(root / "masks" / f"{i}.png")
    code, output = invoke(
        "train", root / "photos", root / "run", "--masks", root / "masks", *SMALL, "--kimg", "0.016", "--held-out", 12
    )
    assert code == 0, output
    assert "mask values: #000000, #0000ff, #c80000" in output
    return root / "run"


VALUES = (0, 0x0000FF, 0xC80000)


def test_what_is_kept(run):
    assert json.loads((run / "data.json").read_text())["masks"] == [{"values": list(VALUES), "bits": 24}]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["masks"].endswith("masks")
    assert config["generator"]["masks"] == [{"values": list(VALUES), "bits": 24}]
    G = load.load(run)
    assert (G.channels, G.config.masks) == (4, (MaskChannel(VALUES, 24),))


def test_a_run_goes_on_where_images_and_masks_were_moved_to(run, tmp_path):
    import shutil

    shutil.copytree(run.parent, tmp_path / "moved")
    code, output = invoke("resume", tmp_path / "moved" / "run", "--kimg", "0.02")
    assert code == 0, output


def test_sample_grids_show_masks_beside_their_images(run):
    grid = np.asarray(Image.open(run / "reals.png"))
    assert grid.shape[2] == 3
    cells = grid.reshape(-1, 16, 12, 2, 16, 3)[0, :, :, 1].transpose(1, 0, 2, 3)
    assert set(np.unique(cells)) <= {0, 128, 255}
    assert (cells[..., 0] == cells[..., 1]).all()


def test_pairs_are_files_of_equal_names(run, tmp_path):
    code, output = invoke("generate", run, "--pairs", "--seeds", "0-2", "--out", tmp_path, "--scale", "2")
    assert code == 0, output
    names = [sorted(p.name for p in (tmp_path / folder).iterdir()) for folder in ("images", "masks")]
    assert names == [["seed0000.png", "seed0001.png", "seed0002.png"]] * 2
    image, mask = (np.asarray(Image.open(tmp_path / folder / "seed0001.png")) for folder in ("images", "masks"))
    G = load.load(run)
    made = G.sample([1])
    assert image.shape == mask.shape == (32, 32, 3)
    packed = mask[::2, ::2].astype(int) @ [1 << 16, 1 << 8, 1]
    nearest = (made[0, 3].numpy()[..., None] - np.array([-1, 0, 1])).__abs__().argmin(-1)
    assert np.array_equal(packed, np.array(VALUES)[nearest])
    again = (
        open_dataset(
            DataConfig(str(tmp_path / "images"), masks=str(tmp_path / "masks"), use_generated=True),
            cache_dir=tmp_path / "cache",
        )
        if len(np.unique(packed)) > 1
        else None
    )  # what was written can be trained on
    assert again is None or len(again) == 3


def test_without_pairs_images_alone(run, tmp_path):
    code, output = invoke("generate", run, "--seeds", "3", "--out", tmp_path)
    assert code == 0, output
    assert "--pairs writes them" in output
    alone = np.asarray(Image.open(tmp_path / "seed0003.png"))
    invoke("generate", run, "--pairs", "--seeds", "3", "--out", tmp_path)
    assert np.array_equal(alone, np.asarray(Image.open(tmp_path / "images" / "seed0003.png")))
    code, output = invoke("generate", run, "--pairs", "--grid", "--seeds", "3", "--scale", "1", "--out", tmp_path)
    assert code == 0, output
    assert np.asarray(Image.open(tmp_path / "grid-3.png")).shape == (16 + 16 + 8, 2 * 16 + 8, 3)
    code, output = invoke("generate", "sample", "--pairs")
    assert code == 2
    assert "makes no masks" in output


def test_what_edits_and_measures_sees_images_only(run, tmp_path):
    G = load.load(run)
    alone = G.without_masks()
    assert (alone.channels, alone.config.masks) == (3, ())
    torch.testing.assert_close(alone.sample([0, 1]), G.sample([0, 1])[:, :3])
    assert G.channels == 4
    dataset = open_dataset(
        DataConfig(str(run.parent / "photos"), masks=str(run.parent / "masks"), mirror=True),
        cache_dir=tmp_path / "cache",
    )
    images = image_set_of(dataset, "stream")
    assert images[np.array([0, 25])].shape == (2, 16, 16, 3)
    code, output = invoke("mix", run, "--rows", "0", "--columns", "1", "--device", "cpu", "--out", tmp_path / "mix.png")
    assert code == 0, output
    assert np.asarray(Image.open(tmp_path / "mix.png")).shape[2] == 3


def test_masks_are_measured_as_a_task(run, tmp_path, monkeypatch):
    """A network is trained on generated masks; the discriminator judges images with their masks."""
    quick = partial(held_out.utility, config=UtilityConfig(seeds=1, steps=3, batch=4))
    monkeypatch.setattr(held_out, "utility", quick)
    monkeypatch.setattr(membership, "STATISTICS_SAMPLES", 100)
    monkeypatch.setattr(membership, "RECONSTRUCTION", replace(membership.RECONSTRUCTION, steps_w=2, steps=2))
    measured = ["--metrics", "kid,membership,utility", "--samples", "12", "--device", "cpu"]
    code, output = invoke("evaluate", run, *measured, "--out", tmp_path / "c.json")
    assert code == 0, output
    card = EvaluationCard.load(tmp_path / "c.json")
    assert {"discriminator", "distance", "reconstruction"} <= set(card.details["membership"])
    task = card.details["utility"]["mask"]
    assert (task["kind"], task["count"], task["test"]) == ("mask", 12, 12)
    assert 0 <= task["arms"]["synthetic"]["value"] <= 1


def test_a_report_measures_images_and_their_masks(run, tmp_path, monkeypatch):
    quick = partial(held_out.utility, config=UtilityConfig(seeds=1, steps=3, batch=4))
    monkeypatch.setattr(held_out, "utility", quick)
    asked = ["--sections", "description,usefulness", "--features", "efficientnet-lite0", "--device", "cpu"]
    code, output = invoke("report", run, "--out", tmp_path, "--samples", 100, *asked)
    assert code == 0, output
    report = (tmp_path / "report.json").read_text()
    assert '"kind": "mask"' in report


def test_a_masked_run_may_begin_with_a_plain_one(run, tmp_path):
    """And the other way around: image channels are transferred."""
    photos, masks = run.parent / "photos", run.parent / "masks"
    code, output = invoke(
        "train", photos, tmp_path / "plain", "--init-from", run, "--allow-partial", *SMALL, "--kimg", "0.004"
    )
    assert code == 0, output
    assert load.load(tmp_path / "plain").channels == 3
    start = ["--init-from", tmp_path / "plain", "--allow-partial", "--masks", masks]
    code, output = invoke("train", photos, tmp_path / "again", *start, *SMALL, "--kimg", "0.004")
    assert code == 0, output
    assert load.load(tmp_path / "again").config.masks == (MaskChannel(VALUES, 24),)


@settings(deadline=None, max_examples=60)
@given(
    st.sets(st.integers(0, 255), min_size=2, max_size=9), st.sampled_from([8, 16, 24]), st.integers(0, 99),
)  # fmt: skip
def test_a_generated_mask_is_thresholded_to_the_nearest_value(values, bits, seed):
    mask = MaskChannel(tuple(sorted(values)), bits)
    last = len(values) - 1
    numbers = np.random.default_rng(seed).integers(0, last + 1, (2, 5, 6))
    off = np.random.default_rng(seed).uniform(-0.49, 0.49, numbers.shape)
    plane = torch.from_numpy((numbers + off) * (2 / last) - 1)
    found = mask_pixels(plane, mask)
    assert found.dtype == (np.uint16 if bits == 16 else np.uint8)
    stored = found.astype(int) @ ([1 << 16, 1 << 8, 1] if bits == 24 else [1])
    assert np.array_equal(stored, np.array(mask.values)[numbers])


@pytest.mark.parametrize("masks, channels", [(0, 3), (1, 2), (1, 4), (2, 5), (1, 6)])
@pytest.mark.parametrize("alpha", [False, True])
def test_masks_stand_beside_their_images(masks, channels, alpha):
    images = torch.rand(2, channels, 4, 5) * 2 - 1
    found = beside_masks(images, masks, alpha=alpha)
    own = channels - masks
    assert found.shape == (2, own, 4, 5 * (1 + masks))
    assert torch.equal(found[..., :5], images[:, :own])
    for i in range(masks):
        plane, colours = found[..., 5 * (1 + i) : 5 * (2 + i)], own - alpha
        assert (plane[:, :colours] == images[:, own + i, None]).all()
        assert not alpha or (plane[:, -1] == 1).all()


def test_a_generator_makes_more_than_masks():
    with pytest.raises(FruganError, match="one at least"):
        GeneratorConfig((8, 8), 1, masks=(MaskChannel((0, 1)),))
    for architecture in ("skip", "resnet", "orig"):
        shape = SynthesisConfig(64, 8, architecture)
        G = Generator(GeneratorConfig((8, 8), 4, z_dim=4, w_dim=4, synthesis=shape, masks=(MaskChannel((0, 1)),)))
        torch.testing.assert_close(G.without_masks().sample([0]), G.sample([0])[:, :3])
    for values in ((0,), (1, 0), (0, 0, 1), tuple(range(40)), (0, 256), (-1, 3)):
        with pytest.raises(FruganError, match="mask"):
            MaskChannel(values)
