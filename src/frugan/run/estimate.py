"""The costs of a configuration before it is trained: parameters, time and memory, from one pass of each phase."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from frugan.config.schema import RunConfig
from frugan.device import choose_device
from frugan.run.build import build_phases
from frugan.training.graphs import runner_for
from frugan.training.pacing import seconds_per_kimg
from frugan.training.phases import training_only
from frugan.training.trial import bytes_kept, passes, weight_bytes

_LONG = 1.0  # seconds for an image, from which on one image tells enough


@dataclass(frozen=True)
class Cost:
    """Memory is weights, optimiser state and gradients, and what the largest phase holds for its backward passes."""

    generator_parameters: int
    discriminator_parameters: int
    seconds_per_kimg: float
    memory_bytes: int


def estimate(config: RunConfig, device: str = "auto") -> Cost:
    """Times each phase on a minibatch-std group of noise images, on a whole micro-batch where that is soon done, or on one image
    where it takes long, and scales up to the batch; on a GPU on a whole micro-batch, by CUDA graphs as in training. Trains nothing.
    """
    place = choose_device(device)
    phases = build_phases(config, place)
    whole = config.training.batch_per_device
    n = min(whole, max(config.discriminator.mbstd_group or 1, 4))
    seconds = seconds_per_kimg(phases, n, whole, runner_for((phases.G, phases.D), config.training)) / 1000
    if seconds > _LONG:
        n = 1
    kept = 0
    for one in passes(phases, n, torch.Generator(place).manual_seed(0)):
        with training_only(one.network, one.other):
            kept = max(kept, bytes_kept(one.run) * whole // n)
    counts = [sum(p.numel() for p in net.parameters()) for net in (phases.G, phases.D)]
    return Cost(counts[0], counts[1], seconds * 1000, weight_bytes(phases) + kept)
