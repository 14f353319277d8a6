"""Measuring while training, and afterwards."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import frugan
from frugan.config.options import Options
from frugan.data import DataConfig, open_dataset
from frugan.errors import FruganError
from frugan.latent.projection import ProjectionConfig
from frugan.metrics import EvaluationCard, Evaluator, UtilityConfig, held_out, membership_attack
from frugan.networks import Generator, save_generator
from frugan.networks.serialization import weights_digest
from frugan.run import membership
from frugan.run.evaluate import image_set_of
from frugan.run.load import read_source
from frugan.run.membership import membership_scores
from frugan.run.plan import plan
from frugan.run.train import Run
from frugan.tracking import read_stats
from frugan.training.checkpoint import all_checkpoints

from .conftest import TINY

OPTIONS: dict[str, Any] = {"samples": 12, "metrics": ("kid_full", "recall")}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Path:
    """12 of 40 images held out, two classes, measured every 0.08 kimg."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRUGAN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        out = tmp_path_factory.mktemp("run") / "run"
        options = {**TINY, "held_out": 12, "conditional": True, "labels": "folders", "mirror": True}
        evaluation = {"evaluate_kimg": 0.08, "evaluate_samples": 12, "metrics": "kid_full,memorisation"}
        list(frugan.train(image_folder, out, device="cpu", **options, **evaluation))
        return out


def test_training_measures_when_due(run: Path) -> None:
    records = read_stats(run / "stats.jsonl")
    measured = {r["kimg"]: r["metric/kid_full"] for r in records if r.get("metric/kid_full") is not None}
    assert list(measured) == pytest.approx([0.08, 0.16])  # never before the first step
    best = json.loads((run / "best.json").read_text())
    assert best["metric"] == "kid_full"
    assert best["value"] == min(measured.values())
    card = EvaluationCard.load(run / "evaluations" / "training-000000.160.json")
    assert card.values["kid_full"] == pytest.approx(measured[max(measured)])
    assert card.nearest


def test_a_stop_does_not_wait_for_a_measurement(tmp_path: Path, image_folder: Path) -> None:
    """The checkpoint is written at once; the measurement is left out."""
    config = DataConfig(path=str(image_folder), held_out=12)
    fields = {k: v for k, v in TINY.items() if k != "held_out"}
    options = Options(**fields, evaluate_kimg=0.08, evaluate_samples=200, metrics="kid_full")
    planned = plan(options, config, device=torch.device("cpu"))
    heard: list[int] = []
    run = Run.create(tmp_path / "run", planned.config)
    list(run.train(device="cpu", stop=lambda: bool(heard), evaluating=lambda done, total: heard.append(done)))
    assert heard
    assert heard[-1] < 200
    latest = run.latest()
    assert latest is not None
    assert latest.images == 80
    assert json.loads((run.path / "run.json").read_text())["status"] == "interrupted"
    assert not list((run.path / "evaluations").glob("*"))


def test_the_number_of_training_is_that_of_evaluate(run: Path) -> None:
    """The same generator, images and protocol give the same number, whoever measures."""
    last = Run(run).latest()
    assert last is not None
    card = frugan.evaluate(last.path, metrics=("kid_full",), samples=12, device="cpu")
    training = EvaluationCard.load(run / "evaluations" / "training-000000.160.json")
    # weights are stored otherwise in training: rounding can turn a pixel by one of 255
    assert card.values["kid_full"] == pytest.approx(training.values["kid_full"], rel=1e-3)
    assert card.subject["generator"] == training.subject["generator"]
    assert {**card.protocol, "train": training.protocol["train"]} == training.protocol
    assert card.conditions["against"] == "held-out"
    assert (run / "evaluations" / f"{last.path.name}-12-samples.json").is_file()


def test_no_card_is_overwritten(run: Path, tmp_path: Path) -> None:
    """Each measurement has a file of its own, by the number of samples; a card named by --out stays as it is."""
    copy = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(copy / "evaluations")
    memorised = {"metrics": ("kid", "memorisation"), "samples": 60, "device": "cpu"}
    for options in ({**OPTIONS, "device": "cpu"}, {**OPTIONS, "device": "cpu"}, memorised):
        frugan.evaluate(copy, **options)
    names = sorted(p.name.split("-", 1)[1] for p in (copy / "evaluations").iterdir())
    kimg = names[0].partition("-")[0]
    assert names == [
        f"{kimg}-12-samples-2.json",
        f"{kimg}-12-samples.json",
        f"{kimg}-60-samples.json",
        f"{kimg}-60-samples.nearest.png",
    ]
    out = tmp_path / "card.json"
    frugan.evaluate(copy, **OPTIONS, device="cpu", out=out)
    before = out.read_bytes()
    with pytest.raises(FruganError, match="not overwritten: give another --out"):
        frugan.evaluate(copy, **OPTIONS, device="cpu", out=out)
    assert out.read_bytes() == before
    out.write_text("damaged")
    frugan.evaluate(copy, **OPTIONS, device="cpu", out=out)
    assert EvaluationCard.load(out).values


