"""The program in processes of its own, with faults simulated into them; and what must hold after a fault."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import multiprocessing
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from frugan.files import UNFINISHED
from frugan.run.train import Run
from frugan.tracking import read_stats
from frugan.training import checkpoint
from tests.program import foreground

OPTIONS = shlex.split(
    "--preset tiny --batch 8 --channel-base 64 --channel-max 8 --latent 16 --kimg 0.16 --tick-kimg 0.016 --samples-kimg 0.032 "
    "--checkpoint-kimg 0.016 --ada-kimg 0.1 --held-out 8 --target=-0.9 --keep-last 2 --device cpu --threads 1"
)
STEPS = 20

_processes = multiprocessing.get_context("forkserver")  # imports once, then forks: a process costs no seconds
_processes.set_forkserver_preload(["frugan.run.train", "frugan.cli.app", "tests.faults.harness"])


# What a worker does to itself before it runs the program: a name and its arguments.


def at_file_operation(number: int, act: Callable[[], Any]) -> None:
    """`act` comes in the place of the so many-th sync, rename, removal or weights' file of this process, half written."""
    calls = iter(range(10**9))

    def wrap(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == number:
                if name == "save_file":
                    real(*args, **kwargs)
                    os.truncate(args[1], Path(args[1]).stat().st_size // 2)
                act()
            return real(*args, **kwargs)

        setattr(owner, name, wrapped)

    for owner, name in (
        (safetensors.torch, "save_file"),
        (os, "fsync"),
        (os, "rename"),
        (os, "replace"),
        (shutil, "rmtree"),
    ):
        wrap(owner, name)


def at_step(number: int, act: Callable[[Any], Any], last: int | None = None) -> None:
    """`act(state)` comes before those training steps of this process."""
    from frugan.training import loop

    real, calls = loop.train_step, iter(range(10**9))

    def wrapped(state: Any, *args: Any) -> None:
        if number <= next(calls) <= (number if last is None else last):
            act(state)
        real(state, *args)

    loop.train_step = wrapped


def kill_at_file_operation(number: int) -> None:
    at_file_operation(number, lambda: os.kill(os.getpid(), signal.SIGKILL))


def kill_at_step(number: int) -> None:
    at_step(number, lambda _: os.kill(os.getpid(), signal.SIGKILL))


def ask_to_stop(number: int, kind: int, times: int, writing: bool, closed: bool) -> None:
    """A signal comes at a step, or in the midst of the next writing of a file; 5 seconds of the processor are left then.

    Args:
        number: of the step.
        kind: of the signal.
        times: how often it comes.
        writing: whether it waits for a file operation.
        closed: whether nothing can be printed from the first step on.
    """

    def send(*_given: Any) -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + 5, resource.RLIM_INFINITY))
        for _ in range(times):
            os.kill(os.getpid(), kind)

    if closed:
        close_terminal()
    at_step(number, (lambda _: at_file_operation(0, send)) if writing else send)


def refuse_file_operation(number: int, reason: int) -> None:
    def refuse() -> None:
        raise OSError(reason, os.strerror(reason), "a file")

    at_file_operation(number, refuse)


def limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def no_memory(number: int, kind: str) -> None:
    kinds = {
        "python": MemoryError(),
        "device": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    }

    def act(state: Any) -> None:
        if kind in kinds:
            raise kinds[kind]
        at = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (at + (1 << 20), resource.RLIM_INFINITY))
        torch.zeros(1 << 28)  # a GB from the real allocator

    at_step(number, act)


def poison_gradients(number: int, last: int, value: float) -> None:
    from frugan.training import step

    real, bad = step.update, []

    def update(state: Any, name: str, *args: Any) -> None:
        if bad and state.step == bad[-1]:
            next(p for p in state.networks()[name].parameters() if p.grad is not None).grad.view(-1)[0] = value
        real(state, name, *args)

    step.update = update
    at_step(number, lambda state: bad.append(state.step), last)


def poison_state(number: int, part: str, value: float) -> None:
    """Into the weights, the average, the optimiser's means or the mean path length."""

    def act(state: Any) -> None:
        places = {
            "G": lambda: next(state.G.parameters()),
            "D": lambda: next(state.D.parameters()),
            "average": lambda: next(state.ema.parameters()),
            "w_avg": lambda: state.G.mapping.w_avg,
            "optimiser": lambda: next(iter(state.optimizer_D.state.values()))["exp_avg"],
            "path length": lambda: state.path_length_mean,
        }
        places[part]().data.view(-1)[0] = value

    at_step(number, act)


