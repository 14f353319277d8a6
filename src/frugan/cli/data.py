"""`frugan data`: look at images, prepare them, draw some."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Option

from frugan.checks import Limits, Seed, checked
from frugan.cli.common import bar, console, counted, say, tell_of_files
from frugan.cli.signature import Command, Destination, Group, completing, demo_styles
from frugan.errors import by_reason
from frugan.resolution import parse_resolution

log = logging.getLogger(__name__)

_LONGEST_NAME = 200
"""Bytes of a data set's name that the name of its contact sheet keeps: file systems take 255 in all."""

app = typer.Typer(cls=Group, help="Look at images, prepare them, or draw some to try.", no_args_is_help=True)

Path_ = Annotated[str, typer.Argument(help="A folder, zip, tar or array file of images, or a video.")]
Resolution = Annotated[str | None, Option(help="R or HxW in pixels; default: from the images.")]
Channels = Annotated[Literal["auto", "files", "L", "LA", "RGB", "RGBA"], Option(help="Convert all images to these.")]
Fit = Annotated[Literal["crop", "letterbox"], Option(help="How images of another shape are fitted.")]
Filter = Annotated[Literal["lanczos", "box"], Option(help="Resizing filter, antialiased.")]
Background = Annotated[Literal["white", "black"], Option(help="Behind dropped transparency and letterboxes.")]
Labels = Annotated[
    str,
    Option(
        help="Where labels come from: auto, none, folders, or a .csv, .tsv, .json or .jsonl file, perhaps with :COLUMN,COLUMN."
    ),
]
ValueRange = Annotated[
    str,
    Option(
        help="Stored values that become black and white: LOW,HIGH, or percentiles p1,p99; each:p1,p99 in every channel; full: all "
        "of 8 or 16 bits; auto: the bits in use, or the extremes of other numbers."
    ),
]
UseGenerated = Annotated[bool, Option(help="Take images that frugan generated for data, instead of skipping them.")]

Frames = Annotated[
    Literal["first", "all", "channels"],
    Option(
        help="Of an animation, or a file of several pages: the first image, all, or a TIFF's pages as channels of one."
    ),
]
Stride = Annotated[
    int,
    Limits(at_least=1, at_most=1_000_000),
    Option(help="Take every so many frames: of videos, and with --frames all."),
]


def _config(path: str, resolution: str | None, **settings: Any) -> Any:
    from frugan.data import DataConfig

    config = DataConfig(path=path, resolution=parse_resolution(resolution) if resolution else None, **settings)
    for vain in config.vain:
        log.warning("warning: %s", vain)
    return config


