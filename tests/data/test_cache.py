"""The decoded cache: found again, built anew when it must be, whole under races, kills and damage."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from frugan.data import DataConfig, open_dataset
from frugan.data import cache as cache_module
from frugan.data.cache import CachedPixels, cached_pixels
from frugan.data.sources.open import open_source
from frugan.data.target import PixelConfig
from frugan.data.workers import in_threads
from frugan.errors import FruganError
from frugan.files import building

NAMES = [f"{i:03d}.png" for i in range(20)]


@pytest.fixture
def folder(tmp_path: Path, make_images) -> Path:
    make_images(tmp_path / "set", NAMES)
    return tmp_path / "set"


def _open(path: Path, config: PixelConfig = PixelConfig(), **options) -> CachedPixels:  # noqa: B008
    return cached_pixels(open_source(path), config, **options)


def _entries(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.name != "stamps")


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch):
    """Called, it makes any later decoding fail."""

    def forbid() -> None:
        def decode(*_: object) -> None:
            raise AssertionError("decoded again")

        monkeypatch.setattr(cache_module, "_decode", decode)

    return forbid


def test_pixels_are_the_images(folder: Path, noise) -> None:
    entry = _open(folder)
    assert entry.names == NAMES
    assert entry.pixels.shape == (20, 8, 8, 3)
    assert entry.pixels.dtype == np.uint8
    for i in range(20):
        np.testing.assert_array_equal(entry.pixels[i], noise(8, 8, 3, seed=i))
    assert not np.asarray(entry.pixels).flags.writeable


def test_sixteen_bits_give_a_sixteen_bit_cache(tmp_path: Path, noise, png16, make_images) -> None:
    pixels = noise(8, 8, 3, dtype=np.uint16, seed=9)
    (tmp_path / "a.png").write_bytes(png16(pixels))
    (eight,) = make_images(tmp_path, ["b.png"])
    entry = _open(tmp_path)
    assert entry.pixels.dtype == np.uint16
    np.testing.assert_array_equal(entry.pixels[0], pixels)
    np.testing.assert_array_equal(entry.pixels[1], eight.astype(np.uint16) * 257)


@pytest.mark.parametrize("channels", ["L", "LA", "RGB", "RGBA"])
def test_letterbox_borders(channels: str, tmp_path: Path, make_images) -> None:
    """Transparent where there is alpha to show it, white where there is none: whatever the images had."""
    for kind in (1, 3, 4):
        make_images(tmp_path, [f"{kind}.png"], (4, 8), kind)
    entry = _open(tmp_path, PixelConfig((8, 8), channels, "letterbox"))  # type: ignore[arg-type]
    assert (entry.pixels[:, [0, 1, 6, 7]] == (0 if "A" in channels else 255)).all()
    assert (entry.pixels[:, 2:6] > 0).any((1, 2, 3)).all()


def test_found_again_even_after_moving(folder: Path, cache: Path, no_decoding) -> None:
    first = _open(folder)
    no_decoding()
    assert _open(folder).folder == first.folder
    folder.rename(folder.with_name("moved"))
    moved = _open(folder.with_name("moved"))
    assert (moved.folder, moved.digest) == (first.folder, first.digest)
    for path in folder.with_name("moved").iterdir():
        os.utime(path, (1, 1))
    assert _open(folder.with_name("moved")).folder == first.folder
    assert len(_entries(cache)) == 1


def test_unchanged_files_are_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _open(folder)
    source = open_source(folder)
    monkeypatch.setattr(source, "digest", lambda index: pytest.fail("read again"))
    cached_pixels(source, PixelConfig())


@pytest.mark.parametrize("change", ["content", "name", "more", "fewer"])
def test_changes_are_noticed(change: str, folder: Path, make_images, noise) -> None:
    first = _open(folder)
    if change == "content":
        shutil.copy(folder / NAMES[1], folder / NAMES[0])
    elif change == "name":
        (folder / NAMES[0]).rename(folder / "zzz.png")
    elif change == "more":
        shutil.copy(folder / NAMES[1], folder / "zzz.png")
    else:
        (folder / NAMES[0]).unlink()
    second = _open(folder)
    assert second.folder != first.folder
    assert len(second.names) == 20 + {"more": 1, "fewer": -1}.get(change, 0)
    if change == "content":
        np.testing.assert_array_equal(second.pixels[0], noise(8, 8, 3, seed=1))


def test_settings_have_entries_of_their_own(folder: Path) -> None:
    configs = [
        PixelConfig(),
        PixelConfig((6, 6)),
        PixelConfig((6, 6), filter="box"),
        PixelConfig((6, 8), fit="letterbox"),
        PixelConfig((6, 8), fit="letterbox", background="black"),
        PixelConfig(channels="L"),
    ]
    entries = [_open(folder, config) for config in configs]
    assert len({entry.folder for entry in entries}) == len({entry.digest for entry in entries}) == len(configs)


@pytest.fixture
def broken(folder: Path) -> dict[str, str]:
    """Files that cannot be read, and what is said of each."""
    whole = (folder / NAMES[5]).read_bytes()
    (folder / "bad_empty.png").write_bytes(b"")
    (folder / "bad_text.jpg").write_text("no image")
    (folder / NAMES[3]).write_bytes(whole[: len(whole) // 2])
    (folder / "bad_lab.tif").write_bytes(_lab_tiff())
    return {
        "bad_empty.png": "an empty file",
        "bad_text.jpg": "no image in a known format",
        NAMES[3]: "truncated",
        "bad_lab.tif": "L*a*b*",
    }


def _lab_tiff() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("LAB", (8, 8)).save(file, "TIFF")
    return file.getvalue()


def test_bad_files_are_skipped_and_named(folder: Path, broken: dict[str, str], noise) -> None:
    for _ in range(2):  # built, then found
        entry = _open(folder)
        assert len(entry.names) == len(entry.pixels) == 19
        assert {name for name, _ in entry.skipped} == set(broken)
        for name, reason in entry.skipped:
            assert broken[name] in reason
        for name, pixels in zip(entry.names, np.asarray(entry.pixels)):
            np.testing.assert_array_equal(pixels, noise(8, 8, 3, seed=int(name[:3])))


def test_nothing_but_bad_files(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(FruganError, match=r"none of the 1 .* a\.png \(an empty file"):
        _open(tmp_path)
    whole = _lab_tiff()
    (tmp_path / "a.png").write_bytes(whole[:20])
    with pytest.raises(FruganError, match="none of the 1"):
        _open(tmp_path)
    assert _entries(cache) == []


DAMAGE = {
    "cut short": lambda entry: os.truncate(entry / "pixels.npy", 1000),
    "one byte changed": lambda entry: _flip(entry / "pixels.npy", 2000),
    "header changed": lambda entry: _flip(entry / "pixels.npy", 20),
    "no pixels": lambda entry: (entry / "pixels.npy").unlink(),
    "no meta": lambda entry: (entry / "meta.json").unlink(),
    "meta cut short": lambda entry: os.truncate(entry / "meta.json", 40),
    "meta of another kind": lambda entry: (entry / "meta.json").write_text("[]"),
}


def _flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 255
    file.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_noticed_and_mended(damage: str, folder: Path, cache: Path) -> None:
    first = _open(folder)
    expected = np.array(first.pixels)
    DAMAGE[damage](first.folder)
    second = _open(folder)
    assert second.folder == first.folder
    np.testing.assert_array_equal(second.pixels, expected)
    assert _entries(cache) == [first.folder.name]


@pytest.mark.parametrize("place", [0.01, 0.5, 0.99])
def test_damage_is_noticed_in_any_block(place: float, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_BLOCK", 512)  # eight of them
    entry = _open(folder)
    pixels = entry.folder / "pixels.npy"
    assert cache_module.load_entry(entry.folder, 8) is not None
    _flip(pixels, int(place * pixels.stat().st_size))
    assert cache_module.load_entry(entry.folder, 8) is None


def test_an_entry_is_renamed_into_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one step, so that nobody finds half of it."""
    publish, built = cache_module._publish, []

    def watched(scratch: Path, entry: Path) -> None:
        built.append(scratch.stat().st_ino)
        publish(scratch, entry)

    monkeypatch.setattr(cache_module, "_publish", watched)
    assert _open(folder).folder.stat().st_ino == built[0]


