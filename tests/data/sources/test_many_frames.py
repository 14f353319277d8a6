"""Files of very many frames or pages: the limit's logic on some, and 10⁵ of them within bounded memory and time."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from frugan.data import DataConfig, open_dataset
from frugan.data.decode import header, read_header
from frugan.data.decode import tiff as tiff_module
from frugan.data.decode.reading import open_frames, pixels_of
from frugan.data.decode.tiff import Pages
from frugan.data.sources.open import open_source
from frugan.data.sources.parts import Taken
from frugan.errors import FruganError
from tests import containers

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


def chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def webp(count: int) -> bytes:
    """Frames of 8x8 pixels, put together by hand, as writers take hours for so many."""
    kinds = []
    for image in IMAGES:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "WEBP", lossless=True)
        kinds.append(file.getvalue()[12:])
    place = struct.pack("<6I", 0, 0, 7, 7, 10, 2)
    frame = b"".join(place[4 * i : 4 * i + 3] for i in range(5)) + place[20:21]
    frames = [chunk(b"ANMF", frame + kinds[i % len(kinds)]) for i in range(count)]
    size = struct.pack("<I", 7)[:3] * 2
    body = b"WEBP" + chunk(b"VP8X", b"\x02\0\0\0" + size) + chunk(b"ANIM", bytes(6)) + b"".join(frames)
    return chunk(b"RIFF", body)


def gif(count: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x80, 0, 0) + bytes(3) + b"\xff" * 3
    kinds = [b",\0\0\0\0\1\0\1\0\0\x02\x02" + bits + b"\1\0" for bits in (b"D", b"L")]
    return head + b"".join(kinds[i % 2] for i in range(count)) + b";"


def tiff(count: int) -> bytes:
    file = io.BytesIO()
    pixels = np.resize(IMAGES[..., 0], (count, 8, 8))
    tifffile.imwrite(file, pixels, photometric="minisblack", metadata=None)
    return file.getvalue()


KINDS = {"a.webp": webp, "a.gif": gif, "a.tif": tiff}


@pytest.mark.parametrize("name", KINDS)
def test_the_limit_of_frames(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as it says are read, one more is refused in a sentence."""
    monkeypatch.setattr(header, "_MOST_FRAMES", 12)
    for count in (12, 13):
        (tmp_path / str(count)).mkdir()
        (tmp_path / str(count) / name).write_bytes(KINDS[name](count))
    data = open_dataset(DataConfig(str(tmp_path / "12" / name), frames="all"), cache_dir=tmp_path / "cache")
    assert len(data) == 12
    with pytest.raises(FruganError, match=r"13 frames of 8x8 pixels; the limit is 12 frames .*: cut it into several"):
        open_dataset(DataConfig(str(tmp_path / "13" / name), frames="all"), cache_dir=tmp_path / "cache")


def test_frames_put_together_by_hand_are_those_of_pillow(tmp_path: Path) -> None:
    (tmp_path / "hand.webp").write_bytes(webp(12))
    containers.write_animation(tmp_path / "pillow.webp", IMAGES)
    found = [
        open_dataset(DataConfig(str(tmp_path / f"{name}.webp"), frames="all"), cache_dir=tmp_path / "cache").pixels
        for name in ("hand", "pillow")
    ]
    np.testing.assert_array_equal(found[0], IMAGES)
    np.testing.assert_array_equal(found[1], IMAGES)


def test_a_gif_with_bytes_between_its_blocks_is_whole() -> None:
    file = io.BytesIO()
    first, *others = map(Image.fromarray, IMAGES)
    first.save(file, "GIF", save_all=True, append_images=others)
    content = file.getvalue()
    for at in (content.index(b"!\xf9", content.index(b"!\xf9") + 1), len(content) - 1):  # a second frame, the end mark
        frames = open_frames(io.BytesIO(content[:at] + bytes(3) + content[at:]))
        assert frames is not None
        assert (frames.count, frames.lost) == (len(IMAGES), "")


