"""Does a text edit change what it names, and leave the rest? Edits of drawn critters, measured by a classifier of their attributes.

Question: critters are drawn with known attributes. A small joint model (`captions`) was fitted to them, and every text method edits
a generator's samples by "a critter" → "a critter eyes happy" and so on. A classifier that trained none of these says how
often the named attribute appears, and how many of the other attributes turn into another class.

    frugan text train critters --labels labels.csv --subject critter --out captions
    python studies/text_edits.py --network sample --captions captions --classifier judge

Rows: global (relevances by the Jacobian, and by the paper's finite differences), shared, optimise, mapper (`frugan.latent.text`),
a boundary in w between samples that the captions call one way or the other, and StyleGAN-NADA. Directions are compared where images
have moved equally far (`--kept`, a share of the distance between two samples); the other methods stop where their losses leave
them, and so the distance is given for all. Each method has a file of its own in `--out`, written value by value, so that a stopped
study goes on, and methods can run side by side. The result stands in docs/project/notebook/text-edits.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

import attributes
import frugan
from frugan.files import write_json
from frugan.images import save_image
from frugan.latent.direction import Direction
from frugan.latent.directions import boundary_direction, find_boundary
from frugan.latent.edit import Edit, edit_ws
from frugan.latent.measure import pyramid_distance
from frugan.latent.sheets import table
from frugan.latent.statistics import Statistics, draw_latents, statistics_of
from frugan.latent.text import JointModel, change, open_model, prompt_vector
from frugan.latent.text import styleclip as sc
from frugan.latent.text.captions import Captioner, attribute_accuracy, phrase
from frugan.latent.text.nada import AdaptConfig, adapt
from frugan.networks import Generator

VALUES = {
    "spike": ("top", "spike"), "small horns": ("top", "hornsSmall"), "blob": ("body", "blob"), "chimney": ("body", "chimney"),
    "happy eyes": ("eyes", "happy"), "tiny smile": ("mouth", "tinySmile"), "smirk": ("mouth", "smirk"),
    "freckles": ("cheeks", "freckles"), "red ground": ("backgroundColor", "#be123c"), "orange body": ("bodyColor", "#fdba74"),
}  # fmt: skip
"""Ten values of six attributes that the sample generator makes now and then."""
SUBJECT = "a critter"
METHODS = ("global", "differences", "shared", "boundary", "NADA", "optimise", "mapper")


class Judge:
    """The classifier: the probability of a value, and the classes of all attributes."""

    def __init__(self, folder: Path) -> None:
        self.network = attributes.trained(folder)

    def __call__(self, images: Tensor, attribute: str, value: str) -> tuple[Tensor, dict[str, Tensor]]:
        found = attributes.classify(self.network, images)
        column = self.network.names[attribute].index(value)
        return found[attribute][:, column].exp(), {k: v.argmax(1) for k, v in found.items()}


def effect(judge: Judge, before: Tensor, after: Tensor, attribute: str, value: str) -> dict[str, float]:
    """Of the named value: the rise of its probability, and the share of images that show it before and after. Share of the other
    attributes that changed; distance, in that between two samples."""
    (p0, c0), (p1, c1) = (judge(x, attribute, value) for x in (before, after))
    number = judge.network.names[attribute].index(value)
    others = torch.stack([c0[k] != c1[k] for k in c0 if k != attribute]).float().mean()
    spread = pyramid_distance(before, before.roll(1, 0)).mean()
    return {
        "wanted": float((p1 - p0).mean()),
        "before": float((c0[attribute] == number).float().mean()),
        "after": float((c1[attribute] == number).float().mean()),
        "others": float(others),
        "distance": float(pyramid_distance(before, after).mean() / spread),
    }


def agreement(model: JointModel, judge: Judge, images: Tensor) -> dict[str, float]:
    """For each attribute, the share of images that the captions and the classifier call the same."""
    found = attributes.classify(judge.network, images)
    called = {k: v.argmax(1).numpy() for k, v in found.items()}
    names = judge.network.names
    return attribute_accuracy(cast(Captioner, model), images, np.stack([called[k] for k in names], 1), names)


@torch.no_grad()
def labelled(G: Generator, model: JointModel, count: int) -> tuple[Tensor, Tensor]:
    """w of samples `[N, D]`, and their vectors `[N, d]`, which take the place of labels."""
    z, _ = draw_latents(G, count, 77)
    w = G.mapping.features(z, None)
    return w, torch.cat([model.images(render(G, some[:, None].expand(-1, G.num_ws, -1))) for some in w.split(50)])


def boundary(
    G: Generator, statistics: Statistics, samples: tuple[Tensor, Tensor], text: Tensor, name: str
) -> Direction:
    """InterFaceGAN's, between samples that the captions find most and least like the text."""
    w, vectors = samples
    return boundary_direction(G, statistics, find_boundary(w, vectors @ text, chosen=0.1), name=name)


