"""Inputs made to harm, each read in a process of its own under a limit of 2 GB and 20 s.

    python -m tests.fuzz.hostile            # the table of docs/reliability.md: outcome, peak memory, seconds

`INPUTS` is also what tests/fuzz/test_hostile.py goes through.
"""

from __future__ import annotations

import io
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

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


def measure(name: str) -> tuple[int, str, int, float]:
    """(exit code, last line printed, peak MB, seconds) of `frugan import` of an input, in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        file = INPUTS[name](Path(scratch))
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.hostile", "import", str(file), f"{scratch}/net"],
            capture_output=True, text=True, timeout=6 * SECONDS, check=False,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        *rest, peak = done.stdout.strip().splitlines() or [done.stderr[-200:], "0"]
        return done.returncode, " ".join(rest)[-300:], int(peak), seconds


def main() -> None:
    if sys.argv[1:2] == ["import"]:
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        code, printed = program(*sys.argv[1:])
        print(printed.strip())
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000)
        sys.exit(code)
    for name in INPUTS:
        code, printed, peak, seconds = measure(name)
        print(f"| {name} | {code} | {peak} | {seconds:.1f} | {printed[-100:]} |", flush=True)


if __name__ == "__main__":
    main()
