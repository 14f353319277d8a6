"""Inputs made to harm, each read in a process of its own under a limit of 2 GB and 20 s.

    python -m tests.fuzz.hostile            # the table of docs/project/notebook/reliability.md: outcome, peak memory, seconds

`INPUTS`, files to import, is also what tests/fuzz/test_hostile.py goes through.
"""

from __future__ import annotations

import io
import json
import math
import os
import resource
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from frugan.errors import FruganError
from frugan.interop import read_network
from frugan.networks import Generator, GeneratorConfig, MappingConfig, SynthesisConfig, save_generator
from frugan.networks.serialization import weights_digest
from tests.fuzz.damage import program

CASES = Path(__file__).parent.parent / "cases" / "reliability"
SECONDS, BYTES = 20, 2 << 30


def _block(count: int) -> bytes:
    """A pickled call that makes `count` floats, its function and argument remembered as 0 and 1."""
    file = io.BytesIO()
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(torch.zeros(count).storage(), file, _use_new_zipfile_serialization=False)
    data = file.getvalue()
    size = len(data).to_bytes(4, "little")
    return b"ctorch.storage\n_load_from_bytes\nq\x00B" + size + data + b"\x85q\x01R"


def _zeros(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}X\x05\x00\x00\x00g_emactorch._utils\n_rebuild_tensor_v2\n"
            b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ\x00\x00\x00\x10tQ"
            b"K\x00J\x00\x00\x00\x10\x85K\x01\x85\x89}tRs.")  # fmt: skip
        archive.writestr("x/data/0", bytes(1 << 30))


PICKLES: dict[str, bytes] = {
    "tuple 200,000 deep as a key": b"\x80\x02)" + b"\x85" * 200_000 + b"q\x00}h\x00K\x01s.",
    "tuple 200,000 deep": b"\x80\x02)" + b"\x85" * 200_000 + b".",
    "one block, made 45,000 times": b"\x80\x02]" + _block(15_000) + b"0" + b"h\x00h\x01R0" * 45_000 + b".",
    "one text, encoded a million times": b"\x80\x02c_codecs\nencode\nq\x00X\x40\x0d\x03\x00" + b"a" * 200_000
    + b"X\x06\x00\x00\x00latin1\x86q\x01R" + b"0h\x00h\x01R" * 200_000 + b".",
    "400,000 ordered dictionaries": b"\x80\x02ccollections\nOrderedDict\nq\x00" + b"h\x00)R" * 400_000 + b".",
    "a million sets": b"\x80\x04" + b"\x8f" * 1_000_000 + b".",
    "tuples each twice in the next, as a key": b"\x80\x02)q\x00" + b"".join(
        bytes([0x68, i, 0x68, i, 0x86, 0x71, i + 1]) for i in range(60)
    ) + b"}h\x3cK\x01s.",
    "sets of tuples each twice in the next": b"\x80\x04K\x01q\x00" + b"".join(
        bytes([0x68, i, 0x68, i, 0x86, 0x71, i + 1]) for i in range(60)
    ) + b"\x8f(h\x3c\x90.",
    "lists each twice in the next, as a tensor's size": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + _block(1)
    + b"K\x00]q\x02" + b"".join(b"]q" + bytes([i + 3]) + b"(h" + bytes([i + 2]) + b"h" + bytes([i + 2]) + b"e" for i in range(60))
    + b"h\x30tR.",
}  # fmt: skip
FILES = {
    "laughs in lists": "laughs-list.pkl",
    "laughs in dictionaries": "laughs-dict.pkl",
    "laughs in modules": "modules-dag.pkl",
    "weights of shape [9000, 0]": "wide-of-nothing.pkl",
    "layers up to 16384 pixels": "16384-pixels.pt",
    "a layer 99,999,999": "rgb-layer-99999999.pt",
    "escape sequences in a name": "escape-in-name.pkl",
    "a new state for a storage type": "build-on-storage-type.pkl",
}


def _pickle(data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "x.pkl").write_bytes(data)
        return folder / "x.pkl"

    return make


def _case(file: str) -> Callable[[Path], Path]:
    return lambda _: CASES / file


def _deflated(folder: Path) -> Path:
    _zeros(folder / "x.pt")
    return folder / "x.pt"


