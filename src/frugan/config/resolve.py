"""Options, preset, data and machine resolved to a run's configuration; each derived value is explained."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from frugan.augment import AugmentConfig, ControllerConfig, Measurement, parse_transforms
from frugan.channels import MaskChannel
from frugan.config.batch_sizes import BatchSizes, choose_sizes
from frugan.config.methods import Chosen, choose
from frugan.config.options import Options, displays
from frugan.config.presets import FINE_TUNING_ADA_KIMG, PRESETS, SCHEDULED_P, Preset
from frugan.config.schema import ReportConfig, RunConfig
from frugan.data import DataConfig
from frugan.errors import FruganError
from frugan.label_parts import Measured
from frugan.losses import LOSSES, ObjectiveConfig
from frugan.metrics import EvaluateConfig, default_metric
from frugan.metrics.config import FEWEST
from frugan.networks import DiscriminatorConfig, GeneratorConfig, MappingConfig
from frugan.networks.registry import DEFAULT, architecture_of, find_architecture
from frugan.ops.tiling import Tile, tiles_along
from frugan.pixel_format import PixelFormat
from frugan.tracking import parse_trackers
from frugan.training import TrainingConfig, TransferConfig
from frugan.training.vicinity import NEIGHBOURS, silverman_width, widths

SEAMLESS = 1.5
"""Images repeat where the step across their border is at most so many times that between neighbours."""

Kind = Literal["rt", "rv", "scheduled", "fixed", "none"]
Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Facts:
    """The facts that a configuration depends on besides options: data, machine, and the networks to start from."""

    resolution: tuple[int, int]
    channels: int
    label_size: int
    images: int
    held_out: int
    device: str = "cpu"
    bf16: bool = False
    processes: int = 1
    generator: GeneratorConfig | None = None
    discriminator: DiscriminatorConfig | None = None
    measured: tuple[Measured, ...] = ()
    """The label columns that are numbers."""
    masks: tuple[MaskChannel, ...] = ()
    """What the last of the channels are, where these are no image."""
    seams: tuple[float, float] | None = None
    """How visible the training images' seams are along (y, x), see `frugan.ops.tiling.seams`; None where nobody asks."""
    pixels: PixelFormat | None = None
    """How the data's files hold images."""
    label_gap: float = 0.0
    """The largest gap between them, see `frugan.training.vicinity.largest_gap`."""


@dataclass(frozen=True)
class Derived:
    """A derived value, and the reason for it."""

    name: str
    value: Any
    reason: str


@dataclass
class _Derivation:
    """Picks each value from where it is given, and notes every one that nobody asked for."""

    preset: str
    method: str
    replaced: set[str]
    """Names of preset values that the method replaces."""
    rows: list[Derived] = field(default_factory=list)

    def __call__(
        self, name: str, asked: Any, preset: Any, derived: Any = None, reason: str = "", source: Any = None
    ) -> Any:
        """The first that is given of asked, source, preset, derived."""
        if asked is not None:
            return asked
        origin = f"method {self.method}" if name in self.replaced else f"preset {self.preset}"
        choices = ((source, "the networks to start from"), (preset, origin))
        value, why = next((choice for choice in choices if choice[0] is not None), (derived, reason))
        return self.note(name, value, why)

    def note(self, name: str, value: Any, reason: str) -> Any:
        self.rows.append(Derived(name, value, reason))
        return value


@dataclass(frozen=True)
class _Asked:
    """The input of a configuration: options with the method's defaults, preset and method, data, machine."""

    options: Options
    data: DataConfig
    facts: Facts
    preset: Preset
    method: Chosen

    @property
    def side(self) -> float:
        """The side in pixels of a square with as many pixels as the images have."""
        return math.sqrt(self.facts.resolution[0] * self.facts.resolution[1])

    @property
    def reference_images(self) -> int:
        """The number of images that metrics compare with."""
        return self.facts.held_out or self.facts.images


@dataclass(frozen=True)
class _Values:
    """Values that options leave open."""

    kimg: float
    batch: int
    batch_per_device: int
    mbstd_group: int
    lr: float
    r1_gamma: float
    ema_half_life_kimg: float
    ema_ramp: float | None
    path_length_weight: float
    style_mixing: float
    augment: Kind
    ada_kimg: float
    transforms: tuple[str, ...]
    precision: Precision
    metrics: str
    vicinity: Mapping[str, Any]
    """Fields of `ObjectiveConfig`."""


