"""Whole runs on a device, by the command line, for `benchmarks.gpu`: whether training learns, and whether a resume is exact."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.torch import load_file

Keep = Callable[[Any], None]
FRUGAN = (sys.executable, "-m", "frugan")


def _frugan(*words: object) -> None:
    subprocess.run([*FRUGAN, *map(str, words)], check=True)


def _images(folder: Path, count: int, size: int) -> Path:
    """A folder of so many drawings: critters where the packages that draw them are there, else shapes."""
    style = "critters" if find_spec("resvg_py") and find_spec("dicebear_styles") else "shapes"
    _frugan("data", "sample", folder / style, "--style", style, "--count", count, "--size", size)
    return folder / style


def _records(run: Path) -> list[dict[str, Any]]:
    lines = (run / "stats.jsonl").read_text("utf-8").splitlines() if (run / "stats.jsonl").exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def _figures(run: Path) -> dict[str, Any]:
    """Of a run so far: its length and speed, whether a loss was ever not finite, p, and each evaluation."""
    records = _records(run)
    if not records:
        return {}
    last, losses = records[-1], [v for r in records for k, v in r.items() if k.startswith("loss/")]
    evaluations = sorted((run / "evaluations").glob("*.json")) if (run / "evaluations").exists() else []
    found = {f"kid at {e.stem.split('-')[1]} kimg": json.loads(e.read_text("utf-8"))["values"] for e in evaluations}
    return {
        "kimg": last["kimg"],
        "s/kimg, median of records": sorted(r["seconds_per_kimg"] for r in records)[len(records) // 2],
        "seconds": last["seconds_total"],
        "losses finite": all(map(math.isfinite, losses)),
        "p": last.get("p"),
        "r_t": last.get("r_t"),
        "samples": len(list((run / "samples").glob("*.png"))),
        **{name: values["kid"] for name, values in found.items()},
    }


def learns(
    device: str, keep: Keep, *, size: int, count: int, minutes: float, options: Sequence[str], samples: str
) -> dict[str, Any]:
    """A run on drawings, interrupted after so many minutes as by Ctrl-C; it stops after a step and writes a checkpoint.
    Its last samples are kept as `samples`.
    """
    with tempfile.TemporaryDirectory() as folder:
        images, run = _images(Path(folder), count, size), Path(folder) / "run"
        words = [*FRUGAN, "train", str(images), "--out", str(run), "--device", device, *options]
        process, began = subprocess.Popen(words), time.monotonic()
        while process.poll() is None and time.monotonic() - began < 60 * minutes:
            time.sleep(min(2, minutes))
            keep(_figures(run))
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        code = process.wait(120)
        found = {"images": images.name, "exit code": code, "first record after, s": _first(run), **_figures(run)}
        for grid in sorted((run / "samples").glob("samples-0*.png"))[-1:]:
            shutil.copy(grid, Path(os.environ.get("FRUGAN_BENCHMARK_OUT", folder)) / samples)
        return found


def _first(run: Path) -> float | None:
    records = _records(run)
    return records[0]["seconds_total"] if records else None


def resumes(device: str, keep: Keep, *, size: int, count: int, kimg: float, options: Sequence[str]) -> dict[str, Any]:
    """A run of 2·`kimg` against one that is resumed at half of it: the largest difference between weights of the two,
    absolute, and whether two whole runs are alike.
    """
    with tempfile.TemporaryDirectory() as folder:
        images, found = _images(Path(folder), count, size), {}
        whole, again, resumed = (Path(folder) / name for name in ("whole", "again", "resumed"))
        length = ("--device", device, "--checkpoint-kimg", kimg, *options)
        _frugan("train", images, "--out", whole, "--kimg", 2 * kimg, *length)
        _frugan("train", images, "--out", resumed, "--kimg", kimg, *length)
        _frugan("resume", resumed, "--kimg", 2 * kimg, "--device", device)
        found["resumed, largest difference of weights"] = _difference(whole, resumed)
        keep(found)
        _frugan("train", images, "--out", again, "--kimg", 2 * kimg, *length)
        found["run again, largest difference of weights"] = _difference(whole, again)
        return found


USES: dict[str, str] = {
    "dry-run": "train {images} --dry-run",
    "generate": "generate sample --seeds 0-15 --out {out}/generated",
    "directions": "directions sample --count 2 --samples 2000 --out {out}/directions",
    "edit": "edit sample --direction sample:wide --seeds 0-1 --out {out}/edited",
    "mix": "mix sample --rows 0-1 --columns 2-3 --levels 4-8 --out {out}/mixed.png",
    "sweep": "sweep sample --seeds 0-1 --truncation 0:1:3 --out {out}/sweep.png",
    "video": "video sample --loop --seeds 0-2 --seconds 1 --fps 8 --out {out}/loop.webp",
    "project": "project sample {images}/000000.png --steps-w 20 --steps 20 --tune --tune-steps 10 --out {out}/projected",
    "encode": "encode sample --train --steps 20 --out {out}/encoder",
    "evaluate": "evaluate sample --reference {images} --metrics kid,recall,memorisation --samples 500 --out {out}/card.json",
    "export": "export sample {out}/sample.onnx --format onnx",
    "report": "report sample --reference {images} --samples 300 --out {out}/report",
}


def uses(device: str, keep: Keep, *, size: int, count: int) -> dict[str, Any]:
    """Seconds of each command with the generator that comes along, or how it failed; and the largest difference of pixels of
    generated images from those made on the CPU.
    """
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        images = _images(Path(folder), count, size)
        for name, words in USES.items():
            began = time.monotonic()
            filled = words.format(out=folder, images=images).split()
            more = () if name == "export" else ("--device", device)
            done = subprocess.run(
                [*FRUGAN, *filled, *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            print(f"$ frugan {' '.join(filled)}\n{done.stdout}", flush=True)
            last = (done.stdout.strip().splitlines() or [""])[-1]
            found[name] = time.monotonic() - began if done.returncode == 0 else f"failed ({done.returncode}): {last}"
            keep(found)
        _frugan(*USES["generate"].format(out=Path(folder) / "cpu").split(), "--device", "cpu")
        pairs = zip(*(sorted((Path(folder) / where / "generated").glob("*.png")) for where in ("", "cpu")), strict=True)
        found["generated, largest difference from the CPU's"] = max(
            int(np.abs(np.subtract(*(np.asarray(Image.open(path), dtype=np.int16) for path in pair))).max())
            for pair in pairs
        )
        return found


def _difference(a: Path, b: Path) -> float:
    one, other = (
        load_file(sorted((run / "checkpoints").glob("checkpoint-*"))[-1] / "model.safetensors") for run in (a, b)
    )
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)