@app.command(cls=Command)
@checked
def inspect(
    path: Path_,
    resolution: Resolution = None,
    channels: Annotated[
        str,
        Option(
            help="Convert all images to auto, files, L, LA, RGB or RGBA; or what each channel is: RGB=image,3=mask."
        ),
    ] = "auto",
    masks: Annotated[str | None, Option(help="Masks of the images: files of the same names.")] = None,
    fit: Fit = "crop",
    filter: Filter = "lanczos",
    background: Background = "white",
    labels: Labels = "auto",
    value_range: ValueRange = "auto",
    use_generated: UseGenerated = False,
    frames: Frames = "first",
    stride: Stride = 1,
    group: Annotated[
        str | None, Option(help="Images that belong together: folder, folder:N, regex:PATTERN or FILE.csv:COLUMN.")
    ] = None,
    held_out: Annotated[
        float, Limits(at_least=0, at_most=1e9), Option(help="Images to set aside: a fraction below 1, or a count.")
    ] = 0,
    crops: Annotated[
        str | None, Option(help="Cut so many crops of each image at random places, or a grid of them.")
    ] = None,
    crop_size: Annotated[
        int | None, Limits(at_least=8, at_most=65536), Option(help="Side of crops in pixels of the images.")
    ] = None,
    crop_overlap: Annotated[
        float, Limits(at_least=0, at_most=0.95), Option(help="Share by which neighbours in a grid overlap.")
    ] = 0,
    crop_rotations: Annotated[bool, Option(help="Turn crops by quarters.")] = False,
    crop_seed: Annotated[Seed, Option(help="Seed of the places of crops.")] = 0,
    sheet: Annotated[
        Path | None, Option(help="Where to write the contact sheet. \\[default: contact-sheet-NAME.png]")
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Say what is there, and what training would do with it."""
    import json

    from frugan.data import tools
    from frugan.image_files import SUFFIXES, save

    about = _about(path)
    where = sheet or _default_sheet(path, about)
    _refuse_sheet(where)
    settings = {"channels": channels, "fit": fit, "filter": filter, "background": background, "labels": labels}
    settings |= {"value_range": value_range, "use_generated": use_generated, "group": group, "held_out": held_out}
    settings |= {"crops": crops, "crop_size": crop_size, "crop_overlap": crop_overlap, "masks": masks}
    settings |= {"crop_rotations": crop_rotations, "crop_seed": crop_seed}
    settings |= {"frames": frames, "stride": stride}
    with bar("reading images") as progress:
        report = tools.inspect(_config(path, resolution, **settings), progress=progress)
    contact_sheet = tools.contact_sheet(report.dataset, kind=SUFFIXES[where.suffix.lower()])
    save(contact_sheet, where, alpha=report.dataset.alpha, text=about)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=1, default=str))
        return
    from rich.table import Column, Table

    from frugan.data.stats import spans

    table = Table("", Column(overflow="fold"), show_header=False, box=None, pad_edge=False)
    for what, finding in report.rows():
        table.add_row(what, finding, style="yellow" if what in ("note", "problem") else None)
    console.print(table, markup=False)
    stretched = report.dataset.value_range
    shown = f" (values {spans(stretched)} shown from black to white)" if stretched else ""
    say(f"contact sheet: {where}{shown}")


def _about(path: str) -> dict[str, str]:
    """The text in a contact sheet that tells whose it is, without the path itself."""
    import hashlib
    import os

    return {"Data": hashlib.sha256(os.fsencode(Path(path).expanduser().resolve())).hexdigest()}


def _default_sheet(path: str, about: Mapping[str, str]) -> Path:
    """The name of a contact sheet: that of the data set, its suffix included, with a number where such a file is another's."""
    from frugan.cli.output import free

    name = Path(path).expanduser().resolve().name.encode()[:_LONGEST_NAME].decode(errors="ignore")
    return free([Path(f"contact-sheet-{name}.png")], [about])[0]


def _refuse_sheet(where: Path) -> None:
    """Raises `FruganError` for a contact sheet that would not be known again, or overwrite what frugan did not write."""
    from frugan.data.sources.own import HEAD, own_kind
    from frugan.errors import FruganError
    from frugan.files import check_writable

    if where.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise FruganError(f"--sheet {where}: a contact sheet is a .png or .jpg file")
    check_writable(where)
    if where.is_file():
        with open(where, "rb") as file:
            if own_kind(file.read(HEAD)) is None:
                raise FruganError(f"{where} exists already, and frugan did not write it; name another --sheet")


@app.command(cls=Command)
@checked
def prepare(
    path: Path_,
    out: Annotated[Path, Destination("either"), typer.Argument(help="A folder, .zip or .npz to write.")],
    resolution: Resolution = None,
    channels: Channels = "auto",
    fit: Fit = "crop",
    filter: Filter = "lanczos",
    background: Background = "white",
    labels: Labels = "auto",
    value_range: ValueRange = "auto",
    use_generated: UseGenerated = False,
    frames: Frames = "first",
    stride: Stride = 1,
    strict: Annotated[bool, Option(help="Refuse unreadable images instead of skipping them.")] = False,
) -> None:
    """Write the images at the size of training, with their labels where they have some, to one file or folder."""
    from frugan.data import tools

    settings = {"channels": channels, "fit": fit, "filter": filter, "background": background, "labels": labels}
    settings |= {"value_range": value_range, "use_generated": use_generated}
    settings |= {"frames": frames, "stride": stride, "strict": strict}
    with bar("preparing") as progress:
        done = tools.prepare(_config(path, resolution, **settings), out, progress=progress)
    tell_of_files(done.dataset)
    say(f"{counted(done.count, 'image')} in {done.path}")


@app.command(cls=Command)
@checked
def corrupt(
    path: Path_,
    out: Annotated[Path, Destination("either"), typer.Argument(help="A folder, .zip or .npz to write.")],
    measurement: Annotated[
        str,
        Option(
            help="A kind and its numbers, for instance drop-pixels:0.5. Kinds: drop-pixels, drop-rows, drop-columns, "
            "drop-rows-columns, drop-patch, keep-patch, noise, blur-noise, rotate90, pad-rotate-project."
        ),
    ],
    seed: Annotated[Seed, Option(help="Seed of what is random in it.")] = 0,
    resolution: Resolution = None,
    channels: Channels = "auto",
    labels: Labels = "auto",
    value_range: ValueRange = "auto",
    use_generated: UseGenerated = False,
    frames: Frames = "first",
    stride: Stride = 1,
) -> None:
    """Write corrupted images, to try learning clean ones from them: frugan train OUT --measurement …"""
    import numpy as np
    import torch

    from frugan.augment import Measurement
    from frugan.data import tools
    from frugan.images import to_float, to_pixels

    settings = {"value_range": value_range, "use_generated": use_generated, "frames": frames, "stride": stride}
    config = _config(path, resolution, channels=channels, labels=labels, **settings)

    def change(row: int, pixels: np.ndarray) -> np.ndarray:
        x = to_float(torch.from_numpy(np.array(pixels))[None])
        measure = Measurement(measurement, (x.shape[2], x.shape[3]))
        drawn = measure.draw(1, x.shape[1], generator=torch.Generator().manual_seed(seed << 32 | row))
        return to_pixels(measure.apply(x, drawn), 8 * pixels.dtype.itemsize)[0]

    with bar("corrupting") as progress:
        done = tools.prepare(config, out, change=change, progress=progress)
    tell_of_files(done.dataset)
    say(f"{counted(done.count, 'image')} in {done.path}, each through {measurement}")


@app.command(cls=Command)
@checked
def sample(
    out: Annotated[Path, Destination("either"), typer.Argument(help="The folder to make.")],
    style: Annotated[
        str,
        Option(
            help="critters, voxel-art, pixel-art, lorelei, notionists or planets, of the extra frugan\\[demo]; or shapes, "
            "which need nothing.",
            autocompletion=completing(demo_styles),
        ),
    ] = "critters",
    count: Annotated[int, Limits(at_least=1, at_most=10_000_000), Option(help="Number of images.")] = 1000,
    size: Annotated[int, Limits(at_least=8, at_most=4096), Option(help="Pixels a side.")] = 32,
    seed: Annotated[Seed, Option(help="Seed of the sequence of images.")] = 0,
    offset: Annotated[
        int,
        Limits(at_least=0, at_most=2**40),
        Option(help="Where in the sequence to begin: for a second, disjoint set."),
    ] = 0,
    background: Annotated[Literal["style", "white", "transparent"], Option(help="Behind the figures.")] = "style",
) -> None:
    """Draw avatars or shapes with attribute labels, to try things on."""
    from frugan.data import tools

    with bar("drawing") as progress:
        done = tools.draw_avatars(
            style, count, size, out, seed=seed, offset=offset, background=background, progress=progress
        )
    console.print(
        f"{counted(done.count, 'image')} in {done.path}; attributes in labels.csv: {', '.join(done.attributes)}"
    )


@app.command(cls=Command)
@checked
def shard(
    path: Path_,
    out: Annotated[Path, Destination("either"), typer.Argument(help="The folder to make.")],
    per_shard: Annotated[int, Limits(at_least=1, at_most=10_000_000), Option(help="Images in a shard.")] = 1000,
    labels: Labels = "auto",
    channels: Annotated[
        str, Option(help="Channels of the files that are masks, RGB=image,3=mask; files: pass over a data.json.")
    ] = "auto",
    masks: Annotated[
        str | None, Option(help="Masks of the images, files of the same names: their last channel.")
    ] = None,
    seed: Annotated[Seed, Option(help="Seed of the order of images.")] = 0,
) -> None:
    """Write the images as shards (WebDataset tars) with an index, to train on from a server or past one disk."""
    from frugan.data import tools

    with bar("writing shards") as progress:
        settings = {"per_shard": per_shard, "labels": labels, "channels": channels, "masks": masks, "seed": seed}
        done = tools.shard(path, out, progress=progress, **settings)
    for names, reason in by_reason(sorted(done.skipped)):
        say(f"skipped {names}: {reason}")
    if done.own.count:
        say(f"note: {done.own.sentence()}")
    say(f"{counted(done.count, 'image')} in {done.shards} shards in {done.path}")
