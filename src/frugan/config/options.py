"""Options of training: what a user may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from frugan.checks import Count, Factor, Limits, NotNegative, Probability, Seed, as_option, check_choice, check_fields
from frugan.config.presets import PRESETS

BatchSize = Annotated[int, Limits(at_least=1, at_most=65536)]

Length = Annotated[float, Limits(above=0, at_most=1e9)]
"""kimg: thousands of images shown to the discriminator."""

Rate = Annotated[float, Limits(above=0, at_most=10)]

Depth = Annotated[int, Limits(at_least=0, at_most=1000)]

Width = Annotated[int, Limits(at_least=1, at_most=65536)]


@dataclass(frozen=True)
class Options:
    """What a user may ask for; None means: let the preset, the data and the machine decide."""

    preset: str = ""
    """Empty: "auto"; on a CPU "tiny" where that would take more than a day, see `frugan.run.plan.plan`."""
    kimg: Length | None = None
    batch: BatchSize | None = None
    batch_per_device: BatchSize | Literal["auto"] | None = None
    """ "auto": what fits into memory; `frugan.run.plan.plan` finds it."""
    gamma: NotNegative | None = None
    lr: Rate | None = None
    rollback_lr: Factor = 1.0
    method: str = "ada"
    augment: Literal["ada", "scheduled", "fixed", "none"] | None = None
    controller: Literal["rt", "rv"] = "rt"
    target: Annotated[float, Limits(at_least=-1, at_most=1)] | None = None
    p: Probability | None = None
    p_max: Probability | None = None
    ada_kimg: Length | None = None
    transforms: str | None = None
    diffaugment: str | None = None
    measurement: str | None = None
    consistency_transforms: str | None = None
    consistency_reach: Annotated[float, Limits(above=0, at_most=4)] | None = None
    conditional: bool = False
    seed: Seed = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    activation_checkpointing: bool = False
    mapping_layers: Depth | None = None
    d_mapping_layers: Depth | None = None
    channel_base: Annotated[int, Limits(at_least=1, at_most=2**24)] | None = None
    channel_max: Width | None = None
    d_capacity: Annotated[float, Limits(above=0, at_most=100)] = 1.0
    latent: Width | None = None
    architecture: str | None = None
    """A name of `frugan.networks.registry.ARCHITECTURES`; None: that of the networks to start from, else stylegan2."""
    g_architecture: Literal["skip", "resnet", "orig"] | None = None
    d_architecture: Literal["skip", "resnet", "orig"] | None = None
    mbstd_group: BatchSize | None = None
    style_mixing: Probability | None = None
    path_length_weight: NotNegative | None = None
    ema_kimg: Length | None = None
    tick: Length | None = None
    samples_every: Length | None = None
    checkpoint_every: Length | None = None
    keep_last: Count = 2
    evaluate_every: NotNegative = 0.0
    evaluate_samples: Count | None = None
    metrics: str | None = None
    features: str | None = None
    weights: str | None = None
    init_from: str | None = None
    allow_partial: bool = False
    freeze_d: str | None = None
    freeze_g: str | None = None
    freeze_mapping: bool = False
    threads: Annotated[int, Limits(at_least=1, at_most=4096)] | Literal["auto"] | None = None
    """CPU threads; "auto": as many as are fastest now, None: as PyTorch is set. `frugan.run.plan.plan` finds it."""

    def __post_init__(self) -> None:
        """Raises `FruganError` on numbers that make no sense, and on words that are none of the choices."""
        check_fields(self, as_option)
        check_choice("--preset", self.preset or "auto", PRESETS)
