"""`frugan train` and `frugan resume`."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from frugan.checks import Limits
from frugan.cli.common import bar, console, print_command, say, stop_on_signal, tell_of_files
from frugan.cli.signature import Device, HelpAll, read_options, with_options
from frugan.config.options import MACHINE, DataOptions, Options, displays
from frugan.errors import FruganError, counted

if TYPE_CHECKING:
    from frugan.config.resolve import Derived
    from frugan.config.schema import RunConfig
    from frugan.data import Dataset
    from frugan.run.plan import Plan
    from frugan.run.train import Run

EXAMPLES = (
    "photos --dry-run",
    "photos runs/photos --preset tiny --mirror --kimg 200",
    "photos --resolution 64 --method ada,bcr --held-out 0.1",
)
BASICS = ["data", "to", "out", "dry_run", "device", "help", "help_all"]
BASICS += [name for owner in (Options, DataOptions) for name, display in displays(owner).items() if display.basic]
PROCESSES = Option(help="Train in so many processes here: one a GPU.", rich_help_panel=MACHINE)
OUT = Option("--out", "-o", help=r"The run directory to make. \[default: runs/NAME of the data, numbered if taken]")


@with_options(Options, DataOptions)
def train(
    data: Annotated[
        str, Argument(help="A folder, zip or array file of images, a video, or shards: s3://bucket/set-{000..099}.tar.")
    ],
    to: Annotated[Path | None, Argument(metavar="OUT", help="The run directory to make, as --out.")] = None,
    out: Annotated[Path | None, OUT] = None,
    dry_run: Annotated[bool, Option(help="Show the resolved configuration and what it costs; train nothing.")] = False,
    device: Device = "auto",
    processes: Annotated[int, Limits(at_least=1, at_most=4096), PROCESSES] = 1,
    help_all: HelpAll = False,
    **given: Any,
) -> None:
    """Train a GAN on a folder (or zip, or array) of images.

    The run directory gets checkpoints, samples, stats and an index.html to look at.
    Stop whenever you like: frugan resume goes on exactly where it stopped.
    """
    from frugan.data import DataConfig
    from frugan.device import choose_device
    from frugan.distributed import joined, launched, rank, restarted, world_size
    from frugan.run.directory import check_free
    from frugan.run.plan import plan
    from frugan.run.train import Run

    out = run_directory(data, out, to)
    options = Options(**read_options(Options, given))
    of_data = read_options(DataOptions, given)
    by_class = of_data["balanced"] and not (of_data["group"] and of_data["labels"] == "auto")
    if not (options.conditional or by_class):
        if of_data["labels"] not in ("auto", "none"):
            say(f"warning: --labels {of_data['labels']} has no effect: it belongs to --conditional or --balanced")
        of_data["labels"] = "none"
    source = DataConfig(path=data, **of_data)
    threads = options.threads if isinstance(options.threads, int) else None
    set_threads(threads)
    chosen = choose_device(device)
    with joined(chosen.type) as place:
        run, dataset = None, None
        if rank() == 0 and not (restarted() and (out / "config.yaml").exists()):
            check_free(out)
            with bar("reading images") as progress:
                many = processes if not launched() else world_size()
                plans = plan(options, source, device=chosen, processes=many, progress=progress)
            if dry_run:
                show_configuration(plans.config)
            _tell_of_plan(plans)
            dataset = plans.dataset
            if dry_run:
                show_cost(plans.config, str(chosen))
            else:
                if chosen.type == "cpu":
                    show_forecast(plans.config)
                run = Run.create(out, plans.config)
        if not dry_run:
            go_on(out, place, processes=processes, threads=threads, run=run, dataset=dataset)


def _tell_of_plan(plan: Plan) -> None:
    """The images, what was derived from them, the networks that training starts from, and what may be wanted otherwise."""
    describe(plan.dataset, plan.derived)
    for warning in plan.warnings:
        say(f"warning: {warning}")
    if plan.start:
        console.print(f"starting from {plan.start.source}", *plan.start.lines(), sep="\n", markup=False)
    if plan.note:
        say(plan.note)
        print_command("For preset auto all the same", *sys.argv[1:], "--preset", "auto")


def resume(
    run: Annotated[Path, Argument(help="A run directory.")],
    kimg: Annotated[float | None, Limits(above=0, at_most=1e9), Option(help="The new total length, in kimg.")] = None,
    data: Annotated[str | None, Option(help="Where the run's images are now, if they have moved; remembered.")] = None,
    device: Device = "auto",
    threads: Annotated[
        int | None,
        Limits(at_least=1, at_most=4096),
        Option(help=r"CPU threads from now on. \[default: as the run began with]"),
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
    """Prints how long the run will take on this CPU."""
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
    """Prints the data of a run, and every derived value with its reason."""
    from rich.table import Table

    h, w = dataset.resolution
    console.print(
        f"{counted(len(dataset.train_indices), 'image')} of {h}x{w}, {counted(dataset.channels, 'channel')}"
        + (f"; {len(dataset.held_out_indices)} held out" if len(dataset.held_out_indices) else "")
        + (f"; labels of size {dataset.label_size} from {dataset.label_origin}" if dataset.label_size else "")
    )
    if dataset.groups:
        say(f"groups: {dataset.groups.describe(dataset.held_out_indices)}")
    for part, text in dataset.describe_labels():
        console.print(f"  {part and f'{part}: '}{text}", markup=False)
    tell_of_files(dataset)
    table = Table("setting", "value", "because", box=None, pad_edge=False, header_style="dim")
    for row in derived:
        table.add_row(row.name, f"{row.value:g}" if isinstance(row.value, float) else str(row.value), row.reason)
    console.print(table)


def show_configuration(config: RunConfig) -> None:
    """As it would be written."""
    import yaml

    from frugan.config.schema import to_dict

    console.print(yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True), markup=False)


def show_cost(config: RunConfig, device: str) -> None:
    """Parameter counts, and measured cost."""
    from frugan.run.estimate import estimate
    from frugan.training.pacing import forecast

    with console.status("timing one pass of each phase"):
        cost = estimate(config, device)
    console.print(
        f"generator {cost.generator_parameters:,} parameters; discriminator {cost.discriminator_parameters:,}"
    )
    say(f"{forecast(cost.seconds_per_kimg, config.kimg)}, on {device}")
    console.print(f"about {cost.memory_bytes / 2**20:,.0f} MiB of memory")
