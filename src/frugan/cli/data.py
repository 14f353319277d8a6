"""`frugan data`: look at pictures, prepare them, draw some."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Option

from frugan.cli.common import bar, console, parse_resolution

app = typer.Typer(help="Look at pictures, prepare them, or draw some to try.", no_args_is_help=True)

Path_ = Annotated[str, typer.Argument(help="A folder, zip, .npy or .npz of pictures.")]
Resolution = Annotated[str | None, Option(help="R or HxW in pixels; default: from the pictures.")]
Channels = Annotated[Literal["auto", "L", "LA", "RGB", "RGBA"], Option(help="Convert all pictures to these.")]
Fit = Annotated[Literal["crop", "letterbox"], Option(help="How pictures of another shape are fitted.")]
Filter = Annotated[Literal["lanczos", "box"], Option(help="Resizing filter, antialiased.")]
Background = Annotated[Literal["white", "black"], Option(help="Behind dropped transparency and letterboxes.")]
Labels = Annotated[str, Option(help="Where labels come from: auto, none, folders, or a .csv or .json file.")]


def _config(path: str, resolution: str | None, **settings: Any) -> Any:
    from frugan.data import DataConfig

    return DataConfig(path=path, resolution=parse_resolution(resolution), **settings)


@app.command()
def inspect(
    path: Path_,
    resolution: Resolution = None,
    channels: Channels = "auto",
    fit: Fit = "crop",
    filter: Filter = "lanczos",
    background: Background = "white",
    labels: Labels = "auto",
    sheet: Annotated[
        Path | None, Option(help="Where to write the contact sheet. [default: contact-sheet-NAME.png]")
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Say what is there, and what training would do with it."""
    import json

    from frugan import data
    from frugan.pictures import save_picture

    settings = {"channels": channels, "fit": fit, "filter": filter, "background": background, "labels": labels}
    with bar("reading pictures") as progress:
        report = data.inspect(_config(path, resolution, **settings), progress=progress)
    where = sheet or Path(f"contact-sheet-{Path(path).resolve().stem}.png")
    save_picture(data.contact_sheet(report.dataset), where)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=1, default=str))
        return
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    for what, finding in report.rows():
        table.add_row(what, finding, style="yellow" if what == "problem" else None)
    console.print(table, markup=False)
    console.print(f"contact sheet: {where}")


@app.command()
def prepare(
    path: Path_,
    out: Annotated[Path, typer.Argument(help="A folder, .zip or .npz to write.")],
    resolution: Resolution = None,
    channels: Channels = "auto",
    fit: Fit = "crop",
    filter: Filter = "lanczos",
    background: Background = "white",
    labels: Labels = "auto",
    strict: Annotated[bool, Option("--strict", help="Refuse unreadable pictures instead of skipping them.")] = False,
) -> None:
    """Write the pictures as training would see them, with their labels, to one file or folder."""
    from frugan import data

    settings = {"channels": channels, "fit": fit, "filter": filter, "background": background, "labels": labels}
    with bar("preparing") as progress:
        done = data.prepare(_config(path, resolution, strict=strict, **settings), out, progress=progress)
    console.print(f"{done.count} pictures in {done.path}", markup=False)


@app.command()
def corrupt(
    path: Path_,
    out: Annotated[Path, typer.Argument(help="A folder, .zip or .npz to write.")],
    measurement: Annotated[
        str, Option(help="A kind and its numbers, for instance drop-pixels:0.5; see docs/methods.md.")
    ],
    seed: Annotated[int, Option(help="Seed of what is random in it.")] = 0,
    resolution: Resolution = None,
    channels: Channels = "auto",
    labels: Labels = "auto",
) -> None:
    """Write corrupted pictures, to try learning clean ones from them: frugan train OUT --measurement …"""
    import numpy as np
    import torch

    from frugan import data
    from frugan.augment import Measurement
    from frugan.pictures import to_float, to_uint8

    config = _config(path, resolution, channels=channels, labels=labels)

    def change(row: int, pixels: np.ndarray) -> np.ndarray:
        x = to_float(torch.from_numpy(np.array(pixels))[None])
        measure = Measurement(measurement, (x.shape[2], x.shape[3]))
        drawn = measure.draw(1, x.shape[1], generator=torch.Generator().manual_seed(seed << 32 | row))
        return to_uint8(measure.apply(x, drawn))[0]

    with bar("corrupting") as progress:
        done = data.prepare(config, out, change=change, progress=progress)
    console.print(f"{done.count} pictures in {done.path}, each through {measurement}", markup=False)


@app.command()
def sample(
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    style: Annotated[str, Option(help="critters, voxel-art, pixel-art, lorelei, notionists or planets.")] = "critters",
    count: Annotated[int, Option(help="Number of pictures.")] = 1000,
    size: Annotated[int, Option(help="Pixels a side.")] = 32,
    seed: Annotated[int, Option(help="Seed of the sequence of pictures.")] = 0,
    offset: Annotated[int, Option(help="Where in the sequence to begin: for a second, disjoint set.")] = 0,
    background: Annotated[Literal["style", "white", "transparent"], Option(help="Behind the figures.")] = "style",
) -> None:
    """Draw avatar pictures with attribute labels, to try things on. Needs the extra frugan\\[demo]."""
    from frugan import data

    with bar("drawing") as progress:
        done = data.draw_avatars(
            style, count, size, out, seed=seed, offset=offset, background=background, progress=progress
        )
    console.print(f"{done.count} pictures in {done.path}; attributes in labels.csv: {', '.join(done.attributes)}")


@app.command()
def shard(
    path: Path_,
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    per_shard: Annotated[int, Option(help="Pictures in a shard.")] = 1000,
    labels: Labels = "auto",
    seed: Annotated[int, Option(help="Seed of the order of pictures.")] = 0,
) -> None:
    """Write the pictures as shards (WebDataset tars) with an index, to train on from a server or past one disk."""
    from frugan import data

    with bar("writing shards") as progress:
        done = data.shard(path, out, per_shard=per_shard, labels=labels, seed=seed, progress=progress)
    console.print(f"{done.count} pictures in {done.shards} shards in {done.path}", markup=False)
    for name, reason in done.skipped:
        console.print(f"skipped {name}: {reason}", markup=False)