INPUTS: dict[str, Callable[[Path], Path]] = {
    **{name: _case(file) for name, file in FILES.items()},
    **{name: _pickle(data) for name, data in PICKLES.items()},
    "a deflated gigabyte of zeros": _deflated,
}


def _network(folder: Path, place: tuple[str, ...], value: Any) -> list[str]:
    """A directory of networks, one value of its config.json changed (or its header's types)."""
    config = GeneratorConfig((8, 8), z_dim=4, w_dim=4, mapping=MappingConfig(2), synthesis=SynthesisConfig(32, 4))
    save_generator(folder, Generator(config))
    content = json.loads((folder / "config.json").read_text())
    part = content["generator"]
    for key in place[:-1]:
        part = part[key]
    if place:
        part[place[-1]] = value
        (folder / "config.json").write_text(json.dumps(content))
    else:
        (folder / "config.json").write_text("[" * 100_000)
    return ["generate", str(folder), "--seeds", "0", "--out", str(folder / "out")]


def _integers(folder: Path) -> list[str]:
    command = _network(folder, ("channels",), 3)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b'"F32"', b'"I32"'))
    return command


def _set(folder: Path, name: str, piece: bytes, count: int, last: bytes = b"") -> list[str]:
    """A zip of four images and a member that unpacks to `count` pieces."""
    with zipfile.ZipFile(folder / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(4):
            file = io.BytesIO()
            Image.new("RGB", (16, 16), (i, 0, 0)).save(file, "PNG")
            archive.writestr(f"{i}.png", file.getvalue())
        with archive.open(name, "w", force_zip64=True) as member:
            for _ in range(count):
                member.write(piece)
            member.write(last)
    return [
        "train",
        str(folder / "set.zip"),
        "--out",
        str(folder / "run"),
        "--conditional",
        "--resolution",
        "16",
        *_SHORT,
    ]


def lie(content: bytes, name: str, place: int, size: int) -> bytes:
    """A zip whose last member, of that name, is said to have another size: packed (place 0) or unpacked (4)."""
    data, entry = bytearray(content), content.rindex(b"PK\x01\x02")
    assert data[entry + 46 :].startswith(name.encode())
    (local,) = struct.unpack_from("<L", data, entry + 42)
    struct.pack_into("<L", data, entry + 20 + place, size)
    struct.pack_into("<L", data, local + 18 + place, size)
    return bytes(data)


def image() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


def zipped(name: str, method: int, mib: int) -> bytes:
    """A zip of an image and a last member of so many MiB of zeros."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("0.png", image())
        info = zipfile.ZipInfo(name)
        info.compress_type = method
        with archive.open(info, "w") as member:
            for _ in range(mib):
                member.write(bytes(1 << 20))
    return file.getvalue()


def header(kind: bytes, size: int) -> bytes:
    member = tarfile.TarInfo("x")
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def _lied(folder: Path, name: str, method: int, place: int, size: int, mib: int = 80) -> list[str]:
    """So many MiB of zeros as the member of a zip, or of a .npz, that is said to have another size."""
    file = folder / ("set.npz" if name.endswith(".npy") else "set.zip")
    file.write_bytes(lie(zipped(name, method, mib), name, place, size))
    return ["train", str(file), "--out", str(folder / "run"), "--conditional", "--resolution", "8", *_SHORT]


def _tar(folder: Path) -> list[str]:
    (folder / "set.tar").write_bytes(header(tarfile.XHDTYPE, 8 << 30) + bytes(10240))
    return ["train", str(folder / "set.tar"), "--out", str(folder / "run"), *_SHORT]


def _array(folder: Path, size: int) -> list[str]:
    np.savez_compressed(folder / "set.npz", images=np.zeros((size >> 14, 128, 128), np.uint8))
    return ["train", str(folder / "set.npz"), "--out", str(folder / "run"), *_SHORT]


def _index(folder: Path, size: int) -> list[str]:
    (folder / "shards").mkdir()
    (folder / "shards" / "set-000.tar").write_bytes(bytes(10240))
    with (folder / "shards" / "index.json").open("wb") as file:
        file.truncate(size)
    return ["train", str(folder / "shards"), "--out", str(folder / "run"), *_SHORT]


_SHORT = ["--preset", "tiny", "--kimg", "0.01", "--device", "cpu", "--threads", "1"]
_PIECE = b"[]," * 350_000

COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    **{name: partial(lambda make, folder: ["import", str(make(folder)), f"{folder}/net"], make) for name, make in INPUTS.items()},
    "network: weights said to be integers": _integers,
    "network: lr_multiplier nan": lambda folder: _network(folder, ("mapping", "lr_multiplier"), math.nan),
    "network: a filter of 0, 0": lambda folder: _network(folder, ("synthesis", "resample_filter"), [0, 0]),
    "network: a filter of 3,001 taps": lambda folder: _network(folder, ("synthesis", "resample_filter"), [1] * 3001),
    "network: 10^9 channels": lambda folder: _network(folder, ("synthesis", "channel_max"), 10**9),
    "network: config.json of 100,000 brackets": lambda folder: _network(folder, (), None),
    "run: 25 mappings, each merged four times": lambda _: ["resume", str(CASES / "yaml-merge")],
    "run: resolution 1,048,576": lambda _: ["resume", str(CASES / "yaml-resolution")],
    "shards: sizes as text": lambda folder: ["train", str(CASES / "index-kinds"), "--out", str(folder / "run"), *_SHORT],
    "shards: an index of 1.5 GB": lambda folder: _index(folder, 1500 << 20),
    "labels: 60 MB of JSON lists in a zip": lambda f: _set(f, "dataset.json", _PIECE, 57, b"[]]"),
    "labels: 200 MB of JSON in a zip": lambda f: _set(f, "dataset.json", _PIECE, 190, b"[]]"),
    "labels: 60 MB of CSV in one line": lambda f: _set(f, "labels.csv", b"ab," * 350_000, 57),
    "labels: 60 MB of CSV, cells of one letter": lambda f: _set(f, "labels.csv", b"0.png," + b"a," * 50_000 + b"\n", 600),
    "labels: 80 MB of CSV in bzip2, said to be 1 kB": lambda f: _lied(f, "labels.csv", zipfile.ZIP_BZIP2, 4, 1000),
    "labels: 80 MB of JSON in a zip, said to be 1 kB": lambda f: _lied(f, "dataset.json", zipfile.ZIP_DEFLATED, 4, 1000),
    "labels: CSV said to take 2 GB of a zip": lambda f: _lied(f, "labels.csv", zipfile.ZIP_DEFLATED, 0, (1 << 31) - 1, 1),
    "an array said to take 2 GB of a .npz": lambda f: _lied(f, "images.npy", zipfile.ZIP_DEFLATED, 0, (1 << 31) - 1, 1),
    "a tar whose header says that it is 8 GB long": _tar,
    "an array of a gigabyte of zeros in a .npz": lambda folder: _array(folder, 1 << 30),
}  # fmt: skip


def outcome(file: Path) -> tuple[str, str]:
    """("read", hash of the generator's weights) or ("refused", why)."""
    try:
        return "read", weights_digest(read_network(file).generator)
    except FruganError as error:
        return "refused", str(error)


def measure(name: str) -> tuple[int, str, int, float]:
    """(exit code, last line printed, peak MB, seconds) of a command of `COMMANDS`, in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        command = COMMANDS[name](Path(scratch))
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.hostile", "limited", *command],
            capture_output=True, text=True, timeout=12 * SECONDS, check=False,
            env={**os.environ, "FRUGAN_CACHE": f"{scratch}/cache"},
        )  # fmt: skip
        seconds = time.perf_counter() - started
        *rest, peak = done.stdout.strip().splitlines() or [done.stderr[-200:], "0"]
        return done.returncode, " ".join(rest)[-300:], int(peak), seconds


def main() -> None:
    if sys.argv[1:2] == ["limited"]:
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        code, printed = program(*sys.argv[2:])
        print(printed.strip())
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000)
        sys.exit(code)
    for name in COMMANDS:
        code, printed, peak, seconds = measure(name)
        print(f"| {name} | {code} | {peak} | {seconds:.1f} | {printed[-100:]} |", flush=True)


if __name__ == "__main__":
    main()
