"""One command for a short loan of a GPU: tests, speed, profiles and training, in order of value.

    python -m benchmarks.gpu --out DIR [--only tests speed-auto-256 …] [--device cuda] [--dry-run] [--minutes 9]

Each part runs in a process of its own under its own time limit. DIR gets PART.json and PART.log as parts end, and `gpu.md` and
`gpu.json` after each, so that a run cut off at any moment leaves all that it had. Parts of one group that are not timed run side
by side; timed parts run alone. `--dry-run` runs every part on the CPU with tiny sizes, to find mistakes before a GPU does.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import gpu_parts, gpu_run

ALL_SPEEDS = [
    ("auto", 256, "graphs"),
    ("cifar", 32, "graphs"),
    ("auto", 1024, "graphs"),
    ("auto", 128, "graphs"),
    ("auto", 256, "graphs, unfused"),
    ("auto", 256, "eager"),
    ("auto", 512, "graphs"),
    ("cifar", 32, "eager"),
]
SMALL_64: dict[str, Any] = {"batch": 64, "channel_base": 4096, "channel_max": 144, "latent": 128, "mapping_layers": 4}
RUN = ("--tick-kimg", "2", "--samples-kimg", "20", "--checkpoint-kimg", "20", "--evaluate-kimg", "20")
RUN = (*RUN, "--kimg", "25000", "--held-out", "100", "--evaluate-samples", "2000")
LEARNS: dict[str, tuple[int, tuple[str, ...]]] = {
    "learns-gamma-2": (64, ("--r1-gamma", "2")),
    "learns": (64, ()),
    "learns-tiny-32": (32, ("--preset", "tiny")),
}
"""Whole runs on drawings: their size, and options beside `RUN`."""
DRY_RUN = ("--preset", "tiny", "--batch", "8", "--tick-kimg", "0.016", "--kimg", "0.064")
GRACE = 8
"""Seconds from the interruption of a part whose time has passed to its end by force."""
TESTS = (
    "tests/ops",
    "tests/networks",
    "tests/augment",
    "tests/training/test_on_device.py",
    "tests/metrics/test_evaluator.py",
    "tests/data/test_dataset.py",
    "tests/tracking",
    "tests/training/test_reference.py",
)


@dataclass(frozen=True, eq=False)
class Part:
    """One process: `command` after the interpreter, or a function of `gpu_parts` or `gpu_run` with settings."""

    name: str
    limit: float
    """Seconds after which it is killed."""
    function: str | None = None
    settings: dict[str, Any] | None = None
    command: tuple[str, ...] = ()
    timed: bool = True


def parts(device: str, dry: bool) -> list[Part]:
    """In order of value. `dry`: the same with tiny sizes."""

    def job(name: str, limit: float, function: str, timed: bool = True, **settings: Any) -> Part:
        limit = 10 * limit if dry else limit
        return Part(name, limit, function, gpu_parts.shrunk(settings) if dry else settings, timed=timed)

    workers = "0" if dry else "8"
    pytest = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:benchmark", "-m", "not slow", "--tb", "short")
    pytest = (*pytest, "-n", workers, "--device", device)
    chosen = ("tests/ops/test_fir.py",) if dry else TESTS
    preset = {"preset": "auto", "size": 256}
    runs = [
        job(
            name, 150, "learns", minutes=1.5, size=size, count=40 if dry else 1000,
            options=DRY_RUN if dry else (*RUN, *options), samples=f"{name}.png",
        )
        for name, (size, options) in LEARNS.items()
    ]  # fmt: skip
    short = {"size": 64, "count": 40 if dry else 200, "options": DRY_RUN[:-4] if dry else ()}
    return [
        Part("tests", 150, command=(*pytest, *chosen), timed=False),
        job("uses", 150, "uses", timed=False, size=64, count=120),
        job("augmentation-256", 60, "augmentation", **preset),
        runs[0],
        job("all-speeds", 120, "speeds", runs=ALL_SPEEDS[:1] if dry else ALL_SPEEDS),
        job("precision-256", 120, "precisions", **preset),
        *runs[1:],
        job("profile-256", 60, "profile", **preset),
        job("profile-32", 40, "profile", preset="cifar", size=32),
        job("generate-256", 40, "generation", size=256, channel_base=16384),
        job("generate-1024", 60, "generation", size=1024, channel_base=32768),
        job("roofline-256", 60, "roofline", **preset),
        job("resumes", 120, "resumes", kimg=0.064 if dry else 2, **short),
        job("speed-auto-256", 60, "speed", modes=["graphs", "eager"], **preset),
        job("speed-small-64", 40, "speed", preset="auto", size=64, modes=["graphs"], **SMALL_64),
        job("start", 60, "start", size=256),
        job("compile-auto-256", 170, "compiles", **preset),
        job("compiled-auto-256", 120, "speed", modes=["compiled"], **preset),
    ]


def run(part: Part, out: Path, device: str, caches: Path) -> subprocess.Popen[bytes]:
    """Starts it; its figures go to OUT/NAME.json, its output to OUT/NAME.log."""
    words = part.command or ("-m", "benchmarks.gpu", "--part", part.name)
    if not part.command:
        settings = json.dumps({"function": part.function, "settings": part.settings, "device": device})
        words = (*words, "--settings", settings, "--out", str(out))
    environment = os.environ | {
        "PYTHONUNBUFFERED": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
        "FRUGAN_CACHE": str(caches / "frugan"),
        "FRUGAN_BENCHMARK_OUT": str(out),
        **({"OMP_NUM_THREADS": "1"} if device == "cpu" else {}),
    }
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
    with (out / f"{part.name}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, *words], stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )


class Ended(NamedTuple):
    part: str
    seconds: float
    how: str
    """"done", "killed after … s" or "failed: …"."""


def wait(part: Part, process: subprocess.Popen[bytes], started: float, deadline: float, out: Path) -> Ended:
    """Until it ends, or its limit or the deadline (`time.monotonic`) has come."""
    try:
        code = process.wait(max(min(started + part.limit, deadline) - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # pytest tells of the failures so far, others of where they are
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with what it has started
        process.wait()
        return Ended(part.name, time.monotonic() - started, f"killed after {time.monotonic() - started:.0f} s")
    log = (out / f"{part.name}.log").read_text("utf-8", "replace").strip().splitlines()
    how = "done" if code == 0 else f"failed ({code}): {log[-1] if log else ''}"
    return Ended(part.name, time.monotonic() - started, how)


def summary(ended: Sequence[Ended], out: Path, heading: str) -> str:
    """Markdown: how each part ended, and the figures that each has written."""
    lines = [heading, "", "| part | seconds | end |", "|---|--:|---|"]
    lines += [f"| {e.part} | {e.seconds:.0f} | {e.how} |" for e in ended]
    for one in ended:
        found = out / f"{one.part}.json"
        if found.exists():
            lines += ["", f"### {one.part}", "", *gpu_parts.as_tables(json.loads(found.read_text("utf-8")))]
    return "\n".join(lines) + "\n"


def function_of(name: str) -> Callable[..., Any]:
    """The function of a part."""
    return getattr(gpu_run if hasattr(gpu_run, name) else gpu_parts, name)


def work(name: str, settings: str, out: Path) -> None:
    """In a process of its own: writes the figures again whenever there are more."""
    job = json.loads(settings)
    function = function_of(job["function"])

    def keep(figures: Any) -> None:
        (out / f"{name}.json").write_text(json.dumps(figures, indent=1), "utf-8")

    keep(function(job["device"], keep=keep, **job["settings"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--only", nargs="+", metavar="PART", help="parts, or the beginnings of their names, in this order"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with tiny sizes")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--caches", type=Path, help="compilers' caches, to keep between runs")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--settings", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        work(args.part, args.settings, args.out)
        return
    device = "cpu" if args.dry_run else args.device
    if device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("no CUDA device is visible; --dry-run tries every part on the CPU")
    every = parts(device, args.dry_run)
    chosen = list(dict.fromkeys(p for name in args.only or ("",) for p in every if p.name.startswith(name)))
    args.out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * args.minutes
    heading = gpu_parts.machine(device)
    print(heading, flush=True)
    ended: list[Ended] = []
    caches = args.caches or Path(tempfile.mkdtemp())
    side_by_side = [(p, run(p, args.out, device, caches), time.monotonic()) for p in chosen if not p.timed]

    def note(one: Ended) -> None:
        ended.append(one)
        print(f"{one.part}: {one.seconds:.0f} s, {one.how}", flush=True)
        (args.out / "gpu.md").write_text(summary(ended, args.out, heading), "utf-8")

    for part, process, started in side_by_side:
        note(wait(part, process, started, deadline, args.out))
    for part in (p for p in chosen if p.timed):
        if time.monotonic() > deadline - 5:
            note(Ended(part.name, 0, "not begun: no time left"))
            continue
        note(wait(part, run(part, args.out, device, caches), time.monotonic(), deadline, args.out))
    print(summary(ended, args.out, heading))


if __name__ == "__main__":
    main()
