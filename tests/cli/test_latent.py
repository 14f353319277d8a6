"""`frugan directions`, `edit`, `mix`, `sweep`, `video` and `blend` from the command line: what they write, what they refuse."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from frugan.cli.app import app
from frugan.errors import FruganError
from frugan.interop import save_pretrained
from frugan.latent import scoring
from frugan.latent.code import Code, load_code, render_points, save_code
from frugan.latent.direction import Direction, Identity, find_direction, save_directions
from frugan.latent.statistics import cluster_centres
from frugan.networks import load_generator
from frugan.pixel_format import PixelFormat
from tests.latent.conftest import make_generator
from tests.latent.test_code import make_code

Run = Callable[..., str]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator, a child of it, a stranger, one with classes, a grey one that is not square."""
    top = tmp_path_factory.mktemp("networks")
    G = make_generator((16, 16))
    save_pretrained(G, top / "parent")
    rng = torch.Generator().manual_seed(1)
    for value in G.state_dict().values():
        value.add_(0.03 * torch.randn(value.shape, generator=rng))
    save_pretrained(G, top / "child")
    save_pretrained(make_generator((16, 16), seed=5), top / "stranger")
    save_pretrained(make_generator((16, 16), label_size=3), top / "classes")
    save_pretrained(make_generator((12, 20), channels=1), top / "wide")
    return top