def resolve(options: Options, data: DataConfig, facts: Facts) -> tuple[RunConfig, list[Derived]]:
    """Derives the complete configuration of a run.

    Args:
        options: of the user, with preset and method.
        data: of the data set.
        facts: about the images and the machine.

    Returns:
        The configuration, and a row for each derived value. Raises `FruganError` for anything that cannot be trained,
        before anything is built.
    """
    asked = _merge(options, data, facts)
    pick = _Derivation(asked.options.preset, asked.options.method, {*asked.method.preset})
    _refuse_data(asked)
    values = _derive(asked, pick)
    _refuse_method(asked, values)
    architecture = _architecture(options, facts)
    config = _assemble(asked, values, architecture, *_networks(architecture, asked, values, pick))
    _refuse_evaluation(asked, config)
    return config, pick.rows


def _merge(options: Options, data: DataConfig, facts: Facts) -> _Asked:
    """The settings of preset and method put together; an option that the user gives wins over either."""
    options = replace(options, preset=options.preset or "auto")
    method = choose(options.method.split(","))
    given = {k for k, v in dataclasses.asdict(options).items() if v is not None and (k, v) != ("precision", "auto")}
    options = replace(options, **{k: v for k, v in method.options.items() if k not in given})
    return _Asked(options, data, facts, replace(PRESETS[options.preset], **method.preset), method)


def vain_options(options: Options) -> list[str]:
    """A sentence for each option of training that was given and has no effect, with what it belongs to."""
    given = dataclasses.asdict(options)
    method = choose(options.method.split(",")).options
    values = given | {name: method[name] for name in method if given[name] is None}
    defaults = {field.name: field.default for field in dataclasses.fields(Options)}
    marked = ((name, how.only) for name, how in displays(Options).items() if how.only)
    found = (only.vain(name, values, defaults) for name, only in marked if given[name] == values[name])
    return [told for told in found if told]


def _derive(asked: _Asked, pick: _Derivation) -> _Values:
    """Every value that options leave open, but for those of the networks."""
    options, preset, side = asked.options, asked.preset, asked.side
    batch, per_device, mbstd = _batch_sizes(asked, pick)
    fine_tuning = bool(options.init_from)
    slow = fine_tuning and preset.ada_kimg > FINE_TUNING_ADA_KIMG
    kind = options.controller if options.augment == "ada" else options.augment or "none"
    return _Values(
        batch=batch,
        batch_per_device=per_device,
        mbstd_group=mbstd,
        lr=pick("lr", options.lr, preset.lr, 0.002 if side >= 1024 else 0.0025, f"side {side:g}"),
        r1_gamma=pick("r1_gamma", options.r1_gamma, preset.r1_gamma, 0.0002 * side**2 / batch, "0.0002 · H·W / batch"),
        ema_half_life_kimg=pick(
            "ema_half_life_kimg",
            options.ema_half_life_kimg,
            preset.ema_half_life_kimg,
            batch * 10 / 32,
            "batch · 10 / 32",
        ),
        kimg=pick("kimg", options.kimg, preset.kimg),
        style_mixing=pick("style_mixing", options.style_mixing, preset.style_mixing),
        path_length_weight=pick("path_length_weight", options.path_length_weight, preset.path_length_weight),
        ada_kimg=pick(
            "ada_kimg", options.ada_kimg, None if slow else preset.ada_kimg, FINE_TUNING_ADA_KIMG, "fine-tuning"
        ),
        ema_ramp=_ema_ramp(preset, fine_tuning, pick),
        augment=kind,
        transforms=() if kind == "none" else parse_transforms(options.transforms or "bgc"),
        precision=_precision(asked, pick),
        metrics=_metrics(asked, pick),
        vicinity=_vicinity(asked, pick),
    )


