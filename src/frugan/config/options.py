"""Options of training: name, type, default, description, and how the command line shows each; the one place where they stand.

The signature and help of `frugan train`, the keywords of `frugan.train` and docs/reference/options.md are made from here. The text
below a field describes it; where the default is None it says in brackets what then holds.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple

from frugan.channels import AS_FILES, CHANNELS
from frugan.checks import (
    Count,
    Factor,
    Limits,
    NotNegative,
    Only,
    Positive,
    Probability,
    Seed,
    as_option,
    check_choice,
    check_fields,
)
from frugan.config.methods import METHODS
from frugan.config.presets import PRESETS
from frugan.errors import FruganError
from frugan.resolution import parse_resolution

BatchSize = Annotated[int, Limits(at_least=1, at_most=65536)]
Length = Annotated[float, Limits(above=0, at_most=1e9)]
"""kimg: thousands of images shown to the discriminator."""
Rate = Annotated[float, Limits(above=0, at_most=10)]
Depth = Annotated[int, Limits(at_least=0, at_most=1000)]
Width = Annotated[int, Limits(at_least=1, at_most=65536)]
Threads = Annotated[int, Limits(at_least=1, at_most=4096)]
Architecture = Literal["skip", "resnet", "orig"]

DATA = "Data"
RUN = "Run"
AUGMENTATION = "Augmentation"
NETWORKS = "Networks"
OPTIMISATION = "Optimisation"
FINE_TUNING = "Fine-tuning"
REPORTING = "Reporting"
MACHINE = "Machine"


class Display(NamedTuple):
    """The form of an option on the command line.

    `basic`: `frugan train --help` lists it; `alias`: another name; `choices`: names that complete in the shell, joined by
    commas where `several` go together; `read`: what makes the value from text; `default`: of the command line, where that
    is another one; `only`: with which other option it counts.
    """

    panel: str
    basic: bool = False
    alias: str | None = None
    choices: Callable[[], Iterable[str]] | None = None
    several: bool = False
    read: Callable[[str, str], Any] | None = None
    default: Any = None
    only: Only | None = None


def option(value: Any, panel: str, /, **display: Any) -> Any:
    """A field with its default, and how it is shown (fields of `Display`)."""
    return field(default=value, metadata={"display": Display(panel, **display)})


def displays(owner: type) -> dict[str, Display]:
    """The form of each option of a class on the command line, by name."""
    return {f.name: f.metadata["display"] for f in fields(owner) if "display" in f.metadata}


def read_count(name: str, text: str) -> int | Literal["auto"]:
    """ "16" → 16; "auto" stays. `name` is what the user calls it. Raises `FruganError`."""
    if text == "auto":
        return "auto"
    if not text.isdecimal() or len(text) > 9 or not int(text):
        raise FruganError(f"{name} {text[:60]!r}: give a whole number above 0, or auto")
    return int(text)


def _transforms() -> Iterable[str]:
    from frugan.augment import PRESETS as names
    from frugan.augment import TRANSFORMS

    return [*names, *TRANSFORMS]


def _architectures() -> Iterable[str]:
    from frugan.networks.registry import ARCHITECTURES

    return ARCHITECTURES


def _policies() -> Iterable[str]:
    from frugan.augment import POLICIES

    return POLICIES


def _trackers() -> Iterable[str]:
    from frugan.tracking import TRACKERS

    return (*TRACKERS, "none")


def _metrics() -> Iterable[str]:
    from frugan.metrics import METRICS

    return METRICS


def _features() -> Iterable[str]:
    from frugan.metrics import FEATURES

    return FEATURES


@dataclass(frozen=True)
class DataOptions:
    """Options of images; they become a `frugan.data.DataConfig`, which has the same fields."""

    resolution: tuple[int, int] | None = option(None, DATA, basic=True, read=lambda _, text: parse_resolution(text))
    """Size of the images in pixels: R for square ones, or HEIGHTxWIDTH. [default: from the images]"""
    channels: str = option("auto", DATA, choices=lambda: ("auto", AS_FILES, *CHANNELS))
    """Channels that all images are converted to: L, LA, RGB, RGBA; auto: those that they have, as a data.json beside them tells;
    files: whatever it tells. Or what each channel of the files is, masks last: RGB=image,3=mask"""
    masks: str | None = option(None, DATA)
    """Masks of the images: a folder, zip or array of files with the same names, which become the last channel. [default: none]"""
    mask_filter: Literal["nearest", "smooth"] = option("nearest", DATA)
    """How masks are resized, and moved by augmentation: nearest keeps their values; smooth: as the images."""
    fit: Literal["crop", "letterbox"] = option("crop", DATA)
    """How images of another shape are fitted: the largest centred part, or all of it with borders."""
    filter: Literal["lanczos", "box"] = option("lanczos", DATA)
    """Resizing filter, antialiased."""
    background: Literal["white", "black"] = option("white", DATA)
    """Colour behind dropped transparency, and of letterboxes."""
    value_range: str = option("auto", DATA)
    """Stored values that become black and white: LOW,HIGH, or percentiles p1,p99; each:p1,p99 in every channel; full: all of 8 or
    16 bits; auto: the bits in use, or the extremes of other numbers."""
    use_generated: bool = option(False, DATA)
    """Take images that frugan generated for data, instead of skipping them."""
    frames: Literal["first", "all", "channels"] = option("first", DATA)
    """Of an animation, or a file of several pages: the first image, all, or the pages of a TIFF as channels of one."""
    stride: Annotated[int, Limits(at_least=1, at_most=1_000_000)] = option(1, DATA)
    """Take every so many frames: of videos, and with --frames all."""
    mirror: bool = option(False, DATA, basic=True)
    """Double the set by x-flips."""
    labels: str = option("none", DATA, default="auto")
    """Where labels come from, with --conditional or --balanced: auto, folders, or a .csv, .tsv, .json or .jsonl
    file; FILE:COLUMN,COLUMN picks columns, COLUMN=number or =class says how one is read."""
    balanced: bool = option(False, DATA)
    """Draw all classes equally often; with --group, groups (of each class, with --conditional)."""
    held_out: Annotated[float, Limits(at_least=0, at_most=1e9, hint="a fraction below 1, or a count of images")] = (
        option(0, DATA, basic=True)
    )
    """Images set aside for r_v and metrics, which never train: a fraction below 1, or a count."""
    group: str | None = option(None, DATA)
    """Images that belong together are held out together, and drawn equally often with --balanced: folder; folder:N, the
    first N folders of a path; regex:PATTERN with parentheses; or FILE.csv:COLUMN. [default: each image by itself]"""
    crops: str | None = option(None, DATA)
    """Of few large images: train on so many crops of each at random places, or on a grid of them. [default: none]"""
    crop_size: Annotated[int, Limits(at_least=8, at_most=65536)] | None = option(None, DATA)
    """Side of crops in pixels of the images; they are resized to --resolution. [default: none]"""
    crop_overlap: Annotated[float, Limits(at_least=0, at_most=0.95)] = option(0.0, DATA)
    """Share of their side by which neighbours in a grid of crops overlap."""
    crop_rotations: bool = option(False, DATA)
    """Turn crops by quarters, for images that have no up: at random, those of a grid all four ways."""
    crop_seed: Seed = option(0, DATA)
    """Seed of the places of crops."""
    strict: bool = option(False, DATA)
    """Refuse unreadable images instead of skipping them."""
    cache_limit: Positive | None = option(None, DATA)
    """GB of decoded shards to keep on disk; the others are fetched when their turn comes. [default: no limit]"""


@dataclass(frozen=True)
class Options:
    """The options of training. None leaves a value to the preset, the data and the machine."""

    preset: str = option("", RUN, basic=True, choices=lambda: PRESETS)
    """Configuration to start from: auto, stylegan2, paper256, paper512, paper1024, cifar, cifarbaseline, or tiny
    (for a CPU). [default: auto; without a GPU tiny, where auto would take more than a day]"""
    kimg: Length | None = option(None, RUN, basic=True)
    """Length of training in kimg: thousands of real images shown. [default: the preset's; auto 25000, tiny 100]"""
    method: str = option("ada", RUN, basic=True, choices=lambda: METHODS, several=True)
    """Methods to train with: names joined by commas, see frugan methods."""
    seed: Seed = option(0, RUN)
    """Seed of everything random."""
    conditional: bool = option(False, DATA, basic=True)
    """Train a conditional model: classes, flags or measured numbers steer the images."""

    augment: Literal["ada", "scheduled", "fixed", "none"] | None = option(None, AUGMENTATION)
    """Augmentation probability p: adaptive, on a schedule, fixed at --p, or none. [default: the method's]"""
    controller: Literal["rt", "rv"] = option("rt", AUGMENTATION, only=Only("augment", ("ada",)))
    """Overfitting heuristic that steers p; rv needs --held-out."""
    target: Annotated[float, Limits(at_least=-1, at_most=1)] | None = option(None, AUGMENTATION)
    """Target of that heuristic. [default: 0.6 for rt, 0.5 for rv]"""
    p: Probability | None = option(None, AUGMENTATION)
    """Fixed probability p, with --augment fixed. [default: none]"""
    p_max: Probability | None = option(None, AUGMENTATION, only=Only("augment", ("ada", "scheduled")))
    """Cap on p, against leaks; 0: no cap, as published. Where a scheduled p ends. [default: 0.85; scheduled: 0.3]"""
    ada_kimg: Length | None = option(None, AUGMENTATION, only=Only("augment", ("ada", "scheduled")))
    """kimg for p to go from 0 to 1, or through its schedule. [default: 500; tiny: 50; fine-tuning: 100 at most]"""
    transforms: str | None = option(
        None,
        AUGMENTATION,
        choices=_transforms,
        several=True,
        only=Only("augment", ("ada", "scheduled", "fixed")),
    )
    """Transforms: blit, geom, color, filter, noise, cutout, bg, bgc, bgcf, bgcfn, bgcfnc, or names joined by
    commas. [default: bgc]"""
    diffaugment: str | None = option(None, AUGMENTATION, choices=_policies, several=True)
    """DiffAugment's policy, always on: color,translation,cutout or some of these. [default: the method's]"""
    measurement: str | None = option(None, AUGMENTATION)
    """AmbientGAN: how the images were corrupted, for instance drop-pixels:0.5; learns clean ones. [default: not at all]"""
    consistency_transforms: str | None = option(None, AUGMENTATION, choices=_transforms, several=True)
    """Transforms that cr and bcr compare across. [default: xint; cr: xflip,xint]"""
    consistency_reach: Annotated[float, Limits(above=0, at_most=4)] | None = option(None, AUGMENTATION)
    """How far their translations go, as a multiple of ADA's ⅛. [default: 0.25]"""

    channel_base: Annotated[int, Limits(at_least=1, at_most=2**24)] | None = option(None, NETWORKS)
    """Feature maps × resolution. [default: the preset's; auto: 32768 from 512 pixels, else 16384]"""
    channel_max: Width | None = option(None, NETWORKS)
    """Most feature maps of a layer. [default: 512; tiny: 128]"""
    d_capacity: Annotated[float, Limits(above=0, at_most=100)] = option(1.0, NETWORKS)
    """Factor on the discriminator's feature maps."""
    latent: Width | None = option(None, NETWORKS)
    """Width of z and w. [default: 512; tiny: 128]"""
    mapping_layers: Depth | None = option(None, NETWORKS)
    """Depth of the mapping network. [default: the preset's; auto: 2]"""
    d_mapping_layers: Depth | None = option(None, NETWORKS, only=Only("conditional"))
    """Depth of the discriminator's label mapping; 0 as in the paper. [default: 0]"""
    architecture: str | None = option(None, NETWORKS, choices=_architectures)
    """Name of the networks' architecture. [default: that of the networks to start from, else stylegan2]"""
    g_architecture: Architecture | None = option(None, NETWORKS)
    """Connections of the generator's blocks. [default: skip]"""
    d_architecture: Architecture | None = option(None, NETWORKS)
    """Connections of the discriminator's blocks. [default: resnet; cifar: orig]"""
    tile: Literal["none", "x", "y", "xy"] | None = option(None, NETWORKS)
    """Axes along which generated images repeat without a seam. [default: none, or those of the networks to start from]"""
    images_tile: Literal["auto", "yes", "no"] = option("auto", NETWORKS)
    """With --tile, whether the training images repeat, too; no: they are cut out of something larger; auto: measured."""
    mbstd_group: BatchSize | None = option(None, NETWORKS)
    """Images in a minibatch-std group. [default: the preset's; auto: 4]"""

    batch: BatchSize | None = option(None, OPTIMISATION, basic=True)
    """Images a step. [default: the preset's; auto: 4096 / side for each process, at most 64]"""
    batch_per_device: BatchSize | Literal["auto"] | None = option(None, OPTIMISATION, read=read_count)
    """Images at once (micro-batch), to save memory; divides the batch of a process; auto: as many as fit. [default: all]"""
    r1_gamma: NotNegative | None = option(None, OPTIMISATION, basic=True, alias="gamma")
    """R1 weight γ: higher is more stable and less detailed. [default: the preset's; auto: 0.0002 · H·W / batch]"""
    lr: Rate | None = option(None, OPTIMISATION)
    """Learning rate of both networks. [default: the preset's; auto: 0.0025, from 1024 pixels 0.002]"""
    rollback_lr: Factor = option(1.0, OPTIMISATION)
    """Factor on learning rates each time a diverged run goes back to its last checkpoint (3 times at most); below
    1, outputs of D that blow up count as divergence, too."""
    vicinity: Literal["none", "hard", "soft"] = option("none", OPTIMISATION)
    """CcGAN, for measured labels: images of nearly the same number stand in for those of just that number, all alike
    within κ (hard), or the nearer the more (soft)."""
    vicinity_sigma: Positive | None = option(None, OPTIMISATION)
    """How far labels are moved at random with --vicinity, in standard deviations of each. [default: Silverman's rule,
    (4 / (d + 2) / images)^(1 / (d + 4)) for d numbers]"""
    vicinity_kappa: Positive | None = option(None, OPTIMISATION)
    """How near is near with --vicinity: κ in standard deviations of each label. [default: twice the largest gap between
    labels]"""
    path_length_weight: NotNegative | None = option(None, OPTIMISATION)
    """Path-length penalty; 0: off. [default: 2; cifar, tiny: 0]"""
    style_mixing: Probability | None = option(None, OPTIMISATION)
    """Probability of style mixing. [default: 0.9; cifar, tiny: 0]"""
    ema_half_life_kimg: Length | None = option(None, OPTIMISATION)
    """Half-life in kimg of the EMA generator. [default: the preset's; auto: batch · 10 / 32]"""

    init_from: str | None = option(None, FINE_TUNING, basic=True)
    """Networks to start from: a run, a checkpoint, an imported network, or a .pkl or .pt file. [default: fresh ones]"""
    allow_partial: bool = option(False, FINE_TUNING, only=Only("init_from"))
    """Go on where some of its weights do not fit."""
    freeze_d: str | None = option(None, FINE_TUNING)
    """Freeze-D: so many layers of the discriminator from the image side, for instance 10; or 32px: blocks of 32
    pixels and more. [default: none]"""
    freeze_g: str | None = option(None, FINE_TUNING)
    """Freeze so many blocks of the generator from the coarsest on; or 16px: those up to 16 pixels. [default: none]"""
    freeze_mapping: bool = option(False, FINE_TUNING)
    """Freeze the mapping network."""

    tick_kimg: Length | None = option(None, REPORTING)
    """kimg between records. [default: 4, or 1/100 of a short run]"""
    samples_kimg: Length | None = option(None, REPORTING)
    """kimg between sample grids. [default: 1/20 of the run, at most 50]"""
    checkpoint_kimg: Length | None = option(None, REPORTING)
    """kimg between checkpoints. [default: 1/20 of the run, at most 50]"""
    keep_last: Count = option(2, REPORTING)
    """Checkpoints kept, besides the best."""
    tracker: str = option("tensorboard", REPORTING, choices=_trackers, several=True)
    """Where records go besides stats.jsonl and the page: tensorboard, wandb, mlflow, aim, several joined by commas, or none.
    Each but the first needs its package."""
    evaluate_kimg: NotNegative = option(0.0, REPORTING)
    """kimg between evaluations; 0: none. Needs the extra frugan[metrics]."""
    evaluate_samples: Count | None = option(None, REPORTING, only=Only("evaluate_kimg"))
    """Images generated for an evaluation. [default: 5000]"""
    metrics: str | None = option(None, REPORTING, choices=_metrics, several=True, only=Only("evaluate_kimg"))
    """Metrics: names joined by commas; the first chooses the best checkpoint. [default: kid below 10,000 images,
    else fid]"""
    features: str | None = option(None, REPORTING, choices=_features, only=Only("evaluate_kimg"))
    """Feature network of the metrics, see frugan evaluate --help. [default: efficientnet-lite0]"""
    weights: str | None = option(None, REPORTING, only=Only("evaluate_kimg"))
    """File of its weights. [default: the network's own]"""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = option("auto", MACHINE)
    """Precision of the highest resolutions; auto: bf16 where that pays, else fp16 on a GPU, fp32 elsewhere."""
    compile: Literal["auto", "on", "off"] = option("auto", MACHINE)
    """torch.compile; auto: on a GPU with --no-cuda-graphs, where a long run is found to be faster with it; else off."""
    cuda_graphs: bool = option(True, MACHINE)
    """Replay each phase as a CUDA graph, where the device is CUDA."""
    activation_checkpointing: bool = option(False, MACHINE)
    """Compute feature maps again instead of keeping them, for larger batches or images; about a third slower."""
    threads: Threads | Literal["auto"] | None = option(None, MACHINE, read=read_count, default="auto")
    """CPU threads, kept for the run; auto: as many as are fastest when it begins."""

    def __post_init__(self) -> None:
        """Raises `FruganError` on numbers that make no sense, and on words that are none of the choices."""
        check_fields(self, as_option)
        check_choice("--preset", self.preset or "auto", PRESETS)


@functools.cache
def _classes_in(module: str) -> list[ast.ClassDef]:
    """The classes in a module's source. (`inspect.getsource` of a class takes four times as long, at each start.)"""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return [statement for statement in tree.body if isinstance(statement, ast.ClassDef)]


@functools.cache
def descriptions(owner: type) -> dict[str, str]:
    """The text below each field of a module's class, by name, as one line."""
    own = next(c for c in _classes_in(owner.__module__) if c.name == owner.__name__)
    found = {}
    for statement, below in pairwise(own.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(below, ast.Expr):
            found[statement.target.id] = " ".join(ast.literal_eval(below.value).split())  # pyright: ignore[reportAttributeAccessIssue]
    return found
