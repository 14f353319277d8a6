"""`frugan text` from the command line: a model fitted to labelled images, edits by every method, adaptation, search; refusals."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from frugan.cli.app import app
from frugan.errors import FruganError
from frugan.images import to_uint8
from frugan.interop import save_pretrained
from frugan.latent import tuning
from frugan.latent.code import Code, load_code, save_code
from frugan.latent.direction import Identity, load_directions
from frugan.latent.fitting.loop import FitReport, fit
from frugan.latent.projection import constant_noise
from frugan.latent.text import styleclip
from frugan.networks.mapping import Mapping
from frugan.run.load import load
from tests.latent.conftest import make_generator
from tests.latent.text.test_models import drawings

Run = Callable[..., str]
MODEL = ("--model", "captions:captions")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator, one with classes, labelled drawings, and a model fitted to them for a few steps."""
    top = tmp_path_factory.mktemp("home")
    save_pretrained(make_generator((16, 16)), top / "net")
    save_pretrained(make_generator((16, 16), label_size=3), top / "classes")
    (top / "data").mkdir()
    values = np.array([[i % 2, i // 2 % 2] for i in range(24)])
    for i, pixels in enumerate(to_uint8(drawings(values))):
        Image.fromarray(pixels).save(top / "data" / f"{i}.png")
    rows = [f"{i}.png,{('red', 'blue')[a]},{('left', 'right')[b]}" for i, (a, b) in enumerate(values)]
    (top / "data" / "labels.csv").write_text("\n".join(["name,color,side", *rows]))
    arguments = ["text", "train", str(top / "data"), "--out", str(top / "captions"), "--steps", "30", "--side", "16"]
    done = CliRunner().invoke(app, [*arguments, "--subject", "square", "--held-out", "4"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "color: " in done.output
    assert "--target 'a square color red'" in " ".join(done.output.split())
    facts = json.loads((top / "captions" / "captions.json").read_text())
    assert facts["attributes"] == {"color": ["blue", "red"], "side": ["left", "right"]}
    return top


@pytest.fixture
def run(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("net", "classes", "captions", "data"):
        (tmp_path / name).symlink_to(home / name)

    def call(*arguments: object) -> str:
        done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return call


@pytest.mark.parametrize("method", ["global", "shared"])
def test_directions_from_words(run: Run, method: str) -> None:
    words = ("--neutral", "a square", "--target", "a red square", "--channels", 5, "--images", 2)
    text = run("text", "edit", "net", *MODEL, "--method", method, *words, "--out", "said", "--seeds", "0-1")
    assert "similarity to the text rises by" in text
    (direction,) = load_directions("said")
    assert direction.space == "style"
    assert direction.name == "a-red-square"
    assert int((direction.vector != 0).sum()) == 5 or method == "shared"
    assert Path("said/a-red-square.png").exists()
    run("edit", "net", "--direction", "said:0", "--seeds", "0", "--strengths", "0,1", "--out", "e")


@pytest.mark.parametrize("method", ["global", "shared", "mapper"])
@pytest.mark.parametrize("label", [None, 2])
def test_samples_are_of_the_class(run: Run, monkeypatch: pytest.MonkeyPatch, method: str, label: int | None) -> None:
    """Relevances, shared steps, strengths and mappers look at samples of --class; without one, of all classes."""
    drawn: list[set[int]] = []
    mapping = Mapping.forward

    def watched(self: Mapping, z: Tensor, c: Tensor, **options: Any) -> Tensor:
        drawn.append(set(c.argmax(1).tolist()))
        return mapping(self, z, c, **options)

    monkeypatch.setattr(Mapping, "forward", watched)
    words = ("--neutral", "a square", "--target", "a red square", "--images", 12, "--channels", 5)
    steps = ("--steps", 6) if method == "mapper" else ()
    chosen = () if label is None else ("--class", label)
    run(
        "text",
        "edit",
        "classes",
        *MODEL,
        "--method",
        method,
        *words,
        *steps,
        *chosen,
        "--out",
        "said",
        "--seeds",
        "0-3",
    )
    assert set.union(*drawn) == ({0, 1, 2} if label is None else {2})


@pytest.mark.parametrize("table", [True, False])
def test_classes_without_a_name_are_captioned_as_a_kind(run: Run, tmp_path: Path, table: bool) -> None:
    """A table of one column, and folders; the prompt that is printed is understood."""
    for i, pixels in enumerate(to_uint8(drawings(np.array([[i % 2, 0] for i in range(8)])))):
        file = tmp_path / "kinds" / (f"{i}.png" if table else f"{('red', 'blue')[i % 2]}/{i}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    if table:
        rows = [f"{i}.png,{('red', 'blue')[i % 2]}" for i in range(8)]
        (tmp_path / "kinds" / "labels.csv").write_text("\n".join(["name,color", *rows]))
    text = run(
        "text", "train", "kinds", "--out", "kind", "--steps", 3, "--side", 16, "--subject", "square", "--batch", 4
    )
    assert "the model in kind knows kind" in text
    assert "--target 'a square kind red'" in " ".join(text.split())
    run("text", "find", "net", "a square kind red", "--model", "captions:kind", "--seeds", "0-3", "--count", 1)


def test_finite_differences_and_image_prompts(run: Run) -> None:
    words = (
        "--neutral",
        "a square",
        "--target",
        "@data/1.png",
        "--relevance",
        "differences",
        "--images",
        1,
        "--channels",
        3,
    )
    run("text", "edit", "net", *MODEL, *words, "--levels", "4", "--out", "said", "--wanted", 0.001)
    (direction,) = load_directions("said")
    assert direction.source["relevance"] == "differences"
    G = load("net")
    moved = direction.displacement(G) != 0
    levels = torch.cat([torch.full((layer.width,), layer.level) for layer in G.synthesis.style_layers])
    assert set(levels[moved].tolist()) == {0}


@pytest.mark.parametrize("method", ["optimise", "mapper"])
def test_images_from_words(run: Run, method: str) -> None:
    words = ("--target", "a red square", "--steps", 3)
    run("text", "edit", "net", *MODEL, "--method", method, *words, "--out", "said", "--seeds", "0-1")
    assert {p.name for p in Path("said").iterdir()} >= {"seed0000.safetensors", "seed0001.png", "sheet.png"}
    run("generate", "net", "--code", "said/seed0000.safetensors", "--out", "g")
    if method == "mapper":
        again = ("--mapper", "said/mapper", "--method", "mapper", "--target", "a red square")
        run("text", "edit", "net", *MODEL, *again, "--seeds", "said/seed0000.safetensors", "--out", "again")
        assert Path("again/seed0000.safetensors").exists()


def test_an_edited_code_keeps_its_noise_and_its_label(run: Run) -> None:
    G = load("classes")
    maps = tuple(torch.randn_like(n[0]) for n in constant_noise(G, 1))
    code = Code("me", G.mapping(G.latents([1]), torch.eye(3)[:1])[0], Identity.of(G), maps, torch.eye(3)[0])
    save_code(code, "me.safetensors")
    words = ("--method", "optimise", "--target", "a red square", "--steps", 1, "--seeds", "me.safetensors")
    run("text", "edit", "classes", *MODEL, *words, "--out", "said")
    found = load_code("said/me.safetensors")
    assert found.c is not None
    assert torch.equal(found.c, torch.eye(3)[0])
    assert len(found.noise) == len(maps)
    assert all(map(torch.equal, found.noise, maps))


@pytest.mark.parametrize("method", ["optimise", "mapper"])
def test_a_stopped_edit_is_resumed(run: Run, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = (
        "text",
        "edit",
        "net",
        *MODEL,
        "--method",
        method,
        "--target",
        "a red square",
        "--steps",
        60,
        "--seeds",
        "0-1",
    )
    run(*command, "--out", "whole")
    seen: list[int] = []

    def stopped(*arguments: Any, **options: Any) -> Iterator[FitReport]:
        for report in fit(*arguments, **options):
            seen.append(report.step)
            if report.step == 55 and 0 in seen:
                raise KeyboardInterrupt
            yield report

    monkeypatch.setattr(styleclip, "fit", stopped)
    assert CliRunner().invoke(app, list(map(str, [*command, "--out", "said"]))).exit_code != 0
    seen.clear()
    run(*command, "--out", "said")
    assert seen == [*range(50, 61)]
    assert not Path("said/.fit").exists()
    assert torch.equal(load_code("said/seed0000.safetensors").ws, load_code("whole/seed0000.safetensors").ws)
    assert Path("said/seed0001.png").read_bytes() == Path("whole/seed0001.png").read_bytes()


def test_a_stopped_adaptation_is_resumed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--source", "a square", "--target", "a red square", "--steps", 6, "--every", 2, "--seeds", "0-1")
    command = ("text", "adapt", "net", *MODEL, *words)
    run(*command, "--out", "whole")
    save = tuning.save_tuned

    def stopped(child: Any, parent: Any, home: Path, folder: Path, **options: Any) -> Path:
        if folder.name == "step00004":
            raise KeyboardInterrupt
        return save(child, parent, home, folder, **options)

    with monkeypatch.context() as patched:
        patched.setattr(tuning, "save_tuned", stopped)
        assert CliRunner().invoke(app, list(map(str, [*command, "--out", "a"]))).exit_code != 0
    assert {p.name for p in Path("a").iterdir()} == {".fit", "step00002"}
    run(*command, "--out", "a")
    assert {p.name for p in Path("a").iterdir()} == {"strip.png", "step00002", "step00004", "step00006"}
    found, expected = load("a/step00006").state_dict(), load("whole/step00006").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    with Image.open("a/strip.png") as strip, Image.open("whole/strip.png") as whole:
        assert (
            np.abs(np.asarray(strip).astype(int) - np.asarray(whole)).max() <= 2
        )  # step 2 as it was saved: in float16


@pytest.mark.parametrize("towards", [["--source", "a square", "--target", "a red square"], ["--images", "data/1.png"]])
def test_adapting(run: Run, towards: list[str]) -> None:
    run(
        "text",
        "adapt",
        "net",
        *MODEL,
        *towards,
        "--steps",
        4,
        "--every",
        2,
        "--layers",
        2,
        "--out",
        "a",
        "--seeds",
        "0-1",
    )
    assert {p.name for p in Path("a").iterdir()} == {"strip.png", "step00002", "step00004"}
    run("generate", "a/step00004", "--seeds", "0-1", "--out", "g")
    run("blend", "net", "a/step00004", "--interpolate", "0:1:3", "--seeds", "0", "--out", "b")


def test_finding(run: Run) -> None:
    text = run("text", "find", "net", "a red square", *MODEL, "--seeds", "0-19", "--count", 3)
    lines = [line.split(": ") for line in text.splitlines() if line[:1].isdigit()]
    scores = [float(score) for _, score in lines]
    assert len(lines) == 3
    assert scores == sorted(scores, reverse=True)
    assert Path("found.png").exists()


@pytest.mark.parametrize("options", [["net"], ["classes", "--class", "2", "--truncation", "0.5"]])
def test_the_command_that_is_printed_makes_what_was_found(run: Run, options: list[str]) -> None:
    network, *rest = options
    text = run("text", "find", network, "a red square", *MODEL, *rest, "--seeds", "0-9", "--count", 2)
    (line,) = [line for line in text.splitlines() if line.startswith("Make them with: ")]
    words = shlex.split(line)
    arguments = words[words.index("generate") :]
    assert arguments[4:] == rest
    run(*arguments, "--out", "made")
    G, seeds = load(network), [int(seed) for seed in arguments[3].split(",")]
    c = torch.eye(3)[[2, 2]] if rest else None
    expected = to_uint8(G.sample(seeds, c=c, truncation=0.5 if rest else 1.0))
    for seed, pixels in zip(seeds, expected):
        with Image.open(f"made/seed{seed:04d}.png") as image:
            assert np.abs(np.asarray(image).astype(int) - pixels).max() <= 1


@pytest.mark.parametrize("label", ["", "2"])
def test_printed_commands_name_a_class_where_one_is_needed(run: Run, label: str) -> None:
    """Those of a direction and of a child: taken as they are where --class was given, else with CLASS to be replaced."""
    words = ("--neutral", "a square", "--target", "a red square")
    chosen = ("--class", label) if label else ()
    said = run("text", "edit", "classes", *MODEL, *words, *chosen, "--channels", 2, "--images", 1, "--out", "d")
    lines = [line for line in said.splitlines() if line.startswith("Edit with: ")]
    if not label:
        child = run(
            "text", "adapt", "classes", *MODEL, "--source", "a square", "--target", "red", "--steps", 1, "--out", "c"
        )
        lines += [line for line in child.splitlines() if line.startswith("Go part of the way with: ")]
    assert len(lines) == 2 - bool(label)
    for line in lines:
        words = shlex.split(line)
        arguments = words[next(i for i, word in enumerate(words) if word in ("edit", "blend")) :]
        assert arguments[-2:] == ["--class", label or "CLASS"]
        run(*arguments[:-1], label or "1", "--seeds", 0, "--out", f"made-{arguments[0]}")


WORDS = ("--neutral", "a square", "--target", "a red square")
REFUSED = {
    "empty prompt": (["edit", "net", *MODEL, "--neutral", "a square", "--target", " "], "an empty prompt"),
    "equal prompts": (["edit", "net", *MODEL, "--neutral", "square", "--target", "the square"], "say the same"),
    "unknown word": (
        ["edit", "net", *MODEL, "--neutral", "a square", "--target", "green"],
        "has never seen the word 'green'",
    ),
    "no neutral": (["edit", "net", *MODEL, "--target", "red"], "needs --neutral"),
    "no weights": (["edit", "net", "--model", "clip:/nowhere", *WORDS], "cannot be loaded from /nowhere"),
    "no model": (["edit", "net", "--model", "captions:nowhere", *WORDS], "holds no model"),
    "no such model": (["edit", "net", "--model", "blip", *WORDS], "choose from clip"),
    "no image": (["edit", "net", *MODEL, "--neutral", "a square", "--target", "@nowhere.png"], "there is no image"),
    "template": (["edit", "net", *MODEL, *WORDS, "--template", "a photo"], "where the prompt belongs"),
    "level": (["edit", "net", *MODEL, *WORDS, "--levels", "64"], "this generator has"),
    "adapt to what": (["adapt", "net", *MODEL], "give --source and --target"),
    "adapt to both": (["adapt", "net", *MODEL, "--source", "a", "--target", "b", "--images", "data"], "give --source"),
    "adapt to the same": (["adapt", "net", *MODEL, "--source", "square", "--target", "a square"], "say the same"),
    "no labels": (["train", "net"], "images"),
    "find nothing": (["find", "net", " ", *MODEL], "an empty prompt"),
    "no class": (["find", "classes", "red", *MODEL], "add --class"),
    "groups": (
        ["edit", "net", *MODEL, "--target", "red", "--method", "mapper", "--groups", "fine,big"],
        "choose some of",
    ),
    "no mapper": (
        ["edit", "net", *MODEL, "--target", "red", "--method", "mapper", "--mapper", "data"],
        "holds no mapper",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_sentence_before_anything_is_written(run: Run, case: str, tmp_path: Path) -> None:
    arguments, message = REFUSED[case]
    with pytest.raises(FruganError, match=message) as error:
        run("text", *arguments, "--out", "o")
    assert error.value.exit_code == 2
    assert not (tmp_path / "o").exists()
