"""`frugan video`: tours, loops, edits and morphs of trained generators, and of a training, frame by frame."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from frugan.checks import Limits, Only
from frugan.cli.common import all_codes, bar, open_network, parse_points, read_label, say, tell_of_sheet
from frugan.cli.signature import Class, Device, Network
from frugan.errors import FruganError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import Tensor

    from frugan.latent.code import Point
    from frugan.latent.path import Path as VideoPath
    from frugan.networks import Generator


def video(
    network: Network,
    out: Annotated[Path, Option("--out", "-o", help="The video: .mp4, .webp, .gif or .png (APNG).")] = Path("video.mp4"),
    tour: Annotated[str | None, Option(help="From seed to seed, for instance 0,5,9,0.")] = None,
    loop: Annotated[bool, Option(help="A closed, smooth curve through --seeds.")] = False,
    edit: Annotated[str | None, Option(help="FOLDER:NUMBER of a direction: there and back.")] = None,
    classes: Annotated[str | None, Option(help="Classes joined by commas: one latent through all of them.")] = None,
    training: Annotated[bool, Option(help="Of a run: its sample grids from before the first step to now.")] = False,
    truncation: Annotated[str, Option(help="ψ; or FIRST:LAST, which is then what the video shows.")] = "0.7",
    morph: Annotated[str | None, Option(help="A network fine-tuned from this one (or its parent): this one turns into it and back.")] = None,
    seeds: Annotated[str, Option(help="Seeds of --loop, --edit, --classes, --truncation and --morph.")] = "0-5",
    strengths: Annotated[str | None, Only("edit"), Option(help="--edit: LOW:HIGH in σ. \\[default: the direction's slider]")] = None,
    space: Annotated[Literal["w", "z"], Only("tour"), Option(help="--tour: straight lines in W, or great circles in Z.")] = "w",
    easing: Annotated[Literal["linear", "smooth"], Option(help="smooth slows down at each key frame.")] = "linear",
    even: Annotated[bool, Option(help="Equal changes of the image; without, equal steps in latent space.")] = True,
    seconds: Annotated[float, Limits(above=0, at_most=3600), Option(help="Length.")] = 10.0,
    fps: Annotated[float, Limits(at_least=1, at_most=120), Option(help="Frames a second.")] = 30.0,
    grid: Annotated[str | None, Option(help="COLUMNSxROWS of videos side by side, for instance 3x2; each begins with seeds of its own.")] = None,
    scale: Annotated[int, Limits(at_least=1, at_most=64), Option(help="Enlarge by a whole factor, pixel by pixel.")] = 1,
    label: Class = None,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Make a video: a tour, a loop, an edit, classes, truncation, one generator turning into another, or a training."""
    from frugan.latent.path import frame_times, render_frames
    from frugan.latent.video import check_frames, check_video, tiled, write_video

    asked = {"tour": tour, "loop": loop, "edit": edit, "classes": classes, "morph": morph, "training": training}
    kinds = [name for name, value in asked.items() if value]
    swept = ":" in truncation
    if len(kinds) + swept > 1:
        raise FruganError(f"choose one of --{', --'.join([*kinds, 'truncation FIRST:LAST'])}")
    columns, rows = _grid(grid)
    if training:
        _video_of_training(network, out, seconds, (columns, rows) if grid else None)
        return
    points = parse_points(seeds)
    check_video(out, fps)
    frames = max(2, round(seconds * fps))
    G, c = open_network(
        network, label, device, optional=bool(classes) or all_codes(parse_points(tour, "--tour") if tour else points)
    )
    height, width = G.resolution
    check_frames(out, frames, (width * columns * scale, height * rows * scale))
    make = _path_maker(
        network, G, c, kinds[0] if kinds else "truncation" if swept else "loop",
        tour=tour, edit=edit, classes=classes, truncation=truncation, morph=morph, strengths=strengths, space=space, seeds=points, device=device,
    )  # fmt: skip
    paths = [make(1000 * i) for i in range(columns * rows)]
    with bar("making frames") as progress:
        times = [frame_times(path, frames, easing=easing, even=even) for path in paths]
        made = tiled([render_frames(path, t) for path, t in zip(paths, times)], columns, scale)
        count = write_video(out, _counted(made, frames, progress), fps=fps, alpha=G.pixels.alpha)
    say(f"{count} frames, {count / fps:.3g} s, in {out}")
    stops = points if not (tour or edit or swept) else parse_points(tour, "--tour") if tour else []
    if fitted := [point.name for point in stops if not isinstance(point, int) and point.noise]:
        say(f"between images the noise is the network's own: that which was fitted to {', '.join(fitted)} is left out")
    tell_of_sheet(G, "video")


