"""Forecasts of a run's duration from a trial step."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import torch

from frugan.tracking.text import duration
from frugan.training.graphs import Runner, eagerly, search_algorithms
from frugan.training.phases import Phases, training_only
from frugan.training.trial import passes, seconds_per_image

_SLOW_PASS = 1.0
"""Seconds of one image's pass from which on that pass alone is the estimate."""

_STEP_PASSES = 2.5
"""The time of a step as a multiple of the generator's pass: all phases, each by the share of steps that have it."""

_SOON = 2.0
"""Seconds of a micro-batch up to which all of it is timed, which is more exact: an image takes less time in a larger batch."""


def seconds_per_kimg(phases: Phases, group: int, micro_batch: int, execute: Runner = eagerly) -> float:
    """Seconds of training for a thousand images, from a trial.

    Args:
        phases: the losses.
        group: number of images with which all phases are timed. Where a single image is slow on a CPU, its first pass of the
            generator is the estimate instead.
        micro_batch: number of images in training, with which the phases are timed once more where that is soon done; on a GPU
            with nothing else, unless it does not fit into memory.
        execute: as training does, directly or by replaying graphs.
    """
    device = phases.G.mapping.w_avg.device
    if device.type != "cpu":  # whose first pass compiles kernels and tells nothing
        with search_algorithms(device):
            try:
                return 1000 * seconds_per_image(phases, micro_batch, execute)
            except torch.OutOfMemoryError:
                return 1000 * seconds_per_image(phases, group, execute)
    one = passes(phases, 1, torch.Generator(device).manual_seed(0))[0]
    started = time.perf_counter()
    with training_only(one.network, one.other):
        one.run()
    taken = time.perf_counter() - started
    one.network.zero_grad(set_to_none=True)
    if taken > _SLOW_PASS:
        return 1000 * taken * _STEP_PASSES
    seconds = seconds_per_image(phases, group)
    if group < micro_batch and seconds * micro_batch < _SOON:
        seconds = seconds_per_image(phases, micro_batch)
    return 1000 * seconds


def forecast(seconds_per_kimg: float, kimg: float) -> str:
    """ "about 31 s/kimg: 100 kimg take 52 minutes, done on Thu 26 Nov at 15:05"."""
    seconds = seconds_per_kimg * kimg
    done = ""
    if seconds < 10**9:
        done = (datetime.now() + timedelta(seconds=seconds)).strftime(", done on %a %d %b %Y at %H:%M")
    return f"about {seconds_per_kimg:.3g} s/kimg: {kimg:g} kimg take {duration(seconds)}{done}"
