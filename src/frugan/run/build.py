"""Networks, phases and training state, built from a run's configuration."""

from __future__ import annotations

from typing import Any

import torch

from frugan.augment import Augmentation, AugmentConfig, AugmentPipeline, Chain, DiffAugment, Measurement
from frugan.config.schema import RunConfig
from frugan.data import Dataset
from frugan.networks import Discriminator, Generator, checkpoint_activations
from frugan.networks.registry import make_network
from frugan.training import Phases, TrainState
from frugan.training.transfer import freeze


def build(config: RunConfig, dataset: Dataset, device: torch.device) -> tuple[TrainState, Phases]:
    """A fresh training state and its phases, on the device. Raises anything at all where the configuration makes no sense."""
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


def trial_phases(config: RunConfig, device: torch.device, *, compiled: bool = False) -> Phases:
    G, D = make_network(config.generator).to(device), make_network(config.discriminator).to(device)
    freeze(G, D, config.transfer)
    return make_phases(config, G, D, compiled=compiled)


def make_phases(config: RunConfig, G: Generator, D: Discriminator, *, compiled: bool = False) -> Phases:
    """The training phases that a run's configuration asks for, on the networks' device."""
    device = G.mapping.w_avg.device
    where: dict[str, Any] = {"channels": G.channels, "resolution": G.resolution, "device": device}
    objective = config.objective
    augment: Augmentation = AugmentPipeline(config.augment, **where)
    if config.diffaugment:
        augment = Chain(augment, DiffAugment(config.diffaugment, **where))
    again = None
    if objective.consistent:
        again = AugmentPipeline(
            AugmentConfig(objective.consistency_transforms, reach=objective.consistency_reach), **where
        )
    measure = Measurement(config.measurement, G.resolution) if config.measurement else None
    precision = config.training.precision
    for network in (G, D):
        checkpoint_activations(network, config.training.activation_checkpointing)
    return Phases(G, D, augment, objective, measure=measure, again=again, precision=precision, compiled=compiled)