def _vicinity(asked: _Asked, pick: _Derivation) -> dict[str, Any]:
    """Fields of the objective, with widths in each label's own unit. Refuses vicinity of what are no numbers."""
    options, facts = asked.options, asked.facts
    if options.vicinity == "none":
        if options.vicinity_sigma or options.vicinity_kappa:
            raise FruganError(
                "--vicinity-sigma and --vicinity-kappa are widths of --vicinity hard or soft; add one of these"
            )
        return {}
    varying = [m for m in facts.measured if m.std]
    if not (options.conditional and varying):
        raise FruganError(
            f"--vicinity {options.vicinity} needs --conditional with labels that are numbers and differ; name a column of numbers "
            "with --labels FILE:COLUMN=number, or leave it out"
        )
    if asked.data.cache_limit:
        raise FruganError(
            f"--vicinity {options.vicinity} draws images by their labels from all of the set, which --cache-limit does not keep at "
            "hand; leave one of them out"
        )
    if not (facts.label_gap or options.vicinity_kappa):
        raise FruganError(
            f"--vicinity {options.vicinity}: the images of each class have a single number, so that none is near another; leave it "
            "out, or give --vicinity-kappa"
        )
    rule = silverman_width(facts.images, len(varying))
    sigma = pick("vicinity_sigma", options.vicinity_sigma, None, rule, "Silverman's rule, in standard deviations")
    gap = f"{NEIGHBOURS} · the largest gap between labels, in standard deviations"
    kappa = pick("vicinity_kappa", options.vicinity_kappa, None, NEIGHBOURS * facts.label_gap, gap)
    width = {name: widths(facts.label_size, varying, factor) for name, factor in (("sigma", sigma), ("kappa", kappa))}
    return {"vicinity": options.vicinity, "vicinity_sigma": width["sigma"], "vicinity_kappa": width["kappa"]}


def _ema_ramp(preset: Preset, fine_tuning: bool, pick: _Derivation) -> float | None:
    if fine_tuning and preset.ema_ramp is not None:
        pick.note("ema_ramp", "none", "fine-tuning")
        return None
    return preset.ema_ramp


def _precision(asked: _Asked, pick: _Derivation) -> Precision:
    facts, precision = asked.facts, asked.options.precision
    if precision != "auto":
        return precision
    found: Precision = "bf16" if facts.bf16 else "fp16" if facts.device == "cuda" else "fp32"
    pays = "pays" if facts.bf16 else "does not pay"
    return pick.note("precision", found, f"bfloat16 {pays} on this device")


def _metrics(asked: _Asked, pick: _Derivation) -> str:
    options, count = asked.options, asked.reference_images
    if options.metrics or not options.evaluate_kimg:
        return options.metrics or default_metric(count)
    return pick.note("metrics", default_metric(count), f"{count} images to compare with")


def _assemble(
    asked: _Asked,
    values: _Values,
    architecture: str,
    generator: GeneratorConfig,
    discriminator: DiscriminatorConfig,
) -> RunConfig:
    options = asked.options
    return RunConfig(
        kimg=values.kimg,
        data=asked.data,
        conditional=options.conditional,
        architecture=architecture,
        generator=generator,
        discriminator=discriminator,
        augment=AugmentConfig(transforms=values.transforms),
        controller=_controller(options, values),
        objective=_objective(asked, values),
        training=TrainingConfig(
            batch=values.batch,
            batch_per_device=values.batch_per_device,
            generator_lr=values.lr,
            discriminator_lr=values.lr,
            ema_half_life_kimg=values.ema_half_life_kimg,
            ema_ramp=values.ema_ramp,
            seed=options.seed,
            precision=values.precision,
            compile=options.compile == "on",
            cuda_graphs=options.cuda_graphs,
            activation_checkpointing=options.activation_checkpointing,
            rollback_lr=options.rollback_lr,
        ),
        report=_report(options, values.kimg),
        evaluate=EvaluateConfig(
            metrics=tuple(values.metrics.split(",")),
            samples=options.evaluate_samples or EvaluateConfig.samples,
            features=options.features or EvaluateConfig.features,
            weights=options.weights,
        ),
        transfer=TransferConfig(
            init_from=options.init_from,
            allow_partial=options.allow_partial,
            freeze_d=options.freeze_d,
            freeze_g=options.freeze_g,
            freeze_mapping=options.freeze_mapping,
        ),
        diffaugment=options.diffaugment,
        measurement=options.measurement,
    )


