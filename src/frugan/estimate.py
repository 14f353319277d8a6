"""What a configuration costs, before it is trained: parameters, time and memory, from one pass of each phase."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from frugan.config import RunConfig
from frugan.networks import Discriminator, Generator
from frugan.run import choose_device, make_phases
from frugan.training.step import training_only
from frugan.training.transfer import freeze
from frugan.training.trial import bytes_kept, passes, weight_bytes


@dataclass(frozen=True)
class Cost:
    """Memory is weights, optimiser state and gradients, and what the largest phase keeps for its backward pass.

    A penalty's second backward pass is taken to keep twice what its network's main phase keeps: a rough figure.
    """

    generator_parameters: int
    discriminator_parameters: int
    seconds_per_kimg: float
    memory_bytes: int


def estimate(config: RunConfig, device: str = "auto") -> Cost:
    """Times each phase on a minibatch-std group of noise images, and scales up to the batch. Trains nothing."""
    place = choose_device(device)
    G, D = Generator(config.generator).to(place), Discriminator(config.discriminator).to(place)
    freeze(G, D, config.transfer)
    phases = make_phases(config, G, D)
    n = min(config.training.batch_per_device, max(config.discriminator.mbstd_group or 1, 4))
    seconds, kept, largest = 0.0, 0, 0
    for phase, network, other, share, has_inner in passes(phases, n, torch.Generator(place).manual_seed(0)):
        with training_only(network, other):
            if has_inner:
                saved = 2 * kept  # functional gradients do not let saved tensors be counted
            else:
                saved = bytes_kept(phase) * config.training.batch_per_device // n
                kept = max(kept, saved)
            largest = max(largest, saved)
            phase().backward()  # the first passes also build caches
            seconds += _seconds(phase, place) * share / n
    counts = [sum(p.numel() for p in net.parameters()) for net in (G, D)]
    return Cost(counts[0], counts[1], seconds * 1000, weight_bytes(phases) + largest)


def _seconds(phase: Callable[[], Tensor], device: torch.device) -> float:
    """Of a forward and backward pass."""
    _wait(device)
    started = time.perf_counter()
    phase().backward()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
