"""Presets: the constants of published configurations, and of one for CPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Preset:
    """One column of the table below. None: derived from resolution and batch."""

    kimg: int
    batch: int | None
    mbstd_group: int | None
    channel_base: int | None
    lr: float | None
    r1_gamma: float | None
    ema_half_life_kimg: float | None
    ema_ramp: float | None
    mapping_layers: int
    path_length_weight: float = 2.0
    path_length_phase: bool = True  # with weight 0 too, as published: Adam's lazy correction of G holds
    style_mixing: float = 0.9
    d_architecture: Literal["resnet", "orig"] = "resnet"
    channel_max: int = 512
    latent: int = 512
    ada_kimg: float = 500


SCHEDULED_P = 0.3
"""Where a scheduled p ends, unless a cap is given."""

FINE_TUNING_ADA_KIMG = 100
"""p moves this fast, in kimg from 0 to 1, when training starts from trained networks (Karras et al. 2020)."""

# Karras et al. 2020 ("Limited Data"), appendix D; `auto` as in the paper's code; `tiny` is measured in docs/project/notebook/small-presets.md.
# fmt: off
PRESETS: dict[str, Preset] = {
    #                         kimg  batch mbstd   base     lr  gamma    ema  ramp  map
    "auto":          Preset( 25000, None, None,  None,  None,  None,  None, 0.05,   2),
    "stylegan2":     Preset( 25000,   32,    4, 32768, .0020,  10.0,  10.0, None,   8),
    "paper256":      Preset( 25000,   64,    8, 16384, .0025,   1.0,  20.0, None,   8),
    "paper512":      Preset( 25000,   64,    8, 32768, .0025,   0.5,  20.0, None,   8),
    "paper1024":     Preset( 25000,   32,    4, 32768, .0020,   2.0,  10.0, None,   8),
    "cifar":         Preset(100000,   64,   32, 32768, .0025,  0.01, 500.0, 0.05,   2, path_length_weight=0, style_mixing=0, d_architecture="orig"),
    "cifarbaseline": Preset(100000,   64,   32, 32768, .0025,  0.01, 500.0, 0.05,   8),
    "tiny":          Preset(   100,   16,    4,   512, .0100,   8.0,   5.0, 0.05,   2, path_length_weight=0, path_length_phase=False, style_mixing=0, channel_max=128, latent=128, ada_kimg=50),
}