def edits(
    G: Generator, model: JointModel, statistics: Statistics, args: argparse.Namespace
) -> dict[str, Callable[[str, Tensor], Tensor]]:
    """Method → (text, ws) → images."""
    samples = labelled(G, model, args.labelled if "boundary" in args.methods else 1)
    relevance = relevances(G, model, statistics, args)

    def along(direction: Direction, ws: Tensor) -> Tensor:
        strength = sc.strength_for(G, direction, ws, kept=args.kept)
        return G.synthesis.render(edit_ws(G, ws, [Edit(direction, strength)]), noise="const").clamp(-1, 1)

    def pair(text: str) -> tuple[Tensor, Tensor]:
        return prompt_vector(model, text), change(model, SUBJECT, text)

    def by_mapper(text: str, ws: Tensor) -> Tensor:
        config = sc.MapperConfig(steps=args.mapper_steps, batch=4)
        return render(G, sc.train_mapper(G, model, pair(text)[0], statistics, config)(ws))

    def by_optimisation(text: str, ws: Tensor) -> Tensor:
        config = sc.OptimiseConfig(steps=args.optimise_steps, keep=args.keep)
        return render(G, sc.optimise(G, model, ws, pair(text)[0], statistics, config)[0])

    def by_adaptation(text: str, ws: Tensor) -> Tensor:
        end, way = pair(text)
        config = AdaptConfig(steps=args.adapt_steps, lr=args.adapt_lr, truncation=0.7)
        *_, last = adapt(G, model, way, end, config, every=args.adapt_steps)
        return render(last.child, ws)

    def by_global(relevance: Tensor | None, text: str, ws: Tensor) -> Tensor:
        assert relevance is not None
        return along(sc.global_direction(G, statistics, relevance, pair(text)[1], channels=args.channels, name="x"), ws)

    return {
        "global": lambda text, ws: by_global(relevance.get("global"), text, ws),
        "differences": lambda text, ws: by_global(relevance.get("differences"), text, ws),
        "shared": lambda text, ws: along(sc.shared_direction(G, model, pair(text)[0], statistics, name="x"), ws),
        "optimise": by_optimisation,
        "mapper": by_mapper,
        "boundary": lambda text, ws: along(boundary(G, statistics, samples, pair(text)[1], "x"), ws),
        "NADA": by_adaptation,
    }


def relevances(G: Generator, model: JointModel, statistics: Statistics, args: argparse.Namespace) -> dict[str, Tensor]:
    """Of style channels, by the two ways among the methods."""
    ws, found = sc.sample_ws(G, args.images, 0, 0.7), dict[str, Tensor]()
    for method in {"global", "differences"} & set(args.methods):
        began = time.process_time()
        if method == "global":
            found[method] = sc.relevance_by_jacobian(G, model, statistics, ws)
        else:
            some = torch.nonzero(sc.convolution_channels(G)).flatten()
            rows = sc.relevance_by_differences(G, model, statistics, ws, some)
            found[method] = torch.zeros(len(statistics.style_mean), rows.shape[1])
            found[method][some] = rows
        print(f"relevances, {method}: {time.process_time() - began:.0f} s of the processor", flush=True)
    if len(found) == 2:
        some = sc.convolution_channels(G)
        alike = torch.cosine_similarity(found["global"][some], found["differences"][some])
        print(f"cosine of both relevances, median over channels: {float(alike.median()):.2f}", flush=True)
    return found


