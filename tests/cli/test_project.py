"""`frugan project` and `encode`, and codes wherever seeds are taken, from the command line; what is refused, and when."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from frugan.cli import project
from frugan.cli.app import app
from frugan.errors import FruganError
from frugan.images import to_uint8
from frugan.interop import save_pretrained
from frugan.latent.code import Code, load_code, render_points, save_code
from frugan.latent.direction import Direction, Identity, save_directions
from frugan.latent.fitting import FitReport
from frugan.networks import Generator
from frugan.networks.serialization import weights_digest
from frugan.run.load import load
from tests.latent.conftest import make_generator

Run = Callable[..., str]
QUICK = ("--steps-w", 4, "--steps", 3, "--distance", "pixels", "--start", "mean")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator and a stranger, a direction, and images of every kind."""
    top = tmp_path_factory.mktemp("home")
    G = make_generator((16, 16))
    save_pretrained(G, top / "net")
    save_pretrained(make_generator((16, 16), seed=5), top / "stranger")
    many = make_generator((16, 16), label_size=3)
    save_pretrained(many, top / "classes", class_names=["ant", "cat", "dog"])
    w = many.mapping.features(many.latents(list(range(50))), torch.eye(3)[1].expand(50, -1)).mean(0)
    own = many.synthesis(w.expand(1, many.num_ws, -1), noise="const")
    Image.fromarray(to_uint8(own.clamp(-1, 1))[0]).save(top / "own.png")
    save_directions([Direction("d", "w", torch.eye(G.w_dim)[0], 0.5, Identity.of(G))], top / "found")
    save_directions([Direction("z", "z", torch.eye(G.z_dim)[0], 0.5, Identity.of(G))], top / "in-z")
    save_code(Code("mine", torch.zeros(G.num_ws, G.w_dim), Identity.of(G)), top / "mine.safetensors")
    rng = np.random.default_rng(0)
    (top / "images").mkdir()
    Image.fromarray(rng.integers(0, 255, (40, 30, 4), np.uint8)).save(top / "images" / "alpha.png")
    tifffile.imwrite(top / "images" / "deep.tiff", rng.integers(0, 65535, (16, 16), np.uint16))
    Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(top / "images" / "small.jpg")
    (top / "broken.png").write_bytes((top / "images" / "alpha.png").read_bytes()[:60])
    mask = np.full((16, 16), 255, np.uint8)
    mask[4:8, 4:8] = 0
    Image.fromarray(mask).save(top / "mask.png")
    return top


