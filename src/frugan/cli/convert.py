"""`frugan import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from frugan.cli.common import console
from frugan.errors import FruganError


def import_(
    file: Annotated[Path, typer.Argument(help="A released .pkl, or a community .pt.")],
    out: Annotated[Path, typer.Argument(help="Directory to make for the network.")],
) -> None:
    """Turn a StyleGAN2 checkpoint into safetensors and JSON. Nothing in the file is executed."""
    from frugan.interop import read_network, write_directory

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FruganError(f"{out} exists and is not an empty directory; choose another one")
    found = read_network(file)
    write_directory(out, found)
    G = found.generator
    count = sum(p.numel() for p in G.parameters())
    (h, w), labels = G.resolution, f", labels of size {G.label_size}" if G.label_size else ""
    console.print(f"generator of {h}x{w}, {G.channels} channels, {count:,} parameters{labels}")
    others = {"raw generator": found.raw_generator, "discriminator": found.discriminator}
    if kept := " and ".join(name for name, network in others.items() if network is not None):
        console.print(f"kept beside it, to train on from: {kept}")
    for note in found.notes:
        console.print(f"[yellow]{note}[/yellow]")
    console.print(f"make pictures: frugan generate {out} --seeds 0-15 --out pictures")