def _counted(frames: Iterable[Tensor], total: int, progress: Callable[[int, int], None]) -> Iterator[Tensor]:
    """The frames; after each, `progress` hears how many there were, of how many."""
    for done, frame in enumerate(frames, 1):
        yield frame
        progress(done, total)


def _video_of_training(network: str, out: Path, seconds: float, shape: tuple[int, int] | None) -> None:
    from frugan.run.directory import RunDirectory
    from frugan.run.training_video import write_training_video

    columns, rows = shape or (8, 4)
    count = write_training_video(RunDirectory(network), out, columns=columns, rows=rows, seconds=seconds)
    say(f"{count} frames in {out}")


def _grid(text: str | None) -> tuple[int, int]:
    """ "3x2" → (3, 2): columns, rows."""
    parts = (text or "1x1").lower().split("x")
    if len(parts) != 2 or not all(re.fullmatch("[0-9]{1,3}", part) and 0 < int(part) <= 32 for part in parts):
        raise FruganError(f"--grid {text!r}: give COLUMNSxROWS, from 1x1 to 32x32, for instance 3x2")
    return int(parts[0]), int(parts[1])


def _path_maker(
    network: str,
    G: Generator,
    c: Tensor | None,
    kind: str,
    *,
    tour: str | None,
    edit: str | None,
    classes: str | None,
    truncation: str,
    morph: str | None,
    strengths: str | None,
    space: Literal["w", "z"],
    seeds: list[Point],
    device: str,
) -> Callable[[int], VideoPath]:
    """A function that makes the path of a video, given an offset of its seeds. Raises `FruganError` before a frame is made."""
    import torch

    from frugan.latent import blending, path
    from frugan.latent.direction import find_direction
    from frugan.latent.edit import Truncation

    if kind == "truncation":
        psis = _two("truncation", truncation)
        return lambda more: path.truncation_path(G, _later(seeds[0], more), *psis, c)
    try:
        psi = Truncation(float(truncation))
    except ValueError:
        raise FruganError(f"--truncation {truncation!r}: give a number, or FIRST:LAST") from None
    if kind == "tour":
        stops = parse_points(tour or "", "--tour")
        return lambda more: path.tour(G, [_later(stop, more) for stop in stops], c, space=space, truncation=psi)
    if kind == "edit":
        direction = find_direction(edit or "")
        low, high = _two("strengths", strengths) if strengths else direction.slider
        direction.check(G)
        return lambda more: path.edit_path(G, _later(seeds[0], more), direction, low, high, c, truncation=psi)
    if kind == "classes":
        labels = torch.stack(
            [
                label
                for name in (classes or "").split(",")
                if (label := read_label(network, name.strip(), G)) is not None
            ]
        )
        first = seeds[0]
        if not isinstance(first, int):
            raise FruganError("--classes needs a seed: a code belongs to the label that it was found with")
        return lambda more: path.class_path(G, first + more, labels, truncation=psi)
    if kind == "morph":
        other, _ = open_network(morph or "", None, device, optional=True)
        blending.check_aligned(G, other)
        blending.interpolate(G, other, 0.5)
        around = lambda network, more: path.loop(network, [_later(s, more) for s in seeds], c, truncation=psi)  # noqa: E731
        return lambda more: blending.Morph(G, other, around(G, more), around(other, more))
    return lambda more: path.loop(G, [_later(s, more) for s in seeds], c, truncation=psi)


def _later(point: Point, more: int) -> Point:
    """A seed so many higher; a code stays."""
    return point + more if isinstance(point, int) else point


def _two(name: str, text: str) -> tuple[float, float]:
    """ "-3:3" → (-3, 3)."""
    from frugan.checks import check_number

    parts = text.split(":")
    try:
        low, high = (float(part) for part in parts)
    except ValueError:
        raise FruganError(f"--{name} {text!r}: give FIRST:LAST, for instance 0:1") from None
    for number in (low, high):
        check_number(f"--{name}", number, at_least=-1000, at_most=1000)
    return low, high