def test_the_second_of_two_builders_throws_its_own_away(folder: Path, cache: Path, monkeypatch) -> None:
    first = _open(folder)
    kept = first.folder.stat().st_ino
    load, calls = cache_module.load_entry, iter([None])
    monkeypatch.setattr(cache_module, "load_entry", lambda entry: next(calls, load(entry)))  # as if not there yet
    second = _open(folder)
    assert second.digest == first.digest
    assert second.folder.stat().st_ino == kept
    assert _entries(cache) == [first.folder.name]


_PROGRAM = """
import sys, time
from frugan.data.cache import cached_pixels
from frugan.data.target import PixelConfig
from frugan.data.sources.open import open_source

def progress(done, total):
    if pause and done > total * 5 // 6:
        print("decoding", flush=True)
        time.sleep(600)

pause = sys.argv[2] == "pause"
entry = cached_pixels(open_source(sys.argv[1]), PixelConfig(), progress=progress)
print(entry.digest, entry.pixels.shape[0], int(entry.pixels.sum()))
"""


def _start(folder: Path, mode: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _PROGRAM, str(folder), mode]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_that_build_at_once(folder: Path, cache: Path, make_images) -> None:
    make_images(folder, [f"more{i:03d}.png" for i in range(300)])
    builders = [_start(folder) for _ in range(3)]
    said = {builder.communicate(timeout=240)[0] for builder in builders}
    assert [builder.returncode for builder in builders] == [0, 0, 0]
    assert len(said) == 1
    assert " 320 " in said.pop()
    assert len(_entries(cache)) == 1


