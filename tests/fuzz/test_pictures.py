"""Broken and hostile images, alone and in zips: skipped and named, or refused in a sentence; nothing is written outside."""

from __future__ import annotations

import io
import os
import resource
import shutil
import struct
import time
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from frugan.data import DataConfig, Dataset, open_dataset
from frugan.data.decode import FORMATS
from frugan.data.tools import inspect, prepare
from frugan.errors import FruganError
from tests.program import SMALL_NETWORKS

from .damage import EVIL, OF_PYTHON, damaged, program

# A zip that could not be opened is closed by the garbage collector, which may come to its file first.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*unclosed file:pytest.PytestUnraisableExceptionWarning", "ignore:unclosed file:ResourceWarning"
)

MODES = {"PNG": ("1", "L", "P", "RGB", "RGBA", "LA", "I;16"), "TIFF": ("L", "RGB", "RGBA", "CMYK", "I;16", "F")}
CASES = [(form, mode) for form in FORMATS if form not in ("HEIF", "DICOM") for mode in MODES.get(form, ("RGB",))]
HEIF = Path(__file__).parent.parent / "cases" / "heif" / "plain.heic"  # Pillow writes none


def encoded(form: str, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert("RGB").convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, form, **({"exif": exif} if form in ("PNG", "JPEG", "WEBP", "TIFF") else {}))
    return file.getvalue()


IMAGES = [*(encoded(*case) for case in CASES), HEIF.read_bytes()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def opened(path: Path) -> Dataset | FruganError:
    """The set that is read from there, or the sentence why it is not. Nothing stays in the cache."""
    cache = path.with_name(f"{path.name}-cache")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of broken metadata
            dataset = open_dataset(DataConfig(str(path), (8, 8), "RGB"), cache_dir=cache)
        np.asarray(dataset.pixels).sum()
        return dataset
    except FruganError as error:
        return error
    finally:
        shutil.rmtree(cache, ignore_errors=True)


@given(content=damaged(IMAGES), suffix=st.sampled_from([s for suffixes in FORMATS.values() for s in suffixes]))
def test_a_damaged_image_costs_itself_only(folder: Path, content: bytes, suffix: str) -> None:
    for file in folder.glob("set/*"):
        file.unlink()
    (folder / "set").mkdir(exist_ok=True)
    (folder / "set/good.png").write_bytes(IMAGES[0])
    (folder / f"set/bad{suffix}").write_bytes(content)
    found = opened(folder / "set")
    assert isinstance(found, Dataset)
    assert len(found) + len(found.skipped) == 2
    assert not [reason for _, reason in found.skipped if not reason or OF_PYTHON.search(reason)]
    assert "good.png" in found.names


def _zip(members: list[tuple[str, bytes]]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that come twice
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return file.getvalue()


LABELS = b'{"labels": [["a.png", 1], ["b.png", 0]]}'
ZIPS = [
    _zip([("a.png", IMAGES[0]), ("b.png", IMAGES[1])]),
    _zip([("a.png", IMAGES[0]), ("b.png", IMAGES[1]), ("dataset.json", LABELS)]),
    _zip([("é/ü.jpg", IMAGES[-1]), ("labels.csv", "é/ü.jpg,1".encode())]),
]


@given(content=damaged(ZIPS))
def test_a_damaged_zip(folder: Path, content: bytes) -> None:
    (folder / "set.zip").write_bytes(content)
    found = opened(folder / "set.zip")
    if isinstance(found, Dataset):
        code, printed = program("data", "prepare", str(folder / "set.zip"), str(folder / "out"), "--resolution", "8")
        assert code in (0, 2), printed
        shutil.rmtree(folder / "out", ignore_errors=True)
    else:
        assert not OF_PYTHON.search(str(found))


names = st.one_of(
    st.sampled_from([*EVIL, "a.png", "A.PNG", "a.png/b.png", "dataset.json", "labels.csv", ".png", "x" * 300 + ".png"]),
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20).map(lambda text: f"{text}.png"),
)


@given(members=st.lists(st.tuples(names, st.sampled_from([*IMAGES, b"", LABELS])), min_size=1, max_size=6))
def test_nothing_is_written_outside(folder: Path, members: list[tuple[str, bytes]]) -> None:
    """Names that climb, come twice, lie in one another, or are no ASCII."""
    home = folder / "deep/er/home"
    home.mkdir(parents=True, exist_ok=True)
    (home / "set.zip").write_bytes(_zip(members))
    for out in ("folder", "set-out.zip", "shards"):
        shutil.rmtree(home / "out", ignore_errors=True)
        (home / "out").mkdir()
        before = {p for p in folder.rglob("*") if "cache" not in p.parts}
        command = ("shard",) if out == "shards" else ("prepare", "--resolution", "8", "--channels", "RGB")
        code, printed = program("data", *command, str(home / "set.zip"), str(home / "out" / out))
        assert code in (0, 2), printed
        after = {p for p in folder.rglob("*") if "cache" not in p.parts}
        assert all((home / "out") in p.parents for p in after - before)


def test_a_member_without_a_name(folder: Path) -> None:
    (folder / "nameless.zip").write_bytes(_zip([("\0.png", IMAGES[0]), ("a.png", IMAGES[0])]))
    found = opened(folder / "nameless.zip")
    assert isinstance(found, Dataset)
    assert found.names == ["a.png"]


@pytest.mark.skipif(os.name == "nt", reason="bytes in names")
def test_names_that_are_no_text(folder: Path) -> None:
    """File names of bytes that are not UTF-8, from the set into a run's files and onto the terminal."""
    data = folder / "bytes"
    data.mkdir()
    for i in range(10):
        (Path(os.fsdecode(os.fsencode(data) + b"/\xff%d.png" % i))).write_bytes(encoded("PNG")[: None if i else 40])
    code, printed = program("data", "inspect", str(data), "--sheet", str(folder / "sheet.png"), "--resolution", "8")
    assert code == 0, printed
    size = [*SMALL_NETWORKS.split(), "--kimg", "0.008", "--device", "cpu"]
    code, printed = program(
        "train", str(data), "-o", str(folder / "run"), "--resolution", "8", "--held-out", "2", *size
    )
    assert code == 0, printed


def _bomb(side: int) -> bytes:
    """A PNG of a few hundred bytes that says it is side × side."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(1 << 16))),
        (b"IEND", b""),
    ]
    parts = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("side", [14_000, 100_000, 2**31 - 1])
def test_an_image_that_claims_to_be_huge(folder: Path, side: int) -> None:
    """Pillow's limit holds: it is skipped, in bounded memory and time."""
    data = folder / f"bomb-{side}"
    data.mkdir()
    (data / "good.png").write_bytes(IMAGES[0])
    (data / "bomb.png").write_bytes(_bomb(side))
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    found = opened(data)
    assert isinstance(found, Dataset)
    assert [name for name, _ in found.skipped] == ["bomb.png"]
    assert "bomb" in found.skipped[0][1]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
    assert time.process_time() - started < 5


@pytest.mark.parametrize("name", ["labels.csv", "dataset.json"])
def test_a_zip_whose_labels_unpack_to_much(folder: Path, name: str) -> None:
    path = folder / f"{name}.zip"
    path.write_bytes(_zip([("a.png", IMAGES[0]), (name, b" " * (300 << 20))]))
    assert path.stat().st_size < 1 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FruganError, match=r"300|314,572,800"):
        open_dataset(DataConfig(str(path), (8, 8), labels="auto"), cache_dir=folder / "cache")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000


