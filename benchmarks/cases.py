"""Benchmarks on a CPU, by name. (On a GPU: `benchmarks.gpu`.)"""

from __future__ import annotations

from typing import Any

from benchmarks import augment, generate, metrics, start, training, waiting
from benchmarks.harness import Case

SMALL: dict[str, Any] = {"batch": 16, "channel_base": 4096, "channel_max": 128}
ADA: dict[str, Any] = {"augment": "fixed", "p": 0.6}

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

GENERATION = {
    "frugan": generate.ours,
    "channels first": generate.channels_first,
    "its definitions, channels first": generate.specification,
    "stylegan2-pytorch": generate.peer("stylegan2-pytorch"),
    "stylegan2-torch": generate.peer("stylegan2-torch"),
}
RECOMPUTATION = {"frugan": training.eager, "activation checkpointing": training.recomputed}
COMPILATION = {"eager": training.eager, "compiled": training.compiled}
PROCESSES = {"threads": training.eager, "processes": training.together}
SHARE_OF_AUGMENTATION = {
    "no augmentation": training.augmented(0),
    "bgc at p = 0.1": training.augmented(0.1),
    "bgc at p = 0.6": training.augmented(0.6),
}
AUGMENTATION = {"frugan": augment.ours, "kornia": augment.kornia}


def small_training(size: int, steps: int) -> dict[str, Case]:
    """Steps: a multiple of 16, so that every phase has its share."""
    settings = {"size": size, "steps": steps, **SMALL, **ADA}
    what = f"{size}², channel base 4096, max 128, batch 16, bgc at p = 0.6"
    return {
        f"train-{size}": Case(f"training, {what}", TRAINING, "s/kimg", settings, TRAINING_NOTES),
        f"share-{size}": Case(
            f"share of the convolutions' rate, {what}", {"frugan": training.share}, settings=settings
        ),
        f"convolution-{size}": Case(
            f"GFLOP/s of one 3×3 convolution at {size}², batch 16, channels last or first; trained: with both gradients",
            {"PyTorch": training.convolution},
            settings={"size": size, **SMALL},
        ),
        f"processes-{size}": Case(f"threads, or processes of one thread, {what}", PROCESSES, "s/kimg", settings),
        f"memory-{size}": Case(f"activation checkpointing, {what}", RECOMPUTATION, "s/kimg", settings),
        f"data-{size}": Case(
            f"waiting for images, {what}",
            {"PNG folder": waiting.waiting(resident=False), "resident": waiting.waiting(resident=True)},
            "s/kimg",
            settings,
        ),
    }


def small_and_wide(size: int) -> dict[str, Case]:
    """For networks as small as tiny's, and for wide ones."""
    kinds: dict[str, dict[str, Any]] = {"tiny": {"preset": "tiny", "steps": 96}, "wide": {"steps": 16, **SMALL}}
    cases = {}
    for name, settings in kinds.items():
        settings |= {"size": size}
        title = f"what augmentation adds, {name}, {size}²"
        cases[f"augmented-{name}-{size}"] = Case(title, SHARE_OF_AUGMENTATION, "s/kimg", settings)
        title = f"torch.compile, {name}, {size}², bgc at p = 0.6"
        cases[f"compiled-{name}-{size}"] = Case(title, COMPILATION, "s/kimg", settings | ADA)
    return cases


def augmentation(batches: dict[int, int]) -> dict[str, Case]:
    """{size: batch}"""
    return {
        f"augment-{size}": Case(
            f"bgc at p = 0.6, {size}², batch {batch}, milliseconds per image",
            AUGMENTATION,
            "with backward, ms",
            {"size": size, "batch": batch, "p": 0.6},
            "kornia: bilinear and resampled by each transform anew; ours filters and resamples once.",
        )
        for size, batch in batches.items()
    }


def generation(size: int, channel_base: int, batch: int, repeats: int) -> dict[str, Case]:
    settings = {"size": size, "batch": batch, "channel_base": channel_base, "channel_max": 512, "repeats": repeats}
    title = f"images of {size}², channel base {channel_base}, batch {batch}, float32"
    return {f"generate-{size}": Case(title, GENERATION, "s/image", settings)}


CASES: dict[str, Case] = {
    **small_training(32, steps=32),
    **small_training(64, steps=16),
    **augmentation({32: 16, 64: 16, 256: 4}),
    **{name: case for size in (32, 64) for name, case in small_and_wide(size).items()},
    "help": Case("frugan --help", {"frugan": start.show_help}),
    "first-step": Case(
        "from nothing to the first training step, preset tiny, 1,000 PNG of 32²",
        {"frugan": start.first_step},
        settings={"size": 32, "images": 1000},
    ),
    "first-image": Case("a generator of 1024² at full width", {"frugan": start.first_image}, settings={"size": 1024}),
    **generation(256, 16384, batch=4, repeats=2),
    **generation(1024, 32768, batch=1, repeats=2),
    **{
        f"{name}-{samples}": Case(
            f"{name} of {samples} samples, 1,280 dimensions", arms, "s", {"samples": samples, "dimension": 1280}
        )
        for name, arms in metrics.METRICS.items()
        for samples in (5000, 20000)
    },
}
