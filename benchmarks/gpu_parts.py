"""The parts of `benchmarks.gpu`: each a function of the device that returns figures, and keeps what it has on the way."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._dynamo.utils import counters
from torch.profiler import ProfilerActivity

from benchmarks import training
from benchmarks.harness import Peak, seconds, synchronise
from frugan.errors import fault
from frugan.networks import Generator, GeneratorConfig, SynthesisConfig
from frugan.networks.stylegan2.synthesis import level_channels
from frugan.ops.fir import _upfirdn, downsample, normalized_filter, upfirdn, upsample
from frugan.tracking import environment
from frugan.training.phases import training_only
from frugan.training.trial import passes

Keep = Callable[[Any], None]
ADA: dict[str, Any] = {"augment": "fixed", "p": 0.6}
_SMALL = {"size": 16, "channel_base": 256, "preset": "tiny"}


def shrunk(settings: dict[str, Any]) -> dict[str, Any]:
    """The same settings at a size for a dry run."""
    return {name: _SMALL.get(name, value) for name, value in settings.items()}


def machine(device: str) -> str:
    """One line: the device, its memory and driver, and the versions."""
    found = environment()
    name = torch.cuda.get_device_name() if device.startswith("cuda") else found["cpu"]
    return (
        f"{name}; PyTorch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, "
        f"Python {found['python']}; {found['usable_cores']} cores; {found['started']}"
    )


@contextmanager
def cudnn(benchmark: bool, tf32: bool = True) -> Iterator[None]:
    """cuDNN's own choice of algorithms, and TF32 in convolutions and matrix products of float32."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=benchmark, allow_tf32=tf32):
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before


MODES: dict[str, dict[str, Any]] = {
    "graphs": {},
    "eager": {"cuda_graphs": False},
    "compiled": {"compile": "on", "cuda_graphs": False},
    "compiled, graphs": {"compile": "on"},
}


def timed_training(device: str, *, steps: int, flop: bool = False, **options: Any) -> dict[str, Any]:
    """s/kimg over so many steps, a multiple of 16, after 34 that warm up; peak memory, waits of the host, graphs compiled anew."""
    peak = Peak(device)
    began = time.perf_counter()
    config, loop = training.begin(device=device, **options)
    next(loop)
    synchronise(device)
    figures: dict[str, Any] = {"precision": config.training.precision, "batch": config.training.batch}
    figures["first step, s"] = time.perf_counter() - began
    next(islice(loop, 32, None))  # R1's graph is captured in step 17
    synchronise(device)
    figures["34 steps, s"] = time.perf_counter() - began
    graphs = counters["stats"]["unique_graphs"]
    taken = seconds(lambda: next(islice(loop, steps - 1, None)), device) / (steps * config.training.batch)
    figures |= {"s/kimg": taken * 1000, "peak MB": peak.megabytes()}
    figures["graphs compiled anew"] = counters["stats"]["unique_graphs"] - graphs
    if device.startswith("cuda"):
        torch.cuda.empty_cache()  # gives back what cuDNN's search took; the memory of graphs stays
        figures["held MB"] = torch.cuda.memory_reserved() / 1e6
        figures["waits in 16 steps"] = training.waits(loop, 16)
    if flop:
        figures["TFLOP/kimg"] = training.arithmetic(loop) / (16 * config.training.batch) / 1e9
        figures["TFLOP/s"] = figures["TFLOP/kimg"] / taken / 1000
    return figures


def steps_of(device: str, size: int) -> int:
    return 16 if size >= 512 or device == "cpu" else 64


def speed(device: str, keep: Keep, *, preset: str, size: int, modes: list[str], **more: Any) -> dict[str, Any]:
    """A preset as a user gets it, in the precision that it chooses."""
    found: dict[str, Any] = {}
    with cudnn(benchmark=True):
        for mode in modes:
            options = {"preset": preset, "size": size, **ADA, **MODES[mode], **more}
            found[mode] = timed_training(device, steps=steps_of(device, size), **options)
            keep(found)
    return found


