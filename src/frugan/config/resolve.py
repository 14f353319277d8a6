"""Options, preset, data and machine resolved to a run's configuration; each derived value is explained."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from frugan.augment import AugmentConfig, ControllerConfig, Measurement, parse_transforms
from frugan.config.batch_sizes import BatchSizes, choose_sizes
from frugan.config.methods import Chosen, choose
from frugan.config.options import Options
from frugan.config.presets import FINE_TUNING_ADA_KIMG, PRESETS, SCHEDULED_P, Preset
from frugan.config.schema import ReportConfig, RunConfig
from frugan.data import DataConfig
from frugan.errors import FruganError
from frugan.label_parts import Measured
from frugan.losses import LOSSES
from frugan.metrics import EvaluateConfig, default_metric
from frugan.metrics.config import FEWEST
from frugan.networks import DiscriminatorConfig, GeneratorConfig, MappingConfig
from frugan.networks.registry import DEFAULT, architecture_of, find_architecture
from frugan.training import ObjectiveConfig, TrainingConfig, TransferConfig


@dataclass(frozen=True)
class Facts:
    """What the configuration depends on besides the options: the data, the machine, and the networks to start from."""

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


@dataclass(frozen=True)
class Derived:
    """One value that nobody asked for, and why it is what it is."""

    name: str
    value: Any
    reason: str


@dataclass
class _Notes:
    preset: str
    method: str
    replaced: set[str]
    """Names of preset values that the method replaces."""
    rows: list[Derived] = field(default_factory=list)

    def __call__(
        self, name: str, asked: Any, preset: Any, derived: Any = None, reason: str = "", source: Any = None
    ) -> Any:
        """The first that is given of asked, source, preset, derived; all but what was asked for are noted."""
        if asked is not None:
            return asked
        origin = f"method {self.method}" if name in self.replaced else f"preset {self.preset}"
        choices = ((source, "the networks to start from"), (preset, origin))
        value, why = next((choice for choice in choices if choice[0] is not None), (derived, reason))
        self.rows.append(Derived(name, value, why))
        return value


def resolve(options: Options, data: DataConfig, facts: Facts) -> tuple[RunConfig, list[Derived]]:
    """Options, preset, data and machine → the whole configuration, and a line for each value that was derived.

    Raises `FruganError` on anything that cannot be trained, before anything is built.
    """
    options = replace(options, preset=options.preset or "auto")
    method = choose(options.method.split(","))
    preset = replace(PRESETS[options.preset], **method.preset)
    asked = {k: v for k, v in dataclasses.asdict(options).items() if v is not None and (k, v) != ("precision", "auto")}
    options = replace(options, **{k: v for k, v in method.options.items() if k not in asked})
    replaced = {{"r1_gamma": "gamma"}.get(k, k) for k in method.preset}
    pick = notes = _Notes(options.preset, options.method, replaced)
    side = _side(facts)

    batch, per_device, mbstd = _batch_sizes(options, preset, facts, notes)
    lr = pick("lr", options.lr, preset.lr, 0.002 if side >= 1024 else 0.0025, f"side {side:g}")
    gamma = pick("gamma", options.gamma, preset.r1_gamma, 0.0002 * side**2 / batch, "0.0002 · H·W / batch")
    ema = pick("ema_kimg", options.ema_kimg, preset.ema_half_life_kimg, batch * 10 / 32, "batch · 10 / 32")
    kimg = pick("kimg", options.kimg, preset.kimg)
    mixing = pick("style_mixing", options.style_mixing, preset.style_mixing)
    path_length = pick("path_length_weight", options.path_length_weight, preset.path_length_weight)
    speed = pick("ada_kimg", options.ada_kimg, preset.ada_speed_kimg)
    ramp = preset.ema_ramp
    if options.init_from and options.ada_kimg is None and speed > FINE_TUNING_ADA_KIMG:
        speed = FINE_TUNING_ADA_KIMG
        notes.rows[-1] = Derived("ada_kimg", speed, "fine-tuning")
    if options.init_from and ramp is not None:
        ramp = None
        notes.rows.append(Derived("ema_ramp", "none", "fine-tuning"))

    kind = _augmentation_kind(options, facts)
    transforms = () if kind == "none" else parse_transforms(options.transforms or "bgc")
    _check_method(options, method, kind, transforms, facts)

    precision = options.precision
    if precision == "auto":
        precision = "bf16" if facts.bf16 else "fp16" if facts.device == "cuda" else "fp32"
        reason = "bfloat16 pays on this device" if facts.bf16 else "bfloat16 does not pay on this device"
        notes.rows.append(Derived("precision", precision, reason))

    reference = facts.held_out or facts.images
    metrics = options.metrics or default_metric(reference)
    if options.evaluate_every and not options.metrics:
        notes.rows.append(Derived("metrics", metrics, f"{reference} images to compare with"))

    architecture = _architecture(options, facts)
    shapes = _networks(architecture, options, preset, facts, pick, mbstd, fp16=precision == "fp16")
    generator, discriminator = (
        shapes[0],
        _with(shapes[1], method.discriminator, method.discriminator, f"--method {options.method}"),
    )
    p_max = options.p_max if options.p_max is not None else SCHEDULED_P if kind == "scheduled" else 0.85
    every = max(kimg / 20, 1.0)
    config = RunConfig(
        kimg=kimg,
        data=data,
        conditional=options.conditional,
        architecture=architecture,
        generator=generator,
        discriminator=discriminator,
        augment=AugmentConfig(transforms=transforms),
        controller=ControllerConfig(
            kind=kind,  # pyright: ignore[reportArgumentType]
            target=options.target,
            speed_kimg=speed,
            p_init=options.p or 0.0,
            p_max=p_max if kind in ("rt", "rv", "scheduled") else 0.0,
        ),
        objective=_objective(
            options,
            r1_gamma=gamma,
            path_length_weight=path_length,
            style_mixing=mixing,
            keep_path_length_phase=preset.path_length_phase and "path_length_weight" not in method.preset,
            keep_r1_phase="r1_gamma" not in method.preset,
            **method.objective,
        ),
        training=TrainingConfig(
            batch=batch,
            batch_per_device=per_device,
            generator_lr=lr,
            discriminator_lr=lr,
            ema_half_life_kimg=ema,
            ema_ramp=ramp,
            seed=options.seed,
            precision=precision,
            compile=options.compile == "on",
            activation_checkpointing=options.activation_checkpointing,
            rollback_lr=options.rollback_lr,
        ),
        report=ReportConfig(
            tick_kimg=options.tick or (4.0 if kimg >= 400 else max(kimg / 100, 0.5)),
            samples_kimg=options.samples_every or min(every, 50.0),
            checkpoint_kimg=options.checkpoint_every or min(every, 50.0),
            evaluate_kimg=options.evaluate_every,
            keep_last=options.keep_last,
        ),
        evaluate=EvaluateConfig(
            metrics=tuple(metrics.split(",")),
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
    if options.evaluate_every and config.evaluate.any("needs_train") and not facts.held_out:
        raise FruganError(
            "memorisation needs images that are not trained on; set some aside, for instance --held-out 0.1"
        )
    if options.evaluate_every and reference < FEWEST:
        raise FruganError(
            f"--evaluate-every {options.evaluate_every:g}: metrics need at least {FEWEST} images to compare with, and here "
            f"are {reference}; add images, or leave it out"
        )
    return config, notes.rows


def _side(facts: Facts) -> float:
    """The side of a square with as many pixels as the images have."""
    return math.sqrt(facts.resolution[0] * facts.resolution[1])


def _batch_sizes(options: Options, preset: Preset, facts: Facts, notes: _Notes) -> tuple[int, int, int]:
    """(batch, batch per device, minibatch-std group): the preset's where they fit size and processes, else near them."""
    n, one = facts.processes, int(max(min(4096 / _side(facts), 32), 1))
    own, group = f"preset {options.preset}", preset.mbstd_group or 4
    at_once = None if options.batch_per_device == "auto" else options.batch_per_device
    asked = BatchSizes(options.batch, at_once, options.mbstd_group)
    wanted = preset.batch or max(min(one * n, max(one, 64)), n)
    batch, per_device, mbstd = choose_sizes(asked, wanted, group, n)

    formula = "min(4096 / side, 32)" + (f" for each of {n} processes, at most 64" if n > 1 else "")
    reason = own if preset.batch else formula
    if batch != wanted:
        unit = "micro-batches" if at_once else "minibatch-std groups" if mbstd > 1 else "images"
        reason += f", {wanted}: rounded to whole {unit}{' in each process' if n > 1 else ''}"
    notes("batch", options.batch, None, batch, reason)
    reason = f"a batch of {batch} among {n} processes" if n > 1 else "the whole batch at once"
    notes("batch_per_device", at_once, None, per_device, reason)
    reason = own if preset.mbstd_group else "4, or the batch where that is smaller"
    if per_device < group and preset.mbstd_group:
        reason = f"{own} has {group}, more than {per_device} images at once; --batch {group * n} keeps it"
    elif mbstd != min(group, per_device):
        reason = f"{own} has {group}, which does not divide {per_device} images at once"
    notes("mbstd_group", options.mbstd_group, None, mbstd, reason)
    return batch, per_device, mbstd