def test_wrong_extensions(folder: Path) -> None:
    """An image by another format's name is read; what is no image is skipped; a zip that is none is refused."""
    data = folder / "wrong"
    data.mkdir()
    (data / "jpeg.png").write_bytes(encoded("JPEG"))
    (data / "zip.png").write_bytes(ZIPS[0])
    (data / "good.png").write_bytes(IMAGES[0])
    found = opened(data)
    assert isinstance(found, Dataset)
    assert found.names == ["good.png", "jpeg.png"]
    (folder / "image.zip").write_bytes(IMAGES[0])
    assert "zip" in str(opened(folder / "image.zip"))


@pytest.mark.slow
def test_a_hundred_thousand_entries(folder: Path) -> None:
    path = folder / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(100_000):
            archive.writestr(f"{i % 100:02d}/{i:06d}.png", IMAGES[0])
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    found = opened(path)
    assert isinstance(found, Dataset)
    assert len(found) == 100_000
    seconds = time.process_time() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"100,000 entries: {seconds:.0f} s, {grown:.0f} MiB")
    assert seconds < 300
    assert grown < 1000


def test_inspect_and_prepare_agree(folder: Path) -> None:
    """The sound set that the others are damages of."""
    path = folder / "sound.zip"
    path.write_bytes(ZIPS[1])
    report = inspect(DataConfig(str(path), (8, 8), "RGB", labels="auto"), cache_dir=folder / "cache")
    assert report.count == 2
    done = prepare(DataConfig(str(path), (8, 8), "RGB"), folder / "sound", cache_dir=folder / "cache")
    assert done.count == 2