def jump_clock(seed: int) -> None:
    draws, real = random.Random(seed), time.time
    time.time = lambda: real() + draws.choice([-1, 1]) * 10 ** draws.uniform(0, 9)
    time.time_ns = lambda: int(time.time() * 1e9)


def remove_image(path: str, number: int) -> None:
    """The file vanishes while images are read, after so many were opened."""
    from frugan.data.decode import reading

    real, calls = reading.open_image, iter(range(10**9))

    def wrapped(file: Any) -> Any:
        if next(calls) == number:
            Path(path).unlink()
        return real(file)

    reading.open_image = wrapped


def close_terminal() -> None:
    """Nothing can be printed from the first step on: the reader of the output has gone."""
    reader, writer = os.pipe()
    os.close(reader)

    def act(state: Any) -> None:
        for stream in (1, 2):
            os.dup2(writer, stream)

    at_step(0, act, 0)


PLANTS = {
    f.__name__: f
    for f in (
        kill_at_file_operation, kill_at_step, ask_to_stop, refuse_file_operation, limit_files, no_memory, poison_gradients,
        poison_state, jump_clock, remove_image,
    )
}  # fmt: skip
Plant = tuple[Any, ...]


NAMELESS = ("unshare", "--uts", "sh", "-c", 'hostname nowhere.invalid && exec "$@"', "sh")
"""Before a command: it runs on a machine whose name does not resolve. Needs the right to rename one."""


