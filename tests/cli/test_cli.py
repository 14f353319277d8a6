"""The program as a user meets it: exit codes, one-sentence errors, the files that come out."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from frugan.augment import MEASUREMENTS
from frugan.augment import PRESETS as TRANSFORM_PRESETS
from frugan.cli.app import app, main
from frugan.cli.common import console, parse_seeds
from frugan.config.options import read_count
from frugan.config.presets import PRESETS
from frugan.data.tools import STYLES
from frugan.errors import FruganError
from frugan.metrics import EvaluationCard
from frugan.resolution import parse_resolution

SMALL = shlex.split(
    "--preset tiny --batch 8 --channel-base 64 --channel-max 8 --latent 16 --kimg 0.04 --tick-kimg 0.02 "
    "--samples-kimg 0.02 --checkpoint-kimg 0.02 --device cpu --threads 1"
)


def frugan(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The program, run in this process, 200 columns wide."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as monkeypatch, redirect_stdout(out), redirect_stderr(err):
        for name, value in {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(console, "_width", 200)
        monkeypatch.setattr(sys, "argv", ["frugan", *map(str, arguments)])
        monkeypatch.chdir(cwd or Path.cwd())
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(sys.argv, code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["FRUGAN_CACHE"] = str(tmp_path_factory.getbasetemp() / "cache")


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(40):
        target = folder / ("cat" if i % 2 else "dog") / f"{i}.png"
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(target)
    (folder / "broken.png").write_bytes(b"not an image")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    done = frugan("train", image_folder, "--out", out, "--conditional", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "broken.png" in done.stdout
    assert f"Look at {out / 'index.html'}" in re.sub(r"\n", "", done.stdout) or "index.html" in done.stdout
    return out


def test_train_resume_generate(run: Path, tmp_path: Path) -> None:
    again = frugan("resume", run, "--kimg", 0.08, "--device", "cpu", "--threads", 1)
    assert again.returncode == 0, again.stderr
    assert "0.08 of 0.08 kimg" in again.stdout
    done = frugan("generate", run, "--seeds", "0-2,7", "--class", "cat", "--out", tmp_path / "out", "--truncation", 0.7)
    assert done.returncode == 0, done.stderr
    names = [p.name for p in sorted((tmp_path / "out").iterdir())]
    assert names == ["seed0000.png", "seed0001.png", "seed0002.png", "seed0007.png"]
    done = frugan("generate", run, "--seeds", "0-3", "--class", 1, "--grid", "--scale", 1)
    assert str(run / "generated" / "grid-0-3-dog.png") in done.stdout
    with Image.open(run / "generated" / "grid-0-3-dog.png") as image:
        assert image.size == (4 + 2 * 20, 4 + 2 * 36)  # margins, and captions of 16 pixels


def test_classes_differ_and_seeds_repeat(run: Path, tmp_path: Path) -> None:
    for label, out in (("cat", "a"), ("dog", "b"), ("cat", "c")):
        frugan("generate", run, "--seeds", "5", "--class", label, "--out", tmp_path / out)
    first, second, third = ((tmp_path / out / "seed0005.png").read_bytes() for out in "abc")
    assert first == third
    assert first != second


def test_evaluate_and_compare(run: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        options = ["--samples", 12, "--metrics", "kid_full,recall", "--seed", seed, "--out", tmp_path / f"{seed}.json"]
        options += ["--verbose"] if seed else []
        done = frugan("evaluate", run, *options, "--device", "cpu")
        assert done.returncode == 0, done.stderr
        assert f"card: {tmp_path / f'{seed}.json'}\n" in done.stdout
        plain = done.stdout.splitlines()[-5:]  # precision, recall, kid_full, what it was measured on, the card
        assert [line.split()[0] for line in plain] == ["kid_full", "precision", "recall", "measured", "card:"]
        assert ": lower is better; " in plain[0]
        assert ": higher is better; " in plain[2]
        for word in ("reference_count", "features_digest", "truncation"):
            assert (word in done.stdout) == bool(seed), word
    done = frugan("compare", tmp_path / "0.json", tmp_path / "1.json")
    assert done.returncode == 0, done.stderr
    assert "difference" in done.stdout
    frugan("evaluate", run, "--samples", 13, "--metrics", "kid_full", "--out", tmp_path / "2.json", "--device", "cpu")
    done = frugan("compare", tmp_path / "0.json", tmp_path / "2.json")
    assert done.returncode == 2
    assert "samples is 12 and 13" in done.stderr


def test_import(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden" / "nvidia_pytorch.pkl"
    done = frugan("import", golden, tmp_path / "network")
    assert done.returncode == 0, done.stderr
    assert "generator of 32x32, 3 channels" in done.stdout
    for source, out in ((golden, "a"), (tmp_path / "network", "b")):
        done = frugan("generate", source, "--seeds", "3", "--out", tmp_path / out)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "a" / "seed0003.png").read_bytes() == (tmp_path / "b" / "seed0003.png").read_bytes()
    done = frugan("import", golden, tmp_path / "network")
    assert done.returncode == 2
    assert "not an empty directory" in done.stderr


def test_export(run: Path, tmp_path: Path) -> None:
    """A run, kept as the hub has networks: the same images, and its classes on the card."""
    done = frugan("export", run, tmp_path / "hub", "--format", "pretrained")
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "hub" / "README.md").read_text("utf-8")
    assert "cat, dog" in card
    assert re.search(r"\| Data \| \d+ images.*fingerprint [0-9a-f]{12} \|", card)
    assert re.search(r"\| Training \| [\d.]+ kimg on ", card)
    assert "| Settings | batch " in card
    assert str(run.parent) not in card  # a card is published: no paths of this machine
    assert (tmp_path / "hub" / "samples.png").is_file()
    assert (tmp_path / "hub" / "discriminator.safetensors").is_file()
    assert "discriminator.safetensors is only for training on" in done.stdout  # and tells of private images
    (tmp_path / "hub" / "discriminator.safetensors").rename(tmp_path / "kept")
    alone = frugan("export", tmp_path / "hub", tmp_path / "alone", "--format", "pretrained")
    assert (alone.returncode, "private" in alone.stdout) == (0, False)
    assert not (tmp_path / "alone" / "discriminator.safetensors").exists()
    for source, out in ((run, "a"), (tmp_path / "hub", "b")):
        done = frugan("generate", source, "--seeds", "3", "--class", "dog", "--out", tmp_path / out)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "a" / "seed0003.png").read_bytes() == (tmp_path / "b" / "seed0003.png").read_bytes()
    done = frugan("export", run, tmp_path / "hub", "--format", "pretrained")
    assert done.returncode == 2
    assert "exists" in done.stderr


def test_dry_run_writes_nothing(image_folder: Path, tmp_path: Path) -> None:
    done = frugan("train", image_folder, "--out", tmp_path / "run", "--dry-run", *SMALL)
    assert done.returncode == 0, done.stderr
    places = [
        done.stdout.index(word)
        for word in ("max_bad_steps: 16", "because", "r1_gamma  ", "parameters", "s/kimg", "MiB")
    ]
    assert places == sorted(places), "what matters most stands last, where a screen ends"
    assert not (tmp_path / "run").exists()


MISTAKES = [
    (["evaluate", "{image_folder}"], "holds no generator"),
    (["evaluate", "{run}", "--metrics", "beauty"], "beauty"),
    (["evaluate", "{run}", "--metrics", "memorisation"], "hold some out"),
    (["evaluate", "{run}", "--against", "held-out"], "no images were held out"),
    (["evaluate", "{run}", "--features", "inception", "--weights", "/nowhere.pth"], "/nowhere.pth"),
    (["evaluate", "{run}", "--features", "vgg"], "'vgg'"),
    (["evaluate", "{run}", "--features", "net.onnx", "--input-size", "8", "--mean", "1,2", "--std", "1,1,1"], "--mean"),
    (["train", "{image_folder}", "--out", "x", "--evaluate-kimg", "1", "--metrics", "memorisation"], "--held-out"),
    (["train", "{image_folder}", "--out", "x", "--evaluate-kimg", "1", "--features", "vgg"], "'vgg'"),
    (["import", "/nowhere.pkl", "x"], "/nowhere.pkl"),
    (["import", "{image_folder}/broken.png", "x"], ".pkl"),
    (["compare", "/nowhere.json", "/nowhere.json"], "/nowhere.json"),
    (["train", "/nowhere", "--out", "x"], "/nowhere"),
    (["train", "{image_folder}", "--out", "x", "--strict"], "broken.png"),
    (["train", "{image_folder}", "--out", "x", "--resolution", "17"], "17x17"),
    (["train", "{image_folder}", "--out", "x", "--resolution", "big"], "'big'"),
    (
        ["train", "{image_folder}", "--out", "x", "--batch", "6", "--batch-per-device", "4"],
        "choose --batch 4 or --batch-per-device 3",
    ),
    (["train", "{image_folder}", "--out", "x", "--preset", "huge"], "'huge'"),
    (["train", "{image_folder}", "--out", "x", "--p", "0.5"], "--augment fixed"),
    (["train", "{image_folder}", "--out", "x", "--augment", "none", "--target", "0.5"], "target"),
    (["train", "{image_folder}", "--out", "x", "--transforms", "swirl"], "swirl"),
    (["train", "{image_folder}", "--out", "x", "--device", "tpu"], "tpu"),
    (["train", "{image_folder}", "--out", "x", "--held-out", "40"], "40"),
    (["train", "{image_folder}", "--out", "x", "--evaluate-kimg", "1", "--metrics", "beauty"], "beauty"),
    (["train", "{image_folder}", "--outt", "x"], "--out"),
    (["train", "{image_folder}", "--out", "x", "--augment", "maybe"], "maybe"),
    (["resume", "/nowhere"], "not a run"),
    (["generate", "/nowhere", "--out", "x"], "no such directory"),
    (["generate", "{run}", "--out", "x"], "--class"),
    (["generate", "{run}", "--out", "x", "--class", "horse"], "cat, dog"),
    (["generate", "{run}", "--out", "x", "--seeds", "a-b"], "'a-b'"),
    (["data", "inspect", "/nowhere"], "/nowhere"),
    (["data", "inspect", "https://host/*.tar"], "--dry-run"),
    (["train", "photos", "--out", "x", "--cache-limit", "5"], "frugan data shard"),
    (["data", "sample", "x", "--style", "cubism"], "cubism"),
]


@pytest.mark.parametrize(("arguments", "word"), MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list) else v)
def test_mistakes(arguments: list[str], word: str, image_folder: Path, run: Path, tmp_path: Path) -> None:
    done = frugan(*(a.format(image_folder=image_folder, run=run) for a in arguments), cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x").exists()


def test_inspect_and_prepare(image_folder: Path, tmp_path: Path) -> None:
    seen = frugan("data", "inspect", image_folder, cwd=tmp_path)
    assert seen.returncode == 0, seen.stderr
    for word in ("40", "16x16", "broken.png", "cat"):
        assert word in seen.stdout, word
    assert list(tmp_path.glob("contact-sheet-*.png"))
    made = frugan("data", "prepare", image_folder, tmp_path / "set.zip", "--resolution", 8)
    assert made.returncode == 0, made.stderr
    again = frugan("data", "inspect", tmp_path / "set.zip", cwd=tmp_path)
    assert "8x8" in again.stdout


def test_shard(image_folder: Path, tmp_path: Path) -> None:
    shards = frugan("data", "shard", image_folder, tmp_path / "shards", "--per-shard", 10)
    assert "40 images in 4 shards" in shards.stdout
    assert "skipped broken.png" in shards.stdout
    stream = ("--cache-limit", 4 * 10 * 768 / 1e9, "--held-out", 0, "--dry-run")
    plan = frugan("train", tmp_path / "shards", "--out", tmp_path / "run", "--preset", "tiny", *stream)
    assert "frugan: " not in plan.stderr
    assert "40 images of 16x16" in plan.stdout


def test_sample_draws(tmp_path: Path) -> None:
    done = frugan("data", "sample", tmp_path / "critters", "--count", 3, "--size", 16)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "critters").glob("*.png"))) == 3


def test_help_names_every_row_of_the_tables() -> None:
    """The help cannot import the tables without importing torch; so it is checked against them here."""
    commands = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    commands = {**commands["data"].commands, "train": commands["train"]}
    options = {o.name: o.help for name in ("sample", "train", "corrupt") for o in commands[name].params}
    for name in PRESETS:
        assert name in options["preset"]
    for name in TRANSFORM_PRESETS:
        assert name in options["transforms"]
    for name in STYLES:
        assert name in options["style"]
    for name in MEASUREMENTS:
        assert name in options["measurement"]


def test_parsing() -> None:
    assert parse_resolution("64") == (64, 64)
    assert parse_resolution("48x64") == (48, 64)
    assert parse_seeds("0-2,9") == [0, 1, 2, 9]
    assert [read_count("--threads", text) for text in ("auto", "16")] == ["auto", 16]
    for text in ("0", "-4", "many"):
        with pytest.raises(FruganError, match="auto"):
            read_count("--batch-per-device", text)
    for text in ("", "3-", "-4", "1,,2", "9" * 12):
        with pytest.raises(FruganError):
            parse_seeds(text)


def test_fine_tune_from_the_command_line(run: Path, image_folder: Path, tmp_path: Path) -> None:
    start = (
        "train",
        image_folder,
        "--init-from",
        run,
        "--kimg",
        0.02,
        "--batch",
        8,
        "--preset",
        "tiny",
        "--device",
        "cpu",
    )
    refused = frugan(*start, "--out", tmp_path / "refused")
    assert refused.returncode == 2
    assert "labels lost" in refused.stderr
    assert "--allow-partial" in refused.stderr
    assert not (tmp_path / "refused").exists()
    done = frugan(*start, "--out", tmp_path / "run", "--conditional", "--freeze-d", "4")
    assert done.returncode == 0, done.stderr
    assert "generator: " in done.stdout
    assert "(100.0%)" in done.stdout


def test_methods_are_listed() -> None:
    done = frugan("methods")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("ada", "pagan", "auxiliary-rotation"))
    refused = frugan("train", "images", "--out", "nowhere", "--method", "ada,pagan")
    assert refused.returncode == 2


def test_learning_from_corrupted_images(image_folder: Path, tmp_path: Path) -> None:
    corrupt = ("data", "corrupt", image_folder, tmp_path / "bad", "--measurement")
    done = frugan(*corrupt, "drop-pixels:0.5")
    assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "bad").rglob("*.png"))
    assert len(files) == 40
    dropped = [(np.asarray(Image.open(file)) == 0).all(axis=2).mean() for file in files]
    assert 0.45 < np.mean(dropped) < 0.55
    options = ("--measurement", "drop-pixels:0.5", "--out", tmp_path / "run")
    done = frugan("train", tmp_path / "bad", *options, *SMALL)
    assert done.returncode == 0, done.stderr
    refused = frugan(*corrupt[:3], tmp_path / "other", "--measurement", "drop-everything")
    assert refused.returncode == 2
    assert "unknown measurement" in refused.stderr


def test_leaks_exactly() -> None:
    done = frugan("leaks", "--p", "0.5,0.8", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["transform"]: row for row in json.loads(done.stdout)}
    assert rows["rotate90"]["kept"]["0.8"] == pytest.approx(0.2)
    assert rows["hue"]["safe_p"] == pytest.approx(0.85)
    done = frugan("leaks", "--draw", "0,1,0,0", "--p", 1, "--observed", "0.2,0.5,0.15,0.15")
    assert "clean shares: 0.5, 0.15, 0.15, 0.2" in done.stdout
    done = frugan("leaks", "--draw", "0.25,0.25,0.25,0.25", "--p", 1, "--observed", "0.2,0.5,0.15,0.15")
    assert done.returncode == 2
    assert "leaks" in done.stderr


def test_leaks_measured(run: Path, image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def grey(x):\n    return x.mean(dim=1, keepdim=True).expand_as(x)\n")
    many = tmp_path / "many"
    for copy in range(5):
        shutil.copytree(image_folder, many / str(copy))
    done = frugan("leaks", "--data", many, "--function", "mine:grey", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mine:grey: it leaks" in done.stdout
    refused = frugan("leaks", "--data", many, "--function", "mine:nothing", cwd=tmp_path)
    assert refused.returncode == 2
    assert "module:name" in refused.stderr
    assert "too few" in frugan("leaks", "--data", image_folder, "--transforms", "bg", "--p", 0.5).stderr
    assert "too few" in frugan("leaks", run).stderr


def test_leaks_are_drawn(tmp_path: Path) -> None:
    done = frugan("leaks", "--plot", tmp_path / "leaks.png", "--size", 32)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "leaks.png") as image:
        assert min(image.size) > 300


def test_differences_are_from_the_first_to_the_second(tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 3.0)):
        EvaluationCard({"kid": value}, {}).save(tmp_path / f"{name}.json")
    done = frugan("compare", "a.json", "b.json", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.split()[-4:] == ["kid", "1", "3", "+2"]


def test_cards_of_equal_names_are_told_apart(tmp_path: Path) -> None:
    """By their runs, whole however narrow the table is."""
    cards = [f"runs/{run}/evaluations/checkpoint-000000.400-200-samples.json" for run in ("plain", "other")]
    for card in cards:
        (tmp_path / card).parent.mkdir(parents=True)
        EvaluationCard({"kid": 1.0}, {}).save(tmp_path / card)
    done = frugan("compare", *cards, cwd=tmp_path)
    assert done.returncode == 0
    assert "runs/plain" in done.stdout
    assert "runs/other" in done.stdout
    assert "…" not in done.stdout
