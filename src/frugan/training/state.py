"""The training state: the one object that holds everything which a training run carries from one step to the next."""

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

    Attributes:
        batch: images in a minibatch.
        batch_per_device: images in a micro-batch; it divides `batch`.
        generator_lr, discriminator_lr, beta1, beta2, eps: of Adam.
        ema_half_life_kimg: half-life of the generator's moving average, in thousands of images.
        ema_ramp: limits the half-life to that fraction of the images seen so far; None: no limit.
        seed: of initial weights and of all random streams.
        precision: of the networks' low-precision blocks.
        compile: whether the losses are compiled by `torch.compile`.
        cuda_graphs: whether the work of micro-batches is replayed as CUDA graphs, on a CUDA device.
        activation_checkpointing: whether activations are recomputed in the backward pass instead of kept.
        max_bad_steps: after so many steps in a row with a non-finite gradient the run is rolled back to its last checkpoint.
        rollback_lr: factor on learning rates after that; below 1, a run is also rolled back where D's logits diverge.
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
    """Adam for a network with a penalty that is a step of its own in every k-th step: lr·c, β₁ᶜ, β₂ᶜ with c = k/(k + 1).

    The k + 1 updates then do what k updates with uncorrected rates would (Karras et al. 2020, StyleGAN2, appendix B).

    Args:
        network: whose parameters are optimised.
        lr: learning rate.
        config: β₁, β₂ and ε.
        interval: k; None where there is no such penalty, c = 1.
    """
    c = 1.0 if interval is None else interval / (interval + 1)
    betas = (config.beta1**c, config.beta2**c)
    return torch.optim.Adam(network.parameters(), lr=lr * c, betas=betas, eps=config.eps, fused=True)


class TrainState:
    """The complete state of a training run: networks, optimisers, controller, counters, random generator, sampler position.

    `ema` is the moving average of `G`, the network that is used afterwards; `images` and `step` count what training has
    seen. Where several processes train together, each holds all of it, and the same.

    Args:
        G, D: the networks, which are moved to the device.
        config: the optimiser and its schedule.
        objective: for the intervals of lazily applied penalties.
        controller: of the augmentation probability.
        sampler: the order of the images.
        device: where everything is kept.
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
        """A state with new networks, initialised from `config.seed` alone, whatever the device.

        Args:
            generator, discriminator: the networks' configurations.
            config: the optimiser and its schedule.
            parts: the further arguments of `TrainState`.
        """
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
        """Tensors by name, and everything else as values for JSON. `load_state_dict` restores both bit for bit."""
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
        """Restores what `state_dict` gave. Raises `FruganError` where the tensors do not fit these networks."""
        groups = _by_prefix(tensors)
        try:
            for name, net in self.networks().items():
                net.load_state_dict(groups[name])
            for name, optimizer in self.optimizers().items():
                parameters = list(self.networks()[name].parameters())
                slots: dict[int, dict[str, Tensor]] = {}
                for key, value in groups.get(f"optimizer_{name}", {}).items():
                    i, slot = key.split("/")
                    if value.ndim:  # the fused step runs through memory in order, so strides must be the parameter's
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

    def random(self, phase: int, micro_batch: int) -> torch.Generator:
        """The state's random generator, set to the start of the stream of this step, phase and micro-batch.

        A micro-batch therefore draws the same numbers whichever process works on it, and whatever was drawn before.

        Args:
            phase: the phase's number (`training.step`).
            micro_batch: its number within the minibatch.
        """
        stream = np.random.SeedSequence([self.seed, self.step, phase, micro_batch]).generate_state(1, np.uint64)
        return self.rng.manual_seed(int(stream[0]) % 2**63)

    def scale_rates(self, factor: float) -> None:
        """Sets the learning rates to `factor` times their initial values."""
        for optimizer in self.optimizers().values():
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def reseed(self, salt: int) -> None:
        """Changes the seed of all further random numbers, to one that follows from the present seed and `salt` alone."""
        self.seed = (self.seed + 0x9E3779B97F4A7C15 * (salt + 1)) % 2**63

    @torch.no_grad()
    def update_average(self, images: int, half_life_kimg: float, ramp: float | None) -> float:
        """Moves the EMA generator: ema ← β·ema + (1 − β)·G with β = ½^(images / half-life); buffers are copied.

        Called before `self.images` counts the batch, so that after the first batch (β = 0) the average is G itself.

        Args:
            images: in this step's batch.
            half_life_kimg: in thousands of images.
            ramp: limits the half-life to that fraction of the images seen before; None: no limit.

        Returns:
            β.
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