@torch.no_grad()
def render(G: Generator, ws: Tensor) -> Tensor:
    """Images in [-1, 1], with the constant noise."""
    return G.synthesis(ws, noise="const").clamp(-1, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", required=True)
    parser.add_argument("--captions", type=Path, required=True)
    parser.add_argument("--classifier", type=Path, required=True, help="the folder of studies/attributes.py")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--values", nargs="+", default=list(VALUES), choices=VALUES)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--images", type=int, default=8, help="samples that relevances are averaged over")
    parser.add_argument("--channels", type=int, default=30)
    parser.add_argument("--labelled", type=int, default=1500, help="samples that boundaries are fitted to")
    parser.add_argument("--kept", type=float, default=0.2)
    parser.add_argument("--optimise-steps", type=int, default=150)
    parser.add_argument("--keep", type=float, default=sc.OptimiseConfig.keep, help="λ of `optimise`")
    parser.add_argument("--mapper-steps", type=int, default=300)
    parser.add_argument("--adapt-steps", type=int, default=300)
    parser.add_argument("--adapt-lr", type=float, default=0.002)
    parser.add_argument("--out", type=Path, default=Path("runs/text-edits"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    G, model, judge = frugan.load(args.network), open_model(f"captions:{args.captions}"), Judge(args.classifier)
    statistics = statistics_of(G, samples=20_000)
    some = render(G, G.mapping(G.latents(list(range(2000, 2200))), truncation=0.7))
    alike = agreement(model, judge, some)
    print("captions and classifier agree on samples:", {k: round(v, 2) for k, v in alike.items()}, flush=True)
    ws = G.mapping(G.latents(list(range(args.first_seed, args.first_seed + args.seeds))), truncation=0.7)
    before, methods = render(G, ws), edits(G, model, statistics, args)
    for method in args.methods:
        found = results(args.out, method)
        for name in args.values:
            if name not in found:
                found[name] = one(judge, methods[method], before, ws, name, args.out / f"{method}-{_stem(name)}.png")
                print(name, method, {k: round(v, 3) for k, v in found[name].items()}, flush=True)
                write_json(args.out / f"{method}.json", found)
    report(args)


def results(out: Path, method: str) -> dict[str, dict[str, float]]:
    """What a method did to each value, as far as it was measured."""
    file = out / f"{method}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def one(
    judge: Judge, method: Callable[[str, Tensor], Tensor], before: Tensor, ws: Tensor, name: str, file: Path
) -> dict[str, float]:
    """The effect of one edit, and a sheet of it."""
    attribute, value = VALUES[name]
    text, began = f"{SUBJECT} {phrase(attribute, value)}", time.process_time()
    after = method(text, ws)
    found = effect(judge, before, after, attribute, value) | {"seconds": time.process_time() - began}
    sheet = torch.stack([before, after], 1).flatten(0, 1)
    save_image(table(sheet, 4, column_names=["before", "after"] * 2, title=text), file)
    return found


def report(args: argparse.Namespace) -> None:
    """A row for each method, and one for each value."""
    found = {method: results(args.out, method) for method in METHODS}
    found = {method: rows for method, rows in found.items() if rows}
    print(
        "\n| method | rises by | shown before | after | others that change | moved | processor, s |\n|---|--:|--:|--:|--:|--:|--:|"
    )
    for method, rows in found.items():
        mean = {k: sum(row[k] for row in rows.values()) / len(rows) for k in next(iter(rows.values()))}
        won = sum(row["wanted"] > 0.05 for row in rows.values())
        print(
            f"| {method} | {mean['wanted']:+.2f} ({won} of {len(rows)} above 0.05) | {mean['before']:.0%} | {mean['after']:.0%} | "
            f"{mean['others']:.2f} | {mean['distance']:.2f} | {mean['seconds']:.0f} |"
        )
    print(f"\n| value | {' | '.join(found)} |\n|---|{'--:|' * len(found)}")
    for name in VALUES:
        cells = [f"{rows[name]['wanted']:+.2f}" if name in rows else "" for rows in found.values()]
        print(f"| {name} | {' | '.join(cells)} |")


def _stem(name: str) -> str:
    return name.replace(" ", "-")


if __name__ == "__main__":
    main()
