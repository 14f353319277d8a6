"""Sets of shards: found, fetched through a server's faults, decoded once, gone on with, streamed within a limit."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from frugan.data import DataConfig, Dataset, open_dataset, streaming
from frugan.data.shards import index as index_module
from frugan.data.shards import remote
from frugan.data.shards.remote import expand_braces
from frugan.data.shards.sampler import ShardSampler
from frugan.data.sources.open import open_source
from frugan.data.streaming import StreamedPixels
from frugan.data.tools import prepare, shard
from frugan.errors import FruganError

PER_SHARD = 5


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(remote, "SILENCE_S", 1)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def pil_image(i: int, size: int = 8) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (size, size, 3), np.uint8)


def foreign(folder: Path, count: int = 4, size: int = 8) -> list[Path]:
    """Shards as other programs write them: no index, labels beside the images."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for k in range(count):
        files = {}
        for i in range(k * PER_SHARD, (k + 1) * PER_SHARD):
            files |= {
                f"{i:04d}.png": png(pil_image(i, size)),
                f"{i:04d}.cls": str(i % 3).encode(),
                f"{i:04d}.txt": b"caption",
            }
        made.append(tar(folder / f"set-{k:03d}.tar", files))
    return made


def check(dataset: Dataset, numbers: list[int], size: int = 8) -> None:
    """These images, in this order, with their classes."""
    assert [int(Path(name).stem) for name in dataset.names] == numbers
    expected = np.stack([pil_image(i, size) for i in numbers])
    np.testing.assert_array_equal(dataset.pixels[:], expected)
    if dataset.label_size:
        np.testing.assert_array_equal(dataset.labels.argmax(1), [i % 3 for i in numbers])


@dataclass
class Server:
    """A folder over HTTP. `faults[name]` are taken in turn, one per GET of that file: "500", "cut", "drop",
    "slow", "404", "short" or "long" (a Content-Length too small or large), "endless"; "garbage": no HTTP at all."""

    url: str
    faults: dict[str, list[str]] = field(default_factory=dict)
    gets: Counter[str] = field(default_factory=Counter)
    sent: int = 0  # bytes of endless replies


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    state = Server("")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            state.gets[name] += 1
            fault = state.faults[name].pop(0) if state.faults.get(name) else ""
            if fault.isdecimal():
                return self.send_error(int(fault))
            if fault == "drop":
                return self.connection.close()
            if fault == "slow":
                time.sleep(1.5)
            if fault == "cut":
                content = Path(self.translate_path(self.path)).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                return self.connection.close()
            if fault == "short":
                content = Path(self.translate_path(self.path)).read_bytes()
                self.protocol_version = "HTTP/1.1"
                self.send_response(200)
                self.send_header("Content-Length", str(len(content) // 3))
                self.end_headers()
                self.wfile.write(content)
                return None
            if fault == "long":
                content = Path(self.translate_path(self.path)).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content) + 1))
                self.end_headers()
                self.wfile.write(content)
                time.sleep(1.5)  # and no more comes
                return None
            if fault == "garbage":
                self.wfile.write(b"\0" * 100)
                return self.connection.close()
            if fault == "endless":
                self.send_response(200)
                self.end_headers()
                while True:  # until the client hangs up
                    state.sent += self.connection.send(b"\0" * (1 << 20))
            return super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:  # clients that hung up
            pass

    served = tmp_path / "served"
    served.mkdir()
    with Quiet(("127.0.0.1", 0), functools.partial(Handler, directory=str(served))) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        state.url = f"http://127.0.0.1:{running.server_port}"
        yield state
        running.shutdown()


BRACES = {
    "a.tar": ["a.tar"],
    "a-{008..011}.tar": ["a-008.tar", "a-009.tar", "a-010.tar", "a-011.tar"],
    "{a,b}/{1..2}.tar": ["a/1.tar", "a/2.tar", "b/1.tar", "b/2.tar"],
    "s3://b/{x}.tar": ["s3://b/x.tar"],
}


@pytest.mark.parametrize("pattern", BRACES)
def test_braces(pattern: str) -> None:
    assert expand_braces(pattern) == BRACES[pattern]


FAR = ["{000..999}" * 3, "{0..99999999}", "{a,b}" * 40, "{0.." + "9" * 5000 + "}", "{" + "9" * 5000 + "..1}"]


