"""Helpers that several commands share: parsing of sizes and seeds, a progress bar, signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from frugan.checks import check_number
from frugan.cli.terminal import console
from frugan.command_line import command
from frugan.errors import FruganError, by_reason, counted

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from frugan.data import Dataset
    from frugan.latent.code import Point
    from frugan.networks import Generator

MOST_SEEDS = 1_000_000


def say(text: str) -> None:
    """Prints text as it is: without markup, and on one line however long, so that paths and commands can be copied."""
    console.print(text, markup=False, soft_wrap=True)


def tell_of_files(dataset: Dataset) -> None:
    """Prints which files of a data set were skipped, by reason, and other notes on it."""
    if dataset.skipped:
        console.print(f"[yellow]{counted(len(dataset.skipped), 'file')} skipped:[/yellow]")
        for names, reason in by_reason(dataset.skipped):
            say(f"  {names}: {reason}")
    for note in dataset.notes:
        say(f"note: {note}")


def print_command(label: str, *arguments: object) -> None:
    """`print_command("Resume with", "resume", run)` prints "Resume with: frugan resume RUN", to be pasted into the shell."""
    say(f"{label}: {command(*arguments)}")


def class_option(G: Generator, label: str | None) -> tuple[str, ...]:
    """The option that a printed command needs for samples of a generator with labels: "--class" and the one given, or CLASS."""
    return ("--class", label or "CLASS") if G.label_size else ()


def parse_seeds(text: str, option: str = "--seeds") -> list[int]:
    """ "0-3,8" → [0, 1, 2, 3, 8]; `option` is named in errors."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(part) > 50:
            raise FruganError(f"{option} {text[:60]!r}: give numbers and ranges, for instance 0-15,42")
        for seed in filter(None, (first, last)):
            check_number(option, int(seed), at_most=2**32 - 1, whole=True)
        if last and int(last) < int(first):
            raise FruganError(
                f"{option} {part}: an empty range; give the smaller number first, for instance {last}-{first}"
            )
        if len(seeds) + int(last or first) - int(first) >= MOST_SEEDS:
            raise FruganError(
                f"{option} {text[:60]!r}: more than {MOST_SEEDS:,} at once; give smaller ranges, one after another"
            )
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def parse_points(text: str, option: str = "--seeds") -> list[Point]:
    """ "0-1,me.safetensors,5" → 0, 1, the code, 5. A name that ends in .safetensors is a code's file, a folder all codes in it."""
    from frugan.latent.code import Code, find_codes

    points: list[Point] = []
    for found in find_codes(text) or [text]:
        points += [found] if isinstance(found, Code) else parse_seeds(found, option)
    if len(points) > MOST_SEEDS:
        raise FruganError(
            f"{option} {text[:60]!r}: more than {MOST_SEEDS:,} at once; give smaller ranges, one after another"
        )
    return points


def all_codes(points: Sequence[Point]) -> bool:
    """Whether no label is needed, because there is no seed."""
    return not any(isinstance(point, int) for point in points)


def open_network(
    network: str, label: str | None, device: str, *, optional: bool = False
) -> tuple[Generator, Tensor | None]:
    """The generator on its device, and the label `[K]` that is asked for; None where it takes none, or it is optional."""
    from frugan.device import choose_device
    from frugan.run.load import load

    G = load(network).without_masks()  # what looks at images has no use for them
    c = None if optional and label is None else read_label(network, label, G)
    return G.to(choose_device(device)), c


def tell_of_sheet(G: Generator, made: str = "sheet") -> None:
    """Says what a sheet, or a video, of 8-bit RGB does not show of the images that the generator makes."""
    from frugan.image_files import choose_sheet
    from frugan.pixel_format import is_colour

    channels = G.channels - len(G.config.masks)
    sheet = choose_sheet(G.pixels, channels, "png", "8")
    if G.pixels.dtype != "uint8" or not is_colour(channels, alpha=G.pixels.alpha):
        shown = f", channels {', '.join(sheet.output.names)} of {channels}" if sheet.reduction else ""
        say(f"the {made} is to be looked at: 8 bits per channel{shown}; images of their own are written as the data is")


def read_label(network: str, label: str | None, G: Generator) -> Tensor | None:
    """A label as typed → `[K]`, by the class names of the network's run."""
    from frugan.latent import parse_label
    from frugan.run.load import read_class_names

    return parse_label(label, G.label_size, read_class_names(network), G.config.measured)


def check_out(out: Path) -> None:
    """Makes the folder. Raises `FruganError` where a file stands in its place."""
    if out.exists() and not out.is_dir():
        raise FruganError(f"{out} exists and is not a folder; choose another --out")
    out.mkdir(parents=True, exist_ok=True)


def check_image(out: Path) -> None:
    """Makes the folder of an image to be written. Raises `FruganError` unless its name ends as an image's does."""
    from PIL import Image

    Image.init()
    if out.suffix.lower() not in Image.EXTENSION:
        raise FruganError(f"--out {out}: give an image file, for instance {out.with_suffix('.png')}")
    if out.is_dir():
        raise FruganError(f"--out {out} is a folder; give an image file in it")
    out.parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar that takes (done, total); nothing where the output is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def resuming(state: Path) -> Iterator[Path]:
    """The file or folder that keeps the state of the block's work; a stop tells that the same command resumes from it."""
    try:
        yield state
    except (KeyboardInterrupt, SystemExit, OSError):
        if state.exists():
            say("stopped; the same command resumes it")
        raise


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Ctrl-C, SIGTERM and a terminal that closes ask for a stop after the step at hand; a Ctrl-C after that stops at once."""
    from frugan.distributed import launched
    from frugan.run.launcher import stop_signals

    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            if number == signal.SIGINT and not launched():
                raise KeyboardInterrupt
            return  # schedulers repeat SIGTERM, and launchers the terminal's Ctrl-C: the checkpoint is under way
        asked.set()
        with suppress(RuntimeError):  # the signal came in the midst of a print
            console.print("stopping after this step; a checkpoint will be written (Ctrl-C again to stop at once)")

    before = {kind: signal.signal(kind, ask) for kind in stop_signals()}
    try:
        yield asked.is_set
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
