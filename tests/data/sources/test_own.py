"""frugan never trains on what it wrote: images are known by their mark, run directories by their config.yaml."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from frugan.config.options import Options
from frugan.config.resolve import Facts, resolve
from frugan.config.schema import save_config
from frugan.data import DataConfig, open_dataset
from frugan.data.sources.open import open_source
from frugan.data.sources.own import HEAD, own_kind
from frugan.data.tools import inspect, prepare, shard
from frugan.errors import FruganError
from frugan.images import GENERATED_KEY, save_image

CONFIG = resolve(Options(preset="tiny"), DataConfig("photos"), Facts((16, 16), 3, 0, 100, 0))[0]


@pytest.fixture
def photos(tmp_path: Path, make_images) -> Path:
    make_images(tmp_path / "photos", [f"{i}.png" for i in range(4)])
    return tmp_path / "photos"


def _write_own(folder: Path) -> int:
    """A contact sheet, a grid as JPEG, generated images, and a run; how many images that is."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    save_image(pixels, folder / "contact-sheet-photos.png")
    save_image(pixels, folder / "sheets" / "grid.JPG")
    for seed in range(3):
        save_image(pixels, folder / "generated" / f"seed{seed}.png", text={GENERATED_KEY: str(seed)})
    run = folder / "deep" / "run"
    Image.fromarray(pixels).save(
        _made(run / "samples") / "samples-000000.png"
    )  # as earlier versions wrote it, without a mark
    Image.fromarray(pixels).save(run / "reals.png")
    save_config(CONFIG, run / "config.yaml")
    return 7


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _packed(folder: Path, kind: str) -> Path:
    """The folder, or a zip or tar of it, below a folder of its own or not."""
    if kind == "folder":
        return folder
    target = folder.with_name(f"{kind}.{kind.split('-')[0]}")
    top = "photos/" if kind.endswith("-below") else ""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    if kind.startswith("zip"):
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, top + file.relative_to(folder).as_posix())
    else:
        with tarfile.open(target, "w") as archive:
            for file in files:
                archive.add(file, top + file.relative_to(folder).as_posix())
    return target


@pytest.mark.parametrize("kind", ["folder", "zip", "zip-below", "tar", "tar-below"])
def test_own_files_are_skipped_and_named(kind: str, photos: Path) -> None:
    count = _write_own(photos)
    source = open_source(_packed(photos, kind))
    assert [name.rpartition("/")[2] for name in source.names] == [f"{i}.png" for i in range(4)]
    assert source.own.count == count
    assert "contact-sheet-photos.png" in source.own.sentence()
    assert "deep/run/" in source.own.sentence()
    data = open_dataset(DataConfig(str(source.path)))
    assert len(data) == 4
    assert any("7 images that frugan wrote are skipped" in note for note in data.notes)
    assert len(data.describe()["own_files"]) == count


def test_new_files_of_its_own_do_not_change_a_set(photos: Path) -> None:
    config = DataConfig(str(photos))
    before = open_dataset(config)
    _write_own(photos)
    after = open_dataset(config)
    assert (after.fingerprint, after.cache_folder) == (before.fingerprint, before.cache_folder)
    open_dataset(DataConfig(str(photos), strict=True))  # skipped, not unreadable


def test_inspect_and_shard_name_them_too(photos: Path, tmp_path: Path) -> None:
    count = _write_own(photos)
    report = inspect(photos)
    assert (report.count, len(report.own), report.problems) == (4, count, [])
    assert json.loads(json.dumps(report.to_dict()))["own"] == report.own
    assert any("frugan wrote" in finding for what, finding in report.rows() if what == "note")
    done = shard(photos, tmp_path / "shards")
    assert (done.count, done.own.count) == (4, count)


def test_generated_images_alone_are_refused_unless_asked_for(photos: Path) -> None:
    _write_own(photos)
    with pytest.raises(FruganError, match=r"no images but 3 that frugan wrote .*--use-generated"):
        open_dataset(DataConfig(str(photos / "generated")))
    assert len(open_dataset(DataConfig(str(photos / "generated"), use_generated=True))) == 3
    mixed = open_source(photos, use_generated=True)
    assert len(mixed.names) == 7
    assert mixed.own.count == 4  # grids and run directories stay out


@pytest.mark.parametrize("place", ["deep/run", "deep", "sheets"])
def test_runs_and_sheets_alone_are_refused(place: str, photos: Path) -> None:
    _write_own(photos)
    for use_generated in (False, True):
        with pytest.raises(FruganError, match=r"that frugan wrote .*name the folder of your own images"):
            open_source(photos / place, use_generated=use_generated)


def test_a_config_of_something_else_marks_nothing(photos: Path) -> None:
    (photos / "config.yaml").write_text("data: photos\nmodel: yolo\n")
    assert len(open_source(photos).names) == 4


@pytest.mark.parametrize("out", ["copy", "copy.zip", "copy.npz"])
def test_prepared_sets_are_data(out: str, photos: Path, tmp_path: Path) -> None:
    prepare(DataConfig(str(photos)), tmp_path / out)
    assert len(open_dataset(DataConfig(str(tmp_path / out)))) == 4


@pytest.mark.parametrize("out", ["copy", "a/b/copy", "copy.zip"])
def test_a_set_prepared_into_its_own_source_is_not_read_twice(out: str, photos: Path, tmp_path: Path) -> None:
    prepare(DataConfig(str(photos)), photos / out)
    assert len(open_dataset(DataConfig(str(photos)))) == 4
    assert len(open_dataset(DataConfig(str(photos / out)))) == 4  # by itself it is data
    if not out.endswith(".zip"):
        assert len(open_source(photos / out.split("/")[0]).names) == 4
        assert open_source(tmp_path).own.count == 4


SOFTWARE = {"frugan 1.0": "other", "frugan 0.0.1.dev3": "other", "frugans": None, "GIMP 2.10": None, "": None}


@pytest.mark.parametrize(("software", "kind"), SOFTWARE.items())
@pytest.mark.parametrize("late", [False, True])
def test_marks(software: str, kind: str | None, late: bool, tmp_path: Path) -> None:
    chunks = PngInfo()
    if late:
        chunks.add_text("Comment", "x" * 500)
    chunks.add_itxt("Software", software) if late else chunks.add_text("Software", software)
    Image.new("L", (8, 8)).save(tmp_path / "a.png", pnginfo=chunks)
    assert own_kind((tmp_path / "a.png").read_bytes()[:HEAD]) == kind
    Image.new("L", (8, 8)).save(tmp_path / "a.jpg", comment=software)
    assert own_kind((tmp_path / "a.jpg").read_bytes()[:HEAD]) == kind


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b""]), st.binary(max_size=80))
def test_no_beginning_of_a_file_is_too_odd(start: bytes, rest: bytes) -> None:
    own_kind(start + rest)


@settings(deadline=None, max_examples=30)
@given(cut=st.integers(0, 200))
def test_a_mark_cut_short_is_no_mark(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("cut") / "a.png"
    save_image(np.zeros((8, 8), np.uint8)[..., None], file, text={GENERATED_KEY: "1"})
    content = file.read_bytes()
    assert own_kind(content[:cut]) in (None, "other", "generated")
    assert own_kind(content) == "generated"
