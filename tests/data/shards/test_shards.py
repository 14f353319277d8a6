"""Sets of shards: fetched through a server's faults, decoded once, continued after a stop, damaged in any way."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fsspec.registry import _registry

from data.shards.served import Server, check, flip, foreign, pil_image, png, tar
from frugan.data import DataConfig, Dataset, open_dataset, streaming
from frugan.data.shards import index as index_module
from frugan.data.shards import remote
from frugan.data.sources.open import open_source
from frugan.data.tools import prepare, shard
from frugan.errors import FruganError


def test_images_are_held_out_and_gathered_as_from_a_folder(tmp_path: Path) -> None:
    foreign(tmp_path / "set")
    data = open_dataset(DataConfig(str(tmp_path / "set"), held_out=6, mirror=True))
    images, _ = data.images(np.array([7, 27, 3]))
    assert len(data.held_out_indices) == 6
    torch.testing.assert_close(images[1], images[0].flip(2))
    np.testing.assert_allclose(images[2].permute(1, 2, 0), pil_image(3) / 127.5 - 1, atol=1e-6)
    assert data.resident("cpu", limit_bytes=10**6)
    again, _ = data.images(np.array([7, 27, 3]))
    torch.testing.assert_close(again, images)


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("kind", ["opaque", "opaque and without", "transparent", "transparent and without"])
def test_opacity_that_says_nothing_is_left_out_as_from_a_folder(kind: str, indexed: bool, tmp_path: Path) -> None:
    """Opacity is left out where it is full in all images, also if some have none; what is transparent in one shard keeps it."""
    for i in range(12):
        pixels = np.dstack([pil_image(i), np.full(pil_image(i).shape[:2], 255, np.uint8)])
        pixels[0, 0, 3] = 0 if kind.startswith("transparent") and i == 6 else 255
        kept = pixels[..., :3] if kind.endswith("without") and i % 2 else pixels
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / f"{i:02d}.png").write_bytes(png(np.ascontiguousarray(kept)))
    shard(tmp_path / "photos", tmp_path / "set", per_shard=3)
    if not indexed:
        (tmp_path / "set" / "index.json").unlink()

    def opened(name: str) -> Dataset | str:
        try:
            return open_dataset(DataConfig(str(tmp_path / name)))
        except FruganError as error:
            return str(error)

    folder, data = opened("photos"), opened("set")
    if kind == "transparent and without":
        assert all(isinstance(found, str) and "differ in channels" in found for found in (folder, data))
        return
    assert isinstance(folder, Dataset)
    assert isinstance(data, Dataset)
    assert (
        (data.channels, data.alpha)
        == (folder.channels, folder.alpha)
        == ((4, True) if kind == "transparent" else (3, False))
    )
    order = [int(name.rpartition("-")[2].split(".")[0]) for name in data.names]
    np.testing.assert_array_equal(data.pixels[:], folder.pixels[order])
    assert any("so it is left out" in note for note in data.notes) == kind.startswith("opaque")
    again = open_dataset(replace(data.config))  # as a run that is resumed
    np.testing.assert_array_equal(again.pixels[:], data.pixels[:])
    assert again.cache_folder == data.cache_folder


@pytest.mark.parametrize("out", ["out", "out.npz"])
def test_shards_are_prepared_like_any_set(out: str, tmp_path: Path) -> None:
    foreign(tmp_path / "set")
    prepare(DataConfig(str(tmp_path / "set"), labels="auto"), tmp_path / out)
    data = open_dataset(DataConfig(str(tmp_path / out), labels="auto"))
    np.testing.assert_array_equal(data.pixels, [pil_image(i) for i in range(20)])
    np.testing.assert_array_equal(data.labels.argmax(1), [i % 3 for i in range(20)])


def test_no_link_out_of_a_tar_is_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png(pil_image(9)))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret.png")
        archive.addfile(link)
        for name in ("../../evil.png", "/abs.png"):
            archive.add(tmp_path / "secret.png", name)
    before = set(tmp_path.rglob("*"))
    source = open_source(tmp_path / "a.tar")
    assert source.unreadable == [("link.png", "no regular file")]
    assert [source.pixels(i).shape for i in range(len(source.names))] == [(8, 8, 3)] * len(source.names)
    assert set(tmp_path.rglob("*")) == before


def test_a_single_tar_is_a_set_like_a_zip(tmp_path: Path) -> None:
    (path,) = foreign(tmp_path, 1)
    source = open_source(path)
    assert (source.kind, len(source.names), source.ignored) == ("tar", 5, {".txt": 5})
    check(open_dataset(DataConfig(str(path), labels="auto")), list(range(5)))


LABELS: dict[str, tuple[Callable[[int], dict[str, bytes]], list[str] | None]] = {
    "words": (lambda i: {".cls": [b"dog", b"cat\n"][i % 2]}, ["cat", "dog"]),
    "json classes": (lambda i: {".json": json.dumps({"label": i % 2}).encode()}, None),
    "json numbers": (lambda i: {".json": json.dumps({"label": [i / 2, 1.5]}).encode()}, None),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels(kind: str, tmp_path: Path) -> None:
    write, classes = LABELS[kind]
    for k in range(2):
        files = {}
        for i in range(3 * k, 3 * k + 3):
            files |= {f"{i}.png": png(pil_image(i)), **{f"{i}{suffix}": text for suffix, text in write(i).items()}}
        tar(tmp_path / f"{k}.tar", files)
    for path in (tmp_path, tmp_path / "0.tar"):
        data = open_dataset(DataConfig(str(path), labels="auto"))
        assert data.class_names == classes
        expected = {
            "words": [[0, 1], [1, 0]] * 3,
            "json classes": [[1, 0], [0, 1]] * 3,
            "json numbers": [[i / 2, 1.5] for i in range(6)],
        }[kind]
        np.testing.assert_array_equal(data.labels, expected[: len(data)])


def test_labels_of_another_kind(tmp_path: Path) -> None:
    for k in range(2):
        tar(
            tmp_path / f"{k}.tar",
            {f"{kind}/{k}{i}.png": png(pil_image(i)) for kind in ("cat", "dog") for i in range(2)},
        )
    folders = open_dataset(DataConfig(str(tmp_path), labels="auto"))
    assert folders.class_names == ["cat", "dog"]
    assert folders.labels.argmax(1).tolist() == [0, 0, 1, 1] * 2
    (tmp_path / "labels.csv").write_text(
        "name,x\n" + "".join(f"{k}{i},{3 * k + i}.5\n" for k in range(2) for i in range(2))
    )
    with pytest.raises(FruganError, match="both match"):
        open_dataset(DataConfig(str(tmp_path / "*.tar"), labels="auto"))
    tar(tmp_path / "1.tar", {"10.png": png(pil_image(0)), "10.cls": b"1", "11.png": png(pil_image(1))})
    with pytest.raises(FruganError, match=r"has no label beside it \(5 of 6"):
        open_dataset(DataConfig(str(tmp_path / "*.tar"), labels="auto"))


@pytest.mark.parametrize("fault", ["500", "503", "429", "cut", "drop", "short", "garbage", "endless"])
def test_faults_are_outlasted(fault: str, tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    foreign(tmp_path / "served")
    server.faults["set-002.tar"] = [fault] * 3
    with caplog.at_level(logging.WARNING, "frugan"):
        data = open_dataset(DataConfig(f"{server.url}/set-{{000..003}}.tar", labels="auto"))
    check(data, list(range(20)))
    # aiohttp may ask again by itself where a kept connection is dropped
    told = sum("set-002.tar" in line and "trying again" in line for line in caplog.messages)
    assert told == 3 or (fault == "drop" and told)


def test_a_silent_server_is_asked_again(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "SILENCE_S", 0.5)
    monkeypatch.setattr(remote, "ATTEMPTS", 100)  # a busy machine is silent, too
    foreign(tmp_path / "served")
    server.faults["set-002.tar"] = ["held"] * 2
    with caplog.at_level(logging.WARNING, "frugan"):
        check(open_dataset(DataConfig(f"{server.url}/set-{{000..003}}.tar", labels="auto")), list(range(20)))
    assert sum("set-002.tar: no answer in time; trying again" in line for line in caplog.messages) >= 2


REASONS = {
    "500": "answers 500", "cut": "damaged reply", "short": "", "garbage": "damaged reply", "endless": "more than",
    "404": "not found", "403": "access denied",
}  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "asked"),
    [*((fault, remote.ATTEMPTS) for fault in ("500", "cut", "short", "garbage", "endless")), ("404", 1), ("403", 1)],
)
def test_a_shard_that_cannot_be_had_is_skipped_and_named(
    fault: str, asked: int, tmp_path: Path, server: Server
) -> None:
    foreign(tmp_path / "served")
    server.faults["set-001.tar"] = [fault] * 99
    config = DataConfig(f"{server.url}/set-{{000..003}}.tar", labels="auto")
    data = open_dataset(config)
    check(data, [*range(5), *range(10, 20)])
    ((url, reason),) = data.skipped
    assert url == f"{server.url}/set-001.tar"
    assert REASONS[fault] in reason
    assert server.gets["set-001.tar"] == asked
    with pytest.raises(FruganError, match=r"1 of 4 shards cannot be had.*set-001\.tar"):
        open_dataset(DataConfig(config.path, strict=True))
    server.faults.clear()  # a run that began without it goes on without it; a new one has it
    resumed = open_dataset(data.config)
    assert resumed.fingerprint == data.fingerprint
    assert resumed.skipped == [(url, "left out")]
    check(open_dataset(config), list(range(20)))


def test_what_does_not_end_is_broken_off_at_its_size(
    tmp_path: Path, server: Server, make_images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the size that the index tells, that HEAD tells, or, where nobody does, that the disk has room for."""
    monkeypatch.setattr(remote, "ATTEMPTS", 1)
    make_images(tmp_path / "own", [f"{i}.png" for i in range(4)])
    shard(tmp_path / "own", tmp_path / "served/set", per_shard=2)
    foreign(tmp_path / "served", 2)
    for path in (f"{server.url}/set", f"{server.url}/set-{{000..001}}.tar"):
        server.sent = 0
        server.faults = {name: ["endless"] * 9 for name in ("set-000000.tar", "set-000.tar")}
        ((url, reason),) = open_dataset(DataConfig(path)).skipped
        assert "000.tar" in url
        assert "more than" in reason
        assert server.sent < 40 << 20  # what the sockets and a chunk hold
    monkeypatch.setattr(remote, "version", lambda url: {"etag": url})
    monkeypatch.setattr(remote.shutil, "disk_usage", lambda where: SimpleNamespace(free=40 << 20))
    server.faults = {"set-001.tar": ["endless"]}
    server.sent = 0
    ((_, reason),) = open_dataset(DataConfig(f"{server.url}/set-{{000..001}}.tar")).skipped
    assert "more than 20,971,520 bytes" in reason
    assert server.sent < 60 << 20