def speeds(device: str, keep: Keep, *, runs: list[tuple[str, int, str]]) -> dict[str, Any]:
    """Presets in turn in one process; "graphs, unfused" leaves out the kernels of epilogues and styles."""
    found: dict[str, Any] = {}
    for preset, size, mode in runs:
        unfused = mode.endswith("unfused")
        with (
            cudnn(benchmark=True),
            patch("frugan.ops.epilogue_triton.usable", lambda _: False) if unfused else nullcontext(),
            patch("frugan.ops.styles_triton.usable", lambda _: False) if unfused else nullcontext(),
        ):
            options = {"preset": preset, "size": size, **ADA, **MODES[mode.removesuffix(", unfused")]}
            name = f"{preset} {size}, {mode}"
            try:
                found[name] = timed_training(device, steps=steps_of(device, size), **options)
            except Exception as error:  # the next may run
                traceback.print_exc()
                found[name] = {"failed": fault(error, "without a message")}
        keep(found)
        gc.collect()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
    return found


def compiles(device: str, keep: Keep, *, preset: str, size: int) -> dict[str, Any]:
    """Fills the compiler's cache: seconds until every phase has run compiled."""
    with cudnn(benchmark=True):
        return {"compiled, first": timed_training(device, steps=16, preset=preset, size=size, compile="on", **ADA)}


def precisions(device: str, keep: Keep, *, preset: str, size: int) -> dict[str, Any]:
    """fp16 and fp32, fp32 with and without TF32."""
    found: dict[str, Any] = {}
    for precision, tf32 in (("fp16", True), ("fp32", True), ("fp32", False)):
        with cudnn(benchmark=True, tf32=tf32):
            name = f"{precision}{'' if tf32 else ', no TF32'}"
            found[name] = timed_training(device, steps=16, preset=preset, size=size, precision=precision, **ADA)
        keep(found)
    return found


KINDS = (
    ("depthwise", r"depthwise|dgrad2d_grouped|grouped_direct|conv2d_c1_k1"),
    ("convolution", r"conv|xmma|gemm|cutlass|sm90_|sm80_|wgrad|dgrad|fprop|nvjet"),
    ("layout", r"nchw|nhwc|transpose|permute"),
    ("grid_sample", r"grid_sampl"),
    ("copy", r"copy|memcpy|cat|fill|memset|pad"),
    ("reduction", r"reduce|norm|sum"),
    ("optimiser", r"adam|multi_tensor"),
    ("compiled", r"triton"),
    ("random", r"distribution|random|philox"),
    ("elementwise", r"elementwise"),
)


def kind(name: str) -> str:
    return next((label for label, pattern in KINDS if re.search(pattern, name, re.I)), "other")


