"""A run planned before it begins: its configuration, what it costs this machine, what it starts from."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from typing import Literal, NamedTuple

import torch

from frugan import tracking
from frugan.channels import CHANNEL_NAMES
from frugan.config.options import Options
from frugan.config.resolve import Derived, Facts, generated_tile, resolve, vain_options
from frugan.config.schema import RunConfig
from frugan.data import DataConfig, Dataset, open_dataset
from frugan.data.dataset import untrained_warning
from frugan.data.duplicates import split_warning
from frugan.data.open import declared_masks
from frugan.device import bf16_pays
from frugan.distributed import rank, world_size
from frugan.errors import FruganError
from frugan.interop import Imported
from frugan.metrics import load_features
from frugan.metrics.config import FEWEST
from frugan.networks import Generator
from frugan.ops.tiling import seams
from frugan.run.build import build, build_networks, build_phases, refusing
from frugan.run.directory import Advance
from frugan.run.load import read_source
from frugan.run.paths import absolute
from frugan.run.periodic_evaluation import make_evaluator
from frugan.training import StartReport, threads
from frugan.training.pacing import seconds_per_kimg
from frugan.training.transfer import transfer
from frugan.training.trial import compiling_pays, fitting_batch
from frugan.training.vicinity import largest_gap

DAY = 86_400.0
log = logging.getLogger(__name__)
_LOOKED_AT = 256  # images that decide whether a set repeats


class Plan(NamedTuple):
    """The plan of a run: its configuration with reasons, its images, and the weights that it takes from other networks.

    `note`: a decision that the user may want otherwise; `warnings`: faults of the images that training can live with.
    """

    config: RunConfig
    derived: list[Derived]
    dataset: Dataset
    start: StartReport | None
    note: str | None = None
    warnings: tuple[str, ...] = ()


def plan(
    options: Options,
    data: DataConfig,
    *,
    device: torch.device,
    processes: int | None = None,
    progress: Advance | None = None,
) -> Plan:
    """Opens the data and derives the configuration of a run; it writes nothing but the data's cache.

    Fine-tuning takes the images at the size and channels of the networks it starts from, where nothing else is asked
    for.

    Args:
        options: of training.
        data: of the data set.
        device: to train on.
        processes: how many will train; None: those that take part now.
        progress: called with (done, total) images.

    Raises `FruganError` where those networks do not fit, unless `options.allow_partial`.
    """
    tracking.check_trackers(tracking.parse_trackers(options.tracker))
    for vain in [*vain_options(options), *data.vain]:
        log.warning("warning: %s", vain)
    data, options = _anchored(data, options)
    source = read_source(options.init_from) if options.init_from else None
    dataset = open_dataset(_shaped_like(source.generator, data) if source else data, progress=progress)
    data = dataset.config  # names the shards that could not be had, so that a resume goes on without them
    facts = _facts(dataset, device, processes or world_size(), source)
    if generated_tile(options, facts.generator) != "none":
        facts = replace(facts, seams=seams(dataset.images(dataset.preview(_LOOKED_AT))[0]))
    asked, count, reason, note = options, None, "", None
    if asked.batch_per_device == "auto":
        options = replace(options, batch_per_device=_fitting(options, dataset, facts, device))
    if device.type == "cpu":
        count, reason = _threads(resolve(options, data, facts)[0], asked.threads, facts.processes)
        if not asked.preset and asked.kimg is None:
            with threads.using(count):
                options, note = _ending_tonight(options, data, facts)
    config, derived = resolve(options, data, facts)
    config = replace(config, threads=count)
    if asked.threads == "auto" and count:
        derived.append(Derived("threads", count, reason))
    if asked.batch_per_device == "auto":
        derived.append(Derived("batch_per_device", config.training.batch_per_device, "what fits into memory at once"))
    if asked.compile == "auto":
        pays, reason = _compiling(config, device)
        config = replace(config, training=replace(config.training, compile=pays))
        derived.append(Derived("compile", pays, reason))
    start = _start(config, source) if source else None
    _check_start(config, dataset, device)
    return Plan(config, derived, dataset, start, note, _warnings(config, dataset) if rank() == 0 else ())


def _warnings(config: RunConfig, dataset: Dataset) -> tuple[str, ...]:
    """Sentences on the division of the images, where it spoils what is learned or measured."""
    found = [split_warning(dataset), untrained_warning(dataset) if config.conditional else None]
    return tuple(filter(None, found))


def _shaped_like(G: Generator, data: DataConfig) -> DataConfig:
    """The data at the size and channels of a generator, where nothing else is asked for; masks that are declared beside it stay."""
    own = G.channels - len(G.config.masks)
    plain = data.channels == "auto" and not declared_masks(data)
    channels = CHANNEL_NAMES.get(own, "auto") if plain else data.channels
    channels = {"LA": "L", "RGBA": "RGB"}.get(channels, channels) if data.masks else channels
    return replace(data, resolution=data.resolution or G.resolution, channels=channels)


def _facts(dataset: Dataset, device: torch.device, processes: int, source: Imported | None) -> Facts:
    return Facts(
        resolution=dataset.resolution,
        channels=dataset.channels,
        label_size=dataset.label_size,
        measured=dataset.measured,
        pixels=dataset.pixel_format,
        label_gap=largest_gap(dataset.labels[dataset.train_indices], dataset.measured),
        masks=dataset.masks,
        images=len(dataset.train_indices),
        held_out=len(dataset.held_out_indices),
        device=device.type,
        bf16=bf16_pays(device),
        processes=processes,
        generator=source and source.generator.config,
        discriminator=source.discriminator.config if source and source.discriminator else None,
    )


def _start(config: RunConfig, source: Imported) -> StartReport:
    """The weights taken from other networks. Raises `FruganError` where they do not fit, unless that is allowed."""
    start = StartReport(str(config.transfer.init_from))
    transfer(build_networks(config), source, start)
    if not (start.complete or config.transfer.allow_partial):
        raise FruganError(
            f"{start.source} does not fit this run:\n" + "\n".join(start.lines()) + "\n"
            "ask for the same size, channels and labels, or add --allow-partial to go on like this"
        )
    return start


def _ending_tonight(options: Options, data: DataConfig, facts: Facts) -> tuple[Options, str | None]:
    """Options that a CPU can finish: where preset auto would take more than a day, preset tiny (networks to start from are
    kept), and no more kimg than half a day allows. And a sentence that says so, if anything has changed."""
    config, _ = resolve(options, data, facts)
    seconds = pace(config) * config.kimg
    if seconds <= DAY:
        return options, None
    found = options
    if not options.init_from:
        with suppress(FruganError):  # what the user asked for besides may not go with it
            resolve(replace(options, preset="tiny"), data, facts)
            found = replace(options, preset="tiny")
    shorter, _ = resolve(found, data, facts)
    per_kimg = pace(shorter)
    if per_kimg * shorter.kimg > DAY / 2:
        found = replace(found, kimg=float(max(int(DAY / 2 / per_kimg), 1)))
    return found, (
        f"This machine has no GPU that PyTorch can use, and preset auto would take {tracking.duration(seconds)} for "
        f"{config.kimg:g} kimg. This run takes preset {found.preset or 'auto'}, {found.kimg or shorter.kimg:g} kimg."
    )


def pace(config: RunConfig) -> float:
    """Seconds per kimg on this CPU, with the run's number of threads, if it has one."""
    group = max(config.discriminator.mbstd_group or 1, 4)
    phases = build_phases(config, torch.device("cpu"))
    with threads.using(config.threads):
        whole = config.training.batch_per_device
        return seconds_per_kimg(phases, min(whole, group), whole)


