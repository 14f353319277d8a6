"""The one object that holds everything about a training run in progress. What is not in it does not exist."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from frugan.augment import Controller, ControllerConfig
from frugan.checks import Count, Factor, Limits, Positive, Seed, check_fields
from frugan.data import Sampler
from frugan.errors import FruganError
from frugan.losses import ObjectiveConfig
from frugan.networks import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from frugan.networks.registry import make_network
from frugan.training.phases import Precision


@dataclass(frozen=True)
class TrainingConfig:
    """The optimiser and its schedule.

    `batch` images a step, worked through `batch_per_device` at a time. `ema_half_life_kimg`: of the generator's moving
    average; `ema_ramp` keeps it at most that fraction of the images seen so far (None: no ramp-up). With
    `cuda_graphs` phases are replayed as graphs where the device is CUDA, else nothing is. After
    `max_bad_steps` steps in a row with a non-finite gradient, training goes back to its last checkpoint,
    and learning rates are multiplied by `rollback_lr`; below 1, it also goes back where D's outputs blow up.
    """

    batch: Count = 32
    batch_per_device: Count = 32
    generator_lr: Positive = 0.0025
    discriminator_lr: Positive = 0.0025
    beta1: Annotated[float, Limits(at_least=0, below=1)] = 0.0
    beta2: Annotated[float, Limits(at_least=0, below=1)] = 0.99
    eps: Positive = 1e-8
    ema_half_life_kimg: Positive = 10.0
    ema_ramp: Positive | None = 0.05
    seed: Seed = 0
    precision: Precision = "fp32"
    compile: bool = False
    cuda_graphs: bool = True
    activation_checkpointing: bool = False
    max_bad_steps: Count = 16
    rollback_lr: Factor = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.batch % self.batch_per_device:
            raise FruganError(
                f"batch {self.batch} is not a multiple of batch per device {self.batch_per_device}; "
                "choose one that divides it"
            )
        if self.compile and self.activation_checkpointing:
            raise FruganError("activation checkpointing and torch.compile do not go together; leave one of them out")


def lazy_adam(network: nn.Module, lr: float, config: TrainingConfig, interval: int | None) -> torch.optim.Adam:
    """Adam with lr·c, β₁ᶜ, β₂ᶜ, c = k/(k + 1), for the extra step of a penalty applied every k = `interval` steps.

    None: no such phase, c = 1. Karras et al. 2020 (StyleGAN2), appendix B.
    """
    c = 1.0 if interval is None else interval / (interval + 1)
    betas = (config.beta1**c, config.beta2**c)
    return torch.optim.Adam(network.parameters(), lr=lr * c, betas=betas, eps=config.eps, fused=True)


class TrainState:
    """Networks, optimisers, controller, counters, random generator and the sampler's position.

    `ema` is the moving average of `G`: the network one keeps. `images` and `step` count what training has seen. Where
    several processes train together, each holds all of it, and the same.
    """

    def __init__(
        self,
        G: Generator,
        D: Discriminator,
        *,
        config: TrainingConfig,
        objective: ObjectiveConfig,
        controller: ControllerConfig,
        sampler: Sampler,
        device: torch.device,
    ) -> None:
        # Channels last, as activations are: convolutions, and the gradients they give, then need no reordering.
        self.G, self.D = (
            net.to(device).to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
            for net in (G, D)
        )
        self.ema = copy.deepcopy(self.G).eval().requires_grad_(False)
        lazy_g = objective.path_length_interval if objective.has_path_length_phase else None
        lazy_d = objective.r1_interval if objective.has_r1_phase else None
        self.optimizer_G = lazy_adam(self.G, config.generator_lr, config, lazy_g)
        self.optimizer_D = lazy_adam(self.D, config.discriminator_lr, config, lazy_d)
        self.controller = Controller(controller, device=device)
        self.sampler = sampler
        self.rng, self.seed = torch.Generator(device), config.seed
        self.path_length_mean = torch.zeros((), device=device)
        self.logit_means = torch.zeros(2, device=device)
        self.bad_streak = torch.zeros((), dtype=torch.int64, device=device)
        self.images = 0
        self.step = 0
        self.rollbacks = 0

    @classmethod
    def create(
        cls, generator: GeneratorConfig, discriminator: DiscriminatorConfig, *, config: TrainingConfig, **parts: Any
    ) -> TrainState:
        """Fresh networks, initialised from `config.seed` alone, whatever the device."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            G, D = make_network(generator), make_network(discriminator)
        return cls(G, D, config=config, **parts)

    @property
    def device(self) -> torch.device:
        return self.path_length_mean.device

    @property
    def kimg(self) -> float:
        return self.images / 1000

    def networks(self) -> dict[str, nn.Module]:
        return {"G": self.G, "D": self.D, "ema": self.ema}

    def optimizers(self) -> dict[str, torch.optim.Adam]:
        return {"G": self.optimizer_G, "D": self.optimizer_D}

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors by name, everything else as JSON-able values). Round-trips bit for bit with `load_state_dict`."""
        tensors = {f"{name}/{k}": v for name, net in self.networks().items() for k, v in net.state_dict().items()}
        for name, optimizer in self.optimizers().items():
            for i, slots in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer_{name}/{i}/{slot}": value for slot, value in slots.items()}
        tensors |= {f"controller/{k}": v for k, v in self.controller.state_dict().items()}
        tensors |= {
            "path_length_mean": self.path_length_mean,
            "logit_means": self.logit_means,
            "bad_streak": self.bad_streak,
        }
        facts = {
            "images": self.images,
            "step": self.step,
            "rollbacks": self.rollbacks,
            "seed": self.seed,
            "sampler": self.sampler.state_dict(),
        }
        return tensors, facts

    def load_state_dict(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Raises `FruganError` if the tensors are not those of such a state."""
        groups = _by_prefix(tensors)
        try:
            for name, net in self.networks().items():
                net.load_state_dict(groups[name])
            for name, optimizer in self.optimizers().items():
                parameters = list(self.networks()[name].parameters())
                slots: dict[int, dict[str, Tensor]] = {}
                for key, value in groups.get(f"optimizer_{name}", {}).items():
                    i, slot = key.split("/")
                    if value.ndim:  # the fused step goes through memory: strides must be the parameter's
                        value = torch.empty_like(parameters[int(i)]).copy_(value)
                    slots.setdefault(int(i), {})[slot] = value
                optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
            self.controller.load_state_dict(groups["controller"])
        except (IndexError, KeyError, RuntimeError) as error:
            raise FruganError(f"the checkpoint does not fit this configuration: {error}") from error
        self.path_length_mean = tensors["path_length_mean"].to(self.device)
        if "logit_means" in tensors:  # the first checkpoints had none
            self.logit_means = tensors["logit_means"].to(self.device)
        self.bad_streak = tensors["bad_streak"].to(self.device)
        self.images, self.step, self.rollbacks = facts["images"], facts["step"], facts["rollbacks"]
        self.sampler.load_state_dict(facts["sampler"])
        self.seed = facts["seed"]

    def random(self, phase: int, part: int) -> torch.Generator:
        """The random generator, at the start of a stream of its own for this step, phase and part of the minibatch.

        So a part draws the same numbers whichever process works on it, and whatever came before.
        """
        stream = np.random.SeedSequence([self.seed, self.step, phase, part]).generate_state(1, np.uint64)
        return self.rng.manual_seed(int(stream[0]) % 2**63)

    def scale_rates(self, factor: float) -> None:
        """Learning rates become `factor` times what they were in the beginning."""
        for optimizer in self.optimizers().values():
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def reseed(self, salt: int) -> None:
        """Other random numbers from here on, which depend on the seed so far and `salt` alone."""
        self.seed = (self.seed + 0x9E3779B97F4A7C15 * (salt + 1)) % 2**63

    @torch.no_grad()
    def update_average(self, images: int, half_life_kimg: float, ramp: float | None) -> float:
        """ema ← ema·β + G·(1 − β) with β = ½^(images / half-life in images); buffers are copied. Returns β.

        Called before `self.images` counts the batch: `ramp` limits the half-life to that fraction of the images before it, so
        that after the first batch (β = 0) the average is G itself.
        """
        half_life = half_life_kimg * 1000
        if ramp is not None:
            half_life = min(half_life, self.images * ramp)
        beta = 0.5 ** (images / max(half_life, 1e-8))
        average = torch.optim.swa_utils.get_ema_multi_avg_fn(beta)
        average(list(self.ema.parameters()), list(self.G.parameters()), 1)
        for kept, live in zip(self.ema.buffers(), self.G.buffers()):
            kept.copy_(live)
        return beta


def _by_prefix(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    groups: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        prefix, _, rest = key.partition("/")
        groups.setdefault(prefix, {})[rest] = value
    return groups