@pytest.mark.parametrize("pattern", [f"{braces}.tar" for braces in FAR] + ["shards.txt"])
def test_more_shards_than_there_can_be_are_refused_at_once(pattern: str, tmp_path: Path) -> None:
    (tmp_path / "shards.txt").write_text("x.tar\n" * 100_001)
    started = time.process_time()
    with pytest.raises(FruganError, match=r"the limit is 100,000|down or too far") as error:
        remote.find(f"{tmp_path}/{pattern}")
    assert time.process_time() - started < 5
    assert len(str(error.value)) < 1000


def patterns(folder: str) -> dict[str, str]:
    return {
        "folder": folder,
        "stars": f"{folder}/set-*.tar",
        "braces": f"{folder}/set-{{000..003}}.tar",
        "list": f"{folder}/shards.txt",
    }


@pytest.mark.parametrize("how", patterns(""))
@pytest.mark.parametrize("where", ["here", "http"])
def test_all_ways_to_name_shards(how: str, where: str, tmp_path: Path, server: Server) -> None:
    foreign(tmp_path / "served" / "sub")
    (tmp_path / "served/sub/shards.txt").write_text(
        "# in order\nset-000.tar\n\nset-001.tar\nset-002.tar\nset-003.tar\n"
    )
    folder = str(tmp_path / "served/sub") if where == "here" else f"{server.url}/sub"
    if how == "folder":
        os.remove(tmp_path / "served/sub/shards.txt")
    data = open_dataset(DataConfig(patterns(folder)[how], labels="auto"))
    check(data, list(range(20)))
    assert data.skipped == []
    assert data.config.without == ()


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
    with pytest.raises(FruganError, match=r"has no label beside it .* \(5 of 6"):
        open_dataset(DataConfig(str(tmp_path / "*.tar"), labels="auto"))


