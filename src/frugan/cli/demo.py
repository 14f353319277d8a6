"""`frugan demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from frugan.checks import Limits
from frugan.cli.common import bar, print_command, say
from frugan.cli.signature import Device
from frugan.cli.train import describe, follow

IMAGES, HELD_OUT = 1000, 100


def demo(
    out: Annotated[Path, typer.Argument(help="Directory for the images and the run.")] = Path("demo"),
    style: Annotated[str, Option(help="critters, voxel-art, pixel-art, lorelei, notionists or planets.")] = "critters",
    kimg: Annotated[
        float | None, Limits(above=0, at_most=1e9), Option(help="Length of training. \\[default: that of preset tiny]")
    ] = None,
    device: Device = "auto",
) -> None:
    """Draw 1,000 small images and train a GAN on them: seven to ten minutes on two CPU cores.

    Run it again to go on where it stopped. Needs the extra frugan\\[demo].
    """
    from frugan.config.options import Options
    from frugan.data import DataConfig
    from frugan.data.tools import draw_avatars
    from frugan.device import choose_device
    from frugan.run.plan import plan
    from frugan.run.train import Run

    images, run = out / "images", out / "run"
    if not images.exists():
        with bar("drawing images") as progress:
            draw_avatars(style, IMAGES + HELD_OUT, 32, images, progress=progress)
    chosen = choose_device(device)
    if (run / "config.yaml").exists():
        follow(Run(run), device=str(chosen), kimg=kimg)
    else:
        data = DataConfig(path=str(images), held_out=HELD_OUT)
        config, derived, dataset, *_ = plan(Options(preset="tiny", kimg=kimg, threads="auto"), data, device=chosen)
        describe(dataset, derived)
        follow(Run.create(run, config), device=str(chosen), dataset=dataset)
    sheets = sorted((run / "samples").glob("samples-0*.png"))
    say(f"real images: {run / 'reals.png'}")
    say(f"generated images: {sheets[-1] if sheets else run / 'samples'}")
    print_command("Make more with", "generate", run, "--seeds", "0-63", "--grid", "--out", out / "generated")
