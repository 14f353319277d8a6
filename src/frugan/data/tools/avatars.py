"""Demo images: avatars of the CC0 DiceBear styles, or shapes, drawn here, with their attributes as labels.

Avatars come from installed packages (`pip install 'frugan[demo]'`), shapes from Pillow: nothing is fetched. Image number i of
seed s is always the same, so `offset` cuts disjoint sets (training, held out) from one endless sequence.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from importlib.util import find_spec
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from PIL import Image

from frugan.checks import Count, Limits, Seed, check_choice, checked
from frugan.data.tools import shapes
from frugan.data.workers import Progress
from frugan.errors import FruganError
from frugan.files import building

if TYPE_CHECKING:
    from dicebear import Style

SHAPES = "shapes"
"""The style that needs no extra."""

STYLES = ("critters", "voxel-art", "pixel-art", "lorelei", "notionists", "planets", SHAPES)
Background = Literal["style", "white", "transparent"]

_CHUNK = 64  # avatars per task
_WORTH_PROCESSES = 50_000_000  # drawn pixels above which starting processes (seconds) pays: drawing holds the GIL


@dataclass(frozen=True)
class Avatars:
    """The output of `draw_avatars`: `<path>/<number>.png`, `labels.csv` and `labels.json` (the classes' names)."""

    path: Path
    count: int
    attributes: dict[str, list[str]]


@checked
def draw_avatars(
    style: str,
    count: Annotated[int, Limits(at_least=1, at_most=10_000_000)],
    size: Annotated[int, Limits(at_least=8, at_most=4096)],
    out: str | Path,
    *,
    seed: Seed = 0,
    offset: Annotated[int, Limits(at_least=0, at_most=2**40)] = 0,
    background: Background = "style",
    processes: Count | None = None,
    progress: Progress = None,
) -> Avatars:
    """Draws avatars as a labelled data set: a folder of PNG files (RGBA where the background is transparent, else RGB),
    whole or not at all.

    `labels.csv` in it has a column of class numbers for each attribute, and `labels.json` the classes' names.

    Args:
        style: of the avatars.
        count: number of images.
        size: side in pixels.
        out: the folder.
        seed: of the sequence of images.
        offset: number of the first image in that sequence.
        background: "style" leaves it to the style.
        processes: that draw; None: one for each core.
        progress: called with (done, total) images.

    Raises `FruganError` for an unknown style, an impossible number, a taken `out`, or where the extra `demo` is
    missing.
    """
    check_choice("unknown style", style, STYLES)
    attributes = _attributes(style, background)
    with building(Path(out).expanduser()) as folder:
        folder.mkdir()
        rows: list[list[int]] = []
        tasks = [
            _Task(style, range(first, min(first + _CHUNK, offset + count)), size, folder, seed, background)
            for first in range(offset, offset + count, _CHUNK)
        ]
        for codes in _draw_all(tasks, processes or _processes(count * size**2)):
            rows += codes
            if progress:
                progress(len(rows), count)
        with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["name", *attributes])
            table.writerows([_name(offset + i), *codes] for i, codes in enumerate(rows))
        (folder / "labels.json").write_text(json.dumps(attributes, indent=1), encoding="utf-8")
    return Avatars(Path(out), count, attributes)


def can_draw(style: str) -> bool:
    """Whether all that a style needs is installed."""
    return style == SHAPES or all(find_spec(package) for package in ("dicebear", "dicebear_styles", "resvg_py"))


@dataclass(frozen=True)
class _Task:
    style: str
    numbers: range
    size: int
    folder: Path
    seed: int
    background: Background


def _processes(pixels: int) -> int:
    return (cpu_count() or 1) if pixels > _WORTH_PROCESSES else 1


def _draw_all(tasks: list[_Task], processes: int) -> Iterator[list[list[int]]]:
    if min(processes, len(tasks)) == 1:
        yield from map(_draw_task, tasks)
    else:
        with ProcessPoolExecutor(min(processes, len(tasks)), mp_context=get_context("spawn")) as pool:
            yield from pool.map(_draw_task, tasks)


def _draw_task(task: _Task) -> list[list[int]]:
    """Writes the task's images; returns each one's attributes as class numbers."""
    attributes = _attributes(task.style, task.background)
    codes = []
    for number in task.numbers:
        image, chosen = _draw(task, f"{task.seed}-{number}")
        image.save(task.folder / _name(number))
        codes.append([names.index(chosen(attribute)) for attribute, names in attributes.items()])
    return codes


def _draw(task: _Task, seed: str) -> tuple[Image.Image, Callable[[str], str]]:
    """An image on its background, and its class by the name of an attribute."""
    ground = "white"
    if task.style == SHAPES:
        image, classes = shapes.draw(seed, task.size)
        chosen = classes.__getitem__
        if task.background == "style":
            ground = shapes.BACKGROUNDS[classes["backgroundColor"]]
    else:
        image, options = _draw_avatar(_style(task.style), seed, task.size, task.background)
        chosen = partial(_chosen, options)
    if task.background != "transparent":
        image = Image.alpha_composite(Image.new("RGBA", image.size, ground), image).convert("RGB")
    return image, chosen


def _draw_avatar(style: Style, seed: str, size: int, background: Background) -> tuple[Image.Image, dict[str, Any]]:
    import resvg_py
    from dicebear import Avatar

    avatar = Avatar(style, {"seed": seed} if background == "style" else {"seed": seed, "backgroundColor": []}).to_json()
    png = resvg_py.svg_to_bytes(svg_string=avatar["svg"], width=size, height=size, skip_system_fonts=True)
    return Image.open(io.BytesIO(png)).convert("RGBA"), avatar["options"]


@cache
def _style(name: str) -> Style:
    try:
        import resvg_py  # noqa: F401
        from dicebear import Style

        return Style.from_json(files("dicebear_styles").joinpath(f"{name}.json").read_text("utf-8"))
    except ModuleNotFoundError as error:
        raise FruganError(
            f"drawing avatars needs the package {error.name}; install it with: pip install 'frugan[demo]'"
        ) from error


def _attributes(style: str, background: Background) -> dict[str, list[str]]:
    """Every choice that a style makes, with its classes in a fixed order; "none" stands for a part left out."""
    if style == SHAPES:
        return shapes.attributes(background=background == "style")
    return _avatar_attributes(_style(style), background)


def _avatar_attributes(style: Style, background: Background) -> dict[str, list[str]]:
    components = style.components()
    repeated = {c.source_name() for name, c in components.items() if c.source_name() != name}  # scattered decoration
    attributes = {
        name: ["none"] * (c.probability() < 100) + list(c.variants())
        for name, c in components.items()
        if name != "animation" and c.source_name() not in repeated
    }
    attributes |= {
        f"{name}Color": ["none", *color.values()]
        for name, color in style.colors().items()
        if len(color.values()) > 1 and (name != "background" or background == "style")
    }
    return {attribute: names for attribute, names in attributes.items() if len(names) > 1}


def _chosen(options: dict[str, Any], attribute: str) -> str:
    if attribute.endswith("Color"):
        return next(iter(options.get(attribute, [])), "none")
    return options.get(f"{attribute}Variant", "none")


def _name(number: int) -> str:
    return f"{number:06d}.png"
