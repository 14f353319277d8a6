"""A cache of its own for every test, and images made on the fly."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, empty."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("FRUGAN_CACHE", str(folder))
    return folder / "data"


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """`noise(*shape, seed=…)`: uint8 (or `dtype`) random numbers."""

    def make(*shape: int, seed: int = 0, dtype: type = np.uint8) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype)

    return make


@pytest.fixture
def make_images(noise) -> Callable[..., list[np.ndarray]]:
    """`images(folder, names, size=…)` writes one RGB image per name and returns their pixels."""

    def write(folder: Path, names: list[str], size: tuple[int, int] = (8, 8), channels: int = 3) -> list[np.ndarray]:
        made = []
        for i, name in enumerate(names):
            pixels = noise(*size, channels, seed=i)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(folder / name)
            made.append(pixels)
        return made

    return write


@pytest.fixture
def png16() -> Callable[[np.ndarray], bytes]:
    """uint16 `[H, W, C]` → a PNG file of 16 bits per channel that uses all five row filters."""
    return _png16


def _png16(pixels: np.ndarray) -> bytes:
    h, w, c = pixels.shape
    rows = np.frombuffer(pixels.astype(">u2").tobytes(), np.uint8).reshape(h, -1).astype(int)
    body = b""
    for i, row in enumerate(rows):
        up = rows[i - 1] if i else np.zeros_like(row)
        left = np.r_[np.zeros(2 * c, int), row[: -2 * c]]
        corner = np.r_[np.zeros(2 * c, int), up[: -2 * c]]
        a, b, d = (abs(left + up - corner - other) for other in (left, up, corner))
        paeth = np.where((a <= b) & (a <= d), left, np.where(b <= d, up, corner))
        guess = [0, left, up, (left + up) // 2, paeth][i % 5]
        body += bytes([i % 5]) + ((row - guess) % 256).astype(np.uint8).tobytes()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", w, h, 16, {1: 0, 2: 4, 3: 2, 4: 6}[c], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
