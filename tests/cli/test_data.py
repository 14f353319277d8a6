"""Any folder of images through the command line: values, alpha, what frugan wrote, crops, odd files, sets of a few images."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frugan.cli.app import main
from frugan.cli.terminal import console
from frugan.images import save_image

from .test_cli import SMALL

CASES = Path(__file__).parents[1] / "cases"


def frugan(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The program in this process, which spares seconds for each command."""
    with contextlib.chdir(cwd or Path()), pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        patch.setattr(sys, "argv", ["frugan", *map(str, arguments)])
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["FRUGAN_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return _photos(tmp_path / "photos", 20)


def _photos(folder: Path, count: int, size: tuple[int, int] = (16, 16)) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"IMG_{i}.{'PNG' if i % 2 else 'jpg'}")
    return folder


def test_many_files_that_are_broken_alike_take_a_line(photos: Path, tmp_path: Path) -> None:
    """Of each command that reads images; the JSON names all of them."""
    for i in range(40):
        (photos / f"broken_{i:02d}.png").write_bytes(b"not an image %d" % i)
    first = "broken_00.png, broken_01.png, broken_02.png and 37 more: no image in a known format, or its beginning is damaged"
    for command in (
        ("data", "inspect", photos, "--sheet", tmp_path / "sheet.png"),
        ("data", "prepare", photos, tmp_path / "prepared"),
        ("data", "shard", photos, tmp_path / "shards"),
        ("train", photos, "--dry-run", "--preset", "tiny", "--channel-base", 64, "--device", "cpu", "--threads", 1),
    ):
        told = _told(*command)
        assert " ".join(told.split()).count(first) == 1, told
        assert told.count("broken_") == 3
    known = json.loads(_told("data", "inspect", photos, "--json", "--sheet", tmp_path / "sheet.png"))
    names = {name for name, _ in known["unreadable"]}
    assert len(names) == 40


