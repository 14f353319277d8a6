"""`frugan evaluate` and `frugan compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Option

from frugan.checks import Limits, Only, Seed
from frugan.cli.common import bar, console, say
from frugan.cli.signature import Device, Psi, completing_as
from frugan.errors import FruganError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from frugan.metrics import EvaluationCard

IMAGES = "Images"
FEATURES = "Feature network"

PATH_LENGTHS = ("ppl_w_full", "ppl_w_end", "ppl_z_full", "ppl_z_end")


def evaluate(
    source: Annotated[Path, typer.Argument(help="A run, one of its checkpoints, or a foreign .pkl or .pt.")],
    metrics: Annotated[str | None, Option(help="kid, kid_full, fid, fid_infinity, is, precision, recall, density, coverage, memorisation, c_t, authenticity, fld, membership, utility, ppl_w_full, ppl_w_end, ppl_z_full, ppl_z_end; joined by commas. \\[default: kid below 10,000 images, else fid]", autocompletion=completing_as("metrics"))] = None,
    samples: Annotated[int, Limits(at_least=10, at_most=10_000_000), Option(help="Images generated.")] = 5000,
    seed: Annotated[Seed, Option(help="Which ones: image i follows from seed and i.")] = 0,
    truncation: Psi = 1.0,
    per_class: Annotated[bool, Option(help="The metrics for each class, too.")] = False,
    intervals: Annotated[bool, Option(help="95 % intervals, and the same metrics of two halves of the real images; many times slower.")] = False,
    statistic: Annotated[str | None, Option(help="Your own numbers of an image, package.module:callable, compared as distributions; joined by commas.")] = None,
    data: Annotated[str | None, Option(help="Where the run's images are now; or those of a checkpoint without a run.", rich_help_panel=IMAGES)] = None,
    reference: Annotated[str | None, Option(help="Other images to measure against, all of them.", rich_help_panel=IMAGES)] = None,
    group: Annotated[str | None, Option(help="Which images belong together: folder, folder:N, regex:PATTERN or FILE.csv:COLUMN. \\[default: as trained]", rich_help_panel=IMAGES)] = None,
    against: Annotated[Literal["auto", "held-out", "train", "all"], Option(help="Part of the run's images to measure against; auto: held-out, else train.", rich_help_panel=IMAGES)] = "auto",
    features: Annotated[str, Option(help="efficientnet-lite0, efficientnet-lite1, inception, dinov2, clip; a TorchScript or .onnx file; package.module:callable.", rich_help_panel=FEATURES, autocompletion=completing_as("features"))] = "efficientnet-lite0",
    weights: Annotated[str | None, Option(help="Their file, or their name on the Hugging Face hub.", rich_help_panel=FEATURES)] = None,
    resize: Annotated[Literal["clean", "legacy"] | None, Option(help="Antialiased bicubic, or as TensorFlow 1 did. \\[default: clean; inception: legacy]", rich_help_panel=FEATURES)] = None,
    input_size: Annotated[int | None, Limits(at_least=1, at_most=4096), Option(help="Pixels a side that the network sees.", rich_help_panel=FEATURES)] = None,
    mean: Annotated[str | None, Option(help="R,G,B in units of [0, 1], of a network of your own.", rich_help_panel=FEATURES)] = None,
    std: Annotated[str | None, Option(help="R,G,B, likewise.", rich_help_panel=FEATURES)] = None,
    path_distance: Annotated[Literal["features", "lpips"], Only("metrics", PATH_LENGTHS), Option(help="What path lengths are measured by.", rich_help_panel=FEATURES)] = "features",
    out: Annotated[Path | None, Option("--out", "-o", help="The card, a .json file. \\[default: in the run's evaluations]")] = None,
    batch: Annotated[int, Limits(at_least=1, at_most=65536), Option(help="Images made at once.")] = 64,
    verbose: Annotated[bool, Option(help="All that the card holds: protocol, hashes, versions.")] = False,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Measure a generator, and write a card that says how."""
    from frugan.run.evaluate import evaluate as measure

    _tell_unfinished(source)
    options = {"metrics": tuple(metrics.split(","))} if metrics else {}
    written: list[Path] = []
    with bar("looking at images") as progress:
        card = measure(
            source,
            written=written.append,
            data=data,
            reference=reference,
            group=group,
            against=against,
            out=out,
            device=device,
            progress=progress,
            samples=samples,
            seed=seed,
            truncation=truncation,
            per_class=per_class,
            intervals=intervals,
            statistics=tuple(statistic.split(",")) if statistic else (),
            features=features,
            weights=weights,
            resize=resize,
            input_size=input_size,
            mean=_rgb("mean", mean),
            std=_rgb("std", std),
            path_distance=path_distance,
            batch=batch,
            **options,
        )
    show(card, verbose=verbose)
    for file in written:
        say(f"{'card' if file.suffix == '.json' else 'nearest training images'}: {file}")