def _controller(options: Options, values: _Values) -> ControllerConfig:
    cap = SCHEDULED_P if values.augment == "scheduled" else 0.85
    moves = values.augment in ("rt", "rv", "scheduled")
    return ControllerConfig(
        kind=values.augment,
        target=options.target,
        speed_kimg=values.ada_kimg,
        p_init=options.p or 0.0,
        p_max=(cap if options.p_max is None else options.p_max) if moves else 0.0,
    )


def _report(options: Options, kimg: float) -> ReportConfig:
    every = min(max(kimg / 20, 1.0), 50.0)
    return ReportConfig(
        tick_kimg=options.tick_kimg or (4.0 if kimg >= 400 else max(kimg / 100, 0.5)),
        samples_kimg=options.samples_kimg or every,
        checkpoint_kimg=options.checkpoint_kimg or every,
        evaluate_kimg=options.evaluate_kimg,
        keep_last=options.keep_last,
        trackers=parse_trackers(options.tracker),
    )


def _refuse_data(asked: _Asked) -> None:
    """Refuses what the images do not allow, and probabilities that do not go with the controller of p."""
    options, facts = asked.options, asked.facts
    if options.conditional and not facts.label_size:
        raise FruganError(
            "--conditional needs labels, and this data has none; put each class into a folder of its own, or add a labels.csv"
        )
    if options.augment == "ada" and options.controller == "rv" and not facts.held_out:
        raise FruganError("the rv controller needs held-out images; set some aside, for instance --held-out 0.1")
    if options.p is not None and options.augment != "fixed":
        raise FruganError(f"--p {options.p:g} fixes the augmentation probability; add --augment fixed")
    if options.p is None and options.augment == "fixed":
        raise FruganError("--augment fixed needs a probability, for instance --p 0.2")


def _refuse_method(asked: _Asked, values: _Values) -> None:
    """Refuses what the mathematics of a method does not allow."""
    options, objective = asked.options, asked.method.objective
    loss = objective.get("loss", "non-saturating")
    if values.augment == "rt" and not LOSSES[loss].centred:
        raise FruganError(
            f"r_t is the share of real images with positive logits, and the {loss} loss fixes no zero point; steer p by "
            "--controller rv with --held-out, or use --augment scheduled, fixed or none"
        )
    turning = [name for name in values.transforms if name in ("rotate90", "rotate")]
    if "rotation_generator" in objective and turning:
        raise FruganError(
            f"auxiliary rotation asks how far an image was turned, which {' and '.join(turning)} make unanswerable; "
            "leave them out of --transforms"
        )
    if options.measurement:
        Measurement(options.measurement, asked.facts.resolution, masks=len(asked.facts.masks))
        if objective.get("pseudo"):
            raise FruganError(
                "apa passes clean generated images as real ones, and with --measurement those are not clean"
            )


def _refuse_evaluation(asked: _Asked, config: RunConfig) -> None:
    """Refuses to measure with too few images."""
    every, count = asked.options.evaluate_kimg, asked.reference_images
    if every and config.evaluate.any("needs_train") and not asked.facts.held_out:
        raise FruganError(
            "memorisation needs images that are not trained on; set some aside, for instance --held-out 0.1"
        )
    if every and count < FEWEST:
        raise FruganError(
            f"--evaluate-kimg {every:g}: metrics need at least {FEWEST} images to compare with, and here "
            f"are {count}; add images, or leave it out"
        )


def _batch_sizes(asked: _Asked, pick: _Derivation) -> tuple[int, int, int]:
    """(batch, batch per device, minibatch-std group): the preset's where they fit size and processes, else near them."""
    options, preset, n = asked.options, asked.preset, asked.facts.processes
    one = int(max(min(4096 / asked.side, 32), 1))
    own, group = f"preset {options.preset}", preset.mbstd_group or 4
    at_once = None if options.batch_per_device == "auto" else options.batch_per_device
    sizes = BatchSizes(options.batch, at_once, options.mbstd_group)
    wanted = preset.batch or max(min(one * n, max(one, 64)), n)
    batch, per_device, mbstd = choose_sizes(sizes, wanted, group, n)

    formula = "min(4096 / side, 32)" + (f" for each of {n} processes, at most 64" if n > 1 else "")
    reason = own if preset.batch else formula
    if batch != wanted:
        unit = "micro-batches" if at_once else "minibatch-std groups" if mbstd > 1 else "images"
        reason += f", {wanted}: rounded to whole {unit}{' in each process' if n > 1 else ''}"
    pick("batch", options.batch, None, batch, reason)
    reason = f"a batch of {batch} among {n} processes" if n > 1 else "the whole batch at once"
    pick("batch_per_device", at_once, None, per_device, reason)
    reason = own if preset.mbstd_group else "4, or the batch where that is smaller"
    if per_device < group and preset.mbstd_group:
        reason = f"{own} has {group}, more than {per_device} images at once; --batch {group * n} keeps it"
    elif mbstd != min(group, per_device):
        reason = f"{own} has {group}, which does not divide {per_device} images at once"
    pick("mbstd_group", options.mbstd_group, None, mbstd, reason)
    return batch, per_device, mbstd


