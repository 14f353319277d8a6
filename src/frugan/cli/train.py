"""`frugan train` and `frugan resume`."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Option

from frugan.checks import Limits
from frugan.cli.common import bar, console, parse_count, parse_resolution, print_command, say, stop_on_signal
from frugan.errors import FruganError, shown

if TYPE_CHECKING:
    from frugan.config.resolve import Derived
    from frugan.config.schema import RunConfig
    from frugan.data import Dataset
    from frugan.run.train import Run

DATA = "Data"
AUGMENTATION = "Augmentation"
NETWORKS = "Networks (defaults: the preset's)"
OPTIMISATION = "Optimisation (defaults: the preset's)"
FINE_TUNING = "Fine-tuning"
REPORTING = "Reporting"
MACHINE = "Machine"

Architecture = Literal["skip", "resnet", "orig"]


def train(
    data: Annotated[str, typer.Argument(help="A folder, zip, .npy or .npz of images, or shards: s3://bucket/set-{000..099}.tar.")],
    to: Annotated[Path | None, typer.Argument(metavar="OUT", help="The run directory to make, as --out.")] = None,
    out: Annotated[Path | None, Option("--out", "-o", help="The run directory to make. [default: runs/NAME of the data, numbered if taken]")] = None,
    preset: Annotated[
        str, Option(help="auto, stylegan2, paper256, paper512, paper1024, cifar, cifarbaseline, or tiny (for a CPU). [default: auto; without a GPU tiny, where auto would take more than a day]", show_default=False)
    ] = "",
    kimg: Annotated[float | None, Option(help="Length of training: thousands of real images shown.")] = None,
    method: Annotated[str, Option(help="What to train with: names joined by commas, see frugan methods.")] = "ada",
    dry_run: Annotated[bool, Option("--dry-run", help="Show the resolved configuration and what it costs; train nothing.")] = False,
    seed: Annotated[int, Option(help="Seed of everything random.")] = 0,
    # data
    resolution: Annotated[str | None, Option(help="R or HxW in pixels; default: from the images.", rich_help_panel=DATA)] = None,
    channels: Annotated[Literal["auto", "L", "LA", "RGB", "RGBA"], Option(help="Convert all images to these.", rich_help_panel=DATA)] = "auto",
    fit: Annotated[Literal["crop", "letterbox"], Option(help="How images of another shape are fitted.", rich_help_panel=DATA)] = "crop",
    filter: Annotated[Literal["lanczos", "box"], Option(help="Resizing filter, antialiased.", rich_help_panel=DATA)] = "lanczos",
    background: Annotated[Literal["white", "black"], Option(help="Behind dropped transparency and letterboxes.", rich_help_panel=DATA)] = "white",
    value_range: Annotated[str, Option(help="Stored values that become black and white: LO,HI; full: all of 8 or 16 bits; auto: the bits in use.", rich_help_panel=DATA)] = "auto",
    use_generated: Annotated[bool, Option("--use-generated", help="Take images that frugan generated for data, instead of skipping them.", rich_help_panel=DATA)] = False,
    mirror: Annotated[bool, Option("--mirror", help="Double the set by x-flips.", rich_help_panel=DATA)] = False,
    conditional: Annotated[bool, Option("--conditional", help="Train a conditional model: classes, flags or measured numbers steer the images.", rich_help_panel=DATA)] = False,
    labels: Annotated[str, Option(help="Where labels come from: auto, folders, or a .csv, .tsv, .json or .jsonl file; FILE:COLUMN,COLUMN picks columns, COLUMN=number or =class says how one is read.", rich_help_panel=DATA)] = "auto",
    balanced: Annotated[bool, Option("--balanced", help="Draw all classes equally often.", rich_help_panel=DATA)] = False,
    held_out: Annotated[float, Option(help="Set aside for r_v and metrics: a fraction below 1, or a count.", rich_help_panel=DATA)] = 0,
    strict: Annotated[bool, Option("--strict", help="Refuse unreadable images instead of skipping them.", rich_help_panel=DATA)] = False,
    cache_limit: Annotated[float | None, Option(help="GB of decoded shards to keep on disk; the others are fetched when their turn comes.", rich_help_panel=DATA)] = None,
    # augmentation
    augment: Annotated[Literal["ada", "scheduled", "fixed", "none"] | None, Option(help="p adaptive, on a schedule, fixed at --p, or none. [default: the method's]", rich_help_panel=AUGMENTATION)] = None,
    controller: Annotated[Literal["rt", "rv"], Option(help="The overfitting heuristic that steers p; rv needs --held-out.", rich_help_panel=AUGMENTATION)] = "rt",
    target: Annotated[float | None, Option(help="Its target. [default: 0.6 for rt, 0.5 for rv]", rich_help_panel=AUGMENTATION)] = None,
    p: Annotated[float | None, Option(help="The fixed probability, with --augment fixed.", rich_help_panel=AUGMENTATION)] = None,
    p_max: Annotated[float | None, Option(help="Cap on p, against leaks; 0: no cap, as published. Where a scheduled p ends. [default: 0.85; scheduled: 0.3]", rich_help_panel=AUGMENTATION)] = None,
    ada_kimg: Annotated[float | None, Option(help="kimg for p to go from 0 to 1, or through its schedule. [default: 500; tiny: 50; fine-tuning: 100 at most]", rich_help_panel=AUGMENTATION)] = None,
    transforms: Annotated[str | None, Option(help="blit, geom, color, filter, noise, cutout, bg, bgc, bgcf, bgcfn, bgcfnc, or names joined by commas. [default: bgc]", rich_help_panel=AUGMENTATION)] = None,
    diffaugment: Annotated[str | None, Option(help="DiffAugment's policy, always on: color,translation,cutout or some of these.", rich_help_panel=AUGMENTATION)] = None,
    measurement: Annotated[str | None, Option(help="AmbientGAN: how the images were corrupted, for instance drop-pixels:0.5; learns clean ones.", rich_help_panel=AUGMENTATION)] = None,
    consistency_transforms: Annotated[str | None, Option(help="What cr and bcr compare across. [default: xint; cr: xflip,xint]", rich_help_panel=AUGMENTATION)] = None,
    consistency_reach: Annotated[float | None, Option(help="How far its translations go, as a multiple of ADA's ⅛. [default: 0.25]", rich_help_panel=AUGMENTATION)] = None,
    # networks
    channel_base: Annotated[int | None, Option(help="Feature maps × resolution.", rich_help_panel=NETWORKS)] = None,
    channel_max: Annotated[int | None, Option(help="Most feature maps.", rich_help_panel=NETWORKS)] = None,
    d_capacity: Annotated[float, Option(help="Factor on the discriminator's feature maps.", rich_help_panel=NETWORKS)] = 1.0,
    latent: Annotated[int | None, Option(help="Width of z and w.", rich_help_panel=NETWORKS)] = None,
    mapping_layers: Annotated[int | None, Option(help="Depth of the mapping network.", rich_help_panel=NETWORKS)] = None,
    d_mapping_layers: Annotated[int | None, Option(help="Depth of the discriminator's label mapping; 0 as in the paper. [default: 0]", rich_help_panel=NETWORKS)] = None,
    g_architecture: Annotated[Architecture | None, Option(help="Generator. [default: skip]", rich_help_panel=NETWORKS)] = None,
    d_architecture: Annotated[Architecture | None, Option(help="Discriminator. [default: resnet; cifar: orig]", rich_help_panel=NETWORKS)] = None,
    mbstd_group: Annotated[int | None, Option(help="Samples in a minibatch-std group.", rich_help_panel=NETWORKS)] = None,
    # optimisation
    batch: Annotated[int | None, Option(help="Images a step.", rich_help_panel=OPTIMISATION)] = None,
    batch_per_device: Annotated[str | None, Option(help="Images at once, to save memory; divides --batch; auto: as many as fit.", rich_help_panel=OPTIMISATION)] = None,
    gamma: Annotated[float | None, Option(help="R1 weight: higher is steadier, and blander.", rich_help_panel=OPTIMISATION)] = None,
    lr: Annotated[float | None, Option(help="Learning rate of both networks.", rich_help_panel=OPTIMISATION)] = None,
    rollback_lr: Annotated[float, Option(help="Factor on learning rates each time a diverged run goes back to its last checkpoint (3 times at most); below 1, outputs of D that blow up count as divergence, too.", rich_help_panel=OPTIMISATION)] = 1.0,
    path_length_weight: Annotated[float | None, Option(help="Path-length penalty; 0: off.", rich_help_panel=OPTIMISATION)] = None,
    style_mixing: Annotated[float | None, Option(help="Probability of style mixing.", rich_help_panel=OPTIMISATION)] = None,
    ema_kimg: Annotated[float | None, Option(help="Half-life of the generator's average, in kimg.", rich_help_panel=OPTIMISATION)] = None,
    # fine-tuning
    init_from: Annotated[str | None, Option(help="Start from a run, a checkpoint, an imported network, or a .pkl or .pt file.", rich_help_panel=FINE_TUNING)] = None,
    allow_partial: Annotated[bool, Option("--allow-partial", help="Go on where some of its weights do not fit.", rich_help_panel=FINE_TUNING)] = False,
    freeze_d: Annotated[str | None, Option(help="Freeze-D: so many layers of the discriminator from the image side, for instance 10; or 32px: blocks of 32 pixels and more.", rich_help_panel=FINE_TUNING)] = None,
    freeze_g: Annotated[str | None, Option(help="Freeze so many blocks of the generator from the coarsest on; or 16px: those up to 16 pixels.", rich_help_panel=FINE_TUNING)] = None,
    freeze_mapping: Annotated[bool, Option("--freeze-mapping", help="Freeze the mapping network.", rich_help_panel=FINE_TUNING)] = False,
    # reporting
    tick: Annotated[float | None, Option(help="kimg between records. [default: 4, or 1/100 of a short run]", rich_help_panel=REPORTING)] = None,
    samples_every: Annotated[float | None, Option(help="kimg between sample sheets. [default: 1/20 of the run, at most 50]", rich_help_panel=REPORTING)] = None,
    checkpoint_every: Annotated[float | None, Option(help="kimg between checkpoints. [default: 1/20 of the run, at most 50]", rich_help_panel=REPORTING)] = None,
    keep_last: Annotated[int, Option(help="Checkpoints kept, besides the best.", rich_help_panel=REPORTING)] = 2,
    evaluate_every: Annotated[float, Option(help="kimg between evaluations; 0: none. Needs the extra frugan\\[metrics].", rich_help_panel=REPORTING)] = 0,
    evaluate_samples: Annotated[int | None, Option(help="Images generated for one. [default: 5000]", rich_help_panel=REPORTING)] = None,
    metrics: Annotated[str | None, Option(help="Names joined by commas; the first chooses the best checkpoint. [default: kid below 10,000 images, else fid]", rich_help_panel=REPORTING)] = None,
    features: Annotated[str | None, Option(help="Feature network of the metrics, see frugan evaluate --help. [default: efficientnet-lite0]", rich_help_panel=REPORTING)] = None,
    weights: Annotated[str | None, Option(help="Its weights' file.", rich_help_panel=REPORTING)] = None,
    # machine
    device: Annotated[str, Option(help="auto, cpu, cuda, mps.", rich_help_panel=MACHINE)] = "auto",
    precision: Annotated[Literal["auto", "fp32", "bf16", "fp16"], Option(help="Of the highest resolutions.", rich_help_panel=MACHINE)] = "auto",
    compile: Annotated[Literal["auto", "on", "off"], Option(help="torch.compile; auto: on a GPU, where a long run is found to be faster with it; never on a CPU.", rich_help_panel=MACHINE)] = "auto",
    activation_checkpointing: Annotated[bool, Option("--activation-checkpointing", help="Activation checkpointing: compute feature maps again instead of keeping them, for larger batches or images; about a third slower.", rich_help_panel=MACHINE)] = False,
    threads: Annotated[int | None, Limits(at_least=1, at_most=4096), Option(help="CPU threads. [default: as many as are fastest when the run begins; kept]", rich_help_panel=MACHINE)] = None,
    processes: Annotated[int, Limits(at_least=1, at_most=4096), Option(help="Train in so many processes here: one a GPU.", rich_help_panel=MACHINE)] = 1,
) -> None:  # fmt: skip
    """Train a GAN on a folder (or zip, or array) of images.

    The run directory gets checkpoints, samples, stats and an index.html to look at. Stop whenever you like: frugan
    resume goes on exactly where it stopped.
    """
    from frugan.config.options import Options
    from frugan.data import DataConfig
    from frugan.device import choose_device
    from frugan.distributed import joined, launched, rank, restarted, world_size
    from frugan.run.directory import check_free
    from frugan.run.plan import plan
    from frugan.run.train import Run

    out = run_directory(data, out, to)
    set_threads(threads)
    chosen = choose_device(device)
    source = DataConfig(
        path=data,
        resolution=parse_resolution(resolution),
        channels=channels,
        fit=fit,
        filter=filter,
        background=background,
        value_range=value_range,
        use_generated=use_generated,
        labels=labels if conditional or balanced else "none",
        mirror=mirror,
        strict=strict,
        held_out=held_out,
        balanced=balanced,
        cache_limit=cache_limit,
    )
    options = Options(
        preset=preset,
        kimg=kimg,
        batch=batch,
        batch_per_device=parse_count(batch_per_device),
        gamma=gamma,
        lr=lr,
        rollback_lr=rollback_lr,
        augment=augment,
        controller=controller,
        target=target,
        p=p,
        p_max=p_max,
        ada_kimg=ada_kimg,
        transforms=transforms,
        diffaugment=diffaugment,
        measurement=measurement,
        consistency_transforms=consistency_transforms,
        consistency_reach=consistency_reach,
        method=method,
        d_capacity=d_capacity,
        conditional=conditional,
        seed=seed,
        precision=precision,
        compile=compile,
        activation_checkpointing=activation_checkpointing,
        mapping_layers=mapping_layers,
        d_mapping_layers=d_mapping_layers,
        channel_base=channel_base,
        channel_max=channel_max,
        latent=latent,
        g_architecture=g_architecture,
        d_architecture=d_architecture,
        mbstd_group=mbstd_group,
        style_mixing=style_mixing,
        path_length_weight=path_length_weight,
        ema_kimg=ema_kimg,
        tick=tick,
        samples_every=samples_every,
        checkpoint_every=checkpoint_every,
        keep_last=keep_last,
        evaluate_every=evaluate_every,
        evaluate_samples=evaluate_samples,
        metrics=metrics,
        features=features,
        weights=weights,
        init_from=init_from,
        allow_partial=allow_partial,
        freeze_d=freeze_d,
        freeze_g=freeze_g,
        freeze_mapping=freeze_mapping,
        threads="auto" if threads is None else threads,
    )
    with joined(chosen.type) as place:
        run, dataset = None, None
        if rank() == 0 and not (restarted() and (out / "config.yaml").exists()):
            check_free(out)
            with bar("reading images") as progress:
                many = processes if not launched() else world_size()
                plans = plan(options, source, device=chosen, processes=many, progress=progress)
            config, dataset, start = plans.config, plans.dataset, plans.start
            describe(dataset, plans.derived)
            if start:
                console.print(f"starting from {start.source}", *start.lines(), sep="\n", markup=False)
            if plans.note:
                say(plans.note)
                print_command("For preset auto all the same", *sys.argv[1:], "--preset", "auto")
            if dry_run:
                show_cost(config, str(chosen))
            else:
                if chosen.type == "cpu":
                    show_forecast(config)
                run = Run.create(out, config)
        if not dry_run:
            go_on(out, place, processes=processes, threads=threads, run=run, dataset=dataset)


def resume(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    kimg: Annotated[float | None, Limits(above=0, at_most=1e9), Option(help="The new total length, in kimg.")] = None,
    data: Annotated[str | None, Option(help="Where the run's images are now, if they have moved; remembered.")] = None,
    device: Annotated[str, Option(help="auto, cpu, cuda, mps.")] = "auto",
    threads: Annotated[
        int | None,
        Limits(at_least=1, at_most=4096),
        Option(help="CPU threads from now on. [default: as the run began with]"),
    ] = None,
    processes: Annotated[
        int, Limits(at_least=1, at_most=4096), Option(help="Train in so many processes here: one a GPU.")
    ] = 1,
) -> None:
    """Go on with a run from its latest checkpoint, exactly as if it had never stopped."""
    from frugan.device import choose_device
    from frugan.distributed import joined, rank
    from frugan.run.train import Run

    set_threads(threads)
    with joined(choose_device(device).type) as place:
        if rank() == 0:
            opened = Run(run)
            if opened.report("run.json"):
                say(f"{run} is {opened.status().sentence}")
            if data:
                opened.move_data(data)
            if threads:
                opened.set_threads(threads)
        go_on(run, place, processes=processes, threads=threads, kimg=kimg)


def go_on(
    out: Path,
    device: str,
    *,
    processes: int,
    threads: int | None,
    run: Run | None = None,
    dataset: Dataset | None = None,
    kimg: float | None = None,
) -> None:
    """Trains here, with the processes that a launcher has started, or with processes of its own."""
    from frugan.distributed import gather, launched, rank
    from frugan.run.launcher import launch
    from frugan.run.train import Run

    gather(None)  # until the first has made the run
    console.quiet = rank() > 0
    run = run or Run(out)
    found = run.latest()
    left = not found or found.images < (kimg or run.config.kimg) * 1000
    if processes > 1 and left and not launched():
        share = threads or run.config.threads or max((os.cpu_count() or 1) // processes, 1)
        more = ["--kimg", str(kimg)] if kimg else []
        with run.launching():
            launch(processes, "frugan", ["resume", str(out), "--device", device, "--threads", str(share), *more])
    else:
        follow(run, device=device, dataset=dataset, kimg=kimg)


def follow(run: Run, *, device: str, dataset: Dataset | None = None, kimg: float | None = None) -> None:
    """Trains with a live display; says in the end where to look."""
    from frugan.tracking import ConsoleDisplay

    total = kimg or run.config.kimg
    found = run.latest()
    start = found.images / 1000 if found else 0.0
    last = None
    say(f"Watch it at {run.page.as_uri()}")
    with stop_on_signal() as stop, ConsoleDisplay(total_kimg=total, start_kimg=start, console=console) as display:
        hears = {"stop": stop, "evaluating": display.evaluating, "stepping": display.step}
        for last in run.train(kimg=kimg, device=device, dataset=dataset, **hears):
            display.log(last)
            for warning in last.get("warnings", ()):
                display.say(f"warning: {warning}")
    at = f"{last['kimg']:g}" if last else f"{start:g}"
    say(f"{at} of {total:g} kimg. Look at {run.page}")
    if last and last["kimg"] < total:
        print_command("Resume with", "resume", run.path)
    elif not last:
        print_command("Nothing left to do; train longer with", "resume", run.path, "--kimg", f"{total * 2:g}")


def show_forecast(config: RunConfig) -> None:
    """How long the run will take on this CPU, before it begins."""
    from frugan.run.plan import pace
    from frugan.training.pacing import forecast

    with console.status("timing a step"):
        seconds = pace(config)
    say(f"{forecast(seconds, config.kimg)} ({config.threads} CPU thread{'s' if config.threads != 1 else ''})")


def run_directory(data: str, out: Path | None, to: Path | None) -> Path:
    """The run directory, given once; by default one in runs/ with the data's name, numbered where that is taken, and said."""
    from frugan.distributed import launched

    if out and to:
        raise FruganError(f"{to} and --out {out}: the run directory is given twice; leave one of them out")
    if out or to:
        return out or to  # pyright: ignore[reportReturnType]
    if launched():
        raise FruganError("several processes need one run directory; name it with --out")
    name = Path(data.split("{")[0]).absolute().stem.strip("-_ ") if "://" not in data else "shards"
    names = (name if i == 1 else f"{name}-{i}" for i in itertools.count(1))
    found = next(path for path in (Path("runs") / name for name in names) if not path.exists())
    say(f"run directory: {found}")
    return found


