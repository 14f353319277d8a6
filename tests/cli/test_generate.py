"""`frugan generate`: what lies in its files, under which names, and what it says of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner, Result

from frugan.cli.app import app
from frugan.cli.common import parse_seeds
from frugan.cli.generate import _ranges
from frugan.errors import FruganError
from frugan.images import GENERATED_KEY, is_own_output, to_pixels
from frugan.interop import write_directory
from frugan.interop.nvidia import Imported
from frugan.networks import Generator, GeneratorConfig, MappingConfig, SynthesisConfig
from frugan.networks.serialization import weights_digest
from tests.program import call


def network(folder: Path, channels: int = 3, labels: int = 0, size: tuple[int, int] = (16, 24), **data: object) -> Path:
    """A folder of a small generator, and of what its data was."""
    torch.manual_seed(0)
    config = GeneratorConfig(size, channels, labels, 8, 8, MappingConfig(2), SynthesisConfig(64, 8))
    G = Generator(config)
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.3)
    write_directory(folder, Imported(G))
    if data:
        (folder / "data.json").write_text(json.dumps(data), "utf-8")
    return folder


def generate(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["generate", *map(str, arguments), "--device", "cpu"], catch_exceptions=True)


def made(*arguments: object) -> str:
    done = generate(*arguments)
    assert done.exception is None, done.exception
    return done.output


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def text_of(file: Path) -> dict[str, str]:
    with Image.open(file) as image:
        return image.text  # pyright: ignore[reportAttributeAccessIssue]


def test_files_say_what_they_were_made_from(tmp_path: Path) -> None:
    from frugan import load

    net = network(tmp_path / "net", labels=3, class_names=["cat", "猫 dog", "x"])
    said = made(net, "--seeds", "2,7", "--class", 1, "--truncation", 0.7, "--truncation-cutoff", 3, "--noise", "random")
    expected = {
        "Network": weights_digest(load(net)),
        "Truncation": "0.7",
        "Truncation cutoff": "3",
        "Noise": "random",
        "Class": "猫 dog",
    }
    for seed in (2, 7):
        file = net / "generated" / f"seed{seed:04d}.png"
        found = text_of(file)
        assert is_own_output(found)
        assert {k: v for k, v in found.items() if k != "Software"} == {GENERATED_KEY: str(seed), **expected}
    assert "2 images of 16x24, 3 channels, 8 bits per channel" in said
    assert str(net / "generated") in said
    made(net, "--grid", "--seeds", "0-3,9", "--class", "cat")
    (grid,) = (net / "generated").glob("grid*")
    assert grid.name == "grid-0-3,9-cat.png"
    found = text_of(grid)
    assert (found["Seeds"], found["Class"], found["Noise"], found["Truncation"]) == ("0-3,9", "cat", "const", "1")
    assert GENERATED_KEY not in found
    assert is_own_output(found)


SETTINGS = ([], ["--truncation", "0.5"], ["--noise", "random"], ["--class", "1"], ["--truncation-cutoff", "2"])


@pytest.mark.parametrize("kind", [[], ["--grid"], ["--scale", "2"]], ids=["each", "grid", "scaled"])
def test_nothing_is_overwritten_but_by_the_same(kind: list[str], tmp_path: Path) -> None:
    net, out = network(tmp_path / "net", labels=2), tmp_path / "out"
    for number, setting in enumerate([*SETTINGS, ["--scale", "3"]], 1):
        before = files(out) if out.exists() else {}
        arguments = ["--seeds", "0,1", *(["--class", "0"] if "--class" not in setting else []), *kind, *setting]
        made(net, "--out", out, *arguments)
        after = files(out)
        assert len(after) == number * (1 if kind == ["--grid"] else 2)
        assert after | before == after
        made(net, "--out", out, *arguments)
        assert files(out) == after  # the same command again: the same names and bytes
    (out / "seed0000.png").write_bytes(b"a file of the user's")
    made(net, "--out", out, "--seeds", 0, "--class", 0, *kind)
    assert (out / "seed0000.png").read_bytes() == b"a file of the user's"


@settings(deadline=None, max_examples=12)
@given(
    order=st.permutations([0, 3, 4, 2**32 - 1]),
    batch=st.sampled_from([1, 3, 16]),
    noise=st.sampled_from(["const", "random"]),
)
def test_a_seeds_file_is_the_same_whatever_the_batch(
    order: list[int], batch: int, noise: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("x")
    net = network(folder / "net")
    made(net, "--seeds", 3, "--noise", noise, "--out", folder / "alone")
    made(net, "--seeds", ",".join(map(str, order)), "--noise", noise, "--batch", batch, "--out", folder / "all")
    one, other = (np.asarray(Image.open(folder / x / "seed0003.png")).astype(int) for x in ("alone", "all"))
    assert abs(one - other).max() <= 1


@pytest.mark.parametrize("size", [(4, 4), (16, 24), (64, 64), (96, 128), (128, 128), (160, 128)])
def test_small_images_are_enlarged_in_grids(size: tuple[int, int], tmp_path: Path) -> None:
    size = (8, 8) if size == (4, 4) else size
    net, out = network(tmp_path / "net", size=size), tmp_path / "out"
    said = made(net, "--grid", "--seeds", "0-2", "--out", out)
    factor = max(1, 128 // max(size))
    (file,) = out.glob("grid*")
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB"))
    made(net, "--seeds", "0", "--out", out)
    tile = np.asarray(Image.open(out / "seed0000.png")).repeat(factor, 0).repeat(factor, 1)
    shown = pixels[4 : 4 + len(tile), 4 : 4 + tile.shape[1]]
    assert abs(shown.astype(int) - tile).max() <= 1  # rounding of convolutions of 3 images and of 1
    assert (pixels[:4] == 255).all()  # the margin
    assert (pixels[4 + len(tile) : 20 + len(tile), 4 : 4 + tile.shape[1]] < 128).any()  # the caption
    assert (f"enlarged {factor} times" in said) == (factor > 1)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
@pytest.mark.parametrize(("depth", "value_range"), [(8, None), (16, None), (16, (0, 4095)), (16, (100, 1123))])
def test_depth_range_and_channels_of_the_data(
    channels: int, depth: int, value_range: tuple[int, int] | None, tmp_path: Path
) -> None:
    """Values are those that the data has; what a PNG cannot hold is said, and lies in the array."""
    from frugan import load

    net, out = network(tmp_path / "net", channels, depth=depth, value_range=value_range), tmp_path / "out"
    exact = to_pixels(load(net).sample([5]), 16)[0] / 65535
    lo, hi = value_range or (0, 2**depth - 1)
    alpha = channels in (2, 4)
    wanted = np.concatenate(
        [lo + exact[..., : channels - alpha] * (hi - lo), exact[..., channels - alpha :] * (2**depth - 1)], 2
    )
    made(net, "--seeds", 5, "--format", "npy", "--out", out)
    array = np.load(out / "seed0005.npy")
    assert array.dtype == (np.uint8 if depth == 8 else np.uint16)
    assert array.shape == (16, 24, channels)
    assert abs(array - wanted).max() <= 0.51 + (hi - lo) / 65535
    said = made(net, "--seeds", 5, "--out", out)
    with Image.open(out / "seed0005.png") as image:
        found = np.asarray(image).reshape(16, 24, -1)
        assert image.mode == (
            "I;16" if (depth, channels) == (16, 1) else {1: "L", 2: "LA", 4: "RGBA"}.get(channels, "RGB")
        )
    if (depth, channels) == (16, 1):
        assert np.array_equal(found, array)
        assert "16 bits per channel" in said
    else:
        assert np.array_equal(found, to_pixels(load(net).sample([5]), 8)[0][..., : 3 if channels > 4 else None])
        assert "8 bits per channel" in said
    assert ("first 3 of 6 channels" in said) == (channels == 6)
    assert ("data has 16" in said) == (depth == 16 and channels > 1)
    assert (f"stored values {lo} and {hi}" in said) == (value_range is not None and channels > 1)


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--scale", "0"], "--scale 0: give a whole number from 1 to 256, or auto"),
        (["--scale", "1.5"], "--scale 1.5"),
        (["--scale", "-2"], "--scale -2"),
        (["--scale", "1000"], "--scale 1000"),
        (["--scale", "nan"], "--scale nan"),
        (["--format", "npy", "--grid"], "leave out --grid"),
        (["--format", "npy", "--scale", "2"], "leave out --grid and --scale"),
        (["--grid", "--scale", "256", "--seeds", "0-99"], "beyond 400,000,000 pixels"),
        (["--truncation", "nan"], "truncation nan"),
        (["--truncation", "70"], "truncation 70"),
        (["--batch", "0"], "batch 0"),
        (["--truncation-cutoff", "-1"], "-1"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    arguments: list[str], says: str, tmp_path: Path
) -> None:
    done = generate(network(tmp_path / "net"), "--out", tmp_path / "out", *arguments)
    assert isinstance(done.exception, FruganError)
    assert says in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_where_images_go_without_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    newest = network(run / "checkpoints" / "000001.000")
    (run / "config.yaml").write_text("x: 1", "utf-8")
    made(newest, "--seeds", 0)
    assert (run / "generated" / "seed0000.png").is_file()
    monkeypatch.chdir(tmp_path)
    golden = Path(__file__).parents[1] / "golden" / "nvidia_pytorch.pkl"
    made(golden, "--seeds", 0)
    assert (tmp_path / "generated" / "seed0000.png").is_file()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=20))
def test_seeds_as_text_are_the_seeds(seeds: list[int]) -> None:
    assert parse_seeds(_ranges(seeds)) == seeds


def test_a_note_of_the_import_is_told_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from frugan.interop import Exported, write_community

    from ..interop.test_community import small_networks

    file = write_community(tmp_path / "x.pt", small_networks()[0])
    content = torch.load(file, weights_only=True)
    content.pop("latent_avg")
    torch.save(content, file)
    exported = Exported(tmp_path / "y.pt2", {}, (3, 16, 16), None)
    monkeypatch.setattr("frugan.interop.export_program", lambda *_: exported)  # which takes its time
    runner = CliRunner()
    told = {
        "import": runner.invoke(app, ["import", str(file), str(tmp_path / "net")]).output,
        "generate": made(file, "--out", tmp_path / "a", "--seeds", 0),
        "generate again": made(tmp_path / "net", "--out", tmp_path / "b", "--seeds", 0),
        "export": runner.invoke(
            app, ["export", str(tmp_path / "net"), str(tmp_path / "y.pt2"), "--format", "torch-export"]
        ).output,
        "export networks": runner.invoke(
            app, ["export", str(tmp_path / "net"), str(tmp_path / "y"), "--format", "pretrained"]
        ).output,
    }
    for command, output in told.items():
        assert "no average of w (latent_avg): it was estimated from 10,000 latents" in output, command
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.parametrize(
    "option",
    ["--seeds=3", "--truncation=0.5", "--truncation-cutoff=2", "--class=a", "--grid", "--scale=2", "--format=npy"],
)
def test_what_a_code_has_no_use_for_is_refused(option: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, text = call(capsys, tmp_path, "generate", "sample", "--code", tmp_path / "code.safetensors", option)
    assert code == 2
    assert f"leave out {option.split('=')[0]}" in " ".join(text.split())
    assert list(tmp_path.iterdir()) == []
