"""How the sample generator that comes with frugan was made, and how to make it again.

    python studies/sample.py --train                 # draw 10,000 critters, train (hours on a CPU), then all of the below
    python studies/sample.py --train --large         # four times the weights, for a GPU (not trained so far)
    python studies/sample.py --run runs/sample/run   # of a run that was trained elsewhere

Of the run's checkpoints the one with the smallest kernel distance to 2,000 held-out drawings is taken. Its weights are
rounded to float16, directions are found in it (GANSpace, and boundaries between the answers to the questions of
attributes.py), and everything is written to src/frugan/sample with a card.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

import attributes
import edits
import frugan
from frugan.images import save_image
from frugan.interop.model_card import NUM_SAMPLES, SAMPLES, TRUNCATION
from frugan.latent.direction import Direction, save_directions
from frugan.latent.directions import ganspace_directions
from frugan.latent.edit import render_edited
from frugan.latent.explore import direction_sheet
from frugan.latent.measure import Baseline, measure
from frugan.latent.sheets import stacked
from frugan.latent.statistics import statistics_of
from frugan.metrics import EvaluationCard
from frugan.networks import Generator
from frugan.networks.serialization import load_generator, save_generator, save_tensors
from frugan.run.evaluate import evaluate

HOME = Path(__file__).parent.parent / "src" / "frugan" / "sample"
SMALL: dict[str, Any] = {
    "preset": "tiny",
    "latent": 128,
    "mapping_layers": 4,
    "kimg": 600.0,
    "checkpoint_kimg": 20.0,
    "keep_last": 4,
}
"""Of `frugan.train`: the one that is shipped."""
LARGE: dict[str, Any] = {
    "batch": 64, "latent": 128, "mapping_layers": 4, "channel_base": 4096, "channel_max": 144, "d_capacity": 2.0,
    "lr": 0.004, "r1_gamma": 0.5, "kimg": 1500.0,
}  # fmt: skip
METRICS = ("kid_full", "fid", "recall", "coverage")
COMPONENTS = 8
ACCURATE = 0.8
"""Boundaries that part fewer of the samples held out are not shipped."""
LIMIT = 4_000_000
"""Bytes of everything."""


def measured(checkpoints: Sequence[Path], out: Path, samples: int) -> dict[Path, dict[str, float]]:
    """Metrics of each checkpoint against the held-out drawings; cards are kept in `out`."""
    values = {}
    for checkpoint in checkpoints:
        file = out / f"{checkpoint.name}-{samples}.json"
        if not file.exists():
            evaluate(checkpoint, reference=str(out / "held-out"), out=file, metrics=METRICS, samples=samples)
        values[checkpoint] = EvaluationCard.load(file).values
        print(checkpoint.name, {k: round(v, 4) for k, v in values[checkpoint].items()}, flush=True)
    return values


def halved(G: Generator, folder: Path) -> Generator:
    """Writes the generator with weights in float16; returns what is read back, in float32."""
    folder.mkdir(parents=True, exist_ok=True)
    save_generator(folder, G)
    state: dict[str, Tensor] = {k: v.half() for k, v in G.state_dict().items()}
    save_tensors(state, folder / "model.safetensors", metadata={"format": "pt"})
    return load_generator(folder)


def directions(G: Generator, network: attributes.Classifier, out: Path, samples: int) -> list[Direction]:
    """Components of GANSpace, and a boundary for each question that has one; with sliders."""
    statistics = statistics_of(G)
    scored = edits.score(G, network, samples, out)
    planes = [d for d in edits.boundaries(G, statistics, scored) if d.source["accuracy"] > ACCURATE]
    found = [*planes, *ganspace_directions(G, statistics, COMPONENTS)]
    baseline = Baseline.of(G, range(8), truncation=edits.TRUNCATION)
    found = [replace(d, slider=measure(G, d, baseline).slider) for d in found]
    sheets = [direction_sheet(G, d, baseline, d.name, seeds=3) for d in found]
    save_image(stacked(sheets), out / "directions.png")
    return found


def card(
    run: Path,
    checkpoint: Path,
    values: dict[str, float],
    G: Generator,
    rounding: float,
    found: Sequence[Direction],
    right: dict[str, float],
    samples: int,
) -> str:
    """README.md of the network, with the hub's header."""
    header = {
        "library_name": "frugan", "license": "cc0-1.0", "pipeline_tag": "unconditional-image-generation",
        "tags": ["stylegan2", "gan", "image-generation", "pytorch"],
    }  # fmt: skip
    environment = json.loads((run / "environment.json").read_text("utf-8"))
    gpus = ", ".join(str(gpu.get("name", gpu) if isinstance(gpu, dict) else gpu) for gpu in environment["gpus"])
    figures = ", ".join(f"{name} {value:.3g}" for name, value in values.items())
    named = [d.name for d in found if d.name in attributes.QUESTIONS]
    accuracy = ", ".join(f"{name} {right[name]:.0%}" for name in named)
    kimg = float(checkpoint.name.split("-")[-1])
    rows = {
        "Images": "64×64 pixels, 3 channels",
        "Weights": f"{sum(p.numel() for p in G.parameters()):,} parameters, kept as float16, used as float32",
        "Data": "10,000 avatars of the style Critters by DiceBear (CC0 1.0): "
        '`frugan.data.tools.draw_avatars("critters", 10_000, 64, …)`, seed 0',
        "Training": f"`{_command(environment['command'])} --kimg {kimg:g}`, on {gpus or environment['cpu']}; of the last "
        "checkpoints the best by kid_full. `python studies/sample.py --train` makes it again",
        "Figures": f"{figures}; {samples:,} samples against 2,000 critters that it was not trained on, in EfficientNet-Lite0 "
        "features",
        "Rounding": f"float16 changes images by {rounding:.1e} at most, of a range of 2",
        "Licence": "CC0 1.0, as the images",
    }
    lines = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n",
        "# Critters\n",
        "A StyleGAN2 generator of cartoon critters, to try frugan with: `frugan generate sample --grid`.\n",
        f"![Samples of seeds 0 to {NUM_SAMPLES - 1}, truncation {TRUNCATION:g}, uncurated]({SAMPLES})\n",
        "| | |\n|---|---|",
        *(f"| {name} | {text} |" for name, text in rows.items()),
        "\nDirections in this folder, for `frugan edit sample --direction sample:NAME`:\n",
        f"- {', '.join(named)}: boundaries between samples by the answers of a classifier of drawn attributes, "
        f"which is right on so many drawings that it was not trained on: {accuracy}",
        f"- pc0 to pc{COMPONENTS - 1}: GANSpace\n",
        "Meant for trying things out and for teaching. It makes critters and nothing else, "
        "and how varied they are, the figures above say.\n",
    ]
    return "\n".join(lines)