def mean_of(image: np.ndarray) -> float:
    return float(image.mean())


def test_copying_privacy_and_usefulness_of_a_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the run's own networks: D's logit of each image alone, reconstruction of a few; and the page shows what was found."""
    quick = UtilityConfig(seeds=1, steps=5, batch=8)
    monkeypatch.setattr(held_out, "utility", partial(held_out.utility, config=quick))
    monkeypatch.setattr(membership, "RECONSTRUCTION", ProjectionConfig(space="w", start="mean", steps_w=2))
    copy = shutil.copytree(run, tmp_path / "run")
    names = ("kid_full", "c_t", "authenticity", "fld", "membership", "utility")
    options = {"samples": 60, "statistics": (f"{__name__}:mean_of",), "intervals": True, "device": "cpu"}
    card = frugan.evaluate(copy, metrics=names, **options)
    assert {"c_t", "authenticity", "fld", "membership", "utility"} <= set(card.values)
    assert set(card.missing) == {"interval of membership"}
    D = read_source(copy).discriminator  # of the best checkpoint, as the generator
    assert D is not None
    dataset = Run(copy).open_data()
    scores = []
    for rows in (dataset.train_indices, dataset.held_out_indices):
        images, labels = dataset.images(rows)
        with torch.no_grad():
            scores.append(torch.cat([D(x[None], c[None]) for x, c in zip(images, labels)]).double().numpy())
    expected = membership_attack(*scores)
    found = card.details["membership"]["discriminator"]
    assert (found["members"], found["non_members"]) == (28, 12)  # mirrored copies are not asked for
    assert found["auc"]["value"] == pytest.approx(expected.auc.value)
    assert card.details["membership"]["reconstruction"]["members"] == 24
    assert card.details["utility"]["label"]["test"] == 12
    assert card.intervals["kid_full"][0] <= card.values["kid_full"] <= card.intervals["kid_full"][1]
    page = (copy / "index.html").read_text()
    (sheet,) = (copy / "evaluations").glob("*.nearest.png")
    for text in ("Is it copying?", f"evaluations/{sheet.name}", "kid_full", "c_t", "60 samples"):
        assert text in page, text


def test_groups_of_the_data_reach_the_metrics(image_folder: Path) -> None:
    dataset = open_dataset(DataConfig(str(image_folder), held_out=12, group="folder"))
    held_out, train = (image_set_of(dataset, which).chosen_groups for which in ("held-out", "stream"))
    assert held_out is not None
    assert train is not None
    assert sorted({*held_out} | {*train}) == ["even", "odd"]
    assert not {*held_out} & {*train}


def test_a_run_without_groups_is_measured_with_some(run: Path, tmp_path: Path) -> None:
    """Held-out images whose group was trained on are no control: here all of them, of two folders."""
    options: dict[str, Any] = {
        "metrics": ("authenticity",),
        "samples": 12,
        "out": tmp_path / "card.json",
        "device": "cpu",
    }
    with pytest.raises(FruganError, match="every held-out image has one of its group among the training images"):
        frugan.evaluate(run, group="folder", **options)
    with pytest.raises(FruganError, match="--group nowhere"):
        frugan.evaluate(run, group="nowhere", **options)


def test_a_generator_alone_says_which_attack_was_not_tried(run: Path, image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "G").mkdir()
    save_generator(tmp_path / "G", frugan.load(run))
    scores, untried = membership_scores(tmp_path / "G", frugan.load(run), torch.device("cpu"))
    assert set(scores) == {"reconstruction"}
    assert "discriminator" in untried["discriminator"]


def test_references(run: Path, image_folder: Path, tmp_path: Path) -> None:
    counts = {
        against: frugan.evaluate(run, against=against, **OPTIONS, out=tmp_path / f"{against}.json").protocol[
            "reference_count"
        ]
        for against in ("auto", "held-out", "train", "all")
    }
    assert counts == {"auto": 12, "held-out": 12, "train": 28, "all": 40}  # the reference is never mirrored
    others = tmp_path / "others"
    others.mkdir()
    rng = np.random.default_rng(5)
    for i in range(11):
        Image.fromarray(rng.integers(0, 255, (20, 30, 4), dtype=np.uint8)).save(others / f"{i}.png")
    card = frugan.evaluate(run, reference=str(others), **OPTIONS, out=tmp_path / "card.json")
    assert card.protocol["reference_count"] == 11
    assert card.conditions["against"] == "all"
    assert card.protocol["reference"] != frugan.evaluate(run, **OPTIONS, out=tmp_path / "c.json").protocol["reference"]


@pytest.mark.parametrize("said", ["by the run", "by the reference"])
def test_masks_of_a_reference_are_no_opacity(said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the fourth channel is declared as a mask, its zeros do not lay the background over the image."""
    monkeypatch.setenv("FRUGAN_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 255, (30, 16, 16, 4), dtype=np.uint8)
    pixels[..., 3] = rng.integers(0, 2, (30, 16, 16)) * 255
    for name, channels in (("four", 4), ("three", 3)):
        (tmp_path / name).mkdir()
        for i, one in enumerate(pixels[..., :channels]):
            Image.fromarray(one).save(tmp_path / name / f"{i:02d}.png")
    roles = "RGB=image,3=mask"
    name, channels = ("four", roles) if said == "by the run" else ("three", "auto")
    options: dict[str, Any] = {**TINY, "held_out": 0, "kimg": 0.008, "channels": channels}
    list(frugan.train(tmp_path / name, tmp_path / "run", device="cpu", **options))
    if said == "by the reference":
        (tmp_path / "four" / "data.json").write_text(json.dumps({"channels": roles}))
    found = {
        name: frugan.evaluate(
            tmp_path / "run", reference=str(tmp_path / name), **OPTIONS, out=tmp_path / f"{name}.json"
        )
        for name in ("three", "four")
    }
    assert found["four"].values == found["three"].values


def test_memorisation_sheet_and_classes(run: Path, tmp_path: Path) -> None:
    card = frugan.evaluate(
        run,
        metrics=("memorisation", "kid"),
        samples=60,
        against="held-out",
        per_class=False,
        out=tmp_path / "card.json",
    )
    assert EvaluationCard.load(tmp_path / "card.json") == card
    with Image.open(tmp_path / "card.nearest.png") as sheet:
        assert sheet.size == (16 * 6, 16 * 8)
    assert any("mirrored" in name for entry in card.nearest for name in entry["names"])
    classes = frugan.evaluate(
        run, metrics=("kid",), against="train", samples=60, per_class=True, out=tmp_path / "c.json"
    )
    assert set(classes.per_class) == {"even", "odd"}


def test_a_checkpoint_without_its_run(run: Path, image_folder: Path, tmp_path: Path) -> None:
    last = Run(run).latest()
    assert last is not None
    alone = shutil.copytree(last.path, tmp_path / "alone")
    with pytest.raises(FruganError, match="say where they are with --data"):
        frugan.evaluate(alone, **OPTIONS)
    card = frugan.evaluate(alone, data=str(image_folder), **OPTIONS, out=tmp_path / "card.json")
    assert card.protocol["reference_count"] == 40
    with pytest.raises(FruganError, match="no images were held out"):
        frugan.evaluate(alone, data=str(image_folder), against="held-out", **OPTIONS)


def test_images_that_moved(run: Path, image_folder: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(image_folder, tmp_path / "moved")
    a = frugan.evaluate(run, data=str(moved), **OPTIONS, out=tmp_path / "a.json")
    b = frugan.evaluate(run, **OPTIONS, out=tmp_path / "b.json")
    assert a.protocol == b.protocol
    assert a.values == b.values


def test_the_default_metric_goes_by_the_number_of_images(run: Path, image_folder: Path) -> None:
    from frugan.config.options import Options
    from frugan.config.resolve import Facts, resolve
    from frugan.data import DataConfig
    from frugan.metrics import default_metric

    assert (default_metric(9_999), default_metric(10_000)) == ("kid", "fid")
    for images, expected in ((500, "kid"), (20_000, "fid")):
        facts = Facts(resolution=(32, 32), channels=3, label_size=0, images=images, held_out=0)
        config, derived = resolve(Options(evaluate_kimg=10), DataConfig(str(image_folder)), facts)
        assert config.evaluate.metrics == (expected,)
        assert any(row.name == "metrics" and str(images) in row.reason for row in derived)


def test_the_averaged_generator_is_measured_as_it_is_kept(run: Path) -> None:
    """The EMA, weights and buffers: in use, in the training state, and named on the card; it is not the trained generator."""
    last = Run(run).latest()
    assert last is not None
    G = frugan.load(last.path)
    assert not G.training
    kept = safetensors.torch.load_file(last.path / "training.safetensors")
    for name, value in G.state_dict().items():
        assert torch.equal(value, kept[f"ema/{name}"]), name
    parameters = [name for name, _ in G.named_parameters()]
    assert any(not torch.equal(kept[f"ema/{name}"], kept[f"G/{name}"]) for name in parameters)
    for name, _ in G.named_buffers():
        assert f"G/{name}" not in kept or torch.equal(kept[f"ema/{name}"], kept[f"G/{name}"]), name
    assert kept["ema/mapping.w_avg"].abs().sum() > 0
    cards = [EvaluationCard.load(file) for file in sorted((run / "evaluations").glob("training-*.json"))]
    (card,) = [card for card in cards if card.subject["kimg"] == pytest.approx(last.images / 1000)]
    assert card.subject["generator"] == weights_digest(G)
    assert card.protocol["reference_count"] == 12  # the images held out; x-flips stay out of it


def test_the_last_step_is_measured_though_none_was_due(image_folder: Path, tmp_path: Path) -> None:
    options = {**TINY, "kimg": 0.04, "mirror": True, "held_out": 0}
    measure = {"evaluate_kimg": 100.0, "evaluate_samples": 12, "metrics": "kid_full"}
    records = list(frugan.train(image_folder, tmp_path / "run", device="cpu", **options, **measure))
    assert [np.isfinite(r["metric/kid_full"]) for r in records if "metric/kid_full" in r] == [True]
    assert "metric/kid_full" in records[-1]
    (card,) = (tmp_path / "run" / "evaluations").glob("*.json")
    assert EvaluationCard.load(card).protocol["reference_count"] == 40  # none held out: all, each once
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert best["value"] == records[-1]["metric/kid_full"]


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("kid_full", [3.0, 1.0, 2.0, 2.5], 1),  # lower is better
        ("kid_full", [3.0, 1.0, float("nan"), 1.0], 1),
        ("recall", [0.2, 0.9, 0.1, 0.3], 1),  # higher is better
        ("recall", [0.9, 0.2, 0.1, 0.3], 0),
    ],
)
def test_the_best_checkpoint(
    metric: str, values: list[float], best: int, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the direction of its metric; pruning keeps it beside the newest, `load` takes it."""
    scripted, measured = iter(values), []

    def measure(_: Evaluator, ema: Generator, *__: Any) -> EvaluationCard:
        measured.append([p.clone() for p in ema.parameters()])
        return EvaluationCard({metric: next(scripted)}, {})

    monkeypatch.setattr(Evaluator, "unless_stopped", measure)
    options = {**TINY, "held_out": 12, "keep_last": 1, "checkpoint_kimg": 1.0, "samples_kimg": 1.0}
    list(frugan.train(image_folder, tmp_path / "run", device="cpu", **options, evaluate_kimg=0.04, metrics=metric))
    run = Run(tmp_path / "run")
    facts = run.read("best.json")
    found = run.best()
    assert facts is not None
    assert found is not None
    assert (facts["metric"], facts["value"]) == (metric, values[best])
    assert facts["kimg"] == pytest.approx(0.04 * (best + 1))
    assert found.images == 40 * (best + 1)
    assert [c.images for c in all_checkpoints(run.checkpoints)] == [40 * (best + 1), 160]
    for value, expected in zip(frugan.load(run.path).parameters(), measured[best], strict=True):
        assert torch.equal(value, expected)
    assert any(not torch.equal(a, b) for a, b in zip(measured[best], measured[-1]))


def test_notes_of_an_import_and_the_files_written_are_told(
    run: Path, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from frugan.cli.evaluate import show
    from frugan.interop import read_network, write_directory
    from frugan.run.load import read_source

    found = read_source(run)
    found.notes.append("an average was estimated")
    write_directory(tmp_path / "net", found)
    assert read_network(tmp_path / "net").notes == found.notes
    written: list[Path] = []
    card = frugan.evaluate(
        tmp_path / "net",
        data=str(image_folder),
        out=tmp_path / "card.json",
        written=written.append,
        device="cpu",
        **OPTIONS,
    )
    assert written == [tmp_path / "card.json"]
    assert EvaluationCard.load(written[0]).subject["notes"] == found.notes
    show(card)
    lines = capsys.readouterr().out.splitlines()
    assert "an average was estimated" in lines
    assert any(line.startswith("recall ") and ": higher is better; " in line for line in lines)
    assert not any(card.protocol["reference"] in line for line in lines)
    show(card, verbose=True)
    assert card.protocol["reference"][:40] in capsys.readouterr().out.replace("\n", "")