def test_what_is_said_to_be_larger_than_it_is_is_not_waited_for(
    tmp_path: Path, server: Server, make_images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "ATTEMPTS", 1)
    make_images(tmp_path / "own", [f"{i}.png" for i in range(4)])
    shard(tmp_path / "own", tmp_path / "served/set", per_shard=2)
    server.faults = {"set-000000.tar": ["long"]}
    ((_, reason),) = open_dataset(DataConfig(f"{server.url}/set")).skipped
    size = (tmp_path / "served/set/set-000000.tar").stat().st_size
    assert reason == f"{size + 1:,} bytes are to come, more than {size:,}"


@pytest.mark.parametrize("what", ["index.json", "shards.txt", "labels.csv"])
def test_files_beside_shards_are_limited(
    what: str, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((index_module, "MOST_INDEX"), (remote, "_MOST_LIST"), (streaming, "LARGEST_TEXT")):
        monkeypatch.setattr(module, name, 1 << 20)
    foreign(tmp_path / "served", 2)
    for made in (tmp_path / "served").glob("*.tar"):  # no labels in them
        tar(made, {f"{made.stem}.png": png(pil_image(0))})
    path = "shards.txt" if what == "shards.txt" else "set-{000..001}.tar"
    server.faults = {what: ["endless"] * 9}
    with pytest.raises(FruganError, match=rf"{what} has more than 1,048,576 bytes"):
        open_dataset(DataConfig(f"{server.url}/{path}", labels="labels.csv" if what == "labels.csv" else "auto"))
    assert server.gets[what] == 1
    assert server.sent < 40 << 20
    (tmp_path / "served" / what).write_bytes(b" " * (1 << 21))
    with pytest.raises(FruganError, match=rf"{what} .*more than 1,048,576 bytes"):
        open_dataset(
            DataConfig(str(tmp_path / "served" / path), labels="labels.csv" if what == "labels.csv" else "auto")
        )


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (lambda path: os.truncate(path, 3000), "cannot be read as a tar"),
    "cut at a member": (lambda path: os.truncate(path, 4 * 1024), "no end mark"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read as a tar"),
    "something else": (lambda path: path.write_bytes(b"<html>" * 1000), "cannot be read as a tar"),
    "a damaged header": (lambda path: flip(path, 2048 + 100), "no end mark"),
    "no images": (lambda path: tar(path, {"a.txt": b""}), "no images"),
    "no readable images": (lambda path: tar(path, {"a.png": b"", "b.png": png(pil_image(0))[:80]}), "no images"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_corrupt_shard_is_skipped_and_named(damage: str, tmp_path: Path) -> None:
    change, reason = DAMAGE[damage]
    made = foreign(tmp_path / "set")
    change(made[0])  # the first, from which the others' size would follow
    data = open_dataset(DataConfig(str(tmp_path / "set")))
    check(data, list(range(5, 20)))
    ((url, told),) = data.skipped
    assert url.endswith("set-000.tar")
    assert reason in told
    assert ".building" not in told


def test_a_bad_image_costs_only_itself(tmp_path: Path) -> None:
    made = foreign(tmp_path / "set")
    tar(made[1], {"0005.png": png(pil_image(5)), "0006.png": b"no image", "0007.png": png(pil_image(7))[:100]})
    data = open_dataset(DataConfig(str(tmp_path / "set")))
    check(data, [*range(6), *range(10, 20)])
    assert [name for name, _ in data.skipped] == ["set-001/0006.png", "set-001/0007.png"]
    with pytest.raises(FruganError, match="2 of 18 images cannot be read"):
        open_dataset(DataConfig(str(tmp_path / "set"), strict=True))


def test_damage_to_bytes_is_found_by_the_index(tmp_path: Path, make_images, server: Server) -> None:
    make_images(tmp_path / "own", [f"{i}.png" for i in range(20)])
    shard(tmp_path / "own", tmp_path / "served/set", per_shard=5)
    file = tmp_path / "served/set/set-000002.tar"
    flip(file, 512 + 60)  # within an image
    for path in (str(tmp_path / "served/set"), f"{server.url}/set"):
        data = open_dataset(DataConfig(path))
        assert len(data) == 15
        ((url, reason),) = data.skipped
        assert url.endswith("set-000002.tar")
        assert "SHA-256" in reason
    assert server.gets["set-000002.tar"] == remote.ATTEMPTS


MISTAKES: dict[str, Callable[[Path, str], DataConfig]] = {
    "names no .tar files": lambda here, url: DataConfig(f"{here}/nothing-*.tar"),
    r"none of the 2 shards .* \(not found": lambda here, url: DataConfig(f"{url}/nothing-{{0..1}}.tar"),
    r"8 shards in a row .* \(not found": lambda here, url: DataConfig(f"{url}/nothing-{{0..99}}.tar"),
    "counts down": lambda here, url: DataConfig(f"{here}/a-{{9..1}}.tar"),
    "there is no list": lambda here, url: DataConfig(f"{here}/nothing.txt"),
    r"ftpx://.*address that cannot be read": lambda here, url: DataConfig("ftpx://host/a.tar"),
    "differ in size.*: big/0.png is 16x16, set-000/0000.png is 8x8": lambda here, url: DataConfig(
        f"{here}/{{big,set-000}}.tar"
    ),
    r"deep/0.png has 16 bits": lambda here, url: DataConfig(f"{here}/{{grey,deep}}.tar"),
    "--cache-limit 0: give": lambda here, url: DataConfig(f"{here}/set-*.tar", cache_limit=0),
    "only a set of shards is streamed": lambda here, url: DataConfig(f"{here}", cache_limit=1),
    r"holds 0 decoded shards, but 4 are needed; give 3\.84e-06": lambda here, url: DataConfig(
        f"{here}/set-*.tar", cache_limit=1e-7
    ),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes(message: str, tmp_path: Path, server: Server) -> None:
    foreign(tmp_path / "here")
    (tmp_path / "here/also.png").write_bytes(png(pil_image(0)))
    tar(tmp_path / "here/big.tar", {"0.png": png(pil_image(0, 16))})
    tar(tmp_path / "here/grey.tar", {"0.png": png(pil_image(0)[..., 0])})
    tar(tmp_path / "here/deep.tar", {"0.png": png(pil_image(0)[..., 0].astype(np.uint16))})
    with pytest.raises(FruganError, match=message):
        open_dataset(MISTAKES[message](tmp_path / "here", server.url))


MISSING = {
    "s3://b/a.tar": ("s3fs", "remote"),
    "https://h/a.tar": ("aiohttp", "remote"),
    "gs://b/a.tar": ("gcsfs", "gcs"),
}


@pytest.mark.parametrize("url", MISSING)
def test_missing_packages_are_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package, extra = MISSING[url]
    monkeypatch.setitem(sys.modules, package, None)
    scheme = url.partition(":")[0]
    monkeypatch.delitem(_registry, scheme, raising=False)  # what another test has found already
    with pytest.raises(FruganError, match=rf"pip install 'frugan\[{extra}\]'"):
        open_dataset(DataConfig(url))


def test_opened_again_nothing_is_fetched(tmp_path: Path, server: Server) -> None:
    foreign(tmp_path / "served")
    config = DataConfig(f"{server.url}/set-{{000..003}}.tar", labels="auto")
    first = open_dataset(config)
    assert [server.gets[f"set-{k:03d}.tar"] for k in range(4)] == [1] * 4
    again = open_dataset(config)
    assert again.fingerprint == first.fingerprint
    smaller = open_dataset(DataConfig(config.path, resolution=(6, 6)))
    assert smaller.resolution == (6, 6)
    assert [server.gets[f"set-{k:03d}.tar"] for k in range(4)] == [2] * 4  # once per size
    foreign(tmp_path / "served", 1)
    os.utime(tmp_path / "served/set-000.tar", (1, 1))
    open_dataset(config)
    assert [server.gets[f"set-{k:03d}.tar"] for k in range(4)] == [3, 2, 2, 2]


def test_a_killed_build_goes_on(tmp_path: Path, server: Server, cache: Path) -> None:
    foreign(tmp_path / "served", 12)
    server.faults["set-009.tar"] = ["held"] * 99
    path = f"{server.url}/set-{{000..011}}.tar"
    code = f"from frugan.data import *; open_dataset(DataConfig({path!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        while len(list((cache / "shards").glob("[!.]*.json"))) < 6 and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = len(list((cache / "shards").glob("[!.]*.json")))
    assert 6 <= done < 12
    server.released.set()
    server.settle()
    server.faults.clear()
    server.gets.clear()
    check(open_dataset(DataConfig(path)), list(range(60)))
    assert sum(count for name, count in server.gets.items() if name.endswith(".tar")) == 12 - done
    assert not list((cache / "shards").glob(".building*"))


def test_memory_stays_bounded(tmp_path: Path, server: Server) -> None:
    """Three more shards of 48 MiB each add a small part of that to what one has taken."""
    (tmp_path / "served").mkdir(exist_ok=True)
    blob = os.urandom(48 << 20)
    for k in range(4):
        tar(tmp_path / f"served/{k}.tar", {"0.png": png(pil_image(k)), "0.bin": blob})
    code = (
        f"import resource\nfrom frugan.data import *\nopen_dataset(DataConfig('{server.url}/0.tar'))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"open_dataset(DataConfig('{server.url}/{{1..3}}.tar'))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    grown = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert grown < 72 << 10  # KiB: half of what the three hold
