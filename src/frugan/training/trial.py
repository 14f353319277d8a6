"""Trial passes of the training phases on noise: the time that training takes, and the batch that fits into memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from frugan.errors import FruganError, fault
from frugan.tracking import free_memory
from frugan.training.graphs import Runner, Work, eagerly
from frugan.training.phases import Phases, training_only
from frugan.training.step import (
    discriminator_gradients,
    generator_gradients,
    path_length_gradients,
    r1_gradients,
)

_USABLE = 0.8
"""Share of the free host memory that the estimate may use, since activations for autograd are not all that training needs."""

_COMPILING, _LONG = 300.0, 20
"""Seconds that compiling all phases takes, about; compiling is tried for runs that take so many times that."""


class Pass(NamedTuple):
    """One pass of a phase.

    Attributes:
        name: of the phase.
        run: does the forward and backward pass; gradients are added to `network`.
        network: the network in training.
        other: the one that is not.
        share: the share of steps that have this phase.
    """

    name: str
    run: Callable[[], tuple[Tensor, ...]]
    network: nn.Module
    other: nn.Module
    share: float


def passes(phases: Phases, n: int, rng: torch.Generator, execute: Runner = eagerly) -> list[Pass]:
    """The phases of the objective, each as a pass on noise at augmentation probability ½.

    Args:
        phases: the losses.
        n: images in a micro-batch.
        rng: on the networks' device.
        execute: directly, or by replaying a graph.
    """
    G, D, objective, device = phases.G, phases.D, phases.config, rng.device
    labels = torch.zeros(1, G.label_size, device=device)
    images = torch.randn(n, G.channels, *G.resolution, generator=rng, device=device)
    p = torch.full((), 0.5, device=device)
    zero, zeros = torch.zeros((), device=device), torch.zeros(2, device=device)

    def made(work: Work, *given: Tensor) -> Callable[[], tuple[Tensor, ...]]:
        return lambda: execute(work, phases, rng, 1, images, labels.expand(n, -1), labels, *given)

    plans = [
        Pass("generator", made(generator_gradients, p), G, D, 1.0),
        Pass("discriminator", made(discriminator_gradients, p, zeros), D, G, 1.0),
    ]
    if objective.path_length_weight:
        plans.append(Pass("path_length", made(path_length_gradients, zero), G, D, 1 / objective.path_length_interval))
    if objective.r1_gamma:
        plans.append(Pass("r1", made(r1_gradients, p), D, G, 1 / objective.r1_interval))
    return plans


def _forget_gradients(phases: Phases) -> None:
    for network in (phases.G, phases.D):
        network.zero_grad(set_to_none=True)


def seconds_per_image(phases: Phases, n: int, execute: Runner = eagerly) -> float:
    """Seconds of training for an image, without data loading and optimisers.

    Each phase runs on noise, once to warm up and once timed, and counts by the share of steps that have it. A graph is captured
    and replayed once before that.

    Args:
        phases: the losses.
        n: images in a micro-batch.
        execute: directly, or by replaying a graph.
    """
    device = phases.G.mapping.w_avg.device
    seconds = 0.0
    for one in passes(phases, n, torch.Generator(device).manual_seed(0), execute):
        with training_only(one.network, one.other):
            for _ in range(1 if execute is eagerly else 3):
                one.run()
                _forget_gradients(phases)
            seconds += _timed(one.run, device) * one.share / n
    _forget_gradients(phases)
    return seconds


def _timed(run: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def compiling_pays(make: Callable[[bool], Phases], n: int, group: int, kimg: float) -> tuple[bool, str]:
    """Whether compiled phases let training end sooner, and why. It is tried where the run is long enough to be worth the trial.

    Args:
        make: `make(compiled)` makes the losses.
        n: images in a micro-batch.
        group: a smaller number of images, for a first estimate.
        kimg: length of the run in thousands of images.
    """
    hours = seconds_per_image(make(False), group) * kimg / 3.6
    if hours * 3600 < _LONG * _COMPILING:
        return False, f"compiling takes minutes, the run about {hours:.1g} h"
    eager = seconds_per_image(make(False), n) * 1000
    started = time.perf_counter()
    try:
        phases = make(True)
        compiled = seconds_per_image(phases, n) * 1000
    except Exception as error:  # the compiler, or what it needs, can be missing in many ways
        return False, f"torch.compile fails here: {fault(error.__cause__ or error, 'it does not say why')}"
    taken = time.perf_counter() - started
    reason = f"tried: {eager:.3g} s/kimg without, {compiled:.3g} with, {taken:.0f} s to compile"
    return (eager - compiled) * kimg > taken, reason


class _Holdings:
    """The bytes of storage that autograd keeps for the backward pass, at present (`now`) and at most (`most`).

    Several tensors may share a storage, which counts once: `times` has the number of tensors by the storage's address.
    """

    def __init__(self) -> None:
        self.times: Counter[int] = Counter()
        self.now = self.most = 0

    def add(self, tensor: Tensor) -> _Held:
        return _Held(self, tensor)


class _Held:
    """A tensor that autograd keeps; it is no longer counted once autograd frees it."""

    def __init__(self, holdings: _Holdings, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self.holdings, self.tensor, self.at, self.size = holdings, tensor, storage.data_ptr(), storage.nbytes()
        holdings.times[self.at] += 1
        if holdings.times[self.at] == 1:
            holdings.now += self.size
            holdings.most = max(holdings.most, holdings.now)

    def __del__(self) -> None:
        self.holdings.times[self.at] -= 1
        if not self.holdings.times[self.at]:
            self.holdings.now -= self.size


def bytes_kept(run: Callable[[], object]) -> int:
    """The bytes of activations that autograd keeps at most, during the forward and backward pass of `run`."""
    holdings = _Holdings()
    with torch.autograd.graph.saved_tensors_hooks(holdings.add, lambda held: held.tensor):
        run()
    return holdings.most


def weight_bytes(phases: Phases, *, before: bool = False) -> int:
    """The bytes of weights, gradients, Adam's two moments and the EMA generator; with `before`, of those that networks
    without an optimiser lack.
    """
    g, d = (sum(p.numel() for p in net.parameters()) for net in (phases.G, phases.D))
    return 4 * (g * 3 + d * 2 if before else g * 5 + d * 4)


def survives(phases: Phases, n: int, reserve: int = 0) -> bool:
    """Whether each phase's forward and backward pass on n images fits into memory.

    Args:
        phases: the losses.
        n: images in a micro-batch.
        reserve: bytes that the device needs for other things. What the optimiser will hold is allowed for in any case.
    """
    device = phases.G.mapping.w_avg.device
    fits = False
    try:
        ballast = torch.empty(weight_bytes(phases, before=True) + reserve, dtype=torch.uint8, device=device)
        for one in passes(phases, n, torch.Generator(device).manual_seed(0)):
            with training_only(one.network, one.other):
                one.run()
        del ballast
        fits = True
    except torch.OutOfMemoryError:
        pass
    _forget_gradients(phases)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return fits


def fitting_batch(phases: Phases, batch: int, group: int, reserve: int = 0, sharing: int = 1) -> int:
    """The largest micro-batch that fits into memory: found by trial on a GPU, elsewhere from the free memory.

    Args:
        phases: the losses.
        batch: images in a minibatch, which the result divides.
        group: images of a minibatch-std group, which divides the result.
        reserve: bytes that the device needs for other things.
        sharing: number of processes that share the free memory where there is no GPU.
    """
    if phases.G.mapping.w_avg.device.type == "cuda":
        return largest_batch(batch, group, lambda n: survives(phases, n, reserve))
    free = free_memory()
    return batch if free is None else largest_batch(batch, group, affords(phases, group, free // sharing))


def affords(phases: Phases, group: int, free_bytes: int) -> Callable[[int], bool]:
    """A function that tells whether a micro-batch of n images fits into that much memory, where running out of it
    raises no error.

    Args:
        phases: the losses.
        group: images of the micro-batch from which the memory of others is extrapolated.
        free_bytes: of the device.
    """
    device = phases.G.mapping.w_avg.device
    kept = 0
    for one in passes(phases, group, torch.Generator(device).manual_seed(0)):
        with training_only(one.network, one.other):
            kept = max(kept, bytes_kept(one.run))
    _forget_gradients(phases)
    return lambda n: weight_bytes(phases) + kept * n // group <= _USABLE * free_bytes


def largest_batch(batch: int, group: int, fits: Callable[[int], bool]) -> int:
    """The largest divisor of `batch` that is a multiple of `group` and for which `fits` is true. Raises `FruganError`
    if none is.
    """
    for n in range(batch, 0, -1):
        if batch % n == 0 and n % group == 0 and fits(n):
            return n
    raise FruganError(
        f"not even {group} of a batch of {batch} images, a minibatch-std group, fit into memory at once; "
        "lower --resolution, --channel-base or --mbstd-group, or free some memory"
    )
