"""Quality, copying, privacy and usefulness in a report: what they hold, and why they are empty where they are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import frugan
from frugan.data import DataConfig, open_dataset
from frugan.images import to_float
from frugan.metrics import EvaluationCard, held_out
from frugan.metrics.features import networks
from frugan.metrics.features.base import ModuleFeatures
from frugan.metrics.features.registry import FEATURES
from frugan.metrics.utility import UtilityConfig
from frugan.reports import measures
from frugan.reports.context import Context
from frugan.reports.report import Report
from frugan.reports.sections.copying import _show_copies_in_pixels, _show_near_duplicates
from frugan.reports.store import Findings
from frugan.run import membership
from tests.tracking.report.test_page import Reader
from tests.training.conftest import TINY

MEASURED = ("quality", "copying", "privacy", "usefulness", "statement")


def tiny(name: str, seed: int) -> Callable[..., ModuleFeatures]:
    """A feature network of eight random filters."""

    def made(device: Any = "cpu", *, input_size: int | None = None, weights: None = None) -> ModuleFeatures:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2))
        return ModuleFeatures(
            module, name=name, input_size=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), device=device
        )  # fmt: skip

    return made


@pytest.fixture(autouse=True)
def _tiny_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny(monkeypatch)


def use_tiny(patch: pytest.MonkeyPatch) -> None:
    for seed, name in enumerate(("efficientnet-lite0", "efficientnet-lite1")):
        patch.setitem(FEATURES, name, tiny(name, seed))
    patch.setattr(held_out, "utility", partial(held_out.utility, config=UtilityConfig(seeds=2, steps=5)))
    patch.setattr(membership, "RECONSTRUCTION", replace(membership.RECONSTRUCTION, steps_w=2, steps=2))
    patch.setattr(membership, "STATISTICS_SAMPLES", 100)
    patch.setattr(measures, "at_hand", lambda: ("efficientnet-lite0", "efficientnet-lite1"))


@pytest.fixture(scope="module")
def made(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRUGAN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        use_tiny(patch)
        return frugan.report(
            run,
            tmp_path_factory.mktemp("measured") / "out",
            samples=120,
            device="cpu",
            sections=MEASURED,
            statistics=("numpy:mean",),
        )


def titles(made: Report, section: str) -> list[str]:
    return [str(block.get("title")) for block in made.sections[section].blocks if "title" in block]


def test_quality_in_two_networks_with_intervals_and_floors(made: Report) -> None:
    assert made.sections["quality"].empty == ""
    found = made.numbers["quality"]
    assert list(found["networks"]) == ["efficientnet-lite0", "efficientnet-lite1"]
    for measured in found["networks"].values():
        assert {"kid_full", "fid", "fid_infinity", "precision", "recall", "density", "coverage"} <= set(
            measured["values"]
        )
        assert not {"memorisation", "c_t", "fld_gap"} & set(measured["values"])
        for name in ("kid_full", "precision", "recall", "density", "coverage"):
            low, high = measured["intervals"][name]
            assert low <= measured["values"][name] <= high
        for name in {*measured["values"]} - {"fid_infinity_error"}:
            middle, low, high = measured["floor"][name]
            assert low <= middle <= high
        assert list(measured["per_class"]) == ["even", "odd"]
    assert "For each class, by efficientnet-lite0" in titles(made, "quality")


def test_the_cards_are_those_of_evaluate(made: Report, run: Path, tmp_path: Path) -> None:
    card = frugan.evaluate(
        run,
        metrics=("kid_full", "precision"),
        samples=120,
        out=tmp_path / "c.json",
        features="efficientnet-lite1",
        device="cpu",
    )
    values = made.numbers["quality"]["networks"]["efficientnet-lite1"]["values"]
    for name, value in card.values.items():
        assert values[name] == pytest.approx(value), name
    files = sorted((made.folder / "cards").glob("*.json"))
    assert len(files) == 4  # two networks; membership; usefulness
    assert all("-120-" in file.name for file in files)
    assert [EvaluationCard.load(file).protocol["samples"] for file in files] == [120] * 4


def test_everything_is_kept(made: Report, run: Path) -> None:
    heard: list[str] = []
    again = frugan.report(
        run, made.folder, samples=120, device="cpu", sections=MEASURED, statistics=("numpy:mean",), told=heard.append
    )
    assert [text.rpartition(": ")[2] for text in heard] == ["kept from before"] * 4
    assert again.numbers == made.numbers


def test_copying_beside_its_control(made: Report) -> None:
    assert made.sections["copying"].empty == ""
    found = made.numbers["copying"]
    assert found["unseen_count"] == 20
    assert {"c_t", "authenticity", "fld", "distances"} <= set(found)
    assert found["c_t"]["error"] > 0
    assert list(found["others"]) == ["efficientnet-lite1"]
    near = found["nearest_pairs"]
    assert near["unseen"] == sorted(near["unseen"])
    assert near["training"] == sorted(near["training"])
    assert [t for t in titles(made, "copying") if "nearest" in t] == [
        "Samples nearest to training images",
        "Control: unseen images nearest to training images",
        "Training images nearest to each other",
    ]


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_blurred_copies_are_seen_in_pixels(share: float, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another brightness and contrast, with noise, flipped."""
    rng = np.random.default_rng(0)
    train = context.subject.require_train()
    copies = train[np.arange(round(share * 120))][:, :, ::-1]
    made = rng.integers(0, 256, (120, *train.pixels.shape[1:])).astype(np.float64)
    made[: len(copies)] = 40 + 0.6 * copies + rng.normal(0, 4, copies.shape)
    images = to_float(torch.from_numpy(made.round().astype(np.uint8)))
    monkeypatch.setattr(Context, "samples", lambda self, count: images[:count])
    found = Findings()
    _show_copies_in_pixels(context, found)
    ours, control = (found.numbers["copies_in_pixels"][name] for name in ("samples", "unseen"))
    assert (ours["count"], ours["of"], control["of"]) == (len(copies), 120, 20)
    assert ours["low"] <= ours["value"] <= ours["high"]
    assert (ours["low"] > 0.04) == (share > 0)


