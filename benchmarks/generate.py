"""Images per second, and the memory it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks import peers, reference
from benchmarks.harness import Figures, Peak, seconds
from frugan.networks import Generator, GeneratorConfig, SynthesisConfig


def measure(run: Callable[[], object], device: str, batch: int, repeats: int) -> Figures:
    peak = Peak(device)
    with torch.no_grad():
        run()
        taken = seconds(run, device, repeats=repeats) / batch
    return {"s/image": taken, "images/s": 1 / taken, "peak beside weights, MB": peak.megabytes()}


def ours(device: str, *, size: int, batch: int, channel_base: int, channel_max: int, repeats: int) -> Figures:
    synthesis = SynthesisConfig(channel_base, channel_max)
    G = Generator(GeneratorConfig((size, size), synthesis=synthesis)).eval().requires_grad_(False).to(device)
    return measure(lambda: G.sample(range(batch), batch=batch), device, batch, repeats)


def channels_first(device: str, **settings: Any) -> Figures:
    reference.channels_first()
    return ours(device, **settings)


def specification(device: str, **settings: Any) -> Figures:
    reference.specification()
    return ours(device, **settings)


def peer(name: str) -> Callable[..., Figures]:
    def arm(device: str, *, size: int, batch: int, channel_base: int, channel_max: int, repeats: int) -> Figures:
        networks = peers.PEERS[name](size, channel_base, channel_max, device)
        return measure(lambda: networks.generate(batch), device, batch, repeats)

    return arm