@pytest.fixture
def run(networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(command: str, network: str, *arguments: object) -> str:
        done = CliRunner().invoke(app, [command, str(networks / network), *map(str, arguments)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return call


METHODS = {
    "ganspace": ["--count", "3"],
    "sefa": ["--count", "3", "--levels", "8-16"],
    "boundary": ["--scores", "scores.csv"],
    "stylespace": ["--seeds", "0-5", "--count", "2"],
    "difference": ["--seeds", "0-3", "--to-seeds", "4-9"],
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", ["parent", "wide"])
def test_directions_of_every_method_are_found_shown_and_edited_with(
    run: Run, tmp_path: Path, method: str, network: str
) -> None:
    levels = {"wide": "6x10-12x20", "parent": "8-16"}[network]
    arguments = [levels if a == "8-16" else a for a in METHODS[method]]
    (tmp_path / "scores.csv").write_text("seed,score\n" + "".join(f"{i},{np.sin(i)}\n" for i in range(60)))
    text = run("directions", network, "--method", method, "--samples", 500, "--out", "d", *arguments)
    effects = json.loads((tmp_path / "d/effects.json").read_text())
    low, high = find_direction(f"{tmp_path / 'd'}:0").slider
    assert "frugan edit" in text
    assert f"--strengths {low:g}:{high:g}:7" in text
    assert f"{len(effects['directions'])} direction{'s' * (len(effects['directions']) > 1)} in d;" in text
    n = len(effects["directions"])
    assert n == {"ganspace": 3, "sefa": 3, "stylespace": 2}.get(method, 1)
    assert np.allclose(np.diag(effects["overlap"]), 1, atol=1e-5)
    for file in ("d/all.png", f"d/00-{effects['directions'][0]['name']}.png"):
        with Image.open(tmp_path / file) as image:
            assert image.getextrema() != ((255, 255),) * 3
    run("edit", network, "--direction", "d:0", "--seeds", "1,2", "--strengths", "-1:1:3", "--out", "e")
    files = sorted(p.name for p in (tmp_path / "e").glob("seed*.png"))
    assert len(files) == 6
    with Image.open(tmp_path / "e" / files[0]) as image:
        assert image.size == ((16, 16) if network == "parent" else (20, 12))
        assert image.mode == ("RGB" if network == "parent" else "L")


def test_built_in_scores_and_conditions(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "SCORED", 200)
    run("directions", "parent", "--method", "ganspace", "--samples", 500, "--count", 2, "--out", "a")
    run(
        "directions",
        "parent",
        "--method",
        "boundary",
        "--scores",
        "brightness",
        "--without",
        "a:0",
        "--samples",
        500,
        "--out",
        "b",
    )
    effects = json.loads((tmp_path / "b/effects.json").read_text())["directions"][0]
    assert effects["scores"]["brightness"] > 0


def test_a_boundary_in_z(run: Run, networks: Path, tmp_path: Path) -> None:
    z = load_generator(networks / "parent").latents(range(300))
    (tmp_path / "scores.csv").write_text("".join(f"{i},{float(z[i, 0])}\n" for i in range(300)))
    boundary = ("--method", "boundary", "--scores", "scores.csv", "--space", "z")
    run("directions", "parent", *boundary, "--samples", 500, "--out", "d")
    found = find_direction("d:scores")
    assert found.space == "z"
    assert found.vector[0] > 0.9
    run("edit", "parent", "--direction", "d:0", "--seeds", 1, "--strengths", "0,2", "--out", "e")


def test_differences_of_images(run: Run, networks: Path, tmp_path: Path) -> None:
    """From one code to another, and from a set of seeds and a folder of codes to seeds."""
    G = load_generator(networks / "parent")
    ws = torch.randn(2, G.num_ws, 12, generator=torch.Generator().manual_seed(2))
    for name, one in zip("ab", ws):
        save_code(Code(name, one, Identity.of(G)), tmp_path / "codes" / f"{name}.safetensors")
    method = ("--method", "difference", "--samples", 500)
    codes = ("--seeds", "codes/a.safetensors", "--to-seeds", "codes/b.safetensors")
    run("directions", "parent", *method, *codes, "--out", "two")
    assert torch.allclose(ws[0] + find_direction("two:0").displacement(G), ws[1], atol=1e-5)
    run("edit", "parent", "--direction", "two:0", "--seeds", codes[1], "--strengths", "1", "--out", "e")
    end = render_points(G, [load_code("codes/b.safetensors")])
    with Image.open("e/a-difference+1.png") as image:
        moved = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 127.5 - 1
    assert (moved - end[0]).abs().max() < 0.02
    run("directions", "parent", *method, "--seeds", "0-2,codes", "--to-seeds", "7-9", "--out", "sets")
    w = G.mapping(G.latents([0, 1, 2, 7, 8, 9]))
    expected = w[3:].mean(0) - torch.cat([w[:3], ws]).mean(0)
    assert torch.allclose(find_direction("sets:0").displacement(G), expected, atol=1e-5)
    run("directions", "parent", "--method", "stylespace", "--seeds", "1,codes", "--count", 1, "--samples", 500)


def test_classes(run: Run, tmp_path: Path) -> None:
    run(
        "directions", "classes", "--method", "difference", "--class", 0, "--to-class", 2, "--samples", 500, "--out", "d"
    )
    run("directions", "classes", "--samples", 500, "--count", 1, "--out", "any")
    run("edit", "classes", "--direction", "d:0", "--class", 0, "--seeds", 1, "--strengths", "0,1", "--out", "e")
    run("video", "classes", "--classes", "0,1,2", "--seconds", 0.5, "--fps", 8, "--out", "v.webp")


@pytest.mark.parametrize("scores", ["class:1", "own_scores:redness"])
def test_scores_of_a_class_and_of_a_function(
    run: Run, networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: str
) -> None:
    monkeypatch.setattr(scoring, "SCORED", 200)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_scores.py").write_text("def redness(images):\n    return images[:, 0].mean(dim=(1, 2)).tolist()\n")
    said = run("directions", "classes", "--method", "boundary", "--scores", scores, "--samples", 500, "--out", "d")
    (kept,) = json.loads(Path("d/directions.json").read_text())["directions"]
    assert f"is right for {kept['source']['accuracy']:.0%} of the examples held out" in " ".join(said.split())
    found = find_direction("d:0")
    assert found.name == scores.partition(":")[2]
    G = load_generator(networks / "classes")
    z, step = G.latents(range(200)), found.displacement(G)
    w = [G.mapping(z, torch.eye(3)[k].expand(200, -1)) for k in range(3)]
    if scores == "class:1":
        along = [float((ws[:, 0] @ found.vector).mean()) for ws in w]
        assert along[1] > max(along[0], along[2])
    else:
        plain, moved = (G.synthesis(w[0] + strength * step, noise="const") for strength in (0, 1))
        assert moved[:, 0].mean() > plain[:, 0].mean()


def test_published_directions_are_imported(run: Run, networks: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    components, deviations = rng.normal(size=(5, 1, 12)).astype(np.float32), np.arange(1.0, 6.0)
    np.savez(tmp_path / "gs.npz", lat_comp=components, lat_stdev=deviations)
    np.save(tmp_path / "pose.npy", components[2])
    G = load_generator(networks / "parent")
    unit = torch.from_numpy(components[2, 0] / np.linalg.norm(components[2]))
    file = ["directions", "parent", "--method", "import", "--file"]
    run(*file, "gs.npz", "--component", 2, "--ws", "2:4", "--name", "smile", "--out", "a")
    moved = find_direction("a:smile").displacement(G)
    assert torch.allclose(moved[2:4], 3 * unit.expand(2, -1), atol=1e-6)
    assert not moved[[0, 1, 4, 5]].any()
    run(*file, "pose.npy", "--out", "b")
    assert torch.allclose(find_direction("b:pose").displacement(G), unit.expand(6, -1), atol=1e-6)
    run("edit", "parent", "--direction", "a:0", "--seeds", 1, "--strengths", "0,1", "--out", "e")


def test_images_of_codes_with_the_same_name_stay_apart(run: Run, networks: Path, tmp_path: Path) -> None:
    G = load_generator(networks / "parent")
    for folder in ("a", "b"):
        save_code(Code("me", torch.zeros(G.num_ws, 12), Identity.of(G)), tmp_path / folder / "me.safetensors")
    run("directions", "parent", "--samples", 500, "--count", 1, "--out", "d")
    run("edit", "parent", "--direction", "d:0", "--seeds", "a,4,b", "--strengths", "1", "--out", "e")
    assert {p.name for p in Path("e").glob("*+1.png")} == {"me-pc0+1.png", "seed0004-pc0+1.png", "me-2-pc0+1.png"}


@pytest.mark.parametrize("network", ["parent", "classes"])
def test_a_region_for_stylespace(run: Run, tmp_path: Path, network: str) -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[:5] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    run(
        "directions",
        network,
        "--method",
        "stylespace",
        "--mask",
        "mask.png",
        "--count",
        2,
        "--samples",
        500,
        "--out",
        "d",
    )


def test_mix_and_sweep(run: Run, tmp_path: Path) -> None:
    run("mix", "parent", "--rows", "0-1", "--columns", "3-5", "--levels", "4", "--out", "m.png")
    run("sweep", "parent", "--seeds", "0-1", "--truncation", "0:1:4", "--levels", "8-16", "--out", "s.jpg")
    run("sweep", "wide", "--seeds", 0, "--truncation", "0,1", "--towards", 5, "--out", "t.png")
    for name in ("m.png", "s.jpg", "t.png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 50


@pytest.mark.parametrize("towards", ["class:1", "centre:2", "7"])
def test_a_sweep_ends_at_the_centre_that_is_named(
    run: Run, networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, towards: str
) -> None:
    """At ψ = 0 every seed is the image of the centre."""
    from frugan.latent import sheets

    shown: list[torch.Tensor] = []
    monkeypatch.setattr(sheets, "table", lambda images, *_, **__: shown.append(images) or np.zeros((9, 9, 3), np.uint8))
    run(
        "sweep",
        "classes",
        "--class",
        0,
        "--seeds",
        "0-2",
        "--truncation",
        "0,1",
        "--towards",
        towards,
        "--out",
        "s.png",
    )
    G = load_generator(networks / "classes")
    zero = torch.eye(3)[0]
    if towards == "class:1":  # 100,000 samples; these are others
        w = G.mapping(
            torch.randn(20_000, 12, generator=torch.Generator().manual_seed(1)), torch.eye(3)[1].expand(20_000, -1)
        )
        centre = w[:, 0].mean(0)
    elif towards == "7":
        centre = G.mapping(G.latents([7]), zero[None])[0, 0]
    else:
        centre = cluster_centres(G, labels=zero[None])[2]
    expected = G.synthesis(centre.expand(1, G.num_ws, -1), noise="const").clamp(-1, 1)
    assert (shown[0][0::2] - expected).abs().max() < (0.1 if towards == "class:1" else 1e-4)
    assert (shown[0][1::2] - expected).abs().max() > 0.3


VIDEOS = {
    "tour": ["--tour", "0,3,0"],
    "tour-z": ["--tour", "0,3", "--space", "z", "--easing", "smooth"],
    "loop": ["--loop", "--seeds", "0-2", "--grid", "2x1", "--scale", "3"],
    "default": [],
    "truncation": ["--truncation", "0:1", "--no-even"],
    "edit": ["--edit", "d:0", "--strengths", "-1:2"],
    "morph": ["--morph", "child"],
}


@pytest.mark.parametrize("kind", VIDEOS)
def test_videos(run: Run, networks: Path, tmp_path: Path, kind: str) -> None:
    if kind == "edit":
        run("directions", "parent", "--samples", 500, "--count", 1, "--out", "d")
    arguments = [networks / a if a == "child" else a for a in VIDEOS[kind]]
    for name in ("a.webp", "b.webp"):
        text = run("video", "parent", *arguments, "--seconds", 0.6, "--fps", 10, "--out", name)
        assert "6 frames, 0.6 s" in text
    assert (tmp_path / "a.webp").read_bytes() == (tmp_path / "b.webp").read_bytes()
    with Image.open(tmp_path / "a.webp") as image:
        assert image.n_frames == 6  # pyright: ignore[reportAttributeAccessIssue]
        assert image.size == ((96, 48) if kind == "loop" else (16, 16))


@pytest.mark.parametrize("name", ["v.gif", "v.webp", "v.png"])
def test_a_video_lasts_as_long_as_it_says(run: Run, tmp_path: Path, name: str) -> None:
    for fps in (24, 30, 47):
        text = run("video", "parent", "--seconds", 1, "--fps", fps, "--no-even", "--out", name)
        assert f"{fps} frames, 1 s" in text
        with Image.open(tmp_path / name) as image:
            lasted = 0
            for i in range(image.n_frames):  # pyright: ignore[reportAttributeAccessIssue]
                image.seek(i)
                image.load()
                lasted += image.info["duration"]
        assert abs(lasted - 1000) <= 1


def test_a_blend_keeps_the_names_of_classes(run: Run, networks: Path, tmp_path: Path) -> None:
    save_pretrained(make_generator((16, 16), label_size=3), tmp_path / "named", class_names=["ant", "cat", "dog"])
    run("blend", tmp_path / "named", networks / "classes", "--at", "8", "--class", "cat", "--seeds", 0, "--out", "b")
    run("generate", tmp_path / "b", "--class", "cat", "--seeds", 0, "--out", "g")


def test_blending(run: Run, networks: Path, tmp_path: Path) -> None:
    text = run("blend", "parent", networks / "child", "--at", "8", "--width", 0.5, "--out", "b")
    assert "alignment: w 0.9" in text or "alignment: w 1.0" in text
    run("generate", tmp_path / "b", "--seeds", 0, "--out", "g")
    run("blend", "parent", networks / "child", "--interpolate", "0:1:3", "--seeds", "0-1", "--out", "i")
    assert sorted(p.name for p in (tmp_path / "i").iterdir()) == ["0", "0.5", "1", "blend.png"]


REFUSED = {
    "wrong generator": ("edit", "stranger", ["--direction", "d:0"], "another generator"),
    "no such level": ("edit", "parent", ["--direction", "d:0", "--levels", "64"], "this generator has 4, 8, 16"),
    "no such direction": ("edit", "parent", ["--direction", "d:9"], "no direction '9'"),
    "no folder": ("edit", "parent", ["--direction", "nowhere:0"], "holds no directions"),
    "strengths": ("edit", "parent", ["--direction", "d:0", "--strengths", "a:b"], "FIRST:LAST:COUNT"),
    "nan strength": ("edit", "parent", ["--direction", "d:0", "--strengths", "nan,1"], "--strengths nan"),
    "class missing": ("edit", "classes", ["--direction", "d:0"], "--class"),
    "no such class": ("video", "classes", ["--classes", "0,7"], "class '7'"),
    "nan scores": ("directions", "parent", ["--method", "boundary", "--scores", "nan.csv"], "give finite numbers"),
    "one class": ("directions", "parent", ["--method", "boundary", "--scores", "one.csv"], "are the same"),
    "few scores": ("directions", "parent", ["--method", "boundary", "--scores", "few.csv"], "at least 3 of either"),
    "no scores": ("directions", "parent", ["--method", "boundary"], "needs --scores"),
    "no examples": ("directions", "parent", ["--method", "stylespace"], "needs --seeds"),
    "no scikit-learn": ("directions", "parent", ["--method", "boundary", "--scores", "size"], "pip install"),
    "no function": ("directions", "parent", ["--method", "boundary", "--scores", "nowhere:f"], "nowhere"),
    "no class to score": ("directions", "parent", ["--method", "boundary", "--scores", "class:2"], "without labels"),
    "no such scored class": ("directions", "classes", ["--method", "boundary", "--scores", "class:9"], "class '9'"),
    "a mask of another size": ("directions", "wide", ["--method", "stylespace", "--mask", "mask.png"], "12x20"),
    "nothing to import": ("directions", "parent", ["--method", "import"], "needs --file"),
    "no file to import": ("directions", "parent", ["--method", "import", "--file", "no.npy"], "no file"),
    "no component": ("directions", "parent", ["--method", "import", "--file", "gs.npz"], "from 0 to 4"),
    "component": ("directions", "parent", ["--method", "import", "--file", "gs.npz", "--component", "5"], "component"),
    "wrong space": ("directions", "parent", ["--method", "import", "--file", "w512.npy"], "512 numbers"),
    "a pickle": ("directions", "parent", ["--method", "import", "--file", "pickle.npy"], "holds neither"),
    "ws": ("directions", "parent", ["--method", "import", "--file", "gs.npz", "--ws", "3"], "FIRST:END"),
    "ws past the end": (
        "directions",
        "parent",
        ["--method", "import", "--file", "gs.npz", "--component", "1", "--ws", "4:7"],
        "exclusive",
    ),
    "z of ganspace": ("directions", "parent", ["--space", "z"], "space z is one of method boundary"),
    "levels of z": (
        "directions",
        "parent",
        ["--method", "boundary", "--scores", "size", "--space", "z", "--levels", "8"],
        "reaches all levels",
    ),
    "a class in z": (
        "directions",
        "classes",
        ["--method", "boundary", "--scores", "class:1", "--space", "z"],
        "drawn alike for all",
    ),
    "a stranger's code": (
        "directions",
        "stranger",
        ["--method", "difference", "--seeds", "a.safetensors", "--to-seeds", "1"],
        "belongs to another generator",
    ),
    "without a style": ("directions", "parent", ["--without", "styles:0"], "is of space style"),
    "no such centre": ("sweep", "parent", ["--towards", "centre:64"], "centre:0 to centre:63"),
    "no ends": ("directions", "parent", ["--method", "difference"], "needs --seeds and --to-seeds"),
    "a fast GIF": ("video", "parent", ["--fps", "60", "--out", "v.gif"], "no more than 50 frames"),
    "a long WebP": ("video", "parent", ["--seconds", "600", "--scale", "9", "--out", "v.webp"], "name an .mp4"),
    "video path": ("video", "parent", ["--out", "v.avi"], "ends in"),
    "unwritable video": ("video", "parent", ["--out", "one.csv/v.gif"], "one.csv"),
    "no encoder": ("video", "parent", ["--out", "v.mp4"], "pip install"),
    "two kinds": ("video", "parent", ["--loop", "--tour", "0,1"], "choose one of"),
    "tour of one": ("video", "parent", ["--tour", "1", "--out", "v.gif"], "at least two"),
    "grid": ("video", "parent", ["--grid", "3by2"], "COLUMNSxROWS"),
    "a grid of letters": ("video", "parent", ["--grid", "3xabcd"], "COLUMNSxROWS"),
    "a large grid": ("video", "parent", ["--grid", "3x1000"], "COLUMNSxROWS"),
    "a name with a slash": ("directions", "parent", ["--name", "a/b"], "without slashes"),
    "strangers": ("blend", "parent", ["stranger", "--at", "8"], "unrelated"),
    "nothing to blend": ("blend", "parent", ["child"], "--at LEVEL"),
    "sweep": ("sweep", "parent", ["--truncation", "0:1"], "FIRST:LAST:COUNT"),
    "a large truncation": ("sweep", "parent", ["--truncation", "0:9:3", "--out", "new/s.png"], "from -4 to 4"),
    "image": ("mix", "parent", ["--out", "m.txt"], "give an image file"),
    "rows": ("mix", "parent", ["--rows", "x"], "--rows 'x'"),
    "columns": ("mix", "parent", ["--columns", "3-1"], "--columns 3-1"),
    "stops": ("video", "parent", ["--tour", "0,x"], "--tour 'x'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_one_sentence_and_writes_nothing(
    run: Run, networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    command, network, arguments, words = REFUSED[name]
    for package, missing in {"sklearn": "no scikit-learn", "imageio_ffmpeg": "no encoder"}.items():
        if name == missing:
            monkeypatch.setitem(sys.modules, package, None)
    np.savez(tmp_path / "gs.npz", lat_comp=np.ones((5, 1, 12)), lat_stdev=np.ones(5))
    np.save(tmp_path / "w512.npy", np.ones((1, 512)))
    np.save(tmp_path / "pickle.npy", np.array([print], dtype=object))
    Image.new("L", (16, 16), 255).save(tmp_path / "mask.png")
    (tmp_path / "nan.csv").write_text("0,1\n1,nan\n2,0\n")
    (tmp_path / "few.csv").write_text("0,1\n1,2\n2,3\n4,5\n5,6\n")
    (tmp_path / "one.csv").write_text("0,1\n1,1\n2,1\n")
    G = load_generator(networks / "parent")
    save_code(Code("a", torch.zeros(G.num_ws, 12), Identity.of(G)), tmp_path / "a.safetensors")
    channels = sum(layer.width for layer in G.synthesis.style_layers)
    save_directions([Direction("s", "style", torch.ones(channels), 1.0, Identity.of(G))], tmp_path / "styles")
    if any(a in ("d:0", "d:9") for a in arguments):
        run("directions", "parent", "--samples", 500, "--count", 1, "--out", "d")
    arguments = [str(networks / a) if a in ("stranger", "child") else a for a in arguments]
    before = {p for p in tmp_path.rglob("*") if "cache" not in p.parts}
    with pytest.raises(FruganError, match=words):
        CliRunner().invoke(
            app, [command, str(networks / network), *arguments], catch_exceptions=False, standalone_mode=False
        )
    assert {p for p in tmp_path.rglob("*") if "cache" not in p.parts} == before
    assert command != "directions" or not (tmp_path / "cache").exists()  # no statistics: nothing was begun


def test_codes_keep_their_noise(run: Run, networks: Path, tmp_path: Path) -> None:
    """On sheets, and in videos of a single one; of a video between several it is told that they do not."""
    G = load_generator(networks / "parent")
    files = []
    for folder in ("fitted", "plain"):
        code = tmp_path / folder / "me.safetensors"
        save_code(replace(make_code(G, noise=folder == "fitted"), c=None), code)
        run("sweep", "parent", "--seeds", code, "--truncation", "1,1", "--out", f"{folder}/sweep.png")
        run("mix", "parent", "--rows", f"{code},1", "--columns", "2", "--out", f"{folder}/mix.png")
        run("video", "parent", "--truncation", "1:0", "--seeds", code, "--seconds", 0.1, "--out", f"{folder}/one.png")
        told = run("video", "parent", "--tour", f"{code},1", "--seconds", 0.1, "--out", f"{folder}/tour.png")
        assert ("fitted to me is left out" in " ".join(told.split())) == (folder == "fitted")
        files.append([(tmp_path / folder / f"{kind}.png").read_bytes() for kind in ("sweep", "mix", "one", "tour")])
    assert [fitted == plain for fitted, plain in zip(*files)] == [False, False, False, True]


def test_a_sheet_says_what_it_does_not_show(run: Run, networks: Path, tmp_path: Path) -> None:
    bands = make_generator((16, 16), channels=5, pixels=PixelFormat("uint16", names=("b", "g", "r", "nir", "swir")))
    save_pretrained(bands, networks / "bands")
    said = " ".join(run("sweep", "bands", "--seeds", "0,1", "--truncation", "0.5,1", "--out", "sweep.png").split())
    assert "8 bits per channel, channels b, g, r of 5; images of their own are written as the data is" in said
    loop = ("--loop", "--seeds", "0-2", "--seconds", 0.2, "--out", "v.webp")
    assert "the video is to be looked at: 8 bits per channel, channels b, g, r of 5" in " ".join(
        run("video", "bands", *loop).split()
    )
    four = make_generator((16, 16), channels=4, pixels=PixelFormat(names=("a", "b", "c", "d")))
    save_pretrained(four, networks / "four")
    assert "channels a, b, c of 4" in " ".join(run("video", "four", *loop).split())
    with Image.open(tmp_path / "v.webp") as video:
        assert video.mode == "RGB"  # the fourth is no opacity
    assert "to be looked at" not in run(
        "sweep", "parent", "--seeds", "0,1", "--truncation", "0.5,1", "--out", "rgb.png"
    )
