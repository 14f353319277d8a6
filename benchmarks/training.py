"""Seconds per kimg, peak memory, and the share of the convolutions' own rate that training reaches."""

from __future__ import annotations

import json
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch._dynamo.utils import counters
from torch.multiprocessing.spawn import spawn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import peers, reference
from benchmarks.harness import Figures, Peak, seconds
from frugan.config.options import Options
from frugan.config.resolve import Facts, resolve
from frugan.config.schema import RunConfig
from frugan.data import DataConfig, Dataset, open_dataset
from frugan.device import bf16_pays
from frugan.networks.stylegan2.synthesis import level_channels
from frugan.run.build import make_phases
from frugan.training import TrainState, train
from frugan.training.loop import Images
from frugan.training.phases import DTYPES


def begin(
    size: int,
    device: str,
    *,
    preset: str = "auto",
    storage: Literal["npy", "png"] = "npy",
    wrap: Callable[[Dataset], Images] | None = None,
    **options: Any,
) -> tuple[RunConfig, Iterator[Any]]:
    """A run's own configuration and loop, on images of noise (their content does not matter)."""
    place = torch.device(device)
    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(0).integers(0, 256, (64, size, size, 3), dtype=np.uint8)
        path = Path(folder) / "noise.npy" if storage == "npy" else Path(folder)
        if storage == "npy":
            np.save(path, noise)
        else:
            for i, pixels in enumerate(noise):
                Image.fromarray(pixels).save(path / f"{i}.png")
        dataset = open_dataset(DataConfig(str(path)))
    facts = Facts((size, size), 3, 0, images=64, held_out=0, device=place.type, bf16=bf16_pays(place))
    config, _ = resolve(Options(preset=preset, **options), dataset.config, facts)
    state = TrainState.create(
        config.generator,
        config.discriminator,
        config=config.training,
        objective=config.objective,
        controller=config.controller,
        sampler=dataset.sampler(0),
        device=place,
    )
    phases = make_phases(config, state.G, state.D, compiled=config.training.compile)
    dataset.resident(place)
    images = wrap(dataset) if wrap else dataset
    return config, train(state, phases, images, dataset.label_pool.to(place), config.training)


class _Nowhere(nullcontext):
    """In place of the counter's attribution to modules, whose hooks cannot bear a gradient within a gradient."""

    parents = frozenset({"Global"})


def _convolution(
    x: list[int],
    weight: list[int],
    bias: list[int] | None,
    stride: int,
    padding: int,
    transposed: bool,
    out_shape: list[int],
) -> int:
    """FLOP of one, by the shapes of what it is given."""
    return 2 * x[0] * math.prod(weight) * math.prod((x if transposed else out_shape)[2:])


def _gradient(up: list[int], x: list[int], weight: list[int], *how: Any, out_shape: list[int]) -> int:
    return _convolution(x, weight, None, *how, out_shape=up)


CONVOLUTIONS = {
    torch.ops.frugan.convolution: _convolution,
    torch.ops.frugan.image_gradient: _gradient,
    torch.ops.frugan.weight_gradient: _gradient,
}


def arithmetic(steps: Iterator[Any]) -> float:
    """FLOP of 16 steps, counted in the first five: both networks at each, path length at each 4th, R1 at the first."""
    found = []
    for _ in range(5):
        counter = FlopCounterMode(display=False, custom_mapping=CONVOLUTIONS)
        counter.mod_tracker = _Nowhere()  # pyright: ignore[reportAttributeAccessIssue]
        with counter:
            next(steps)
        found.append(counter.get_total_flops())
    return 12 * found[1] + 3 * found[4] + found[0]


def measure(steps: Iterator[Any], batch: int, device: str, *, count: int, counted: bool = True) -> Figures:
    """Times `count` steps, a multiple of 16, after those that warm up."""
    if counted:
        flop = arithmetic(steps) / (16 * batch)
    else:
        flop = 0.0
        next(islice(steps, 16, None))
    graphs = counters["stats"]["unique_graphs"]
    taken = seconds(lambda: next(islice(steps, count - 1, None)), device) / (count * batch)
    found: Figures = {"s/kimg": taken * 1000}
    if device.startswith("cuda"):
        found |= {"graphs compiled anew": counters["stats"]["unique_graphs"] - graphs, "waits": waits(steps, 16)}
    return found | {"TFLOP/kimg": flop / 1e9, "GFLOP/s": flop / taken / 1e9} if counted else found