@dataclass
class Launcher:
    """`frugan train --processes 2`, and what it wrote."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def text(self) -> str:
        return self.output.read_text("utf-8", "replace")


@contextlib.contextmanager
def together(bench: Bench, run: Path, *, before: tuple[str, ...] = (), **environment: str) -> Iterator[Launcher]:
    """A training in two processes, killed in the end with all that it started."""
    output = bench.fresh("output")
    words = [
        *before,
        sys.executable,
        "-m",
        "frugan",
        "train",
        bench.image_folder,
        "--out",
        run,
        *OPTIONS,
        "--processes",
        2,
    ]
    surroundings = os.environ | {"FRUGAN_CACHE": str(bench.folder / "cache"), "FRUGAN_PATIENCE": "240"} | environment
    with output.open("wb") as file, foreground():
        process = subprocess.Popen(
            [str(word) for word in words], stdout=file, stderr=file, env=surroundings, start_new_session=True
        )
    try:
        yield Launcher(process, output)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_records(run: Path, count: int, launcher: Launcher) -> None:
    until = time.monotonic() + 240
    while len(read_stats(run / "stats.jsonl")) < count:
        assert launcher.process.poll() is None, launcher.text
        assert time.monotonic() < until, launcher.text
        time.sleep(0.02)


def children(process: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process)], check=True, text=True, stdout=subprocess.PIPE)
    return [int(line) for line in found.stdout.split()]


def _work(arguments: list[str], output: str, cache: str, plant: Plant | None) -> None:
    for stream in (1, 2):
        os.dup2(os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND), stream)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # where the suite runs under nohup, it is ignored
    os.environ |= {"FRUGAN_CACHE": cache, "COLUMNS": "200"}
    sys.argv = ["frugan", *arguments]
    torch.set_num_threads(1)
    from frugan.run import session

    session.EARLY_SECONDS = math.inf  # a record of its own on a machine so busy that the first tick takes so long
    if plant:
        PLANTS[plant[0]](*plant[1:])
    from frugan.cli import main

    main()


@dataclass
class Program:
    """One process that runs `frugan …`, and what it wrote."""

    arguments: list[str]
    output: Path
    process: Any

    @property
    def text(self) -> str:
        return self.output.read_text("utf-8", "replace")

    def end(self) -> int:
        """Waits for its exit code. A traceback is never an end."""
        self.process.join(280)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"still running: {self.arguments}\n{self.text}")
        assert "Traceback" not in self.text, self.text
        return self.process.exitcode


@dataclass
class Bench:
    """A folder to try faults in: images, a cache, and a run that nothing happened to."""

    folder: Path
    count: int = field(default=0)

    def fresh(self, name: str) -> Path:
        self.count += 1
        return self.folder / f"{name}-{self.count}"

    def start(self, *arguments: object, cache: Path | None = None, plant: Plant | None = None) -> Program:
        output, words = self.fresh("output"), [str(a) for a in arguments]
        where = str(cache or self.folder / "cache")
        process = _processes.Process(target=_work, args=(words, str(output), where, plant))
        process.start()
        return Program(words, output, process)

    def train(self, run: Path, *more: object, data: Path | None = None, **where: Any) -> Program:
        return self.start("train", data or self.image_folder, "--out", run, *OPTIONS, *more, **where)

    def resume(self, run: Path, *more: object, **where: Any) -> Program:
        return self.start("resume", run, "--device", "cpu", "--threads", 1, *more, **where)

    @cached_property
    def image_folder(self) -> Path:
        """40 images of noise, 16×16."""
        rng = np.random.default_rng(0)
        folder = self.folder / "images"
        folder.mkdir()
        for i in range(40):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i:02d}.png")
        return folder

    @cached_property
    def reference(self) -> Path:
        run = self.fresh("reference")
        done = self.train(run)
        assert done.end() == 0, done.text
        return run

    @cached_property
    def half(self) -> Path:
        """A run killed half-way, with two whole checkpoints, to be copied."""
        run = self.fresh("half")
        assert self.train(run, plant=("kill_at_step", STEPS // 2)).end() == -signal.SIGKILL
        return run

    def copy(self, run: Path) -> Path:
        return Path(shutil.copytree(run, self.fresh("copy")))

    def killed(self, program: Program, run: Path) -> None:
        """After the process is gone: nothing but what was being written is lost, and the next resume is exact."""
        program.end()
        if (run / "run.json").exists():
            written = json.loads((run / "run.json").read_text())["kimg"]
            found = Run(run).latest()
            left = found.images / 1000 if found else 0
            assert left >= written, f"{written} kimg were saved, {left} are left"
        self.goes_on(run)

    def goes_on(self, run: Path, split: bool = False, **where: Any) -> None:
        """Resumes, or begins where there was not even a configuration yet, and compares with the untouched run."""
        again = self.resume(run, **where) if (run / "config.yaml").exists() else self.train(run, **where)
        assert again.end() == 0, again.text
        self.same(run, split)

    def same(self, run: Path, split: bool = False) -> None:
        """Every tensor of the last state, its counters and the records. Those that a stop has `split` average over fewer
        steps: of them the figures of a moment count."""
        ours, theirs = (checkpoint.all_checkpoints(r / "checkpoints")[-1] for r in (run, self.reference))
        ours.verify()
        a, b = (safetensors.torch.load_file(c.path / "training.safetensors") for c in (ours, theirs))
        different = [k for k in a.keys() | b.keys() if k not in a or k not in b or not torch.equal(a[k], b[k])]
        assert not different, different[:5]
        assert ours.facts == theirs.facts
        names = ("p", "r_t", "r_v", "diversity") if split else ()
        for here, there in zip(_figures(run, names), _figures(self.reference, names), strict=True):
            assert here == there
        left = [*run.glob(UNFINISHED), *(run / "checkpoints").glob(".*")]
        assert not left, left

    def refused(self, program: Program, *words: str) -> None:
        """It ended with exit code 2 and a sentence that has these words in it."""
        code = program.end()
        assert code == 2, f"exit code {code}: {program.text}"
        sentence = next(line for line in program.text.splitlines() if line.startswith("frugan: "))
        assert all(w in program.text for w in words), program.text
        assert ";" in sentence, f"no remedy: {sentence}"


def _figures(run: Path, names: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """All records but what depends on time, the machine, and what was lived through."""
    return [
        {
            k: v
            for k, v in r.items()
            if not k.startswith("seconds") and "memory" not in k and k != "warnings" and k in (names or r)
        }
        for r in read_stats(run / "stats.jsonl")
        if r["images"] % 16 == 0  # a stop adds a record of its own
    ]


def finite(run: Path) -> None:
    for found in checkpoint.all_checkpoints(run / "checkpoints"):
        found.verify()
        tensors = safetensors.torch.load_file(found.path / "training.safetensors")
        bad = [
            k for k, v in tensors.items() if v.is_floating_point() and not v.isfinite().all() and "controller" not in k
        ]
        assert not bad, bad


@contextlib.contextmanager
def small_disk(where: Path, size: int):
    """A file system of so many bytes at `where`; None where mounting is not permitted."""
    where.mkdir()
    done = os.system(f"mount -t tmpfs -o size={size} none {where} 2>/dev/null")
    try:
        yield None if done else where
    finally:
        if not done:
            os.system(f"umount -l {where}")


EROFS, ENOSPC = errno.EROFS, errno.ENOSPC
