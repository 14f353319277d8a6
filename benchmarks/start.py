"""How long one waits: for the help, the first training step, a large generator and its first image."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.harness import Figures
from frugan.networks import Generator, GeneratorConfig
from frugan.networks.serialization import save_generator

HELP = """
import sys
from frugan.cli import main
sys.argv = ["frugan", "--help"]
try:
    main()
except SystemExit:
    print(int("torch" in sys.modules))
"""
FIRST_STEP = """
import sys, time
import frugan
folder, out, started = sys.argv[1:]
train = frugan.train
imported = time.time() - float(started)
done = []
for _ in train(folder, out, device="cpu", preset="tiny", stop=lambda: done.append(time.time()) or True):
    pass
print(imported, done[0] - float(started))
"""
FIRST_IMAGE = """
import sys, time
import frugan
folder, started = sys.argv[1:]
load = frugan.load
imported = time.time()
G = load(folder)
loaded = time.time()
G.sample([0])
print(imported - float(started), loaded - imported, time.time() - loaded, time.time() - float(started))
"""


def _python(code: str, *arguments: object) -> list[float]:
    """The numbers that a fresh process prints last."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(number) for number in done.stdout.splitlines()[-1].split()]


def show_help(device: str) -> Figures:
    """Seconds from the start of the process to its end; whether it imported torch."""
    started = time.time()
    imported = _python(HELP)[0]
    return {"s": time.time() - started, "imports torch": imported}


def first_step(device: str, *, size: int, storage: int) -> Figures:
    """Seconds from the start of the process, with all images to decode, then with them in the cache."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "images"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for i in range(storage):
            Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        imports, fresh = _python(FIRST_STEP, folder, Path(scratch) / "a", time.time())
        _, cached = _python(FIRST_STEP, folder, Path(scratch) / "b", time.time())
    return {"imports, s": imports, "first step, s": fresh, "with the cache, s": cached}


def first_image(device: str, *, size: int) -> Figures:
    """A full-width generator, freshly written, so that its file is in memory."""
    with tempfile.TemporaryDirectory() as scratch:
        save_generator(Path(scratch), Generator(GeneratorConfig((size, size))))
        names = ("imports, s", "load, s", "first image, s", "all, s")
        return dict(zip(names, _python(FIRST_IMAGE, scratch, time.time())))