def _threads(config: RunConfig, asked: int | Literal["auto"] | None, processes: int) -> tuple[int, str]:
    """The number of threads that each process computes with on a CPU, and the reason."""
    if asked != "auto":
        return asked or torch.get_num_threads(), "as asked for"
    most = max(min(torch.get_num_threads(), threads.usable_cores() // processes), 1)
    if most == 1:
        return 1, "one core for each process"
    count, taken = threads.choose_threads(threads.work_of(build_phases(config, torch.device("cpu"))), most)
    tried = ", ".join(f"{n}: {seconds * 1000:.3g} ms" for n, seconds in taken.items())
    return count, f"fastest of those tried ({tried})"


def _anchored(data: DataConfig, options: Options) -> tuple[DataConfig, Options]:
    """Both with absolute paths: a run is to find its files from any working directory."""
    labels = absolute("data.labels", data.labels) or data.labels
    group, masks = absolute("data.group", data.group), absolute("data.masks", data.masks)
    path = absolute("data.path", data.path) or data.path
    data = replace(data, path=path, masks=masks, labels=labels, group=group)
    fields = ("evaluate.features", "evaluate.weights", "transfer.init_from")
    names = {name.partition(".")[2]: name for name in fields}
    return data, replace(options, **{name: absolute(field, getattr(options, name)) for name, field in names.items()})


def _fitting(options: Options, dataset: Dataset, facts: Facts, device: torch.device) -> int:
    """The images of a process's share of the batch that fit into memory at once, tried with networks of the run's own kind."""
    config, _ = resolve(replace(options, batch_per_device=None), dataset.config, facts)
    share = config.training.batch // facts.processes
    group = min(config.discriminator.mbstd_group or share, share)
    sharing = facts.processes if device.type == "cpu" else 1
    reserve = dataset.resident_bytes(device)
    return fitting_batch(build_phases(config, device), share, group, reserve=reserve, sharing=sharing)


def _compiling(config: RunConfig, device: torch.device) -> tuple[bool, str]:
    if config.training.activation_checkpointing:
        return False, "does not go with activation checkpointing"
    if device.type not in ("cpu", "cuda"):
        return False, f"not tried on {device.type}"
    if device.type == "cpu":
        return False, "minutes of compiling on a CPU; ask for it in runs of hours, which gain up to a sixth"
    if config.training.cuda_graphs:  # the trial would time phases without them
        return False, "CUDA graphs and fused kernels serve without minutes of compiling; ask for it to try both"
    make = lambda compiled: build_phases(config, device, compiled=compiled)  # noqa: E731
    n = config.training.batch_per_device
    return compiling_pays(make, n, min(config.discriminator.mbstd_group or n, n), config.kimg)


def _check_start(config: RunConfig, dataset: Dataset, device: torch.device) -> None:
    """Builds all that a run needs once, for what is missing or wrong to show before anything is written.

    Raises `FruganError`.
    """
    with refusing("these options describe", "change them"):
        state, _ = build(config, dataset, device)
        state.random(0, 0)
        if config.report.evaluate_kimg and world_size() > 1:  # an evaluator takes all processes
            e = config.evaluate
            load_features(
                e.features, device, weights=e.weights, resize=e.resize, input_size=e.input_size, mean=e.mean, std=e.std
            )
        elif config.report.evaluate_kimg:
            make_evaluator(config, dataset, device, most=FEWEST)
