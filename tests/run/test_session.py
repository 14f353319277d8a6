"""A training session: its records, checkpoints, samples, reports, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import frugan
from frugan.augment import parse_transforms
from frugan.data import DataConfig, Dataset, open_dataset
from frugan.errors import FruganError
from frugan.metrics import EvaluationCard
from frugan.run.evaluate import image_set_of
from frugan.run.train import Run
from frugan.tracking import read_stats
from frugan.tracking.report.page import find_samples
from frugan.training import checkpoint
from frugan.training.graphs import eagerly
from tests.program import call

from .conftest import TINY


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    list(frugan.train(image_folder, out, device="cpu", **TINY))
    return out


def test_directory(run: Path) -> None:
    for name in ("config.yaml", "environment.json", "data.json", "run.json", "stats.jsonl", "reals.png", "index.html"):
        assert (run / name).stat().st_size > 0, name
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert {p.name for p in (run / "samples").iterdir()} >= {"samples-init.png"}
    assert len(list((run / "checkpoints").iterdir())) == 2
    assert not [p for p in run.rglob("*") if p.suffix in (".pkl", ".pt", ".pth")]


@given(st.lists(st.integers(0, 10**9), min_size=2, unique=True))
def test_each_count_of_images_has_a_name_of_its_own(counts: list[int]) -> None:
    names = {count: checkpoint.kimg_name(count) for count in counts}
    assert len(set(names.values())) == len(counts)
    assert all(round(float(name) * 1000) == count for count, name in names.items())
    small = sorted(count for count in counts if count < 10**9)
    assert sorted(names[count] for count in small) == [names[count] for count in small]  # also by an `ls`


@pytest.mark.parametrize("every", [0.2, 0.008])
def test_nothing_of_a_short_run_is_lost(
    every: float, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each measurement, sample grid and checkpoint of fractions of a kimg is one file."""
    length = 3 * every
    sizes = ("--batch", 8, "--channel-base", 64, "--channel-max", 8, "--latent", 16, "--keep-last", 99)
    machine = ("--device", "cpu", "--threads", 1)
    reports = ("--tick-kimg", every, "--samples-kimg", every, "--checkpoint-kimg", every, "--evaluate-kimg", every)
    measures = ("--evaluate-samples", 12, "--metrics", "kid_full")
    train = (
        "train",
        image_folder,
        "--out",
        "run",
        "--preset",
        "tiny",
        "--kimg",
        length,
        *sizes,
        *machine,
        *reports,
        *measures,
    )
    code, text = call(capsys, tmp_path, *train)
    assert code == 0, text
    run = tmp_path / "run"
    names = [checkpoint.kimg_name(round(every * 1000) * i) for i in (1, 2, 3)]
    assert sorted(p.name for p in (run / "evaluations").iterdir()) == [f"training-{name}.json" for name in names]
    grids = sorted(p.name for p in (run / "samples").iterdir())
    assert grids == [*(f"samples-{name}.png" for name in names), "samples-init.png"]
    kept = [c.path.name for c in checkpoint.all_checkpoints(run / "checkpoints")]
    assert kept == [f"checkpoint-{name}" for name in ("000000.000", *names)]
    values = [EvaluationCard.load(run / "evaluations" / f"training-{name}.json").values["kid_full"] for name in names]
    assert values == [r["metric/kid_full"] for r in read_stats(run / "stats.jsonl")]
    labels = [f"{float(name):.10g} kimg" for name in names]
    assert [p.label for p in find_samples(run)] == ["before training", *labels]


def test_records(run: Path) -> None:
    records = read_stats(run / "stats.jsonl")
    assert [r["kimg"] for r in records] == pytest.approx([0.04, 0.08, 0.12, 0.16])
    for name in ("loss/generator", "loss/discriminator", "penalty/path_length", "p", "r_t", "r_v", "seconds_per_kimg"):
        assert all(np.isfinite(r[name]) for r in records if name != "penalty/path_length" or name in r), name
    for source in ("real", "generated", "held_out"):
        assert records[0][f"logits/{source}"]["count"] > 0
    assert records[0]["logits/real"]["count"] == 40


