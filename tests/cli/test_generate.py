"""`frugan generate`: what lies in its files, under which names, and what it says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner, Result

from frugan.cli.app import app
from frugan.cli.common import parse_seeds
from frugan.cli.output import seed_ranges
from frugan.data.sources.open import open_source
from frugan.errors import FruganError
from frugan.image_files import choose_output, choose_sheet
from frugan.images import GENERATED_KEY, is_own_output, to_pixels
from frugan.interop import write_directory
from frugan.interop.nvidia import Imported
from frugan.label_parts import Measured
from frugan.networks import Generator, GeneratorConfig, MappingConfig, SynthesisConfig
from frugan.networks.serialization import weights_digest
from frugan.pixel_format import PixelFormat
from tests.program import call


def network(
    folder: Path,
    channels: int = 3,
    labels: int = 0,
    size: tuple[int, int] = (16, 24),
    pixels: PixelFormat | None = None,
    measured: tuple[Measured, ...] = (),
    **data: object,
) -> Path:
    """A folder of a small generator, and of what its data was."""
    torch.manual_seed(0)
    config = GeneratorConfig(
        size, channels, labels, 8, 8, MappingConfig(2), SynthesisConfig(64, 8), pixels=pixels, measured=measured
    )
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
    """Of a run from before its networks told it: values are those that the data has, in PNG as in the array."""
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
    suffix = "png" if channels <= 4 else "tif"
    np.testing.assert_array_equal(_foreign(out / f"seed0005.{suffix}"), array)
    assert f"{channels} channel{'s' if channels > 1 else ''}, {depth} bits per channel" in said
    assert "instead of" not in said


def _foreign(file: Path) -> np.ndarray:
    """`[H, W, C]` as other libraries read a file."""
    if file.suffix == ".tif":
        found = tifffile.imread(file)
    elif file.suffix == ".npy":
        found = np.load(file)
    else:
        found = imagecodecs.imread(file)
    return found.reshape(*found.shape[:2], -1)


FORMATS = [
    (
        5,
        PixelFormat(
            "float32", ((-3.0, 12.5), (0, 1), (0, 1), (5, 9), (-1e6, 1e6)), names=("b", "g", "r", "nir", "ndvi")
        ),
    ),
    (1, PixelFormat("float32", ((-400.0, 8848.0),))),
    (1, PixelFormat("int16", ((-1024, 3071),))),
    (3, PixelFormat("uint16")),
    (4, PixelFormat("uint8", alpha=True, crisp=True)),
    (2, PixelFormat("int16", ((-9, 9),))),
]


@pytest.mark.parametrize(("channels", "pixels"), FORMATS, ids=[f"{c}-{pixels.dtype}" for c, pixels in FORMATS])
def test_files_hold_the_numbers_of_the_data(channels: int, pixels: PixelFormat, tmp_path: Path) -> None:
    net, out = network(tmp_path / "net", channels, pixels=pixels), tmp_path / "out"
    said = made(net, "--seeds", "5,7", "--out", out)
    output = choose_output(pixels, channels)
    found = _foreign(out / f"seed0005{output.suffix}")
    expected = output.values(generator_of(net).sample([5, 7]))[0]
    assert found.dtype == (np.float32 if pixels.dtype.startswith("float") else np.dtype(pixels.dtype))
    np.testing.assert_array_equal(found, expected)
    for i, (lo, hi) in enumerate((pixels.value_range or ()) * (channels if len(pixels.value_range or ()) == 1 else 1)):
        assert lo <= found[..., i].min() < found[..., i].max() <= hi
    if pixels.crisp:
        assert set(np.unique(found[..., -1])) == {0, 255}
    if pixels.names:
        with tifffile.TiffFile(out / "seed0005.tif") as opened:
            assert opened.shaped_metadata[0]["channel_names"] == list(pixels.names)  # pyright: ignore[reportOptionalSubscript]
    assert "instead of" not in said
    before = files(out)
    made(net, "--seeds", "5,7", "--out", out)
    assert files(out) == before  # the same images take their own places
    made(net, "--seeds", "5", "--truncation", 0.5, "--out", out)
    assert len(files(out)) == 3
    made(net, "--seeds", "5,7", "--format", "npz", "--out", out)
    with np.load(next(out.glob("*.npz"))) as arrays:
        assert arrays["images"].dtype == found.dtype
        np.testing.assert_allclose(arrays["images"][0].astype(float), found, rtol=1e-5, atol=1)
        assert arrays["seeds"].tolist() == [5, 7]
        assert arrays["channel_names"].tolist() == list(output.names)


@pytest.mark.parametrize("kind", ["auto", "png", "tiff"])
@pytest.mark.parametrize(("channels", "pixels"), FORMATS, ids=[f"{c}-{pixels.dtype}" for c, pixels in FORMATS])
def test_grids_hold_the_numbers_of_the_data(channels: int, pixels: PixelFormat, kind: Any, tmp_path: Path) -> None:
    net, out = network(tmp_path / "net", channels, pixels=pixels), tmp_path / "out"
    made(net, "--seeds", "0-2", "--grid", "--scale", 1, "--format", kind, "--out", out)
    (file,) = out.iterdir()
    found = _foreign(file)
    sheet = choose_sheet(pixels, channels, kind)
    expected = sheet.values(generator_of(net).sample([0, 1, 2]))
    assert file.suffix == (".png" if kind == "png" or (kind == "auto" and channels != 5 and channels != 2) else ".tif")
    assert found.dtype == expected.dtype
    if file.suffix == ".tif":
        assert found.shape[-1] == channels
        assert found.dtype == pixels.dtype
    elif pixels.dtype != "uint8":
        assert found.dtype == np.uint16
    for i, (image, column) in enumerate(zip(expected, (0, 1, 0))):
        y, x = 4 + (16 + 16 + 4) * (i // 2), 4 + 28 * column
        np.testing.assert_array_equal(found[y : y + 16, x : x + 24], image)
    black, white = sheet.ends
    np.testing.assert_array_equal(found[0, 0], white)
    ink = found[20:34, 4:28].reshape(-1, found.shape[-1]).astype(float)  # the caption
    assert (ink.min(0) - black <= 0.6 * (white.astype(float) - black)).all()
    before = files(out)
    made(net, "--seeds", "0-2", "--grid", "--scale", 1, "--format", kind, "--out", out)
    assert files(out) == before


def test_a_sweep_loads_the_network_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import frugan.run.load

    years = Measured(0, "year", 1990, 2020, 2005, 9)
    net = network(tmp_path / "net", labels=1, measured=(years,))
    loads, load = [], frugan.run.load.load_with_notes
    monkeypatch.setattr(frugan.run.load, "load_with_notes", lambda *a, **k: loads.append(a) or load(*a, **k))
    made(net, "--label", "1990:2020:3", "--seeds", "0,1", "--out", tmp_path / "sweep")
    assert len(loads) == 1
    assert sorted(folder.name for folder in (tmp_path / "sweep").iterdir()) == ["1990", "2005", "2020"]
    for year in (1990, 2005, 2020):
        made(net, "--label", year, "--seeds", "0,1", "--out", tmp_path / "alone" / str(year))
        assert files(tmp_path / "alone" / str(year)) == files(tmp_path / "sweep" / str(year))


def generator_of(net: Path) -> Generator:
    from frugan import load

    return load(net)


def test_whatever_is_lost_is_told(tmp_path: Path) -> None:
    deep = network(tmp_path / "deep", 1, pixels=PixelFormat("float32", ((-2.0, 6.0),)))
    said = made(deep, "--seeds", 1, "--format", "png", "--out", tmp_path / "png")
    assert "16 bits per channel instead of the data's float32 numbers" in said
    assert "0 to 65535 stand for the stored values -2 to 6" in said
    said = made(deep, "--seeds", "0-3", "--grid", "--out", tmp_path / "grid")
    assert "0 to 65535 stand for the stored values -2 to 6" in said
    many = network(tmp_path / "many", 6)
    said = made(many, "--seeds", "0-3", "--grid", "--format", "png", "--out", tmp_path / "grid")
    assert "show channels 0, 1, 2 of 6 (TIFF files hold all)" in " ".join(said.split())
    assert "of 6" not in made(many, "--seeds", "0-3", "--grid", "--out", tmp_path / "grid")
    sixteen = network(tmp_path / "sixteen", 3, pixels=PixelFormat("uint16"))
    assert "8 bits per channel instead of the data's 16" in made(sixteen, "--bits", 8, "--seeds", 1)
    assert "compressed with losses" in made(sixteen, "--format", "jpg", "--seeds", 1)
    for file in ("seed0001.png", "seed0001.jpg"):
        with Image.open(sixteen / "generated" / file) as image:
            assert image.size == (24, 16)


def test_generated_tiff_and_webp_are_known_among_data(tmp_path: Path) -> None:
    net = network(tmp_path / "net", 3)
    for kind in ("png", "tiff", "webp", "jpg"):
        made(net, "--seeds", 1, "--format", kind, "--out", tmp_path / "out")
    assert len(files(tmp_path / "out")) == 4
    with pytest.raises(FruganError, match="holds no images but 4 that frugan wrote"):
        open_source(tmp_path / "out")
    assert (
        len(open_source(tmp_path / "out", use_generated=True).names) == 3
    )  # a JPEG does not tell that it is one image


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_palettes(channels: int, tmp_path: Path) -> None:
    alpha = channels == 4
    net, out = network(tmp_path / "net", channels, pixels=PixelFormat(alpha=alpha, crisp=alpha)), tmp_path / "out"
    said = made(net, "--seeds", "0-5", "--palette", 6, "--out", out)
    assert "colours" in said
    pixels = np.concatenate([_shown(out / f"seed{seed:04d}.png") for seed in range(6)]).reshape(-1, 4)
    assert 2 <= len(np.unique(pixels[pixels[:, 3] > 0], axis=0)) <= 6
    assert set(np.unique(pixels[:, 3])) <= {0, 255}
    with Image.open(out / "seed0000.png") as image:
        assert image.mode == ("P" if channels > 1 else "L")
    (tmp_path / "four.hex").write_text("000000\n#ff0000\n00ff00\nffffff\n", "utf-8")
    made(net, "--seeds", "0-5", "--palette", tmp_path / "four.hex", "--out", tmp_path / "four")
    for seed in range(6):
        found = _shown(tmp_path / "four" / f"seed{seed:04d}.png")
        colours = {tuple(row) for row in found[found[..., 3] > 0][:, :3].tolist()}
        assert colours <= {(0, 0, 0), (255, 0, 0), (0, 255, 0), (255, 255, 255)}


@pytest.mark.parametrize("palette", [None, 5])
@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (3, "uint8"), (4, "uint8"), (4, "uint16")])
def test_a_sprite_sheet_and_its_frames(channels: int, dtype: str, palette: int | None, tmp_path: Path) -> None:
    pixels = PixelFormat(dtype, alpha=channels == 4, crisp=channels == 4)  # pyright: ignore[reportArgumentType]
    net, out = network(tmp_path / "net", channels, pixels=pixels), tmp_path / "out"
    options = ["--seeds", "0-6", "--scale", 2, *([] if palette is None else ["--palette", palette])]
    made(net, *options, "--atlas", "--out", out)
    made(net, *options, "--out", tmp_path / "each")
    facts = json.loads((out / "atlas-0-6.json").read_text("utf-8"))
    sheet = _shown(out / facts["meta"]["image"])
    assert facts["meta"]["size"] == {"w": sheet.shape[1], "h": sheet.shape[0]}
    assert list(facts["frames"]) == [f"seed{seed:04d}" for seed in range(7)]
    empty = np.ones(sheet.shape[:2], bool)
    for name, frame in facts["frames"].items():
        x, y, w, h = (frame["frame"][key] for key in "xywh")
        assert (w, h) == (48, 32)
        single = _shown(tmp_path / "each" / f"{name}.png")
        assert np.abs(sheet[y : y + h, x : x + w].astype(int) - single).max() <= 1
        assert empty[y : y + h, x : x + w].all()  # no two frames overlap
        empty[y : y + h, x : x + w] = False
    assert empty.any()
    if channels == 4:
        assert (sheet[empty][:, 3] == 0).all()


def _shown(file: Path) -> np.ndarray:
    found = imagecodecs.imread(file)
    if found.dtype == np.uint16:
        return found.reshape(*found.shape[:2], -1)
    with Image.open(file) as image:
        return np.asarray(image.convert("RGBA"))


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--scale", "0"], "--scale 0: give a whole number from 1 to 256, or auto"),
        (["--scale", "1.5"], "--scale 1.5"),
        (["--scale", "-2"], "--scale -2"),
        (["--scale", "1000"], "--scale 1000"),
        (["--scale", "nan"], "--scale nan"),
        (["--format", "npy", "--grid"], "leave out --grid"),
        (["--format", "npy", "--scale", "2"], "leave out --grid, --atlas and --scale"),
        (["--format", "npz", "--atlas"], "leave out --grid, --atlas and --scale"),
        (["--format", "webp", "--grid"], "a sheet is a PNG, or a TIFF with all channels"),
        (["--format", "jpg", "--grid"], "a sheet is a PNG, or a TIFF with all channels"),
        (["--atlas", "--grid"], "leave out --atlas and --palette"),
        (["--atlas", "--format", "tiff"], "a sprite sheet is a PNG or a WebP"),
        (["--palette", "8", "--bits", "16"], "leave out --format and --bits"),
        (["--palette", "1"], "--palette 1: give 2 to 256 colours"),
        (["--palette", "257"], "--palette 257: give 2 to 256 colours"),
        (["--palette", "none.gpl"], "no such file"),
        (["--format", "png", "--bits", "32f"], "use --format tiff, npy or npz"),
        (["--format", "webp", "--bits", "16"], "use --format tiff, npy or npz"),
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
    assert parse_seeds(seed_ranges(seeds)) == seeds


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
    [
        "--seeds=3",
        "--truncation=0.5",
        "--truncation-cutoff=2",
        "--class=a",
        "--grid",
        "--scale=2",
        "--palette=4",
        "--atlas",
    ],
)
def test_what_a_code_has_no_use_for_is_refused(option: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, text = call(capsys, tmp_path, "generate", "sample", "--code", tmp_path / "code.safetensors", option)
    assert code == 2
    assert f"leave out {option.split('=')[0]}" in " ".join(text.split())
    assert list(tmp_path.iterdir()) == []


def test_an_export_keeps_what_an_older_network_knows_by_its_data_alone(tmp_path: Path) -> None:
    network(tmp_path / "old", channels=1, depth=16, value_range=[0, 4095])
    call = ["export", str(tmp_path / "old"), str(tmp_path / "new"), "--format", "pretrained"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "new" / "config.json").read_text("utf-8"))["generator"]["pixels"]
    assert (found["dtype"], found["value_range"]) == ("uint16", [[0, 4095]])


@pytest.mark.parametrize(("name", "suffix"), [("tif", ".tif"), ("tiff", ".tif"), ("jpg", ".jpg"), ("jpeg", ".jpg")])
def test_formats_by_either_name(name: str, suffix: str, tmp_path: Path) -> None:
    made(network(tmp_path / "net"), "--seeds", 3, "--format", name, "--out", tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == [f"seed0003{suffix}"]
    refused = generate(tmp_path / "net", "--grid", "--format", name, "--out", tmp_path / "grid")
    assert (refused.exit_code == 0) == (suffix == ".tif")