def _told(*arguments: object, cwd: Path | None = None) -> str:
    done = frugan(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


def test_a_narrow_report_begins_at_once_and_cuts_nothing_short(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_width", 60)
    said = frugan("data", "inspect", photos, cwd=photos.parent).stdout
    assert said.startswith("images ")
    assert "…" not in said
    assert os.environ["FRUGAN_CACHE"] in "".join(said.split())


@pytest.mark.parametrize(("number", "said"), [(1, "1 image in "), (2, "2 images in ")])
def test_one_is_not_several(number: int, said: str, tmp_path: Path) -> None:
    photos = _photos(tmp_path / "photos", number)
    assert said in _told("data", "prepare", photos, tmp_path / "out")


def test_twelve_bits_in_sixteen(tmp_path: Path) -> None:
    text = _told("data", "inspect", CASES / "grey12", "--sheet", tmp_path / "sheet.png")
    assert "min 0, 1 % 0, 99 % 4095, max 4095 (16 bits)" in text
    assert "values end at 4095: 12 of 16 bits" in text
    assert "(values 0 to 4095 shown from black to white)" in text
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert (sheet.dtype, sheet.min(), sheet.max()) == (np.uint16, 0, 65535)
    full = _told("data", "inspect", CASES / "grey12", "--sheet", tmp_path / "full.png", "--value-range", "full")
    assert "stretch them with --value-range 0,4095" in full
    assert np.asarray(Image.open(tmp_path / "full.png")).max() == 4095
    _told("data", "prepare", CASES / "grey12", tmp_path / "out")
    values = [np.asarray(Image.open(file)) for file in sorted((tmp_path / "out").rglob("*.png"))]
    np.testing.assert_array_equal(
        values, [np.asarray(Image.open(file)) for file in sorted((CASES / "grey12").glob("*.png"))]
    )
    refused = frugan("train", CASES / "grey12", "--out", tmp_path / "run", "--value-range", "9,3")
    assert (refused.returncode, (tmp_path / "run").exists()) == (2, False)
    assert "value range '9,3'" in refused.stderr


def test_twelve_bits_corrupted_stay_twelve_bits(tmp_path: Path) -> None:
    _told("data", "corrupt", CASES / "grey12", tmp_path / "out", "--measurement", "drop-pixels:0.5")
    for file in sorted((tmp_path / "out").rglob("*.png")):
        pixels = np.asarray(Image.open(file))
        stored = np.asarray(Image.open(CASES / "grey12" / f"s{int(file.stem[3:])}.png"))
        assert pixels.max() > 255
        assert set(np.unique(pixels[pixels != stored])) <= {0}


def test_opaque_alpha_beside_none(tmp_path: Path) -> None:
    text = _told("data", "inspect", CASES / "mixed-opaque", "--sheet", tmp_path / "sheet.png")
    assert "alpha is opaque in every image, so it is left out, as with --channels RGB (" in text
    assert "32, 3 channels RGB, 8 bits" in text
    assert "problem" not in text


def test_a_folder_that_is_worked_in(photos: Path) -> None:
    """`cd photos`, and everything that is written lies there, too: none of it becomes data."""
    for _ in range(2):
        assert "20 readable in folder" in _told("data", "inspect", ".", cwd=photos)
    assert (photos / "contact-sheet-photos.png").is_file()
    text = _told("train", ".", "--out", "run", *SMALL, cwd=photos)
    assert "20 images" in text or "20 images" in text
    assert "1 image that frugan wrote is skipped: contact-sheet-photos.png" in text
    _told("resume", "run", "--kimg", 0.06, cwd=photos)
    _told("generate", "run", "--out", "made", "--seeds", "0-3", cwd=photos)
    text = _told("data", "inspect", ".", cwd=photos)
    assert "20 readable" in text
    assert "that frugan wrote are skipped" in text
    refused = frugan("train", "made", "--out", "run2", *SMALL, cwd=photos)
    assert refused.returncode == 2
    assert "--use-generated" in refused.stderr
    assert "4 readable" in _told("data", "inspect", "made", "--use-generated", cwd=photos)
    data = json.loads((photos / "run" / "data.json").read_text())
    assert (data["images"], data["own_files"], data["value_range"]) == (20, ["contact-sheet-photos.png"], None)


def test_a_sheet_overwrites_nothing_of_the_users(photos: Path) -> None:
    mine = (photos / "IMG_0.jpg").read_bytes()
    refused = frugan("data", "inspect", photos, "--sheet", photos / "IMG_0.jpg")
    assert refused.returncode == 2
    assert "frugan did not write it" in refused.stderr
    assert (photos / "IMG_0.jpg").read_bytes() == mine
    assert "is a .png or .jpg file" in frugan("data", "inspect", photos, "--sheet", photos / "a.gif").stderr
    for _ in range(2):
        assert "20 readable" in _told("data", "inspect", photos, "--sheet", photos / "sheet.jpg")


def test_every_data_set_has_a_sheet_of_its_own(photos: Path, tmp_path: Path) -> None:
    """Of one stem, of one name in two folders, of a name as long as names may be; the same set again writes the same file."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    (tmp_path / "b").mkdir()
    sets = [tmp_path / "a.npy", tmp_path / "a.npz", tmp_path / "b" / "a.npy", tmp_path / f"{'é' * 125}.npy", photos]
    for place in sets[:-1]:
        np.save(place, pixels) if place.suffix == ".npy" else np.savez(place, images=pixels)
    for _ in range(2):
        for place in sets:
            _told("data", "inspect", place, cwd=tmp_path)
    found = {file.name for file in tmp_path.glob("contact-sheet-*")}
    assert len(found) == len(sets)
    names = {"a.npy", "a.npz", "a.npy-2", photos.name, "é" * 100}
    assert {name.removeprefix("contact-sheet-").removesuffix(".png") for name in found} == names


@pytest.mark.parametrize("command", [("prepare",), ("corrupt", "--measurement", "drop-pixels:0.1")])
def test_sets_without_labels(command: tuple[str, ...], photos: Path, tmp_path: Path) -> None:
    (photos / "zero.png").touch()
    (photos / "line\nbreak\x1b[31m.png").write_bytes(b"x")
    save_image(np.zeros((8, 8, 3), np.uint8), photos / "grid.png")
    done = frugan("data", command[0], photos, tmp_path / "out", *command[1:])
    assert done.returncode == 0, done.stderr
    assert "zero.png: an empty file" in done.stdout
    assert r"line\nbreak\x1b[31m.png: " in done.stdout
    assert "\x1b" not in done.stdout
    assert "1 image that frugan wrote is skipped: grid.png" in done.stdout
    assert "20 images in" in done.stdout
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["labels"] is None


def test_what_the_crop_cuts_away(tmp_path: Path) -> None:
    strips = _photos(tmp_path / "strips", 4, (20, 5000))
    for command in (
        ("data", "inspect", strips, "--sheet", tmp_path / "s.png"),
        ("train", strips, "--out", tmp_path / "r", *SMALL),
    ):
        text = _told(*command)
        assert "--fit crop cuts away most of 4 images: of 20x5000 pixels (height x width), 1.1 % are kept" in text
        assert "--fit letterbox" in text
    assert "cuts away" not in _told("data", "inspect", strips, "--fit", "letterbox", "--sheet", tmp_path / "t.png")


def test_odd_sizes_are_told_size_by_size(photos: Path, tmp_path: Path) -> None:
    Image.new("LA", (30, 10), (9, 3)).save(photos / "odd.png")
    text = _told("data", "inspect", photos, "--sheet", tmp_path / "s.png")
    assert "10x30 1 image, enlarged, 67 % cut away" in text
    assert "nearly black 1 of 21: odd.png" in text
    sentence = frugan("train", photos, "--out", tmp_path / "run").stderr
    assert "--channels RGBA --resolution 16, or --channels RGB" in sentence
    assert sentence.strip().removeprefix("frugan: ") in _unwrapped(photos, tmp_path)


def _unwrapped(photos: Path, tmp_path: Path) -> str:
    done = frugan("data", "inspect", photos, "--sheet", tmp_path / "s.png", "--json")
    return "\n".join(json.loads(done.stdout)["problems"])


@pytest.mark.parametrize("count", [1, 5])
def test_fewer_images_than_a_batch_train_and_resume_exactly(count: int, tmp_path: Path) -> None:
    few = _photos(tmp_path / "few", count)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    _told("train", few, "--out", whole, *SMALL)
    _told("train", few, "--out", stopped, *SMALL, "--kimg", 0.02)
    _told("resume", stopped, "--kimg", 0.04, "--device", "cpu", "--threads", 1)
    weights = [sorted((run / "checkpoints").iterdir())[-1] / "ema" / "model.safetensors" for run in (whole, stopped)]
    if not weights[0].is_file():
        weights = [next(file.parents[1].rglob("*.safetensors")) for file in weights]
    assert weights[0].read_bytes() == weights[1].read_bytes()