def _command(given: Sequence[str]) -> str:
    """That which the run was started with, without its paths, its length, and what is written how often."""
    if "train" not in given:
        return "studies/sample.py --train"
    flags = list(given[given.index("train") + 2 :])
    left_out = ("--out", "--kimg", "--tick", "--samples", "--checkpoint", "--keep-last", "--threads")
    pairs = [pair for pair in zip(flags[::2], flags[1::2]) if not pair[0].startswith(left_out)]
    return " ".join(["frugan train critters", *(word for pair in pairs for word in pair)])


def main() -> None:
    """See the study's head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/sample/run"))
    parser.add_argument("--train", action="store_true", help="train it first")
    parser.add_argument("--large", action="store_true", help="four times the weights")
    parser.add_argument("--last", type=int, default=4, help="checkpoints to choose among, from the last on")
    parser.add_argument("--samples", type=int, default=2000, help="generated images of an evaluation")
    parser.add_argument("--scored", type=int, default=4000, help="images that boundaries are fitted to")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/sample"), help="drawings, classifier, cards of evaluations"
    )
    parser.add_argument("--out", type=Path, default=HOME)
    args = parser.parse_args()
    critters = attributes.draw(args.work / "critters", attributes.TRAIN)
    if args.train:
        for record in frugan.train(critters, args.run, **(LARGE if args.large else SMALL)):
            print(f"{record['kimg']:.0f} kimg", flush=True)
    network = attributes.trained(args.work)
    held_out = attributes.read(args.work / "held-out")
    checkpoints = sorted((args.run / "checkpoints").glob("checkpoint-*"))[-args.last :]
    values = measured(checkpoints, args.work, args.samples)
    best = min(values, key=lambda checkpoint: values[checkpoint]["kid_full"])
    raw = load_generator(best)
    G = halved(raw, args.out)
    z = G.latents(range(64))
    rounding = float((render_edited(raw, z) - render_edited(G, z)).abs().max())
    found = directions(G, network, args.work / best.name, args.scored)
    save_directions(found, args.out)
    text = card(args.run, best, values[best], G, rounding, found, attributes.accuracy(network, held_out), args.samples)
    (args.out / "README.md").write_text(text, "utf-8")
    frugan.save_images(G.sample(seeds=range(NUM_SAMPLES), truncation=TRUNCATION), args.out / SAMPLES, columns=8)
    size = sum(file.stat().st_size for file in args.out.iterdir())
    print(f"{best}: {size:,} bytes in {args.out}, rounding {rounding:.1e}")
    if size > LIMIT:
        raise SystemExit(f"more than {LIMIT:,} bytes")


if __name__ == "__main__":
    main()