def _objective(asked: _Asked, values: _Values) -> ObjectiveConfig:
    """The objective, with the consistency augmentation that the user chose."""
    options, preset, method = asked.options, asked.preset, asked.method
    objective = ObjectiveConfig(
        r1_gamma=values.r1_gamma,
        path_length_weight=values.path_length_weight,
        style_mixing=values.style_mixing,
        keep_path_length_phase=preset.path_length_phase and "path_length_weight" not in method.preset,
        keep_r1_phase="r1_gamma" not in method.preset,
        **values.vicinity,
        **method.objective,
    )
    if options.consistency_transforms is None and options.consistency_reach is None:
        return objective
    if not objective.consistent:
        raise FruganError(
            "--consistency-transforms and --consistency-reach are of a consistency method; add --method bcr"
        )
    transforms = options.consistency_transforms
    return replace(
        objective,
        consistency_transforms=objective.consistency_transforms if transforms is None else parse_transforms(transforms),
        consistency_reach=options.consistency_reach or objective.consistency_reach,
    )


def _architecture(options: Options, facts: Facts) -> str:
    """The architecture's name: as asked for, else that of the networks to start from. Raises `FruganError` where they differ."""
    source = architecture_of(facts.generator, facts.discriminator) if facts.generator else None
    name = options.architecture or source or DEFAULT
    find_architecture(name)
    if source and source != name:
        raise FruganError(f"--init-from has networks of architecture {source}, not {name}; leave out --architecture")
    return name


def _with(config: Any, values: Mapping[str, Any], asked: Iterable[str] = (), by: str = "") -> Any:
    """The configuration with those values that it has fields for. Raises `FruganError` where it lacks one that was `asked` for."""
    names = {field.name for field in dataclasses.fields(config)}
    if lacking := sorted({*asked} - names):
        raise FruganError(f"{by} sets {', '.join(lacking)}, which {type(config).__name__} does not have; leave it out")
    return replace(config, **{k: v for k, v in values.items() if k in names})


def _networks(
    architecture: str, asked: _Asked, values: _Values, pick: _Derivation
) -> tuple[GeneratorConfig, DiscriminatorConfig]:
    """The shape of both networks: what is not asked for is that of the networks to start from, else the preset's."""
    facts = asked.facts
    sizes = _sizes(asked, pick)
    chosen = find_architecture(architecture)
    g = facts.generator or chosen.generator_config(facts.resolution)
    widths = {"channel_base": sizes.channel_base, "channel_max": sizes.channel_max}
    d = facts.discriminator or _with(chosen.discriminator_config(facts.resolution), widths)
    clamp = {"clamp": 256.0} if values.precision == "fp16" else {}
    tile = generated_tile(asked.options, facts.generator)
    generator = _generator(g, asked, sizes, {"tile": tile, **clamp})
    of_discriminator = {
        "architecture": sizes.d_architecture,
        "mbstd_group": values.mbstd_group,
        "tile": _images_tile(asked, tile, pick),
        **clamp,
    }
    return generator, _discriminator(d, asked, sizes, of_discriminator)


class _Sizes(NamedTuple):
    """Widths and depths of both networks."""

    channel_base: int
    channel_max: int
    mapping_layers: int
    latent: int
    d_architecture: str