def test_a_killed_build_leaves_nothing_that_lasts(folder: Path, cache: Path) -> None:
    builder = _start(folder, "pause")
    assert builder.stdout is not None
    assert builder.stdout.readline() == "decoding\n"
    builder.send_signal(signal.SIGKILL)
    builder.communicate(timeout=240)
    (left,) = _entries(cache)
    assert left.startswith(".building-")
    entry = _open(folder)
    assert len(entry.names) == 20
    assert _entries(cache) == [entry.folder.name]


def test_only_abandoned_scratch_is_removed(folder: Path, cache: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here = socket.gethostname()
    scratch = {
        f".building-{here}-{os.getpid()}-aaaa": True,
        f".building-{here}-{ended.pid}-bbbb": False,
        ".building-else-where-1-cccc": True,
        ".building-else-where-1-dddd": False,
    }
    for name in scratch:
        (cache / name).mkdir(parents=True)
    os.utime(cache / ".building-else-where-1-dddd", (time.time() - 2 * 86_400,) * 2)  # pyright: ignore[reportArgumentType]
    _open(folder)
    assert {name: (cache / name).exists() for name in scratch} == scratch


def test_an_interrupted_build_cleans_up(folder: Path, cache: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done > 2 * total // 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _open(folder, progress=interrupt)
    assert _entries(cache) == []


def test_progress_runs_from_start_to_end(folder: Path) -> None:
    for _ in range(2):
        seen: list[tuple[int, int]] = []
        _open(folder, progress=lambda done, total: seen.append((done, total)))  # noqa: B023
        assert seen[-1] == (60, 60)
        assert seen == sorted(seen)


def test_a_full_disk_is_told_before_anything_is_written(folder: Path, monkeypatch, cache: Path) -> None:
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(FruganError, match=r"MB free; make room, set FRUGAN_CACHE"):
        _open(folder)
    assert _entries(cache) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no room can be reserved here")
def test_the_disk_has_room_for_all_pixels_before_the_first_is_written(
    folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = os.posix_fallocate
    sizes = []

    def full(descriptor: int, start: int, size: int) -> None:
        reserve(descriptor, start, size)
        sizes.append((os.fstat(descriptor).st_blocks * 512, size))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*pixels.npy'"):
        _open(folder)
    ((held, size),) = sizes
    assert held >= size == 128 + 20 * 8 * 8 * 3
    assert _entries(cache) == []


def test_a_cache_folder_that_cannot_be(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FruganError, match="set FRUGAN_CACHE"):
        _open(folder, cache_dir=tmp_path / "file")


def test_a_cache_that_can_only_be_read_still_serves(folder: Path, tmp_path: Path, monkeypatch) -> None:
    first = _open(folder)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read-only")

    for function in ("mkdir", "write_text"):
        monkeypatch.setattr(Path, function, refuse)
    monkeypatch.setattr(cache_module, "cache_root", lambda cache_dir: first.folder.parent)
    folder.rename(tmp_path / "moved")
    assert _open(tmp_path / "moved").folder == first.folder
    with pytest.raises(FruganError, match=r"cannot be written to \(read-only\); set FRUGAN_CACHE"):
        _open(tmp_path / "moved", PixelConfig((6, 6)))


def test_running_out_of_memory_is_no_fault_of_a_file(folder: Path, monkeypatch, cache: Path) -> None:
    source = open_source(folder)
    monkeypatch.setattr(source, "pixels", lambda index: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        cached_pixels(source, PixelConfig())
    assert _entries(cache) == []


def test_cache_dir_wins_over_the_environment(folder: Path, cache: Path, tmp_path: Path) -> None:
    entry = _open(folder, cache_dir=tmp_path / "mine")
    assert entry.folder.is_relative_to(tmp_path / "mine")
    assert not cache.exists()


def test_meta_says_what_the_entry_is(folder: Path) -> None:
    meta = json.loads((_open(folder).folder / "meta.json").read_text())
    assert meta["names"] == NAMES
    assert meta["settings"]["filter"] == "lanczos"
    assert meta["source"] == str(folder)


def test_threads_hold_few_results_at_a_time() -> None:
    taken = []
    results = in_threads(lambda item: item, (taken.append(i) or i for i in range(10_000)))
    ahead = max(len(taken) - i for i, _ in zip(range(5000), results))
    assert ahead <= 8 * (os.cpu_count() or 1)
    results.close()  # type: ignore[attr-defined]


def test_building_is_all_or_nothing(tmp_path: Path) -> None:
    out = tmp_path / "deep/out"

    def fail() -> None:
        with building(out) as target:
            target.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.rglob("*")) == [tmp_path / "deep"]
    with building(out) as target:
        target.write_text("whole")
    assert out.read_text() == "whole"
    with pytest.raises(FruganError, match="exists already"), building(out):
        pass


def test_arrays_of_the_same_bytes_are_other_sets(tmp_path: Path) -> None:
    """A type of half the bits and twice the channels, or other sides: an array is more than its bytes."""
    images = np.random.default_rng(0).integers(0, 65536, (4, 16, 32, 1), np.uint16)
    for kind in (images, images.view(np.uint8), images.reshape(4, 32, 16, 1), images.view(np.int16)):
        np.save(tmp_path / "set.npy", kind)
        found = open_dataset(DataConfig(str(tmp_path / "set.npy"), value_range="full"), cache_dir=tmp_path / "cache")
        assert found.pixels.shape == kind.shape
        assert found.pixel_format.dtype == str(kind.dtype)