def test_privacy_and_usefulness(made: Report) -> None:
    attacks = made.numbers["privacy"]["attacks"]
    assert {"discriminator", "distance"} <= set(attacks)
    for attack in attacks.values():
        assert 0 <= attack["auc"]["low"] <= attack["auc"]["value"] <= attack["auc"]["high"] <= 1
    assert made.numbers["privacy"]["not_tried"]
    tasks = made.numbers["usefulness"]["tasks"]
    assert tasks
    for task in tasks.values():
        assert {"real", "synthetic", "both"} <= set(task["arms"])
    assert "numpy:mean" in made.numbers["usefulness"]["statistics"]


def test_the_statement_speaks_of_each_section(made: Report) -> None:
    rules = {one["rule"] for one in made.statement}
    assert {"distance", "data-copying test", "near copies", "authenticity", "generalisation gap", "membership"} <= rules
    assert {"usefulness", "own statistics", "few unseen images"} <= rules
    assert "one network" not in rules


def folder_of(images: Path, folder: Path, count: int) -> Path:
    """The first images of one class."""
    folder.mkdir()
    for file in sorted((images / "even").iterdir())[:count]:
        shutil.copy(file, folder)
    return folder


def trained(data: Path, out: Path, **options: Any) -> Path:
    fields: dict[str, Any] = {**TINY, "kimg": 0.016, "batch": 4, **options}
    list(frugan.train(data, out, device="cpu", **fields))
    return out


def test_no_held_out_images(image_folder: Path, tmp_path: Path) -> None:
    run = trained(image_folder, tmp_path / "run", held_out=0)
    made = frugan.report(run, tmp_path / "out", samples=100, device="cpu", sections=MEASURED)
    for name in ("copying", "privacy"):
        assert "no images were held out" in made.sections[name].empty
    assert "hold some out" in made.sections["usefulness"].empty
    assert made.sections["quality"].empty == ""
    assert "training images as reference" in {one["rule"] for one in made.statement}
    text = " ".join(Reader(made.page.read_text()).text)
    assert text.count("This section is empty") == 3
    other = tmp_path / "unseen"
    other.mkdir()
    rng = np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(other / f"{i}.png")
    sections = ("copying", "privacy")
    made = frugan.report(run, tmp_path / "other", samples=100, device="cpu", sections=sections, reference=str(other))
    assert [made.sections[name].empty for name in sections] == ["", ""]


def test_groups_on_both_sides_leave_no_control(run: Path, tmp_path: Path) -> None:
    """All images of a folder are of one film, and each film has images on both sides: quality is measured all the same."""
    sections = ("description", "quality", "copying", "privacy", "usefulness", "statement")
    made = frugan.report(run, tmp_path / "out", samples=100, device="cpu", sections=sections, group="folder")
    assert made.numbers["description"]["data"]["groups"] == "2 by folder, of 20 images each; held out: 20 images of 2"
    for name in ("copying", "privacy", "usefulness"):
        assert "hold out whole groups" in made.sections[name].empty, name
    assert made.sections["quality"].empty == ""
    assert "hold out whole groups" in made.page.read_text()


def test_fewer_images_than_neighbours(image_folder: Path, tmp_path: Path) -> None:
    """And a single class."""
    few = folder_of(image_folder, tmp_path / "few", 12)
    run = trained(few, tmp_path / "run", held_out=4)
    made = frugan.report(run, tmp_path / "out", samples=100, device="cpu")
    for name in ("quality", "copying", "privacy", "artefacts"):
        assert "too few" in made.sections[name].empty, name
    assert made.sections["description"].blocks
    assert {one["verdict"] for one in made.statement} == {"open"}