@pytest.fixture
def run(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    for name in ("XDG_CACHE_HOME", "TORCH_HOME", "FRUGAN_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))

    def call(*arguments: object) -> str:
        words = [str(home / a[1:]) if isinstance(a, str) and a.startswith("@") else str(a) for a in arguments]
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return call


def pixels(file: str | Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image)


def test_from_images_to_codes_that_everything_takes(run: Run) -> None:
    text = " ".join(run("project", "@net", "@images", "--out", "p", *QUICK, "--noise", "keep").split())
    assert "reduced, cropped to 16x16: alpha.png (40x30)" in text
    assert "RGBA became RGB on white: alpha.png" in text
    assert "enlarged to 16x16: small.jpg (8x8)" in text
    report = json.loads(Path("p/projection.json").read_text())
    assert set(report["images"]) == {"alpha", "deep", "small"}
    assert list(report["rungs"]) == ["start", "w", "pn"]
    assert report["distance"] == "pixels"
    assert sorted(p.name for p in Path("p").iterdir()) == sorted(
        [f"{n}.{s}" for n in ("alpha", "deep", "small") for s in ("png", "safetensors")]
        + ["projection.json", "sheet.png"]
    )
    run("generate", "@net", "--code", "p/alpha.safetensors", "--code", "p/small.safetensors", "--out", "g")
    for name in ("alpha", "small"):
        assert np.abs(pixels(f"g/{name}.png").astype(int) - pixels(f"p/{name}.png")).max() <= 1
    run(
        "edit",
        "@net",
        "--seeds",
        "3,p/alpha.safetensors",
        "--direction",
        "@found:0",
        "--strengths",
        "0,2",
        "--out",
        "e",
    )
    assert np.abs(pixels("e/alpha-d+0.png").astype(int) - pixels("p/alpha.png")).max() <= 1
    assert (pixels("e/alpha-d+2.png") != pixels("p/alpha.png")).any()
    assert Path("e/seed0003-d+2.png").exists()
    run("mix", "@net", "--rows", "p/alpha.safetensors", "--columns", "1,p", "--out", "m.png")
    run("sweep", "@net", "--seeds", "p", "--truncation", "0,1", "--out", "s.png", "--towards", "p/small.safetensors")
    for kind in (["--tour", "1,p/alpha.safetensors"], ["--loop", "--seeds", "1,2,p/alpha.safetensors"]):
        run("video", "@net", *kind, "--seconds", "0.2", "--fps", 10, "--out", "v.webp")
        assert Path("v.webp").stat().st_size > 0


def test_a_code_of_styles_is_generated_and_edited(run: Run) -> None:
    run("project", "@net", "@images/small.jpg", "--space", "s", "--out", "p", *QUICK[:-2], "--start", "mean")
    assert "s" in json.loads(Path("p/projection.json").read_text())["rungs"]
    code = load_code("p/small.safetensors")
    assert code.offset is not None
    assert code.offset.any()
    run("generate", "@net", "--code", "p/small.safetensors", "--out", "g")
    assert np.abs(pixels("g/small.png").astype(int) - pixels("p/small.png")).max() <= 1
    ws_alone = render_points(code_network(), [replace(code, offset=None)])
    assert np.abs(to_uint8(ws_alone)[0].astype(int) - pixels("p/small.png")).max() > 3
    arguments = ("--seeds", "p", "--direction", "@found:0", "--strengths", "0,2", "--out", "e")
    run("edit", "@net", *arguments)
    assert np.abs(pixels("e/small-d+0.png").astype(int) - pixels("p/small.png")).max() <= 1
    for command in (
        ["mix", "@net", "--rows", "p", "--columns", "1"],
        ["video", "@net", "--tour", "1,p", "--out", "v.gif"],
    ):
        with pytest.raises(FruganError, match="moves styles as well as ws"):
            run(*command)


def code_network() -> Generator:
    return make_generator((16, 16))


def test_a_tuned_network_is_used_like_any(run: Run, home: Path) -> None:
    run(
        "project", "@net", "@images/alpha.png", "--out", "p", *QUICK, "--tune", "--tune-steps", 5, "--mask", "@mask.png"
    )
    assert Path("p/tuned/difference.safetensors").stat().st_size < 0.7 * (home / "net/model.safetensors").stat().st_size
    run("generate", "p/tuned", "--code", "p/alpha.safetensors", "--out", "g")
    assert np.abs(pixels("g/alpha.png").astype(int) - pixels("p/alpha.png")).max() <= 1
    run(
        "edit",
        "p/tuned",
        "--seeds",
        "p/alpha.safetensors,1",
        "--direction",
        "@found:0",
        "--strengths",
        "1",
        "--out",
        "e",
    )
    run("generate", "p/tuned", "--seeds", "0-1", "--out", "g")
    run("blend", "@net", "p/tuned", "--interpolate", "0:1:2", "--seeds", "0", "--out", "b")
    with pytest.raises(FruganError, match="kept as differences from a run"):
        run("project", "p/tuned", "@images/alpha.png", "--out", "q", *QUICK, "--tune")


class Killed(Exception):
    pass


def test_the_same_command_goes_on_with_what_was_stopped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the second of two batches, then in the tuning: the same codes and weights as of one that was not."""
    steps = ("--steps-w", 2, "--steps", 60, "--tune-steps", 60, "--distance", "pixels", "--start", "mean")
    command = ("project", "@net", "@images/alpha.png", "@own.png", *steps, "--tune", "--batch", 1, "--noise", "keep")
    run(*command, "--out", "whole")
    watch, seen, stops = project._watch, list[tuple[str, int]](), ["pn", "tuned"]

    def watched(progress: Callable[[int, int], None], out: Path, targets: Tensor) -> Callable[[str, FitReport], None]:
        show = watch(progress, out, targets)

        def told(name: str, report: FitReport) -> None:
            show(name, report)
            seen.append((name, report.step))
            times = {"pn": 2, "tuned": 1}.get(name)
            if stops[:1] == [name] and report.step == 57 and seen.count((name, 57)) == times:
                raise Killed

        return told

    monkeypatch.setattr(project, "_watch", watched)
    begun = list[list[tuple[str, int]]]()
    while stops:
        with pytest.raises(Killed):
            run(*command, "--out", "p")
        assert pixels("p/progress.png").ndim == 3
        assert not list(Path("p").glob("*.safetensors"))
        begun.append([*seen])
        seen.clear()
        stops.pop(0)
    run(*command, "--out", "p")
    assert begun[1][:4] == [("w", 2), ("pn", 60), ("w", 2), ("pn", 50)]  # the first image is not fitted again
    assert seen[:5] == [("w", 2), ("pn", 60), ("w", 2), ("pn", 60), ("tuned", 50)]
    names = sorted(p.relative_to("whole") for p in Path("whole").rglob("*.*"))
    assert names == sorted(p.relative_to("p") for p in Path("p").rglob("*.*"))
    for name in names:
        if name.suffix == ".png":
            assert np.array_equal(pixels(Path("whole") / name), pixels(Path("p") / name)), name
    for name in ("alpha", "own"):
        assert torch.equal(load_code(f"whole/{name}.safetensors").ws, load_code(f"p/{name}.safetensors").ws)
    whole, again = (weights_digest(load(folder)) for folder in ("whole/tuned", "p/tuned"))
    assert whole == again


def test_images_do_not_depend_on_the_batch(run: Run) -> None:
    for batch in (1, 2, 8):
        run("project", "@net", "@images", *QUICK, "--batch", batch, "--out", f"b{batch}")
    for name in ("alpha", "deep", "small"):
        one, two, eight = (load_code(f"b{batch}/{name}.safetensors").ws for batch in (1, 2, 8))
        assert torch.allclose(one, eight, atol=1e-3)
        assert torch.allclose(two, eight, atol=1e-3)


def test_a_tuned_network_is_exported_whole(run: Run, home: Path) -> None:
    run("project", "@net", "@images/alpha.png", "--out", "p", *QUICK, "--tune", "--tune-steps", 3, "--rank", 2)
    run("export", "p/tuned", "whole", "--format", "pretrained")
    ws = load_code("p/alpha.safetensors").ws[None]
    tuned, whole = (load(folder).synthesis(ws, noise="const") for folder in ("p/tuned", "whole"))
    assert torch.equal(tuned, whole)
    assert not torch.equal(tuned, load(home / "net").synthesis(ws, noise="const"))
    assert {p.name for p in Path("whole").iterdir()} >= {"config.json", "model.safetensors"}
    assert "difference" not in Path("whole/config.json").read_text()


@pytest.mark.parametrize("label", [None, "dog"])
def test_classes_are_estimated_or_given(run: Run, home: Path, label: str | None) -> None:
    """The report, the code and the table say which; a code keeps it for edits and videos."""
    chosen = () if label is None else ("--class", label)
    text = run("project", "@classes", "@own.png", "--out", "p", *QUICK, *chosen)
    wanted = label or "cat"
    assert f"own [{wanted}]" in " ".join(text.split())
    hot = [float(name == wanted) for name in ("ant", "cat", "dog")]
    assert json.loads(Path("p/projection.json").read_text())["images"]["own"]["label"] == hot
    c = load_code("p/own.safetensors").c
    assert c is not None
    assert c.tolist() == hot
    with pytest.raises(FruganError, match="give one of ant, cat, dog"):
        run("project", "@classes", "@own.png", "--out", "q", *QUICK, "--class", "cow")


def test_an_encoder_is_trained_and_used(run: Run) -> None:
    run("encode", "@net", "--train", "--steps", 3, "--out", "enc")
    run("encode", "@net", "@images", "--encoder", "enc", "--out", "codes")
    assert len(list(Path("codes").glob("*.safetensors"))) == 3
    run("generate", "@net", "--code", "codes/alpha.safetensors", "--out", "g")
    run("project", "@net", "@images/alpha.png", "--encoder", "enc", *QUICK, "--space", "w", "--out", "p")


REFUSED = {
    "no image": (["project", "@net", "@none.png"], "there is no image"),
    "not an image": (["project", "@net", "@net/config.json"], "cannot be read as an image"),
    "damaged": (["project", "@net", "@images", "@broken.png"], "broken.png cannot be read"),
    "empty folder": (["project", "@net", "@found"], "holds no images"),
    "distance": (["project", "@net", "@images", "--distance", "vgg"], "choose from lpips"),
    "no weights": (["project", "@net", "@images", "--distance", "lpips"], "LPIPS needs the file vgg16"),
    "mask": (["project", "@net", "@images", "--mask", "@images/small.jpg"], "draw one of 16x16"),
    "class": (["project", "@net", "@images", "--class", "cat"], "trained without labels"),
    "encoder": (["project", "@net", "@images", "--encoder", "@found"], "holds no encoder"),
    "nothing to encode": (["encode", "@net"], "give --train"),
    "no encoder": (["encode", "@net", "@images"], "give --encoder"),
    "no code": (["generate", "@net", "--code", "@none.safetensors"], "there is no code"),
    "no code's file": (["generate", "@net", "--code", "@net/model.safetensors"], "is no code"),
    "random": (["generate", "@net", "--code", "@net/model.safetensors", "--noise", "random"], "is no code"),
    "codes and seeds": (["edit", "@net", "--seeds", "x", "--direction", "@found:0"], "give numbers and ranges"),
    "steps": (["project", "@net", "@images", "--steps", "0"], "--steps 0"),
    "tuned styles": (["project", "@net", "@images", "--space", "s", "--tune"], "choose --space w, pn or w"),
    "a direction of z": (
        ["edit", "@net", "--seeds", "@mine.safetensors", "--direction", "@in-z:0"],
        "a code does not have",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_sentence_before_anything_is_written(run: Run, case: str, tmp_path: Path) -> None:
    arguments, message = REFUSED[case]
    with pytest.raises(FruganError, match=message) as error:
        run(*arguments, "--out", "o")
    assert error.value.exit_code == 2
    assert not (tmp_path / "o").exists()


def test_images_are_not_replaced_by_what_is_made_of_them(run: Run, tmp_path: Path) -> None:
    for name in ("me.png", "sheet.png", "progress.png"):
        Image.new("RGB", (16, 16), "red").save(tmp_path / name)
    before = {file: file.read_bytes() for file in tmp_path.glob("*.png")}
    for images in ([tmp_path], ["me.png"]):
        with pytest.raises(FruganError, match="choose another --out"):
            run("project", "@net", *images, "--out", tmp_path, *QUICK)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    run("project", "@net", tmp_path, "--out", "p", *QUICK)
    made = {"me.png", "sheet-2.png", "progress-2.png", "sheet.png"}
    assert {file.name for file in Path("p").glob("*.png")} == made


def test_too_many_images_to_tune_to_are_refused_before_they_are_projected(run: Run, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for i in range(31):
        Image.new("RGB", (16, 16)).save(tmp_path / "many" / f"{i}.png")
    with pytest.raises(FruganError, match="31 images: one network is tuned to 30"):
        run("project", "@net", "many", "--tune", "--out", "p", *QUICK)
    assert not Path("p").exists()


def test_a_stranger_s_code_is_refused(run: Run) -> None:
    run("project", "@net", "@images/alpha.png", "--out", "p", *QUICK)
    with pytest.raises(FruganError, match="belongs to another generator"):
        run("generate", "@stranger", "--code", "p/alpha.safetensors", "--out", "g")