def waits(steps: Iterator[Any], count: int) -> int:
    """How often in so many steps the host waits for a CUDA device, as far as PyTorch notices."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            next(islice(steps, count - 1, None))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in caught)


def ours(device: str, *, size: int, steps: int, counted: bool = True, **options: Any) -> Figures:
    peak = Peak(device)
    config, loop = begin(size, device, **options)
    figures = measure(loop, config.training.batch, device, count=steps, counted=counted)
    return figures | {"peak MB": peak.megabytes()}


def unaugmented(device: str, *, p: float, augment: str, **settings: Any) -> Figures:
    return ours(device, augment="none", **settings)


def augmented(p: float) -> Callable[..., Figures]:
    """`bgc` at a fixed p, which 0 switches off."""
    options = {"augment": "fixed", "p": p} if p else {"augment": "none"}
    return lambda device, **settings: ours(device, counted=False, **options, **settings)


def channels_first(device: str, **settings: Any) -> Figures:
    reference.channels_first()
    return ours(device, precision="fp32", **settings)


def specification(device: str, **settings: Any) -> Figures:
    reference.specification()
    return ours(device, precision="fp32", **settings)


def compiled(device: str, **settings: Any) -> Figures:
    return ours(device, compile="on", counted=False, **settings)


def eager(device: str, **settings: Any) -> Figures:
    return ours(device, counted=False, **settings)


def recomputed(device: str, **settings: Any) -> Figures:
    return ours(device, activation_checkpointing=True, counted=False, **settings)


def together(device: str, *, batch: int, **settings: Any) -> Figures:
    """As many processes of one thread each as this one has threads, each with its part of the batch."""
    processes = torch.get_num_threads()
    settings |= {"batch": batch, "batch_per_device": batch // processes}
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "figures.json"
        spawn(_take_part, (processes, Path(folder) / "store", found, device, settings), processes)
        return json.loads(found.read_text())


def _take_part(rank: int, processes: int, store: Path, found: Path, device: str, settings: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=processes)
    figures = ours(device, counted=False, **settings)
    if rank == 0:
        found.write_text(json.dumps(figures))
    torch.distributed.destroy_process_group()


def peer(name: str) -> Callable[..., Figures]:
    def arm(
        device: str, *, size: int, steps: int, batch: int, channel_base: int, channel_max: int, **rest: Any
    ) -> Figures:
        peak = Peak(device)
        loop = peers.training_steps(peers.PEERS[name](size, channel_base, channel_max, device), size, batch, device)
        return measure(loop, batch, device, count=steps) | {"peak MB": peak.megabytes()}

    return arm


def convolution_rate(
    batch: int, channels: int, size: int, device: str, dtype: torch.dtype, layout: torch.memory_format
) -> tuple[float, float]:
    """GFLOP/s of a 3×3 convolution: forward; and forward with both gradients."""
    x = torch.randn(batch, channels, size, size, device=device, dtype=dtype).contiguous(memory_format=layout)
    w = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype).contiguous(memory_format=layout)
    for tensor in (x, w):
        tensor.requires_grad_(True)
    up = torch.randn_like(x)

    def forward() -> torch.Tensor:
        return F.conv2d(x, w, padding=1)

    def both() -> object:
        return torch.autograd.grad(forward(), (x, w), up)

    flop = 2 * 9 * x.numel() * channels
    rates = []
    for run, factor in ((forward, 1), (both, 3)):
        repeats = max(3, int(0.2 / min(seconds(run, device) for _ in range(3))))
        best = min(seconds(run, device, repeats=repeats) for _ in range(3))
        rates.append(factor * flop / best / 1e9)
    return rates[0], rates[1]


LAYOUTS = {"last": torch.channels_last, "first": torch.contiguous_format}


def convolution(device: str, *, size: int, batch: int, channel_base: int, channel_max: int) -> Figures:
    """At the network's full size."""
    channels = min(channel_base // size, channel_max)
    figures = {}
    for precision in ("bf16", "fp32"):
        for where, layout in LAYOUTS.items():
            forward, both = convolution_rate(batch, channels, size, device, DTYPES[precision], layout)
            figures |= {f"{precision} {where}": forward, f"{precision} {where}, trained": both}
    return figures


def share(device: str, *, size: int, steps: int, augment: str, p: float, **options: Any) -> Figures:
    """The networks' arithmetic per second of training with augmentation, against what convolutions reach in the same process.

    `convolution`: one of 3×3 at full size, forward. `roofline`: forward with both gradients, at every level, weighted by
    the arithmetic there.
    """
    measured = ours(device, size=size, steps=steps, counted=False, augment=augment, p=p, **options)
    config, loop = begin(size, device, augment="none", **options)
    flop = arithmetic(loop) / (16 * config.training.batch)
    taken = measured["s/kimg"]
    reached = flop / taken / 1e6

    synthesis, dtype = config.generator.synthesis, DTYPES[config.training.precision]
    forward, arithmetics, times = 0.0, 0.0, 0.0
    for level, side in enumerate(4 << i for i in range((size // 4).bit_length())):
        channels = level_channels(level, synthesis.channel_base, synthesis.channel_max)
        low = side > 4 and size >> synthesis.low_precision_blocks < side
        where = (config.training.batch_per_device, channels, side, device, dtype if low else torch.float32)
        forward, trained = convolution_rate(*where, torch.channels_last)
        weight = (side * channels) ** 2
        arithmetics, times = arithmetics + weight, times + weight / trained
    roofline = arithmetics / times
    return {
        **measured,
        "TFLOP/kimg": flop / 1e9,
        "GFLOP/s": reached,
        "convolution, GFLOP/s": forward,
        "share": reached / forward,
        "roofline, GFLOP/s": roofline,
        "share of it": reached / roofline,
    }