def test_a_class_with_hardly_any_images(image_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    folder_of(image_folder, data / "even", 20)
    (data / "odd").mkdir()
    for name in ("01.png", "03.png"):
        shutil.copy(image_folder / "odd" / name, data / "odd")
    run = trained(data, tmp_path / "run", held_out=10, conditional=True, labels="folders")
    made = frugan.report(run, tmp_path / "out", samples=100, device="cpu", sections=("quality",))
    classes = made.numbers["quality"]["networks"]["efficientnet-lite0"]["per_class"]
    assert classes.get("odd", {}) == {}
    assert "more than k of each" in made.page.read_text()


def test_no_feature_network(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "find_spec", lambda name: None)
    monkeypatch.setattr(measures, "at_hand", networks.at_hand)
    made = frugan.report(run, tmp_path / "out", samples=100, device="cpu", sections=("quality", "artefacts"))
    assert "no feature network is at hand" in made.sections["quality"].empty
    assert made.sections["artefacts"].empty == ""


def test_a_network_whose_weights_are_missing(run: Path, tmp_path: Path) -> None:
    made = frugan.report(
        run, tmp_path / "out", samples=100, device="cpu", sections=("quality",), features=("inception",)
    )
    assert "pt_inception" in made.sections["quality"].empty


def test_real_images_are_not_shown_where_they_must_not(run: Path, tmp_path: Path) -> None:
    made = frugan.report(run, tmp_path / "out", samples=100, device="cpu", sections=("copying",), real_images=False)
    assert not [block for block in made.sections["copying"].blocks if block["kind"] == "image"]
    assert made.numbers["copying"]["nearest_pairs"]["unseen"]


def test_batches_give_the_same_numbers(made: Report, run: Path, tmp_path: Path) -> None:
    other = frugan.report(run, tmp_path / "out", samples=120, device="cpu", sections=("quality",), batch=11)
    ours, theirs = (r.numbers["quality"]["networks"]["efficientnet-lite0"]["values"] for r in (made, other))
    assert ours == pytest.approx(theirs, rel=1e-2, abs=1e-6)


def _report_of_one(rank: int, world: int, run: str, folder: str) -> None:
    """A process of several: all call together, the first one writes."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    with pytest.MonkeyPatch.context() as patch:
        use_tiny(patch)
        frugan.report(run, Path(folder) / "out", **TOGETHER)
    torch.distributed.destroy_process_group()


TOGETHER: dict[str, Any] = {
    "samples": 120,
    "batch": 16,
    "device": "cpu",
    "sections": (*MEASURED[:-1], "artefacts", "statement"),
    "statistics": ("numpy:mean",),
}


@pytest.mark.slow
def test_two_processes_give_the_same_numbers(run: Path, tmp_path: Path) -> None:
    """Of every section, to the last bit."""
    arguments = (2, str(run), str(tmp_path))
    torch.multiprocessing.start_processes(_report_of_one, args=arguments, nprocs=2, start_method="spawn")
    torch.set_num_threads(1)
    frugan.report(run, tmp_path / "alone", **TOGETHER)
    together, alone = (json.loads((tmp_path / x / "report.json").read_text())["sections"] for x in ("out", "alone"))
    assert list(together) == list(alone) == list(TOGETHER["sections"])
    for name in alone:
        assert "empty" not in alone[name]
        assert together[name]["numbers"] == alone[name]["numbers"], name


def test_near_duplicates_among_real_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image stands twice, the second time brighter: whichever are held out, all are found, on either side of the split."""
    monkeypatch.setenv("FRUGAN_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    (tmp_path / "twice").mkdir()
    for i in range(8):
        pixels = np.kron(rng.integers(0, 200, (4, 4, 3)), np.ones((4, 4, 1))).astype(np.uint8)
        for k in range(2):
            Image.fromarray(pixels + np.uint8(40 * k)).save(tmp_path / "twice" / f"{i}-{k}.png")
    data = open_dataset(DataConfig(str(tmp_path / "twice"), held_out=5))
    held_out, train = ([data.names[row] for row in rows] for rows in (data.held_out_indices, data.train_indices))
    twin = {name: name.replace("-0", "-x").replace("-1", "-0").replace("-x", "-1") for name in data.names}
    expected = {side: sum(twin[n] in train for n in names) for side, names in (("h", held_out), ("t", train))}
    for named in (True, False):
        found = Findings()
        _show_near_duplicates(data, found, named=named)
        assert found.numbers["near_duplicates"] == {"training": expected["t"], "held_out": expected["h"]}
        assert (".png" in str(found.blocks)) == named
    assert expected["h"]
    assert expected["t"]