def compare(
    first: Annotated[Path, typer.Argument(help="An evaluation card.")],
    second: Annotated[Path, typer.Argument(help="Another one.")],
) -> None:
    """Set two evaluation cards side by side; refused where they were not measured alike."""
    from rich.table import Column, Table

    from frugan.metrics import EvaluationCard
    from frugan.metrics import compare as side_by_side

    alike = first.name == second.name  # as are those of two runs
    cards = [Column(str(file) if alike else file.name, overflow="fold") for file in (first, second)]
    table = Table("metric", *cards, "difference", box=None, pad_edge=False, header_style="dim")
    for name, (a, b) in side_by_side(*(EvaluationCard.load(file) for file in (first, second))).items():
        table.add_row(name, f"{a:.6g}", f"{b:.6g}", f"{b - a:+.3g}")
    console.print(table)


def show(card: EvaluationCard, *, verbose: bool = False) -> None:
    """Prints each number with its meaning, what it was measured on and what is missing; with `verbose` the whole card first."""
    from rich.markup import escape
    from rich.table import Table

    if verbose:
        table = Table("", "", "", box=None, pad_edge=False, show_header=False)
        for part, name, value in card.rows():
            table.add_row(f"[dim]{part}[/dim]", escape(name), escape(value))
        console.print(table)
    for line in _lines(card):
        say(line)


def _lines(card: EvaluationCard) -> Iterator[str]:
    from frugan.metrics.metric import explain_value

    for name, value in card.values.items():
        notes = []
        if name in card.intervals:
            notes.append("95 % {:.4g} to {:.4g}".format(*card.intervals[name]))
        if name in card.floor:
            notes.append(f"between two halves of the real images {card.floor[name][0]:.4g}")
        told = f" ({'; '.join(notes)})" if notes else ""
        yield f"{name} {value:.4g}{told}: {explain_value(name)}"
    for name, values in card.per_class.items():
        yield f"class {name}: " + (", ".join(f"{k} {v:.4g}" for k, v in values.items()) or "too few images")
    for name, found in card.details.get("statistics", {}).items():
        distance = found["wasserstein"]
        yield (
            f"{name}: mean {found['real_mean']:.4g} of real, {found['generated_mean']:.4g} of generated images; Wasserstein "
            f"distance {distance['value']:.4g} (95 % {distance['low']:.4g} to {distance['high']:.4g}), by chance below "
            f"{found['null_wasserstein']:.4g}"
        )
    protocol, against = card.protocol, card.conditions.get("against")
    yield (
        f"measured on {protocol.get('samples')} samples and {protocol.get('reference_count')} real images"
        f"{f' ({against})' if against else ''}, seen by {protocol.get('features')}"
    )
    yield from (f"{name} was not measured: {why}" for name, why in card.missing.items())
    yield from card.subject.get("notes", [])


def _tell_unfinished(source: Path) -> None:
    """Says of a run that has not finished what has become of it, as `frugan status` does."""
    from frugan.run.directory import RunDirectory

    if not (source / "config.yaml").is_file():
        return
    run = RunDirectory(source)
    found = run.status()
    if found.name != "finished":
        total = found.total_kimg or run.config.kimg
        say(
            f"{source} is {found.sentence}; of {total:g} kimg it has {found.kimg:g}, and a checkpoint of these is measured"
        )


def _rgb(name: str, text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        r, g, b = (float(part) for part in text.split(","))
    except ValueError:
        raise FruganError(f"--{name} {text!r}: give three numbers, for instance 0.485,0.456,0.406") from None
    return r, g, b
