"""The tables of what is measured: `CASES[device][name]`."""

from __future__ import annotations

from typing import Any

from benchmarks import training
from benchmarks.harness import Case

SMALL: dict[str, Any] = {"batch": 16, "channel_base": 4096, "channel_max": 128}
ADA: dict[str, Any] = {"augment": "fixed", "p": 0.6}
STEPS = {32: 32, 64: 16}  # timed, a multiple of 16: every phase has its share

TRAINING = {
    "frugan": training.ours,
    "frugan without augmentation": training.unaugmented,
    "float32, channels first": training.channels_first,
    "its definitions, float32, channels first": training.specification,
    "stylegan2-pytorch": training.peer("stylegan2-pytorch"),
    "stylegan2-torch": training.peer("stylegan2-torch"),
}
TRAINING_NOTES = (
    "Peers: their networks and losses in float32, with our widths, batch and intervals of penalties, without augmentation, and "
    "without gradients that a phase has no use for. stylegan2-pytorch: hinge loss, three convolutions in a block of D, bilinear "
    "up-sampling; stylegan2-torch: one image channel, plain PyTorch in place of its CUDA operations. TFLOP: as PyTorch counts "
    "convolutions and matrix products."
)

CPU: dict[str, Case] = {
    **{
        f"train-{size}": Case(
            f"training at {size}², channel base 4096, max 128, batch 16, bgc at p = 0.6",
            TRAINING,
            "s/kimg",
            {"size": size, "steps": steps, **SMALL, **ADA},
            TRAINING_NOTES,
        )
        for size, steps in STEPS.items()
    },
    **{
        f"convolution-{size}": Case(
            f"GFLOP/s of one 3×3 convolution at {size}², batch 16, channels last or first; trained: with both gradients",
            {"PyTorch": training.convolution},
            settings={"size": size, **SMALL},
        )
        for size in STEPS
    },
    **{
        f"share-{size}": Case(
            f"share of the convolution's rate at {size}²",
            {"frugan": training.share},
            settings={"size": size, "steps": steps, **SMALL, **ADA},
        )
        for size, steps in STEPS.items()
    },
}

CASES: dict[str, dict[str, Case]] = {"cpu": CPU, "cuda": {}}
