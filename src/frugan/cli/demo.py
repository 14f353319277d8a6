"""`frugan demo`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from frugan.checks import Limits
from frugan.cli.common import bar, print_command, say
from frugan.cli.signature import Destination, Device, completing, demo_styles
from frugan.cli.train import describe, follow
from frugan.errors import FruganError

if TYPE_CHECKING:
    from frugan.run.train import Run

IMAGES, HELD_OUT = 100, 500
KIMG, GAMMA, TARGET, SPEED = 50.0, 0.5, 0.3, 125.0
"""Few images and a small R1 weight: r_t passes its target within half a minute. Half the usual target: p rises far
enough to be seen. Slower steps of p than the preset's: p meets what the target needs instead of passing it, and rests there
(docs/project/notebook/results.md)."""
FRAMES = 50
"""Sample grids that the video is made of."""
SAMPLES = 1000
"""Generated images that KID is measured with."""


def demo(
    out: Annotated[Path, Destination("folder"), typer.Argument(help="Directory for the images and the run.")] = Path(
        "demo"
    ),
    style: Annotated[
        str | None,
        Option(
            help="critters, voxel-art, pixel-art, lorelei, notionists or planets, of the extra frugan\\[demo]; or shapes, "
            "which need nothing. \\[default: critters where they can be drawn, else shapes]",
            autocompletion=completing(demo_styles),
        ),
    ] = None,
    kimg: Annotated[
        float | None, Limits(above=0, at_most=1e9), Option(help=f"Length of training. \\[default: {KIMG:g}]")
    ] = None,
    device: Device = "auto",
) -> None:
    """Draw 100 small images, train a GAN on them, and watch augmentation adapt: about ten minutes on two CPU cores.

    Ends with a grid, a video of the training and, with the extra frugan\\[metrics], a distance. Run it again to go on where it
    stopped.
    """
    from frugan.config.options import Options
    from frugan.data import DataConfig
    from frugan.data.tools import SHAPES, can_draw, draw_avatars
    from frugan.device import choose_device
    from frugan.run.plan import plan
    from frugan.run.train import Run

    images, run = out / "images", out / "run"
    chosen = choose_device(device)
    if not images.exists():
        if style is None and not can_draw("critters"):
            say("drawing shapes; for avatars: pip install 'frugan[demo]'")
        with bar("drawing images") as progress:
            draw_avatars(
                style or ("critters" if can_draw("critters") else SHAPES),
                IMAGES + HELD_OUT,
                32,
                images,
                progress=progress,
            )
    if (run / "config.yaml").exists():
        trained = Run(run)
        follow(trained, device=str(chosen), kimg=kimg)
    else:
        data = DataConfig(path=str(images), held_out=HELD_OUT)
        total = kimg or KIMG
        options = Options(
            preset="tiny",
            kimg=total,
            r1_gamma=GAMMA,
            target=TARGET,
            ada_kimg=SPEED,
            samples_kimg=total / FRAMES,
            threads="auto",
        )
        config, derived, dataset, *_ = plan(options, data, device=chosen)
        describe(dataset, derived)
        trained = Run.create(run, config)
        follow(trained, device=str(chosen), dataset=dataset)
    show(trained, out, str(chosen))


def show(run: Run, out: Path, device: str) -> None:
    """Shows the result of a run: a grid, a video, two lines of comment, and commands to continue with."""
    import frugan
    from frugan.run.training_video import write_training_video
    from frugan.tracking import read_stats

    latest = run.latest()
    if latest is None:  # stopped before the first checkpoint
        return
    G = frugan.load(run.path).to(device)
    (grid,) = frugan.save_images(G.sample(seeds=range(64)), out / "generated.png", scale=2)
    video = out / f"training.{'mp4' if find_spec('imageio_ffmpeg') else 'webp'}"
    write_training_video(run, video)
    say(f"Real images: {run.path / 'reals.png'}")
    say(f"Generated images: {grid}")
    say(f"The training as a video: {video}")
    say(f"Curves: {run.page}")
    say("")
    say(seen_of_p(read_stats(run.path / "stats.jsonl"), run.config.controller.target or 0.6))
    finished = latest.images >= 1000 * run.config.kimg
    if finished:  # a training that was stopped has said how to resume it
        say(seen_of_distance(run, device))
    say("")
    print_command("Make more", "generate", run.path, "--seeds", "0-63", "--grid", "--out", out / "generated")
    print_command("Steer by hand", "explore", run.path)
    if finished:
        print_command("Train longer", "resume", run.path, "--kimg", f"{2 * latest.images / 1000:g}")


def seen_of_p(records: Sequence[dict[str, Any]], target: float) -> str:
    """A sentence on the course of r_t, the overfitting heuristic, and of p, the augmentation probability, from records of ticks."""
    steps = [(r["kimg"], r["r_t"], r["p"]) for r in records if r.get("r_t") is not None and r.get("p") is not None]
    if len(steps) < 4:
        return "Too short a training to say anything of r_t and p."
    tail = steps[-max(len(steps) // 5, 2) :]
    r_t, p = (sum(step[i] for step in tail) / len(tail) for i in (1, 2))
    top_kimg, _, top = max(steps, key=lambda step: step[2])
    if top < 0.01:
        return f"r_t ended at {r_t:.2f}, below its target of {target:g}: no sign of overfitting, so p stayed at 0."
    crossed = next((kimg for kimg, r, _ in steps if r > target), steps[0][0])
    began = f"r_t, the sign of overfitting, passed its target of {target:g} at {crossed:.0f} kimg, so p rose from 0 to {top:.2f}"
    if abs(r_t - target) > 0.05:
        course = "it has not settled yet" if r_t > target else "that was enough, and p sinks again"
        return f"{began}; {course}: at the end r_t is {r_t:.2f} and p {p:.2f}."
    return f"{began} at {top_kimg:.0f} kimg; by p = {p:.2f} r_t is now held at {r_t:.2f}."


def seen_of_distance(run: Run, device: str) -> str:
    """KID of a run against images held out from it, in a sentence; or why it was not measured."""
    from frugan.run.evaluate import evaluate

    try:
        with bar("measuring KID") as progress:
            card = evaluate(run.path, metrics=("kid",), samples=SAMPLES, device=device, progress=progress)
    except FruganError as error:
        return f"KID was not measured: {error}"
    kid, spread = (1000 * card.values[name] for name in ("kid", "kid_std"))
    return (
        f"KID × 1000 of {SAMPLES:,} generated images against {HELD_OUT} that were not trained on: {kid:.0f} ± {spread:.0f} "
        "(0 would be as good as new real ones)."
    )
