"""The sample generator that comes with frugan: what it is, and that every command takes it by its name."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from hatchling.builders.wheel import WheelBuilder
from PIL import Image
from typer.testing import CliRunner

import frugan
from frugan.cli.app import app
from frugan.errors import FruganError
from frugan.interop import save_pretrained
from frugan.latent.direction import find_direction, load_directions
from frugan.latent.edit import Edit, Truncation, render_edited
from frugan.networks import Generator
from frugan.run.provenance import provenance_of
from frugan.shipped import SAMPLE, resolve_shipped
from tests.latent.conftest import make_generator

HOME = resolve_shipped(SAMPLE)
FILES = {"README.md", "config.json", "directions.json", "directions.safetensors", "model.safetensors", "samples.png"}
NAMED = [d.name for d in load_directions(SAMPLE) if d.source["method"] == "boundary"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def G() -> Generator:
    return frugan.load("sample")


def test_it_is_small_and_complete() -> None:
    assert {file.name for file in HOME.iterdir()} == FILES
    assert sum(file.stat().st_size for file in HOME.iterdir()) <= 4_000_000
    header = yaml.safe_load((HOME / "README.md").read_text("utf-8").split("---")[1])
    assert header["license"] == "cc0-1.0"
    assert provenance_of("sample").licence == "cc0-1.0"


def test_the_wheel_brings_it(tmp_path: Path) -> None:
    builder = WheelBuilder(str(Path(__file__).parent.parent))
    (wheel,) = builder.build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as packed:
        assert {f"frugan/sample/{name}" for name in FILES} <= set(packed.namelist())


def test_weights_are_float32_and_images_vary(G: Generator) -> None:
    assert all(value.dtype == torch.float32 for value in G.state_dict().values())
    images = G.sample(seeds=range(8))
    assert images.shape == (8, 3, 64, 64)
    assert images.std(0).mean() > 0.15
    assert torch.allclose(images[3:4], G.sample(seeds=[3]), atol=1e-4)


@pytest.mark.parametrize("name", NAMED)
def test_its_directions_are_its_own_and_change_images(G: Generator, name: str) -> None:
    direction = find_direction(f"sample:{name}")
    assert direction.generator.relation(G) == 1.0
    assert direction.source["accuracy"] > 0.8
    z = G.latents(range(4))
    before, after = (
        render_edited(G, z, None, [Edit(direction, strength)], Truncation(0.7)) for strength in (0, direction.slider[1])
    )
    assert (before - after).abs().mean() > 0.02


def test_the_card_names_its_directions() -> None:
    card = (HOME / "README.md").read_text("utf-8")
    assert len(NAMED) >= 5
    assert all(name in card for name in NAMED)
    assert "](samples.png)" in card
    assert all(f"| {row} |" in card for row in ("Data", "Training", "Figures", "Licence"))


COMMANDS: dict[str, list[str]] = {
    "generate": ["generate", "sample", "--seeds", "0-3", "--grid", "--out", "made"],
    "edit": ["edit", "sample", "--direction", "sample:wide", "--seeds", "1", "--strengths", "0,2", "--out", "made"],
    "mix": ["mix", "sample", "--rows", "0", "--columns", "1", "--out", "made.png"],
    "sweep": ["sweep", "sample", "--seeds", "0", "--truncation", "0,1", "--out", "made.png"],
    "video": ["video", "sample", "--edit", "sample:0", "--seconds", "0.2", "--fps", "10", "--out", "made.gif"],
    "directions": ["directions", "sample", "--count", "1", "--samples", "500", "--without", "sample:horns", "--out", "made"],
    "export": ["export", "sample", "made", "--format", "pretrained"],
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_it(tmp_path: Path, name: str) -> None:
    done = CliRunner().invoke(app, COMMANDS[name], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (made,) = (path for path in tmp_path.iterdir() if path.name != "cache")
    assert made.is_file() or any(made.iterdir())
    assert {file.name for file in HOME.iterdir()} == FILES


def test_images_go_to_the_working_directory(tmp_path: Path) -> None:
    CliRunner().invoke(app, ["generate", "sample", "--seeds", "0"], catch_exceptions=False)
    with Image.open(tmp_path / "generated" / "seed0000.png") as image:
        assert image.size == (64, 64)


def test_the_users_own_of_that_name_goes_first(tmp_path: Path) -> None:
    save_pretrained(make_generator((16, 16)), tmp_path / "sample")
    assert frugan.load("sample").resolution == (16, 16)
    assert frugan.load(tmp_path / "sample").resolution == (16, 16)
    with pytest.raises(FruganError, match="sample holds no directions"):
        find_direction("sample:wide")


@pytest.mark.parametrize("path", ["./sample", "elsewhere/sample", "Sample"])
def test_only_the_plain_name_is_meant(tmp_path: Path, path: str) -> None:
    if path == "./sample":  # pathlib drops the dot: the name alone
        assert frugan.load(path).resolution == (64, 64)
    else:
        with pytest.raises(FruganError, match="no such directory"):
            frugan.load(path)


def test_the_python_of_its_pages_runs() -> None:
    pages = Path(__file__).parent.parent / "docs" / "how-to"
    names: dict[str, object] = {}
    for page in ("edit-and-mix.md", "videos.md"):
        text = (pages / page).read_text("utf-8")
        exec("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)), names)
    with Image.open("loop.webp") as video:
        assert video.n_frames == 60  # pyright: ignore[reportAttributeAccessIssue]
    assert names["images"].shape == (3, 3, 64, 64)  # pyright: ignore[reportAttributeAccessIssue]
