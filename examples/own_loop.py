"""The parts without a run directory: own networks, own augmentation, own loop."""

from dataclasses import replace

import numpy as np
import torch

from frugan.augment import AugmentConfig, AugmentPipeline, ControllerConfig
from frugan.data import DataConfig, open_dataset
from frugan.losses import ObjectiveConfig
from frugan.networks import DiscriminatorConfig, GeneratorConfig, SynthesisConfig
from frugan.training import Phases, TrainingConfig, TrainState, train


def main(images: str, steps: int = 100, batch: int = 16, width: int = 1024) -> np.ndarray:
    dataset = open_dataset(DataConfig(images))
    size, channels = dataset.resolution, dataset.channels
    config = TrainingConfig(batch=batch, batch_per_device=batch)
    objective = ObjectiveConfig(r1_gamma=1.0)
    state = TrainState.create(
        GeneratorConfig(size, channels, z_dim=64, w_dim=64, synthesis=SynthesisConfig(width, 64)),
        DiscriminatorConfig(size, channels, channel_base=width, channel_max=64),
        config=config,
        objective=objective,
        controller=replace(ControllerConfig(), speed_kimg=50),
        sampler=dataset.sampler(seed=0),
        device=torch.device("cpu"),
    )
    augment = AugmentPipeline(AugmentConfig(("xflip", "rotate90", "xint")), channels=channels, resolution=size)
    phases = Phases(state.G, state.D, augment, objective)
    for report in train(state, phases, dataset, dataset.label_pool, config):
        if report.step % 20 == 0:
            print(report.kimg, report.stats.collect()["loss/discriminator"])
        if report.step == steps:
            break
    return state.ema.sample(seeds=[0, 1]).numpy()


if __name__ == "__main__":
    import sys

    main(sys.argv[1])
