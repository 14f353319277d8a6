"""Which rung of the ladder suffices? Projection of a generator's own images, and of images that it has not seen.

Questions: are own images found again (success: the image within 30 dB PSNR; error of w), in each space? How close do W, PN, W+,
tuning and an encoder come to held-out images, how well can their codes still be edited, and what does it cost?

    python studies/projection.py --network runs/critters --images held-out --count 8

Editability is the latent editing consistency (Tov et al. 2021): project, edit along a GANSpace component by 2 σ, render, project
again in the same way, undo the edit, and compare both codes (RMS of their styles, and of their w, in σ); lower is better. The
result stands in docs/project/notebook/projection.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import frugan
from frugan.images import save_image
from frugan.latent.directions import ganspace_directions
from frugan.latent.encoder import Encoder, EncoderConfig, train_encoder
from frugan.latent.fitting import Distance, open_distance
from frugan.latent.projected import comparison
from frugan.latent.projection import Projection, ProjectionConfig, Rung, Target, project, render_offset
from frugan.latent.statistics import Statistics, flat_styles, statistics_of
from frugan.latent.targets import read_targets
from frugan.latent.text.styleclip import w_deviation
from frugan.latent.tuning import TuningConfig, tune
from frugan.networks import Generator

SUCCESS = 30.0
"""PSNR in dB from which an own image counts as found."""


def own_images(
    G: Generator, distance: Distance, statistics: Statistics, args: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Success rate, error of w and PSNR of `args.own` samples at ψ 0.7."""
    found = {}
    with torch.no_grad():
        ws = G.mapping(G.latents(list(range(args.own))), truncation=0.7)
        images = G.synthesis(ws, noise="const").clamp(-1, 1)
    sigma = w_deviation(statistics, "cpu")
    for space in ("w", "pn", "w+"):
        config = ProjectionConfig(space, steps_w=args.steps, steps=args.steps // 2)  # pyright: ignore[reportArgumentType]
        made = project(G, images, distance, statistics, config)
        error = ((made.last.ws - ws) / sigma).square().mean(dim=(1, 2)).sqrt()
        apart = ((made.rungs[0].ws - ws) / sigma).square().mean(dim=(1, 2)).sqrt()
        found[space] = {
            "success": float((made.last.psnr >= SUCCESS).float().mean()),
            "psnr": float(made.last.psnr.median()),
            "w error": float(error.median()),
            "w error at the start": float(apart.median()),
        }
        print("own images", space, {k: round(v, 3) for k, v in found[space].items()}, flush=True)
    return found


class Found(NamedTuple):
    """Codes, and the generator whose they are."""

    G: Generator
    ws: Tensor
    offset: Tensor | None = None

    @property
    def styles(self) -> Tensor:
        """`[N, ΣC]`."""
        styles = flat_styles(self.G, self.ws)
        return styles if self.offset is None else styles + self.offset

    def moved(self, by: Tensor) -> Found:
        """With another ws."""
        return self._replace(ws=self.ws + by)

    @torch.no_grad()
    def images(self) -> Tensor:
        """Rendered, in [-1, 1]."""
        return render_offset(self.G, self.ws, self.offset, "const").clamp(-1, 1)


def consistency(
    found: Found, statistics: Statistics, again: Callable[[Tensor], Found], strength: float = 2.0
) -> dict[str, float]:
    """Latent editing consistency of codes, by styles and by w; `again`: images → codes by the same method."""
    direction = ganspace_directions(found.G, statistics, 1)[0]
    move = strength * direction.displacement(found.G)
    back = again(found.moved(move).images()).moved(-move)
    with torch.no_grad():
        styles = (back.styles - found.styles) / statistics.style_std.clamp_min(1e-6)
        ws = (back.ws - found.ws) / w_deviation(statistics, "cpu")
    return {"lec": float(styles.square().mean().sqrt()), "lec of w": float(ws.square().mean().sqrt())}


def held_out(
    G: Generator, images: Tensor, distance: Distance, statistics: Statistics, encoder: Encoder, args: argparse.Namespace
) -> tuple[dict[str, dict[str, float]], list[Rung]]:
    """Each rung on real images."""
    target = Target(images, distance)

    seconds: dict[str, float] = {}

    def climb(network: Generator, space: str, given: Tensor) -> Projection:
        config = ProjectionConfig(space, steps_w=args.steps, steps=args.steps)  # pyright: ignore[reportArgumentType]
        began = time.process_time()
        found = project(network, given, distance, statistics, config)
        seconds.setdefault(space.upper(), time.process_time() - began)
        return found

    def code(network: Generator, space: str, given: Tensor) -> Found:
        last = climb(network, space, given).last
        return Found(network, last.ws, last.offset)

    made = {space: climb(G, space, images) for space in ("w", "pn", "w+", "s")}
    found = {space.upper(): Found(G, m.last.ws, m.last.offset) for space, m in made.items()}
    began = time.process_time()
    found["encoder"] = Found(G, encoder.encode(images))
    seconds["encoder"] = time.process_time() - began
    began = time.process_time()
    pivots = found["PN"].ws
    tuned, _ = tune(G, target, pivots, statistics, TuningConfig(steps=args.steps // 2, lr=1e-3))
    seconds["tuned"] = seconds["PN"] + time.process_time() - began
    found["tuned"] = Found(tuned, pivots)
    moved = (tuned.sample(range(50, 82)) - G.sample(range(50, 82))).square().mean().sqrt()
    print(f"tuning moved other seeds by {float(moved):.3f} (RMS, of a range of 2)", flush=True)
    ways: dict[str, Callable[[Tensor], Found]] = {
        space.upper(): lambda x, space=space: code(G, space, x) for space in made
    }
    ways["encoder"] = lambda x: Found(G, encoder.encode(x))
    ways["tuned"] = lambda x: code(tuned, "pn", x)
    some, rows, rungs = slice(0, args.edited), dict[str, dict[str, float]](), [made["pn"].rungs[0]]
    for name in ("encoder", "W", "PN", "W+", "S", "tuned"):
        each = found[name]
        rung = _rung(target, name, each)
        rungs.append(rung)
        rows[name] = {
            "distance": float(rung.distance.mean()),
            "psnr": float(rung.psnr.mean()),
            "seconds": seconds[name] / len(images),
        }
        part = each._replace(ws=each.ws[some], offset=None if each.offset is None else each.offset[some])
        rows[name] |= consistency(part, statistics, ways[name])
        print("held-out", name, {k: round(v, 3) for k, v in rows[name].items()}, flush=True)
    return rows, rungs


@torch.no_grad()
def _rung(target: Target, name: str, found: Found) -> Rung:
    images = found.images()
    return Rung(name, found.ws, (), images, target.compare(images), target.psnr(images), 0.0, 0)


def early_stop(
    G: Generator, images: Tensor, distance: Distance, statistics: Statistics, w: Rung, seconds: float, args: argparse.Namespace
) -> float:  # fmt: skip
    """The share of the ladder's processor time, `seconds` an image up to PN, that a target of 1.2 times the mean distance of
    the rung `w` saves."""
    config = ProjectionConfig("pn", steps_w=args.steps, steps=args.steps, target=1.2 * float(w.distance.mean()))
    began = time.process_time()
    project(G, images, distance, statistics, config)
    return 1 - (time.process_time() - began) / (seconds * len(images))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", required=True)
    parser.add_argument("--images", required=True, help="a folder of images that the generator has not seen")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--shown", type=int, default=6, help="images in the sheet")
    parser.add_argument("--own", type=int, default=32)
    parser.add_argument("--edited", type=int, default=16, help="images whose codes are edited")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--encoder-steps", type=int, default=600)
    parser.add_argument("--distance", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/projection"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    G = frugan.load(args.network)
    distance, statistics = open_distance(args.distance), statistics_of(G, samples=20_000)
    files = sorted(p for p in Path(args.images).iterdir() if p.suffix == ".png")[: args.count]
    targets = read_targets(files, G)
    began = time.process_time()
    encoder, unexplained = train_encoder(G, EncoderConfig(steps=args.encoder_steps))
    facts = {"encoder seconds": time.process_time() - began, "encoder explains": 1 - unexplained}
    print({k: round(v, 3) for k, v in facts.items()}, flush=True)
    rows, rungs = held_out(G, targets.images, distance, statistics, encoder, args)
    shown = [replace(rung, images=rung.images[: args.shown]) for rung in rungs]
    sheet = comparison([file.stem for file in files[: args.shown]], targets.images[: args.shown], shown)
    save_image(sheet, args.out / "rungs.png")
    facts["early stop saves"] = early_stop(
        G, targets.images, distance, statistics, rungs[2], rows["PN"]["seconds"], args
    )
    report = {"held-out": rows, **facts, "distance": distance.name}
    (args.out / "projection.json").write_text(json.dumps(report, indent=1))
    report["own"] = own_images(G, open_distance("pixels"), statistics, args)
    (args.out / "projection.json").write_text(json.dumps(report, indent=1))
    print(
        f"\n| rung | {distance.name} | PSNR, dB | processor, seconds an image | LEC, styles | LEC, w |\n|---{'|--:' * 5}|"
    )
    for name, row in rows.items():
        figures = f"{row['distance']:.3f} | {row['psnr']:.1f} | {row['seconds']:.2f} | {row['lec']:.2f} | {row['lec of w']:.2f}"
        print(f"| {name} | {figures} |")
    print(f"early stop at 1.2 times the W rung's distance saves {facts['early stop saves']:.0%} of the ladder to PN")


if __name__ == "__main__":
    main()
