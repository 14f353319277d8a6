"""What a configuration costs, before it is trained: parameters, time and memory, from one pass of each phase."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from frugan.config import RunConfig
from frugan.networks import Discriminator, Generator
from frugan.objectives import path_length_noise
from frugan.run import choose_device, make_phases
from frugan.training.step import View, neighbours, training_only
from frugan.training.transfer import freeze


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
    objective = config.objective
    n = min(config.training.batch_per_device, max(config.discriminator.mbstd_group or 1, 4))
    rng = torch.Generator(place).manual_seed(0)
    labels = torch.zeros(1, config.generator.label_size, device=place)
    shape = torch.Size((n, config.generator.channels, *config.generator.resolution))
    images = torch.randn(shape, generator=rng, device=place)
    c = labels.expand(n, -1)

    def view() -> View:
        return phases.draw_view(n, 0.5, rng)

    def generator() -> Tensor:
        return phases.generator(phases.draw_latents(n, labels, rng), view(), images, c, view())[0]

    def path_length() -> Tensor:
        latents = phases.draw_latents(n, labels, rng)
        return phases.path_length(latents, path_length_noise(shape, rng), torch.zeros((), device=place))[0]

    def discriminator() -> Tensor:
        latents = phases.draw_latents(n, labels, rng)
        near = phases.fakes(neighbours(latents)) if objective.near_discriminator else None
        means = torch.zeros(2, device=place)
        return phases.discriminator(images, c, view(), phases.fakes(latents), latents.c, view(), near, means)[0]

    def r1() -> Tensor:
        penalty = phases.gradient(images, c, view(), objective.r1_gamma)
        return penalty + phases.gradient(images, c, view(), objective.r1_gamma) if objective.r2 else penalty

    seconds, kept, largest = 0.0, 0, 0
    plans: list[tuple[Callable[[], Tensor], torch.nn.Module, torch.nn.Module, float, bool]] = [
        (generator, G, D, 1.0, False),
        (discriminator, D, G, 1.0, bool(objective.gradient_penalty)),
    ]
    if objective.path_length_weight:
        plans.append((path_length, G, D, 1 / objective.path_length_interval / objective.path_length_shrink, True))
    if objective.r1_gamma:
        plans.append((r1, D, G, 1 / objective.r1_interval, True))
    for phase, network, other, share, has_inner in plans:
        with training_only(network, other):
            if has_inner:
                saved = 2 * kept  # functional gradients do not let saved tensors be counted
            else:
                saved = _bytes_kept(phase) * config.training.batch_per_device // n
                kept = max(kept, saved)
            largest = max(largest, saved)
            phase().backward()  # the first passes also build caches
            seconds += _seconds(phase, place) * share / n
    counts = [sum(p.numel() for p in net.parameters()) for net in (G, D)]
    weights = 4 * (counts[0] * 5 + counts[1] * 4)  # weights, gradients, two moments; and the generator's average
    return Cost(counts[0], counts[1], seconds * 1000, weights + largest)


def _seconds(phase: Callable[[], Tensor], device: torch.device) -> float:
    """Of a forward and backward pass."""
    _wait(device)
    started = time.perf_counter()
    phase().backward()
    _wait(device)
    return time.perf_counter() - started


def _bytes_kept(phase: Callable[[], Tensor]) -> int:
    """What autograd holds between the forward and the backward pass."""
    sizes: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        loss = phase()
    loss.backward()
    return sum(sizes.values())


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
