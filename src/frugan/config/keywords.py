"""Keywords of `frugan.train`, made from the options by `python -m frugan.config.reference`."""

from __future__ import annotations

from typing import Literal, TypedDict


class TrainKeywords(TypedDict, total=False):
    """The fields of `frugan.config.options.Options` and `DataOptions`, and the rest of `frugan.data.DataConfig`."""

    preset: str
    kimg: float | None
    method: str
    seed: int
    conditional: bool
    augment: Literal["ada", "scheduled", "fixed", "none"] | None
    controller: Literal["rt", "rv"]
    target: float | None
    p: float | None
    p_max: float | None
    ada_kimg: float | None
    transforms: str | None
    diffaugment: str | None
    measurement: str | None
    consistency_transforms: str | None
    consistency_reach: float | None
    channel_base: int | None
    channel_max: int | None
    d_capacity: float
    latent: int | None
    mapping_layers: int | None
    d_mapping_layers: int | None
    architecture: str | None
    g_architecture: Literal["skip", "resnet", "orig"] | None
    d_architecture: Literal["skip", "resnet", "orig"] | None
    tile: Literal["none", "x", "y", "xy"] | None
    images_tile: Literal["auto", "yes", "no"]
    mbstd_group: int | None
    batch: int | None
    batch_per_device: int | Literal["auto"] | None
    r1_gamma: float | None
    lr: float | None
    rollback_lr: float
    vicinity: Literal["none", "hard", "soft"]
    vicinity_sigma: float | None
    vicinity_kappa: float | None
    path_length_weight: float | None
    style_mixing: float | None
    ema_half_life_kimg: float | None
    init_from: str | None
    allow_partial: bool
    freeze_d: str | None
    freeze_g: str | None
    freeze_mapping: bool
    tick_kimg: float | None
    samples_kimg: float | None
    checkpoint_kimg: float | None
    keep_last: int
    tracker: str
    evaluate_kimg: float
    evaluate_samples: int | None
    metrics: str | None
    features: str | None
    weights: str | None
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    compile: Literal["auto", "on", "off"]
    cuda_graphs: bool
    activation_checkpointing: bool
    threads: int | Literal["auto"] | None
    resolution: int | tuple[int, int] | None
    channels: str
    masks: str | None
    mask_filter: Literal["nearest", "smooth"]
    fit: Literal["crop", "letterbox"]
    filter: Literal["lanczos", "box"]
    background: Literal["white", "black"]
    value_range: str
    use_generated: bool
    frames: Literal["first", "all", "channels"]
    stride: int
    mirror: bool
    labels: str
    balanced: bool
    held_out: float
    group: str | None
    crops: str | None
    crop_size: int | None
    crop_overlap: float
    crop_rotations: bool
    crop_seed: int
    strict: bool
    cache_limit: float | None
    held_out_seed: int
    without: tuple[str, ...]
