"""Networks, phases and training state, built from a run's configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from frugan.augment import (
    Augmentation,
    AugmentConfig,
    AugmentPipeline,
    Chain,
    CircularShift,
    DiffAugment,
    Measurement,
)
from frugan.config.schema import RunConfig
from frugan.data import Dataset
from frugan.errors import FruganError, explain
from frugan.losses import terms_of
from frugan.networks import Discriminator, Generator, checkpoint_activations
from frugan.networks.registry import make_network
from frugan.training import Phases, TrainState
from frugan.training.transfer import freeze


def build(config: RunConfig, dataset: Dataset, device: torch.device) -> tuple[TrainState, Phases]:
    """A new training state and its losses.

    Args:
        config: the run's; a contradiction in it may raise any error, since `config.resolve` refuses those that a user
            can make.
        dataset: the images, for the sampler.
        device: where everything is kept.
    """
    state = TrainState.create(
        config.generator,
        config.discriminator,
        config=config.training,
        objective=config.objective,
        controller=config.controller,
        sampler=dataset.sampler(config.training.seed),
        device=device,
    )
    freeze(state.G, state.D, config.transfer)
    return state, make_phases(config, state.G, state.D, compiled=config.training.compile)


@contextmanager
def refusing(what: str, remedy: str) -> Iterator[None]:
    """Turns errors of building something into a `FruganError`: what describes it, and the remedy; others stay as they are.

    Configurations edited by hand, and options from Python, can be wrong in any way.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, FruganError) or explain(error):
            raise
        raise FruganError(f"{what} what cannot be built ({error}); {remedy}") from error


def build_networks(config: RunConfig, device: torch.device | str = "cpu") -> tuple[Generator, Discriminator]:
    """Fresh networks; those of their layers that fine-tuning freezes have no gradients."""
    G, D = make_network(config.generator).to(device), make_network(config.discriminator).to(device)
    freeze(G, D, config.transfer)
    return G, D


def build_phases(config: RunConfig, device: torch.device, *, compiled: bool = False) -> Phases:
    """The losses of a run on new networks, for trials.

    Args:
        config: the run's.
        device: of the networks.
        compiled: whether the losses are compiled by `torch.compile`.
    """
    return make_phases(config, *build_networks(config, device), compiled=compiled)


def make_phases(config: RunConfig, G: Generator, D: Discriminator, *, compiled: bool = False) -> Phases:
    """The losses that a run's configuration asks for, on the networks' device.

    Args:
        config: of the run.
        G, D: the networks.
        compiled: whether the losses are compiled.
    """
    device = G.mapping.w_avg.device
    generated, judged = G.config.synthesis.tile, getattr(D.config, "tile", "none")
    where: dict[str, Any] = {"channels": G.channels, "resolution": G.resolution, "device": device, "tile": judged}
    where["masks"] = len(G.config.masks)
    nearest = config.data.mask_filter == "nearest"
    objective = config.objective
    augment: Augmentation = AugmentPipeline(config.augment, nearest_masks=nearest, **where)
    if config.diffaugment:
        augment = Chain(augment, DiffAugment(config.diffaugment, **where))
    shift = None
    if generated != "none":
        shift = CircularShift(generated, resolution=G.resolution, device=device)
    if shift and judged == generated:  # real images repeat, too: all are shown from anywhere
        augment, shift = Chain(shift, augment), None
    across = AugmentConfig(objective.consistency_transforms, reach=objective.consistency_reach)
    terms = terms_of(objective, lambda: AugmentPipeline(across, nearest_masks=nearest, **where))
    measure = None
    if config.measurement:
        measure = Measurement(config.measurement, G.resolution, masks=len(G.config.masks))
    precision = config.training.precision
    for network in (G, D):
        checkpoint_activations(network, config.training.activation_checkpointing)
    return Phases(
        G,
        D,
        augment,
        objective,
        measure=measure,
        shift=shift,
        terms=terms,
        precision=precision,
        compiled=compiled,
    )