def _augmentation_kind(options: Options, facts: Facts) -> str:
    """The controller of p. Raises `FruganError` where data or other options do not go with it."""
    kind = options.controller if options.augment == "ada" else str(options.augment)
    if options.conditional and not facts.label_size:
        raise FruganError(
            "--conditional needs labels, and this data has none; put each class into a folder of its own, or add a labels.csv"
        )
    if kind == "rv" and not facts.held_out:
        raise FruganError("the rv controller needs held-out images; set some aside, for instance --held-out 0.1")
    if options.p is not None and kind != "fixed":
        raise FruganError(f"--p {options.p:g} fixes the augmentation probability; add --augment fixed")
    if options.p is None and kind == "fixed":
        raise FruganError("--augment fixed needs a probability, for instance --p 0.2")
    return kind


def _check_method(options: Options, method: Chosen, kind: str, transforms: tuple[str, ...], facts: Facts) -> None:
    """Refuses what the mathematics of a method does not allow."""
    loss = method.objective.get("loss", "non-saturating")
    if kind == "rt" and not LOSSES[loss].centred:
        raise FruganError(
            f"r_t is the share of real images with positive logits, and the {loss} loss fixes no zero point; steer p by "
            "--controller rv with --held-out, or use --augment scheduled, fixed or none"
        )
    turning = [name for name in transforms if name in ("rotate90", "rotate")]
    if "rotation_generator" in method.objective and turning:
        raise FruganError(
            f"auxiliary rotation asks how far an image was turned, which {' and '.join(turning)} make unanswerable; "
            "leave them out of --transforms"
        )
    if options.measurement:
        Measurement(options.measurement, facts.resolution)
        if method.objective.get("pseudo"):
            raise FruganError(
                "apa passes clean generated images as real ones, and with --measurement those are not clean"
            )


