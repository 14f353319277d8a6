"""`frugan generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Option

from frugan.cli.common import bar, console, parse_seeds


def generate(
    source: Annotated[
        Path, typer.Argument(help="A run, one of its checkpoints, a foreign .pkl or .pt, or hf:user/name.")
    ],
    out: Annotated[Path, Option("--out", "-o", help="Directory for the pictures.")],
    seeds: Annotated[str, Option(help="Numbers and ranges: a seed always makes the same picture.")] = "0-15",
    truncation: Annotated[float, Option(help="ψ: below 1 more typical, less varied.")] = 1.0,
    truncation_cutoff: Annotated[int | None, Option(help="Truncate only this many of the first layers.")] = None,
    noise: Annotated[Literal["const", "random", "none"], Option(help="The fine grain.")] = "const",
    label: Annotated[
        str | None, Option("--class", help="Class name or number, or label values joined by commas.")
    ] = None,
    grid: Annotated[bool, Option("--grid", help="One sheet, grid.png, instead of single pictures.")] = False,
    batch: Annotated[int, Option(help="Pictures made at once.")] = 16,
    device: Annotated[str, Option(help="auto, cpu, cuda, mps.")] = "auto",
) -> None:
    """Make pictures with a trained generator: seed0000.png, seed0001.png, …"""
    import numpy as np

    from frugan.latent import parse_label
    from frugan.pictures import GENERATED_KEY, save_picture, to_uint8
    from frugan.pictures import grid as tile
    from frugan.run import choose_device, load, read_class_names

    numbers = parse_seeds(seeds)
    G = load(source).to(choose_device(device))
    c = parse_label(label, G.label_size, read_class_names(source))
    sheets = []
    with bar("generating") as progress:
        batches = G.sample_batches(
            numbers, c=c, batch=batch, noise=noise, truncation=truncation, truncation_cutoff=truncation_cutoff
        )
        done = 0
        for images in batches:
            pixels = to_uint8(images)
            for number, picture in zip(numbers[done:], pixels):
                if not grid:
                    save_picture(picture, out / f"seed{number:04d}.png", text={GENERATED_KEY: str(number)})
            sheets.append(pixels if grid else pixels[:0])
            done += len(pixels)
            progress(done, len(numbers))
    if grid:
        save_picture(tile(np.concatenate(sheets)), out / "grid.png")
    console.print(f"{len(numbers)} pictures in {out / 'grid.png' if grid else out}")
