"""`frugan report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from frugan.checks import Limits, Seed, Truncation
from frugan.cli.common import bar, resuming, say
from frugan.cli.signature import Device, completing

IMAGES = "Images"
MEASURES = "Measures"
SECTIONS = ("description", "quality", "copying", "privacy", "usefulness", "artefacts", "statement")


def _networks() -> list[str]:
    from frugan.metrics import FEATURES

    return list(FEATURES)


def report(
    source: Annotated[str, typer.Argument(metavar="NETWORK", help="A run, one of its checkpoints, a foreign .pkl or .pt, or hf:user/name.")],
    out: Annotated[Path, Option("--out", "-o", help="Folder for report.html, report.json and the model card README.md.")],
    data: Annotated[str | None, Option(help="Where the run's images are now; or those of a checkpoint without a run.", rich_help_panel=IMAGES)] = None,
    reference: Annotated[str | None, Option(help="Other images of the same kind, which it was not trained on.", rich_help_panel=IMAGES)] = None,
    group: Annotated[str | None, Option(help="Which images belong together: folder, folder:N, regex:PATTERN or FILE.csv:COLUMN. \\[default: as trained]", rich_help_panel=IMAGES)] = None,
    licence: Annotated[str | None, Option(help="Licence of the images, to be stated. \\[default: first line of a LICENSE file beside them]", rich_help_panel=IMAGES)] = None,
    real_images: Annotated[bool, Option("--real-images/--no-real-images", help="Show real images in the report.", rich_help_panel=IMAGES)] = True,
    sections: Annotated[str | None, Option(help="description, quality, copying, privacy, usefulness, artefacts, statement; joined by commas. \\[default: all]", autocompletion=completing(lambda: SECTIONS, several=True))] = None,
    samples: Annotated[int, Limits(at_least=100, at_most=1_000_000), Option(help="Images generated.", rich_help_panel=MEASURES)] = 2000,
    seed: Annotated[Seed, Option(help="Which ones: image i follows from seed and i.", rich_help_panel=MEASURES)] = 0,
    truncation: Annotated[Truncation, Option(help="ψ: below 1 more typical, less varied.", rich_help_panel=MEASURES)] = 1.0,
    features: Annotated[str | None, Option(help="Feature networks: efficientnet-lite0, efficientnet-lite1, inception, dinov2, clip; joined by commas. \\[default: those at hand]", rich_help_panel=MEASURES, autocompletion=completing(_networks, several=True))] = None,
    statistic: Annotated[list[str] | None, Option(help="A number for each image, to be compared: package.module:callable of an image \\[H, W, C]. Repeat for several.", rich_help_panel=MEASURES)] = None,
    batch: Annotated[int, Limits(at_least=1, at_most=65536), Option(help="Images made at once.")] = 64,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Report on a generator: quality, copying, privacy, usefulness and artefacts, in one page to hand over.

    A report that was stopped resumes: what was computed from the same weights, images and settings is kept.
    """
    from frugan.device import choose_device
    from frugan.distributed import joined, rank
    from frugan.reports.report import report as write

    with joined(choose_device(device).type) as place, resuming(out / "sections"), bar("computing") as progress:
        made = write(
            source,
            out,
            data=data,
            reference=reference,
            group=group,
            sections=sections.split(",") if sections is not None else None,
            device=place,
            progress=progress,
            told=say if rank() == 0 else lambda _: None,
            samples=samples,
            seed=seed,
            truncation=truncation,
            features=tuple(features.split(",")) if features is not None else (),
            statistics=tuple(statistic or ()),
            licence=licence,
            real_images=real_images,
            batch=batch,
        )
        first = rank() == 0
    if first:
        for one in made.statement:
            say(f"{one['verdict']}: {one['sentence']}")
        say(f"report: {made.page.resolve().as_uri()}")