def _objective(options: Options, **settings: Any) -> ObjectiveConfig:
    """What is minimised, with the consistency augmentation that the user asks for."""
    objective = ObjectiveConfig(**settings)
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
    architecture: str, options: Options, preset: Preset, facts: Facts, pick: _Notes, mbstd: int, *, fp16: bool
) -> tuple[GeneratorConfig, DiscriminatorConfig]:
    """The shape of both networks: what is not asked for is that of the networks to start from, else the preset's."""
    side = _side(facts)
    g, d = facts.generator, facts.discriminator
    base, reason = 32768 if side >= 512 else 16384, f"side {side:g}"
    base = pick("channel_base", options.channel_base, preset.channel_base, base, reason, g and g.synthesis.channel_base)
    most = pick("channel_max", options.channel_max, preset.channel_max, source=g and g.synthesis.channel_max)
    layers = pick("mapping_layers", options.mapping_layers, preset.mapping_layers, source=g and g.mapping.num_layers)
    latent = pick("latent", options.latent, preset.latent, source=g and g.w_dim)
    d_architecture = pick(
        "d_architecture", options.d_architecture, preset.discriminator, source=getattr(d, "architecture", None)
    )
    shared: dict[str, Any] = {
        "resolution": facts.resolution,
        "channels": facts.channels,
        "label_size": facts.label_size if options.conditional else 0,
        "measured": facts.measured if options.conditional else (),
    }
    chosen = find_architecture(architecture)
    g = g or chosen.generator_config(facts.resolution)
    d = d or _with(chosen.discriminator_config(facts.resolution), {"channel_base": base, "channel_max": most})
    clamp = {"clamp": 256.0} if fp16 else {}
    generator = replace(
        g,
        **shared,
        z_dim=options.latent or (g.z_dim if facts.generator else latent),
        w_dim=latent,
        mapping=replace(g.mapping, num_layers=layers),
        synthesis=replace(
            g.synthesis,
            channel_base=base,
            channel_max=most,
            architecture=options.g_architecture or g.synthesis.architecture,
            **clamp,
        ),
    )
    given = options.d_mapping_layers is not None or facts.discriminator is None
    own_base, own_max = getattr(d, "channel_base", base), getattr(d, "channel_max", most)
    values = {
        **shared,
        "channel_base": round((options.channel_base or own_base) * options.d_capacity),
        "channel_max": round((options.channel_max or own_max) * options.d_capacity),
        "architecture": d_architecture,
        "mbstd_group": mbstd,
        **({"mapping": d_mapping(options.d_mapping_layers)} if given else {}),
        **clamp,
    }
    asked = {
        "architecture": options.d_architecture,
        "mbstd_group": options.mbstd_group,
        "mapping": options.d_mapping_layers,
    }
    discriminator = _with(d, values, [k for k, v in asked.items() if v is not None], "an option")
    return generator, discriminator


def d_mapping(layers: int | None) -> MappingConfig:
    """The discriminator's label mapping: the paper's (0 layers, multiplier 0.1) by default, else n layers at 0.01."""
    return (
        MappingConfig(num_layers=layers, lr_multiplier=0.01)
        if layers
        else MappingConfig(num_layers=0, lr_multiplier=0.1)
    )