@pytest.mark.parametrize("fault", ["500", "503", "429", "cut", "drop", "slow", "short", "garbage", "endless"])
def test_faults_are_outlasted(fault: str, tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    foreign(tmp_path / "served")
    server.faults["set-002.tar"] = [fault] * (2 if fault == "slow" else 3)
    with caplog.at_level(logging.WARNING, "frugan"):
        data = open_dataset(DataConfig(f"{server.url}/set-{{000..003}}.tar", labels="auto"))
    check(data, list(range(20)))
    # aiohttp may ask again by itself where a kept connection is dropped
    told = sum("set-002.tar" in line and "trying again" in line for line in caplog.messages)
    assert told == (2 if fault == "slow" else 3) or (fault == "drop" and told)


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


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 255
    path.write_bytes(content)


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
    time.sleep(0.01)
    foreign(tmp_path / "served", 1)
    os.utime(tmp_path / "served/set-000.tar", (1, 1))
    open_dataset(config)
    assert [server.gets[f"set-{k:03d}.tar"] for k in range(4)] == [3, 2, 2, 2]


def test_a_killed_build_goes_on(tmp_path: Path, server: Server, cache: Path) -> None:
    foreign(tmp_path / "served", 12)
    server.faults["set-009.tar"] = ["slow"] * 99
    path = f"{server.url}/set-{{000..011}}.tar"
    code = f"from frugan.data import *; open_dataset(DataConfig({path!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while len(list((cache / "shards").glob("*.json"))) < 6 and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = len(list((cache / "shards").glob("*.json")))
    assert 6 <= done < 12
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


# S3, against moto's server


@pytest.fixture(scope="module")
def _object_server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(_object_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[Path], str]]:
    """`bucket(folder)` uploads a folder's files and returns their place, s3://…"""
    import boto3
    from fsspec.config import conf
    from s3fs import S3FileSystem

    for name, value in {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "key", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setitem(conf, "s3", {"endpoint_url": _object_server})  # as FSSPEC_S3_ENDPOINT_URL sets it at import
    S3FileSystem.clear_instance_cache()
    client = boto3.client("s3", endpoint_url=_object_server)
    client.create_bucket(Bucket="images")

    def upload(folder: Path) -> str:
        for file in folder.iterdir():
            client.upload_file(str(file), "images", f"sets/{file.name}")
        return "s3://images/sets"

    yield upload
    for item in client.list_objects_v2(Bucket="images").get("Contents", []):
        client.delete_object(Bucket="images", Key=item["Key"])
    client.close()
    S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("how", patterns(""))
def test_objects_of_a_bucket(how: str, bucket: Callable[[Path], str], tmp_path: Path) -> None:
    foreign(tmp_path / "set")
    if how == "list":
        (tmp_path / "set/shards.txt").write_text("".join(f"set-{k:03d}.tar\n" for k in range(4)))
    data = open_dataset(DataConfig(patterns(bucket(tmp_path / "set"))[how], labels="auto"))
    check(data, list(range(20)))
    assert data.skipped == []


def test_objects_that_are_missing_damaged_or_changed(bucket: Callable[[Path], str], tmp_path: Path) -> None:
    made = foreign(tmp_path / "set")
    os.truncate(made[1], 3000)
    place = bucket(tmp_path / "set")
    config = DataConfig(f"{place}/set-{{000..004}}.tar")
    data = open_dataset(config)
    check(data, [*range(5), *range(10, 20)])
    assert [(url.rpartition("/")[2], reason[:9]) for url, reason in data.skipped] == [
        ("set-004.tar", "not found"),
        ("set-001.tar", "set-001 c"),
    ]
    tar(made[0], {"0100.png": png(pil_image(100))})
    bucket(tmp_path / "set")
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    check(open_dataset(config), [100, *range(10, 20)])


def test_a_bucket_is_streamed_with_its_index(bucket: Callable[[Path], str], tmp_path: Path, make_images) -> None:
    made = make_images(tmp_path / "own", [f"{i:02d}.png" for i in range(60)])
    shard(tmp_path / "own", tmp_path / "set", per_shard=5)
    place = bucket(tmp_path / "set")
    data = open_dataset(DataConfig(place, cache_limit=5 * 960 / 1e9))
    assert isinstance(data.store, StreamedPixels)
    sampler = data.sampler(0)
    seen = torch.cat([data.images(sampler.next(6))[0] for _ in range(10)])
    found = Counter(image.tobytes() for image in seen.permute(0, 2, 3, 1).add(1).mul(127.5).round().byte().numpy())
    assert found == Counter(pixels.tobytes() for pixels in made)


# Streaming


@pytest.fixture
def streamed(tmp_path: Path, server: Server) -> Callable[..., Dataset]:
    """A set of 12 shards, 960 bytes each when decoded, of which `slots` may be on disk."""
    foreign(tmp_path / "served", 12)

    def make(slots: float = 6, **settings: object) -> Dataset:
        limit = slots * PER_SHARD * 8 * 8 * 3 / 1e9
        return open_dataset(DataConfig(f"{server.url}/set-{{000..011}}.tar", cache_limit=limit, **settings))  # type: ignore[arg-type]

    return make


def on_disk(cache: Path) -> int:
    return sum(1 for entry in (cache / "streams").iterdir() if entry.is_dir() and entry.name[0] != ".")


def test_streaming_gives_all_images_within_the_limit(streamed, cache: Path, server: Server) -> None:
    data = streamed(labels="auto", mirror=True)
    assert isinstance(data.store, StreamedPixels)
    assert data.store.window == 2
    assert sum(count for name, count in server.gets.items() if name.endswith(".tar")) == 12  # the first pass
    sampler = data.sampler(3)
    seen: Counter[int] = Counter()
    for _ in range(40):  # two epochs of 120
        indices = sampler.next(6)
        images, labels = data.images(indices)
        for index, image, label in zip(indices, images, labels):
            expected = torch.from_numpy(pil_image(index % 60)).permute(2, 0, 1) / 127.5 - 1
            torch.testing.assert_close(image, expected.flip(2) if index >= 60 else expected, atol=1e-6, rtol=0)
            assert label.argmax() == index % 60 % 3
        seen.update(indices.tolist())
        assert on_disk(cache) <= 6
    assert seen == dict.fromkeys(range(120), 2)
    assert data.skipped == []


def test_the_next_window_is_fetched_ahead(streamed, server: Server) -> None:
    data = streamed()
    sampler = data.sampler(0)
    sampler.next(1)
    soon = data.sampler(0)._order[:20]  # two windows of two shards
    wanted = set(data.pixels.shard_of(soon).tolist())
    assert len(wanted) == 4
    deadline = time.monotonic() + 10
    while not all(data.pixels._open[k].done() for k in wanted):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    before = sum(server.gets.values())
    data.images(soon)
    assert sum(server.gets.values()) == before


@pytest.mark.parametrize("before", [0, 1, 9, 10, 55, 60, 137])
def test_a_stream_resumes_exactly(before: int, streamed) -> None:
    data = streamed()
    sampler = data.sampler(7)
    sampler.next(before)
    state = json.loads(json.dumps(sampler.state_dict()))
    expected = sampler.next(100)
    again = streamed()
    assert again.fingerprint == data.fingerprint
    resumed = again.sampler(0)
    resumed.load_state_dict(state)
    np.testing.assert_array_equal(resumed.next(100), expected)
    with pytest.raises(FruganError, match="same --cache-limit"):
        streamed(9).sampler(7).load_state_dict(state)


def test_what_is_held_out_stays(streamed, cache: Path, server: Server) -> None:
    data = streamed(6, held_out=7)
    held_out = data.held_out_indices
    assert len(held_out) == 7
    assert len(np.unique(data.pixels.shard_of(held_out))) == 2
    assert not set(held_out) & set(data.train_indices)
    sampler = data.sampler(0)
    data.images(sampler.next(5))
    data.images(held_out)
    fetched = server.gets.copy()
    mine = {Path(data.pixels.url(int(k))).name for k in data.pixels.shard_of(held_out)}
    for _ in range(30):
        data.images(sampler.next(5))
        data.images(held_out)
    assert all(server.gets[name] == fetched[name] for name in mine)
    assert on_disk(cache) <= 6


def test_a_shard_lost_on_the_way_is_named_and_replaced(streamed, server: Server, tmp_path: Path) -> None:
    data = streamed(5, held_out=2)
    pinned = data.pixels.shard_of(data.held_out_indices)
    folders = [data.pixels._store.folder(shard) for shard in data.pixels._shards]
    gone = next(k for k in range(12) if k not in pinned and not folders[k].exists())
    server.faults[f"set-{gone:03d}.tar"] = ["404"] * 99
    sampler = data.sampler(0)
    for _ in range(12):
        indices = sampler.next(5)
        images, _ = data.images(indices)
        for index, image in zip(indices, images):
            if data.pixels.shard_of(index) != gone:
                np.testing.assert_allclose(image.permute(1, 2, 0), pil_image(index) / 127.5 - 1, atol=1e-6)
            else:
                shown = [
                    i for i in range(60) if np.allclose(image.permute(1, 2, 0), pil_image(i) / 127.5 - 1, atol=1e-6)
                ]
                assert len(shown) == 1
                assert shown[0] in data.train_indices
                assert data.pixels.shard_of(np.array(shown))[0] != gone
    assert data.skipped == [(f"{server.url}/set-{gone:03d}.tar", "not found")]


def test_losing_everything_ends_in_a_sentence(tmp_path: Path, make_images, server: Server) -> None:
    make_images(tmp_path / "own", [f"{i}.png" for i in range(60)])
    shard(tmp_path / "own", tmp_path / "served/set", per_shard=5)
    server.faults = {f"set-{k:06d}.tar": ["404"] * 99 for k in range(12)}
    config = DataConfig(f"{server.url}/set", cache_limit=6 * 960 / 1e9)
    with pytest.raises(FruganError, match=r"continue with: .*frugan resume RUN"):
        open_dataset(config).images(np.arange(3))
    with pytest.raises(FruganError, match="cannot be had: not found; mend it"):
        open_dataset(replace(config, strict=True)).images(np.arange(3))


def test_an_index_spares_the_first_pass(tmp_path: Path, make_images, server: Server) -> None:
    make_images(tmp_path / "own", [f"{i % 3}/{i}.png" for i in range(60)])
    shard(tmp_path / "own", tmp_path / "served/set", per_shard=5, labels="folders")
    data = open_dataset(DataConfig(f"{server.url}/set", cache_limit=5 * 960 / 1e9, labels="auto"))
    assert not any(name.endswith(".tar") for name in server.gets)
    assert (len(data), data.label_size) == (60, 3)
    data.images(data.sampler(0).next(3))
    assert 0 < sum(count for name, count in server.gets.items() if name.endswith(".tar")) <= 4


def test_a_set_that_fits_is_not_streamed(streamed) -> None:
    data = streamed(12)
    assert type(data) is Dataset
    check(data, list(range(60)))


def test_order_within_windows_is_shuffled_and_complete() -> None:
    indices, shards_ = np.arange(100, 160), np.repeat(np.arange(12), 5)
    heard: list[tuple[list[int], list[int]]] = []
    sampler = ShardSampler(
        indices, shards_, window=5, seed=1, entering=lambda now, soon: heard.append((list(now), list(soon)))
    )
    epochs = [sampler.next(60) for _ in range(3)]
    assert all(sorted(epoch) == list(indices) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    for epoch in epochs:
        windows = [set((epoch[a:b] - 100) // 5) for a, b in ((0, 25), (25, 50), (50, 60))]
        assert [len(window) for window in windows] == [5, 5, 2]
        assert set.union(*windows) == set(range(12))
        assert (np.diff((epoch[:25] - 100) // 5) != 0).sum() > 10  # not shard after shard
    one = ShardSampler(indices, shards_, window=5, seed=1)
    np.testing.assert_array_equal(np.concatenate([one.next(7) for _ in range(20)]), np.concatenate(epochs)[:140])
    assert len(heard) == 3  # whole epochs at a time: announced at the beginning of each
    heard.clear()
    for _ in range(24):
        sampler.next(5)
    assert len(heard) == 6
    assert all(heard[i][1] == heard[i + 1][0] for i in range(5))


# Writing


@pytest.mark.parametrize("kind", ["folder", "zip", "npz", "tar"])
def test_shards_hold_what_the_source_held(kind: str, tmp_path: Path, make_images) -> None:
    made = make_images(tmp_path / "own", [f"{['cat', 'dog'][i % 2]}/{i:02d}.png" for i in range(13)])
    by_name = {f"{['cat', 'dog'][i % 2]}/{i:02d}.png": pixels for i, pixels in enumerate(made)}
    path, labels = tmp_path / "own", "folders"
    if kind == "zip":
        path = Path(shutil.make_archive(str(tmp_path / "own"), "zip", path))
    elif kind == "npz":
        path, labels = tmp_path / "own.npz", "array"
        np.savez(path, images=np.stack(list(by_name.values())), labels=np.arange(13) % 2)
    elif kind == "tar":
        path = Path(shutil.make_archive(str(tmp_path / "own"), "tar", path))
    done = shard(path, tmp_path / "out", per_shard=5, labels=labels)
    assert (done.count, done.shards, done.skipped) == (13, 3, [])
    assert sorted(p.name for p in done.path.iterdir()) == ["index.json", *(f"out-00000{k}.tar" for k in range(3))]
    row = json.loads((done.path / "index.json").read_text())["shards"][0]
    assert row["sha256"] == hashlib.sha256((done.path / row["file"]).read_bytes()).hexdigest()
    with_index = open_dataset(DataConfig(str(done.path), labels="auto"))
    (done.path / "index.json").unlink()
    without = open_dataset(DataConfig(str(done.path), labels="auto"))
    for data in (with_index, without):
        found = Counter((pixels.tobytes(), int(c)) for pixels, c in zip(data.pixels[:], data.labels.argmax(1)))
        assert found == Counter((pixels.tobytes(), i % 2) for i, pixels in enumerate(made))
        assert data.class_names == (None if kind == "npz" else ["cat", "dog"])
    assert with_index.names == without.names
    if kind == "folder":  # byte for byte
        with tarfile.open(done.path / "out-000000.tar") as archive:
            contents = {archive.extractfile(m).read() for m in archive if m.name.endswith(".png")}  # type: ignore[union-attr]
        assert contents <= {(tmp_path / "own" / name).read_bytes() for name in by_name}


def test_writing_skips_what_cannot_be_decoded(tmp_path: Path, make_images) -> None:
    make_images(tmp_path / "own", [f"{i}.png" for i in range(6)])
    whole = (tmp_path / "own/3.png").read_bytes()
    (tmp_path / "own/3.png").write_bytes(whole[: len(whole) // 2])
    done = shard(tmp_path / "own", tmp_path / "out", per_shard=5)
    assert done.count == 5
    assert [name for name, _ in done.skipped] == ["3.png"]
    assert len(open_dataset(DataConfig(str(done.path), strict=True))) == 5
    with pytest.raises(FruganError, match="exists already"):
        shard(tmp_path / "own", tmp_path / "out")
    with pytest.raises(FruganError, match="--per-shard 0: give"):
        shard(tmp_path / "own", tmp_path / "other", per_shard=0)


def test_a_damaged_index_is_told(tmp_path: Path, make_images) -> None:
    make_images(tmp_path / "own", ["a.png", "b.png"])
    out = shard(tmp_path / "own", tmp_path / "out").path
    content = (out / "index.json").read_text()
    for damaged in (content[:-20], content.replace("names", "nemas"), content.replace('"labels": [', '"labels": [1, ')):
        (out / "index.json").write_text(damaged)
        with pytest.raises(FruganError, match=r"index\.json is damaged"):
            open_dataset(DataConfig(str(out)))
    (out / "index.json").write_text('{"of": "another program"}')
    assert index_module.read_index(str(out)) == {}
