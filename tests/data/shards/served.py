"""Shards as other programs write them, and a server of files with faults."""

from __future__ import annotations

import contextlib
import io
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from frugan.data import Dataset

PER_SHARD = 5


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
    """A folder over HTTP. `faults[name]` are taken in turn, one per GET of that file: "500", "cut", "drop", "held" (no answer
    until `released` is set), "404", "short" or "long" (a Content-Length too small or large), "endless"; "garbage": no
    HTTP at all."""

    url: str
    faults: dict[str, list[str]] = field(default_factory=dict)
    gets: Counter[str] = field(default_factory=Counter)
    sent: int = 0  # bytes of endless replies
    released: threading.Event = field(default_factory=threading.Event)

    def settle(self) -> None:
        """Returns when all that has been asked for until now is answered."""
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(f"{self.url}/none"):
            pass  # connections are accepted in their order
        while any("process_request_thread" in thread.name for thread in threading.enumerate()):
            time.sleep(0.01)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 255
    path.write_bytes(content)


def patterns(folder: str) -> dict[str, str]:
    return {
        "folder": folder,
        "stars": f"{folder}/set-*.tar",
        "braces": f"{folder}/set-{{000..003}}.tar",
        "list": f"{folder}/shards.txt",
    }