def test_r_t_covers_every_window(run: Path) -> None:
    """D's histograms, which count every logit, are the independent source: the windows of 4 minibatches end in these records."""
    records = read_stats(run / "stats.jsonl")
    windows = [1, 1, 1, 2]  # 5 minibatches a record
    signs = 0
    for record in records:
        found = record["logits/real"]
        middle = len(found["counts"]) // 2
        signs += found["above"] + sum(found["counts"][middle:]) - sum(found["counts"][:middle]) - found["below"]
    expected = signs / sum(record["logits/real"]["count"] for record in records)
    assert np.average([record["r_t"] for record in records], weights=windows) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("controller", ["rt", "rv"])
def test_held_out_images_never_train(
    tmp_path: Path, image_folder: Path, controller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the indices that training asks for: minibatches cover the others and their x-flips; r_v scores these in turn."""
    asked: list[np.ndarray] = []
    images = Dataset.images
    steps = {"target": None} if controller == "rv" else {}
    options = {**TINY, "mirror": True, "samples_kimg": 1.0, "controller": controller, **steps}
    records = frugan.train(image_folder, tmp_path / "run", device="cpu", **options)
    first = next(records)
    monkeypatch.setattr(
        Dataset, "images", lambda self, i, **how: (asked.append(np.asarray(i)), images(self, i, **how))[1]
    )
    list(records)
    facts = json.loads((tmp_path / "run" / "data.json").read_text())
    held_out = np.flatnonzero([name in facts["held_out"] for name in opened(image_folder).names])
    assert (len(held_out), facts["images"]) == (8, 40)
    scored = [i for i in asked if np.isin(i % 40, held_out).any()]
    trained = [i for i in asked if not np.isin(i % 40, held_out).any()]
    assert len(trained) == 20 - first["step"]
    assert {*np.concatenate(trained)} == {*np.arange(80)[~np.isin(np.arange(80) % 40, held_out)]}
    due = [s for s in range(first["step"], 20) if controller == "rv" or s % 4 == 3]
    assert len(scored) == len(due)
    for step, i in zip(due, scored):
        assert (i == held_out[np.arange(step * 8, (step + 1) * 8) % 8]).all()


@pytest.mark.parametrize("held_out", [0, 12])
def test_references_are_not_flipped(image_folder: Path, held_out: int) -> None:
    dataset = opened(image_folder, held_out=held_out, mirror=True)
    rows: dict[str, Any] = {
        which: image_set_of(dataset, which).rows for which in ("train", "held-out", "all", "stream")
    }
    assert len(rows["stream"]) == 2 * (40 - held_out)
    assert set(rows["stream"] % 40) == set(rows["train"])
    assert [len(rows[which]) for which in ("train", "held-out", "all")] == [40 - held_out, held_out, 40]
    assert all((rows[which] < 40).all() for which in ("train", "held-out", "all"))
    assert not set(rows["train"]) & set(rows["held-out"])


def opened(image_folder: Path, **options: Any) -> Dataset:
    return open_dataset(DataConfig(str(image_folder), **{"held_out": 8, **options}))  # pyright: ignore[reportReturnType]


def test_generator_comes_back(run: Path) -> None:
    G = frugan.load(run)
    images = G.sample(seeds=[0, 1, 2], truncation=0.7)
    assert images.shape == (3, 3, 16, 16)
    torch.testing.assert_close(images[1:2], G.sample(seeds=[1], truncation=0.7))
    ws = G.mapping(G.latents([0]))
    assert ws.shape == (1, G.num_ws, 16)
    for noise in ("const", "none"):
        torch.testing.assert_close(G.synthesis(ws, noise=noise), G.synthesis(ws, noise=noise))


def test_damaged_checkpoint_is_passed_over(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    newest = Run(copy).latest()
    weights = newest.path / "training.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    with pytest.raises(FruganError, match=r"training\.safetensors is not what was written"):
        newest.verify()
    assert Run(copy).latest().images < newest.images


def test_unfinished_checkpoint_is_not_seen(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    left = copy / "checkpoints" / ".checkpoint-000009.000.123"
    left.mkdir()
    assert all(c.path != left for c in checkpoint.all_checkpoints(copy / "checkpoints"))
    checkpoint.prune(copy / "checkpoints", keep_last=1, keep=set())
    assert not left.exists()
    assert len(checkpoint.all_checkpoints(copy / "checkpoints")) == 1


def test_non_finite_gradients_roll_back(tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients that turn to NaN for good end in a roll-back; after too many of these, in an error that names remedies."""
    from frugan.training import step

    healthy, calls = step.update, iter(range(10**6))

    def poisoned(state, name, config, stats, shared=(), run=eagerly):
        if next(calls) > 20:
            next(state.networks()[name].parameters()).grad.fill_(torch.nan)
        healthy(state, name, config, stats, shared, run)

    monkeypatch.setattr(step, "update", poisoned)
    with pytest.raises(FruganError, match="diverged"):
        list(frugan.train(image_folder, tmp_path / "run", device="cpu", **{**TINY, "kimg": 2.0}))  # pyright: ignore[reportArgumentType]
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["status"] == "failed"
    assert any("went back" in w for w in facts["warnings"])
    monkeypatch.undo()
    list(Run(tmp_path / "run").train(kimg=0.16, device="cpu"))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"


def test_one_bad_step_is_survived(tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from frugan.training import step

    healthy, calls = step.update, iter(range(10**6))

    def poisoned(state, name, config, stats, shared=(), run=eagerly):
        if next(calls) == 5:
            next(state.networks()[name].parameters()).grad.view(-1)[0] = torch.inf
        healthy(state, name, config, stats, shared, run)

    monkeypatch.setattr(step, "update", poisoned)
    records = list(frugan.train(image_folder, tmp_path / "run", device="cpu", **TINY))
    assert records[0]["non_finite"] == 1
    assert sum(r["non_finite"] for r in records) == 1
    assert all(torch.isfinite(p).all() for p in frugan.load(tmp_path / "run").parameters())


@pytest.mark.parametrize("controller", ["rt", "rv"])
def test_resting_at_the_cap_is_told(
    tmp_path: Path, image_folder: Path, controller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frugan.tracking.monitors.CAP_KIMG", 0.04)
    if controller == "rv":  # what a D that overfits entirely would give
        monkeypatch.setattr("frugan.augment.controller.heuristics", lambda sums: torch.ones(2).unbind())
    out = tmp_path / "run"
    options = {**TINY, "p_max": 0.3, "ada_kimg": 0.05, "controller": controller}
    options["target"] = {"rt": -0.9, "rv": 0.5}[controller]
    records = list(frugan.train(image_folder, out, device="cpu", **options))
    assert records[-1]["p"] == pytest.approx(0.3)
    (warning,) = json.loads((out / "run.json").read_text())["warnings"]
    assert "p has rested at its cap of 0.3" in warning


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "huge"}, "preset 'huge'"),
        ({"batch": 10, "batch_per_device": 4}, "choose --batch"),
        ({"p": 0.3}, "--augment fixed"),
        ({"augment": "fixed", "target": None}, "needs a probability"),
        ({"controller": "rv", "held_out": 0}, "held-out"),
        ({"conditional": True}, "--conditional needs labels"),
        ({"transforms": "bgc,swirl"}, "swirl"),
        ({"kimg": -1}, "kimg -1"),
        ({"r1_gamma": -1}, "gamma"),
        ({"target": 3.0}, "3.0"),
        ({"p_max": 1.5}, "1.5"),
        ({"sharpness": 3}, "unknown option 'sharpness'"),
        ({"resolution": (17, 16)}, "17x16"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    tmp_path: Path, image_folder: Path, options: dict, message: str
) -> None:
    with pytest.raises(FruganError, match=message):
        next(frugan.train(image_folder, tmp_path / "run", device="cpu", **{**TINY, **options}))
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten(run: Path, image_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FruganError, match="frugan resume"):
        frugan.train(image_folder, run, device="cpu", **TINY)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FruganError, match="not an empty directory"):
        frugan.train(image_folder, tmp_path, device="cpu", **TINY)