def profiled(run: Callable[[], object], device: str, count: int = 30) -> dict[str, Any]:
    """Kernels of one call by time: of each kind, and the longest; and how long the device was busy."""
    run()
    run()
    wall = seconds(run, device, repeats=3) * 1e3
    activities = [ProfilerActivity.CUDA] if device.startswith("cuda") else [ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profile:
        run()
        synchronise(device)
    rows = [
        (e.key, e.self_device_time_total / 1e3 or e.self_cpu_time_total / 1e3, e.count) for e in profile.key_averages()
    ]
    rows = sorted((row for row in rows if not row[0].startswith(("cuda", "Activity"))), key=lambda row: -row[1])
    kinds: dict[str, float] = defaultdict(float)
    for name, ms, _ in rows:
        kinds[kind(name)] += ms
    busy = sum(kinds.values())
    table = [{"kernel": name[:150], "ms": ms, "calls": calls} for name, ms, calls in rows[:count]]
    launches = sum(calls for *_, calls in rows)
    return {"wall, ms": wall, "busy, ms": busy, "launches": launches, "kinds, ms": dict(kinds), "kernels": table}


def profile(device: str, keep: Keep, *, preset: str, size: int) -> dict[str, Any]:
    """Each phase by itself, forward and backward, and what a step does besides."""
    found: dict[str, Any] = {}
    with cudnn(benchmark=True):
        config, loop = training.begin(size, device, preset=preset, cuda_graphs=False, **ADA)
        next(loop)
        state, phases = (loop.gi_frame.f_locals[name] for name in ("state", "phases"))  # pyright: ignore[reportAttributeAccessIssue]
        for one in passes(phases, config.training.batch_per_device, state.rng):

            def run(one: Any = one) -> None:
                with training_only(one.network, one.other):
                    one.run()

            found[one.name] = profiled(run, device)
            keep(found)
        n = config.training.batch_per_device
        p = torch.full((), 0.6, device=device)
        labels = torch.zeros(1, 0, device=device)
        found["drawing for n images"] = profiled(lambda: phases.draw_view(n, p, state.rng), device, 10)
        found["drawing latents"] = profiled(lambda: phases.draw_latents(n, labels, state.rng), device, 10)
        found["moving average"] = profiled(lambda: state.update_average(n, 10.0, 0.05), device, 10)
        keep(found)
        found["step"] = profiled(lambda: next(loop), device)
        keep(found)
        _, loop = training.begin(size, device, preset=preset, **ADA)
        next(islice(loop, 33, None))
        found["step, graphs"] = profiled(lambda: next(loop), device)
    return found


def rates(device: str) -> dict[str, float]:
    """Ceilings: a copy (bytes read and written) and matrix products, on random data."""
    big = 2**20 if device == "cpu" else 2**29
    a = torch.randn(big // 4, device=device)
    found = {"copy, GB/s": 2 * a.nbytes / min(seconds(a.clone, device, repeats=5) for _ in range(3)) / 1e9}
    side = 256 if device == "cpu" else 8192
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        x = torch.randn(side, side, device=device, dtype=dtype)

        def product(x: Tensor = x) -> Tensor:
            return x @ x

        product()
        found[f"matmul {dtype}, TFLOP/s"] = (
            2 * side**3 / min(seconds(product, device, repeats=5) for _ in range(3)) / 1e12
        )
    return found


def best(run: Callable[[], object], device: str) -> float:
    """Milliseconds of one call: the least of three means."""
    for _ in range(3):
        run()
    repeats = max(3, min(50, int(0.03 / max(seconds(run, device), 1e-6))))
    return min(seconds(run, device, repeats=repeats) for _ in range(3)) * 1e3


def roofline(device: str, keep: Keep, *, preset: str, size: int, batch: int = 16) -> dict[str, Any]:
    """At each level: a 3×3 convolution and an FIR filter, forward and with gradients, against arithmetic and bytes."""
    found: dict[str, Any] = {"ceilings": rates(device)}
    keep(found)
    taps = normalized_filter((1, 3, 3, 1)).to(device)
    with cudnn(benchmark=True):
        for level, side in enumerate(4 << i for i in range((size // 4).bit_length())):
            channels = level_channels(level, 16384, 512) if device != "cpu" else 8
            where = (batch, channels, side, device)
            row: dict[str, Any] = {}
            forward, trained = training.convolution_rate(*where, torch.bfloat16, torch.channels_last)
            row |= {"conv bf16, TFLOP/s": forward / 1e3, "with gradients": trained / 1e3}
            x = torch.randn(batch, channels, side, side, device=device, dtype=torch.bfloat16)
            x = x.contiguous(memory_format=torch.channels_last)
            row["copy, ms"] = best(x.clone, device)
            row |= {f"{what}, ms": best(lambda x=x, run=run: run(x, taps), device) for what, run in FILTERS.items()}
            found[f"{side}², {channels} maps"] = row
            keep(found)
    return found


FILTERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "filter": lambda x, f: upfirdn(x, f, padding=(2, 1, 2, 1)),
    "upsample": upsample,
    "downsample": downsample,
    "filter, convolution": lambda x, f: _upfirdn(x, f.to(x.dtype), (1, 1), (1, 1), (2, 1, 2, 1)),
    "leaky ReLU": lambda x, f: F.leaky_relu(x, 0.2),
}


def generation(device: str, keep: Keep, *, size: int, channel_base: int) -> dict[str, Any]:
    """Images a second at batch 1 and 16, float32 and float16, eager and compiled."""
    found: dict[str, Any] = {}
    config = GeneratorConfig((size, size), synthesis=SynthesisConfig(channel_base, 512))
    G = Generator(config).eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    with cudnn(benchmark=True), torch.no_grad():
        for batch in (1, 16):
            ws = G.mapping(torch.randn(batch, G.z_dim, device=device), None)
            for dtype in (torch.float32, torch.float16) if device != "cpu" else (torch.float32,):

                def draw(ws: Tensor = ws, dtype: torch.dtype = dtype) -> Tensor:
                    return G.synthesis(ws, noise="const", dtype=dtype)

                peak = Peak(device)
                ms = best(draw, device)
                row = {"ms/image": ms / batch, "images/s": 1e3 * batch / ms, "peak MB": peak.megabytes()}
                if device.startswith("cuda"):
                    graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(graph):
                        draw()
                    row["CUDA graph, ms/image"] = best(graph.replay, device) / batch
                found[f"batch {batch}, {dtype}"] = row
                keep(found)
    return found


def augmentation(device: str, keep: Keep, *, preset: str, size: int) -> dict[str, Any]:
    """What bgc at p = 0.6 adds to a step, and the pipeline alone."""
    found: dict[str, Any] = {}
    with cudnn(benchmark=True):
        choices: dict[str, dict[str, Any]] = {"none": {"augment": "none"}, "bgc at p = 0.6": ADA}
        for name, options in choices.items():
            found[name] = timed_training(device, steps=steps_of(device, size), preset=preset, size=size, **options)
            keep(found)
    found["share"] = 1 - found["none"]["s/kimg"] / found["bgc at p = 0.6"]["s/kimg"]
    return found


def start(device: str, keep: Keep, *, size: int) -> dict[str, Any]:
    """Seconds: import, and to the first step of a fresh process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import frugan; frugan.train"], check=True)
    found = {"import frugan.train, s": time.perf_counter() - began}
    keep(found)
    code = f"import torch; from benchmarks import training; next(training.begin({size}, {device!r})[1])"
    code += "; torch.cuda.synchronize()" if device.startswith("cuda") else ""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return found | {"process and first step, s": time.perf_counter() - began}


def as_tables(figures: dict[str, Any]) -> list[str]:
    """Markdown: a table of rows whose values are numbers; deeper ones each a table of their own."""
    flat = {name: value for name, value in figures.items() if not isinstance(value, (dict, list))}
    lines = [f"{name}: {_shown(value)}" for name, value in flat.items()]
    rows = {name: value for name, value in figures.items() if isinstance(value, dict)}
    plain = {name: {k: v for k, v in row.items() if not isinstance(v, (dict, list))} for name, row in rows.items()}
    columns = list(dict.fromkeys(key for row in plain.values() for key in row))
    if columns:
        lines += [f"| | {' | '.join(columns)} |", f"|---|{'--:|' * len(columns)}"]
        lines += [f"| {name} | {' | '.join(_shown(row.get(c, '')) for c in columns)} |" for name, row in plain.items()]
    for name, row in rows.items():
        for key, value in row.items():
            if isinstance(value, dict):
                shown = sorted(value.items(), key=lambda item: -item[1])
                lines += ["", f"{name}: {key}: " + ", ".join(f"{k} {_shown(v)}" for k, v in shown)]
            elif isinstance(value, list):
                lines += ["", f"{name}:", "", "| ms | calls | kernel |", "|--:|--:|---|"]
                lines += [f"| {_shown(v['ms'])} | {v['calls']} | `{v['kernel']}` |" for v in value]
    return lines


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)