def _sizes(asked: _Asked, pick: _Derivation) -> _Sizes:
    options, preset, side = asked.options, asked.preset, asked.side
    g, d = asked.facts.generator, asked.facts.discriminator
    base, reason = 32768 if side >= 512 else 16384, f"side {side:g}"
    return _Sizes(
        pick("channel_base", options.channel_base, preset.channel_base, base, reason, g and g.synthesis.channel_base),
        pick("channel_max", options.channel_max, preset.channel_max, source=g and g.synthesis.channel_max),
        pick("mapping_layers", options.mapping_layers, preset.mapping_layers, source=g and g.mapping.num_layers),
        pick("latent", options.latent, preset.latent, source=g and g.w_dim),
        pick("d_architecture", options.d_architecture, preset.d_architecture, source=getattr(d, "architecture", None)),
    )


def _of_images(asked: _Asked) -> dict[str, Any]:
    """The fields of both networks that the images decide."""
    facts, conditional = asked.facts, asked.options.conditional
    return {
        "resolution": facts.resolution,
        "channels": facts.channels,
        "label_size": facts.label_size if conditional else 0,
        "measured": facts.measured if conditional else (),
    }


def _generator(g: GeneratorConfig, asked: _Asked, sizes: _Sizes, synthesis: Mapping[str, Any]) -> GeneratorConfig:
    """`g` in these sizes, with those fields of its `synthesis`."""
    options, facts = asked.options, asked.facts
    return replace(
        g,
        **_of_images(asked),
        pixels=facts.pixels,
        masks=facts.masks,
        z_dim=options.latent or (g.z_dim if facts.generator else sizes.latent),
        w_dim=sizes.latent,
        mapping=replace(g.mapping, num_layers=sizes.mapping_layers),
        synthesis=replace(
            g.synthesis,
            channel_base=sizes.channel_base,
            channel_max=sizes.channel_max,
            architecture=options.g_architecture or g.synthesis.architecture,
            **synthesis,
        ),
    )


def _discriminator(
    d: DiscriminatorConfig, asked: _Asked, sizes: _Sizes, fields: Mapping[str, Any]
) -> DiscriminatorConfig:
    """`d` in these sizes and with those fields, as far as it has them, and with what options and the method set, which it
    must have.
    """
    options = asked.options
    own_base, own_max = getattr(d, "channel_base", sizes.channel_base), getattr(d, "channel_max", sizes.channel_max)
    fields = {
        **_of_images(asked),
        "channel_base": round((options.channel_base or own_base) * options.d_capacity),
        "channel_max": round((options.channel_max or own_max) * options.d_capacity),
        **fields,
    }
    if options.d_mapping_layers is not None or asked.facts.discriminator is None:
        fields = fields | {"mapping": d_mapping(options.d_mapping_layers)}
    given = {
        "architecture": options.d_architecture,
        "mbstd_group": options.mbstd_group,
        "mapping": options.d_mapping_layers,
    }
    found = _with(d, fields, [k for k, v in given.items() if v is not None], "an option")
    by_method = asked.method.discriminator
    return _with(found, by_method, by_method, f"--method {options.method}")


def generated_tile(options: Options, source: GeneratorConfig | None) -> Tile:
    """Axes along which generated images repeat: as asked for, else as those of the networks to start from."""
    return options.tile or (source.synthesis.tile if source else "none")


def _images_tile(asked: _Asked, tile: Tile, pick: _Derivation) -> Tile:
    """Axes along which the training images repeat, too: all of `tile`, or none."""
    choice, seams = asked.options.images_tile, asked.facts.seams
    if tile == "none":
        if choice != "auto":
            raise FruganError(
                f"--images-tile {choice} says how images that repeat are trained on; add --tile xy, x or y"
            )
        return "none"
    if choice != "auto":
        return tile if choice == "yes" else "none"
    steps = [step for step, repeats in zip(seams or (1.0, 1.0), tiles_along(tile)) if repeats]
    reason = f"the step across their border is {max(steps):.2g} times that between neighbours"
    found = max(steps) <= SEAMLESS
    pick.note("images_tile", "yes" if found else "no", reason)
    return tile if found else "none"


def d_mapping(layers: int | None) -> MappingConfig:
    """The discriminator's label mapping: the paper's (0 layers, multiplier 0.1) by default, else n layers at 0.01."""
    return (
        MappingConfig(num_layers=layers, lr_multiplier=0.01)
        if layers
        else MappingConfig(num_layers=0, lr_multiplier=0.1)
    )
