"""What working with a trained generator costs: statistics of w, a strip of edits, a video, projection.

python -m benchmarks.latent                    # all of it: 1,000,000 w, seven images, ten seconds of video
python -m benchmarks.latent --only statistics --rounds 5
python -m benchmarks.latent --only project --resolution 64 --images 8

The generator is untrained, of preset paper256 (256×256, w of 512, eight mapping layers): times do not depend on its weights.
Of several rounds the best counts. A projection is timed by some steps of its W and of its PN rung, for several images at once; a
second line gives an image's seconds by the default ladder of 300 and 400 steps. CPU seconds are given beside those of the clock,
because they hold on a machine that is busy, too.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from frugan.latent.directions import ganspace_directions
from frugan.latent.edit import Edit, Truncation, render_edited
from frugan.latent.fitting import Distance, Schedule, fit, open_distance
from frugan.latent.path import frame_times, loop, render_frames
from frugan.latent.projection import LatentProblem, ProjectionConfig, Target
from frugan.latent.statistics import Statistics, compute_statistics
from frugan.latent.video import write_video
from frugan.networks import Generator, GeneratorConfig, SynthesisConfig

W, FRAMES, FPS = 1_000_000, 300, 30
STEPS = 4
"""Steps of each rung that are timed."""


def best_of(rounds: int, work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock and of the processor, of the fastest round each."""
    seconds, processor = [], []
    for _ in range(rounds):
        start, used = time.perf_counter(), time.process_time()
        work()
        seconds.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    return min(seconds), min(processor)


def peak_mib() -> float:
    """The largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def video(G: Generator, frames: int) -> None:
    """An MP4 of a loop through six seeds."""
    path = loop(G, range(6), truncation=Truncation(0.7))
    with tempfile.TemporaryDirectory() as folder:
        write_video(
            Path(folder) / "loop.mp4",
            render_frames(path, frame_times(path, frames)),
            fps=FPS,
        )


def climb(G: Generator, statistics: Statistics, images: Tensor, distance: Distance) -> None:
    """Steps of the W rung, then of the PN rung, as `frugan project` takes them."""
    ws = statistics.mean.float().expand(len(images), G.num_ws, -1)
    for space in ("w", "pn"):
        problem = LatentProblem(G, space, Target(images, distance), statistics, ws, ProjectionConfig(space))
        for _ in fit(problem, Schedule(STEPS)):
            pass


def main() -> None:
    """Prints a row for each job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=("strip", "statistics", "video", "project"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--images", type=int, default=8, help="project: images fitted at once")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    size, synthesis = (
        (args.resolution, args.resolution),
        SynthesisConfig(channel_base=16384),
    )
    G = Generator(GeneratorConfig(size, 3, synthesis=synthesis)).eval().requires_grad_(False)
    render_edited(G, G.latents([0]))
    few = compute_statistics(G, samples=1000, style_samples=1000)
    direction = ganspace_directions(G, few, 1)[0]
    jobs: dict[str, Callable[[], object]] = {
        "strip": lambda: [render_edited(G, G.latents([1]), None, [Edit(direction, s)]) for s in range(7)],
        "statistics": lambda: compute_statistics(G, samples=W),
        "video": lambda: video(G, FRAMES),
        "project": lambda: climb(G, few, G.sample(range(args.images)), open_distance()),
    }
    before = peak_mib()
    for name in args.only or jobs:
        seconds, processor = best_of(args.rounds, jobs[name])
        print(
            f"{name}: {seconds:.1f} s, {processor:.1f} s of the processor, +{peak_mib() - before:.0f} MiB",
            flush=True,
        )
        if name == "project":
            ladder = (ProjectionConfig().steps_w + ProjectionConfig().steps) / (2 * STEPS * args.images)
            print(
                f"  an image by the default ladder: {seconds * ladder:.0f} s, {processor * ladder:.0f} s of the processor"
            )


if __name__ == "__main__":
    main()