def set_threads(threads: int | None) -> None:
    import torch

    if threads:
        torch.set_num_threads(threads)


def describe(dataset: Dataset, derived: list[Derived]) -> None:
    """What the run stands on: the data, and every value that nobody asked for."""
    from rich.table import Table

    h, w = dataset.resolution
    console.print(
        f"{len(dataset.train_indices)} images of {h}x{w}, {dataset.channels} channels"
        + (f"; {len(dataset.held_out_indices)} held out" if len(dataset.held_out_indices) else "")
        + (f"; labels of size {dataset.label_size} from {dataset.label_origin}" if dataset.label_size else "")
    )
    for part, text in dataset.describe_labels():
        console.print(f"  {part and f'{part}: '}{text}", markup=False)
    if dataset.skipped:
        console.print(f"[yellow]{len(dataset.skipped)} files skipped:[/yellow]")
        for name, reason in dataset.skipped:
            console.print(f"  {shown(name)}: {shown(reason)}", markup=False)
    for note in dataset.notes:
        say(f"note: {note}")
    table = Table("setting", "value", "because", box=None, pad_edge=False, header_style="dim")
    for row in derived:
        table.add_row(row.name, f"{row.value:g}" if isinstance(row.value, float) else str(row.value), row.reason)
    console.print(table)


def show_cost(config: RunConfig, device: str) -> None:
    """The configuration as it would be written, parameter counts, and measured cost."""
    import yaml

    from frugan.config.schema import to_dict
    from frugan.run.estimate import estimate
    from frugan.training.pacing import forecast

    console.print(yaml.safe_dump(to_dict(config), sort_keys=False), markup=False)
    with console.status("timing one pass of each phase"):
        cost = estimate(config, device)
    console.print(
        f"generator {cost.generator_parameters:,} parameters; discriminator {cost.discriminator_parameters:,}"
    )
    say(f"{forecast(cost.seconds_per_kimg, config.kimg)}, on {device}")
    console.print(f"about {cost.memory_bytes / 2**20:,.0f} MiB of memory")