@pytest.mark.parametrize("name", ["a.gif", "pages.tif", "stack.tif"])
def test_files_that_are_cut_short_say_so(name: str, tmp_path: Path) -> None:
    """Wherever a file is cut, its whole frames are those of the whole file, and the loss of the others is told."""
    file = io.BytesIO()
    if name == "a.gif":
        first, *others = map(Image.fromarray, IMAGES)
        first.save(file, "GIF", save_all=True, append_images=others)
    elif name == "stack.tif":  # the tags of its first page, all pixels, the tags of the other pages
        tifffile.imwrite(file, IMAGES, photometric="rgb")
    else:
        with tifffile.TiffWriter(file) as writer:
            for image in IMAGES:
                writer.write(image, photometric="rgb", contiguous=False)
    content = file.getvalue()
    whole = _frames(content)
    assert len(whole) == len(IMAGES)
    counts = set()
    for size in range(len(content) // 6, len(content), 61):
        try:
            frames = open_frames(io.BytesIO(content[:size]))
        except tifffile.TiffFileError:  # is told, too
            continue
        assert frames is not None
        counts.add(frames.count)
        whole_ones = frames.count if name == "a.gif" else frames.count - 1  # a page's pixels may lie behind its tags
        assert frames.lost or frames.count == len(IMAGES)
        for i in range(whole_ones):
            np.testing.assert_array_equal(pixels_of(frames.stored(i)), whole[i])
        (tmp_path / name).write_bytes(content[:size])
        source = open_source(tmp_path / name, taken=Taken("all"))
        assert (len(source.names), bool(source.unreadable)) == (frames.count, bool(frames.lost))
    assert len(counts) > 5 or (name == "stack.tif" and 1 in counts)
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    data = open_dataset(DataConfig(str(tmp_path / name), frames="all"), cache_dir=tmp_path / "cache")
    assert 0 < len(data) < len(IMAGES)
    assert any("is cut short or damaged behind its first" in reason for _, reason in data.skipped)
    with pytest.raises(FruganError, match="is cut short or damaged"):
        open_dataset(DataConfig(str(tmp_path / name), frames="all", strict=True), cache_dir=tmp_path / "cache")


def _frames(content: bytes) -> list[np.ndarray]:
    frames = open_frames(io.BytesIO(content))
    assert frames is not None
    assert not frames.lost
    return [pixels_of(frames.stored(i)) for i in range(frames.count)]


def test_too_many_pages_are_no_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_module, "_MOST_CHANNELS", 5)
    assert read_header(io.BytesIO(tiff(5)), pages_are_channels=True).channels == 5
    with pytest.raises(ValueError, match="6 pages, which are too many channels; the limit is 5"):
        read_header(io.BytesIO(tiff(6)), pages_are_channels=True)


def test_an_open_page_takes_no_memory() -> None:
    """Some hundred bytes for each page, not the kilobytes of its tags."""
    content = tiff(3000)
    tracemalloc.start()
    pages = Pages(io.BytesIO(content))
    np.testing.assert_array_equal(pages.stored(2999).read()[..., 0], IMAGES[2999 % 12, ..., 0])
    used = tracemalloc.get_traced_memory()[0] - len(content)
    tracemalloc.stop()
    assert pages.count == 3000
    assert used < 3000 * 500


READ = """
import json, resource, sys, time
import torch
from frugan.data import DataConfig, open_dataset
torch.set_num_threads(1)
before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
data = open_dataset(DataConfig(sys.argv[1], frames="all"), cache_dir=sys.argv[2])
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps([len(data), time.process_time() - begun, used / 1024]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_ten_to_the_five_frames(name: str, tmp_path: Path) -> None:
    """Cached within 400 MB and three minutes of processor time."""
    (tmp_path / name).write_bytes(KINDS[name](100_000))
    command = [sys.executable, "-c", READ, str(tmp_path / name), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    count, seconds, megabytes = json.loads(done.stdout)
    assert count == 100_000
    assert seconds < 180
    assert megabytes < 400