def test_who_only_looks_into_a_run_stops_nobody(
    tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that begin at once, the one that is refused holds the lock for a moment."""
    frugan.train(image_folder, tmp_path / "run", device="cpu", **TINY).close()  # pyright: ignore[reportAttributeAccessIssue]
    records = Run(tmp_path / "run").train(device="cpu")
    lock = filelock.FileLock(tmp_path / "run" / ".lock", thread_local=False)
    lock.acquire()
    monkeypatch.setattr("time.sleep", lambda _: lock.release())  # before the lock is tried again
    next(records)
    assert not lock.is_locked
    records.close()  # pyright: ignore[reportAttributeAccessIssue]


def test_two_processes_do_not_share_a_run(tmp_path: Path, image_folder: Path) -> None:
    records = frugan.train(image_folder, tmp_path / "run", device="cpu", **TINY)
    next(records)
    with pytest.raises(FruganError, match="another process"):
        next(Run(tmp_path / "run").train(device="cpu"))
    records.close()  # pyright: ignore[reportAttributeAccessIssue]


def test_changed_data_is_noticed(tmp_path: Path, image_folder: Path) -> None:
    copy = tmp_path / "images"
    shutil.copytree(image_folder, copy)
    list(frugan.train(copy, tmp_path / "run", device="cpu", **{**TINY, "kimg": 0.04}))  # pyright: ignore[reportArgumentType]
    Image.new("RGB", (16, 16)).save(copy / "even" / "new.png")
    with pytest.raises(FruganError, match="have changed"):
        next(Run(tmp_path / "run").train(kimg=0.08, device="cpu"))


KINDS = [
    {"conditional": True, "labels": "folders"},
    {"resolution": (12, 16), "channels": "RGBA"},
    {"channels": "L", "mirror": True},
    {"g_architecture": "resnet", "d_architecture": "skip", "style_mixing": 0, "path_length_weight": 0},
    {"g_architecture": "orig", "d_architecture": "orig", "transforms": "bgcfnc"},
    {"augment": "none", "target": None, "precision": "bf16"},
    {"transforms": "bgcfnc", "precision": "fp16"},
    {"augment": "fixed", "p": 0.4, "target": None},
    {"controller": "rv", "target": None, "batch": 16, "batch_per_device": 8},
]


@pytest.mark.parametrize("options", KINDS, ids=lambda o: ",".join(o))
def test_kinds_of_run(tmp_path: Path, image_folder: Path, options: dict) -> None:
    """Each option is in the configuration, in the networks, and in what they do."""
    records = list(frugan.train(image_folder, tmp_path / "run", device="cpu", **{**TINY, "kimg": 0.08, **options}))  # pyright: ignore[reportArgumentType]
    assert records[-1]["kimg"] == pytest.approx(0.08)
    assert records[-1]["step"] == 80 // options.get("batch", 8)
    assert all(np.isfinite(r[name]) for r in records for name in ("loss/generator", "loss/discriminator", "p"))
    assert np.isfinite(records[-1]["r_t"])  # a first record of three steps ends before the first window
    assert ("penalty/path_length" in records[0]) == (options.get("path_length_weight") != 0)
    run = Run(tmp_path / "run")
    G, config = frugan.load(run.path), run.config
    assert G.label_size == config.discriminator.label_size == (2 if options.get("conditional") else 0)
    assert G.channels == config.discriminator.channels == {"RGBA": 4, "L": 1}.get(options.get("channels", ""), 3)
    assert G.config.synthesis.architecture == options.get("g_architecture", "skip")
    assert config.discriminator.architecture == options.get("d_architecture", "resnet")
    assert config.objective.style_mixing == options.get("style_mixing", 0.9)
    assert config.augment.transforms == (
        () if options.get("augment") == "none" else parse_transforms(options.get("transforms", "bgc"))
    )
    assert config.data.mirror == options.get("mirror", False)
    if "precision" in options:
        assert config.training.precision == options["precision"]
        assert config.generator.synthesis.clamp == (256 if options["precision"] == "fp16" else None)
    if options.get("controller") == "rv":
        assert np.isfinite(records[-1]["r_v"])
        assert (records[-1]["p"] > 0) == (records[-1]["r_v"] > 0.5)  # one window of 4 minibatches of 16
    c = torch.eye(G.label_size)[:1].repeat(2, 1) if G.label_size else None
    images = G.sample(seeds=[0, 1], c=c)
    assert images.shape[2:] == options.get("resolution", (16, 16))
    assert torch.isfinite(images).all()
    if "p" in options:
        assert all(r["p"] == pytest.approx(options["p"]) for r in records)
    if options.get("augment") == "none":
        assert all(r["p"] == 0 for r in records)


def test_recomputed_activations_train_alike(tmp_path: Path, image_folder: Path) -> None:
    options = TINY | {"kimg": 0.08, "path_length_weight": 2.0, "precision": "fp32"}
    found = []
    for on in (False, True):
        run = tmp_path / str(on)
        list(frugan.train(image_folder, run, device="cpu", activation_checkpointing=on, **options))
        found.append([r["loss/discriminator"] for r in read_stats(run / "stats.jsonl")])
    assert found[1] == pytest.approx(found[0], rel=1e-2)  # Adam's first steps go by signs, of tiny gradients as well
    with pytest.raises(FruganError, match="leave one of them out"):
        frugan.train(image_folder, tmp_path / "both", device="cpu", activation_checkpointing=True, compile="on", **TINY)


def test_accumulation_makes_the_same_batch(image_folder: Path) -> None:
    """Gradients of a batch in two halves are those of the whole batch, where samples do not interact."""
    from frugan.augment import AugmentConfig, AugmentPipeline
    from frugan.losses import ObjectiveConfig
    from frugan.networks import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig, SynthesisConfig
    from frugan.training import Phases

    torch.manual_seed(0)
    G = Generator(GeneratorConfig((16, 16), z_dim=8, w_dim=8, synthesis=SynthesisConfig(64, 8)))
    D = Discriminator(DiscriminatorConfig((16, 16), channel_base=64, channel_max=8, mbstd_channels=0))
    pipeline = AugmentPipeline(AugmentConfig(()), channels=3, resolution=(16, 16))
    phases = Phases(G, D, pipeline, ObjectiveConfig())
    rng = torch.Generator().manual_seed(0)
    real, fake, c = torch.randn(8, 3, 16, 16), torch.randn(8, 3, 16, 16), torch.zeros(8, 0)
    views, means = phases.draw_view(8, 0.0, rng), torch.zeros(2)
    phases.discriminator_loss(real, c, fake, c, views, None, means)[0].backward()
    whole = [p.grad.clone() for p in D.parameters()]
    D.zero_grad()
    for half in (slice(0, 4), slice(4, 8)):
        loss = phases.discriminator_loss(real[half], c[half], fake[half], c[half], views, None, means)[0]
        (loss / 2).backward()
    for one, p in zip(whole, D.parameters()):
        torch.testing.assert_close(one, p.grad, atol=1e-6, rtol=1e-4)


def test_a_run_that_is_moved_while_it_trains_leaves_no_ghost_and_resumes(tmp_path: Path, image_folder: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    records = frugan.train(image_folder, run, device="cpu", **{**TINY, "kimg": 0.3, "tick_kimg": 0.064})  # pyright: ignore[reportArgumentType]
    assert next(records)["kimg"] > 0
    run.rename(elsewhere)
    with pytest.raises(FileNotFoundError, match="the run is no longer there"):
        list(records)
    assert not run.exists()
    *_, last = Run(elsewhere).train(device="cpu")
    assert last["kimg"] >= 0.3
    assert not run.exists()


def test_a_run_from_before_a_change_of_names_is_resumed_and_evaluated(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {**TINY, "kimg": 0.008, "method": "zcr", "augment": "ada", "held_out": 12}
    list(frugan.train(image_folder, tmp_path / "run", device="cpu", **options))
    file = tmp_path / "run" / "config.yaml"
    old = file.read_text().replace("latent_consistency_", "near_")
    file.write_text(old)
    code, text = call(capsys, tmp_path, "resume", "run", "--kimg", 0.016, "--device", "cpu")
    assert code == 0, text
    assert read_stats(tmp_path / "run" / "stats.jsonl")[-1]["kimg"] == pytest.approx(0.016)
    assert file.read_text() == old
    code, text = call(capsys, tmp_path, "evaluate", "run", "--metrics", "kid_full", "--samples", 12, "--device", "cpu")
    assert code == 0, text
