"""`frugan leaks`."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from frugan.checks import Limits, as_option, check_number, no_effect
from frugan.cli.common import bar, console
from frugan.cli.signature import Destination, Device
from frugan.errors import FruganError

log = logging.getLogger(__name__)

RUNS, FUNCTION, TRANSFORMS, DRAW = "RUNS", "--data with --function", "--data with --transforms", "--draw"
TABLE = "the table of transforms"

_SEVERAL = "0.5,0.8,0.9,1"


def _question(given: Mapping[str, Any]) -> str:
    """The question that these arguments ask."""
    if given.get("runs"):
        return RUNS
    if given.get("data"):
        return FUNCTION if given.get("function") else TRANSFORMS
    return DRAW if given.get("draw") else TABLE


@dataclass(frozen=True)
class OnlyFor:
    """The mark of an option that counts only with some of the questions; elsewhere a warning tells so."""

    questions: tuple[str, ...]

    def check(self, name: str, given: inspect.BoundArguments) -> None:
        """Logs a warning where the option was given in vain."""
        value = given.arguments[name]
        if value != given.signature.parameters[name].default and _question(given.arguments) not in self.questions:
            log.warning("warning: %s", no_effect(as_option(name), value, " or ".join(self.questions)))


def leaks(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Runs, whose samples are compared with their images.")
    ] = None,
    data: Annotated[
        str | None,
        Option(
            help="Images to try an augmentation on, with --function or --transforms; with runs: where their images are now."
        ),
    ] = None,
    function: Annotated[
        str | None,
        OnlyFor((RUNS, FUNCTION)),
        Option(help="A Python function of images [N, C, H, W] in [-1, 1], as module:name, for runs or --data."),
    ] = None,
    transforms: Annotated[
        str | None,
        OnlyFor((RUNS, TRANSFORMS)),
        Option(
            help="Transforms as frugan train takes them: applied to --data with probability --p, or looked for in runs, too."
        ),
    ] = None,
    p: Annotated[
        str | None,
        OnlyFor((TRANSFORMS, DRAW, TABLE)),
        Option(
            help="Probability; without runs or data, several joined by commas. \\[default: 0.5,0.8,0.9,1; with --data 1]"
        ),
    ] = None,
    condition: Annotated[
        float,
        Limits(at_least=1, at_most=1e12),
        OnlyFor((DRAW, TABLE)),
        Option(help="Worst conditioning that counts as safe: 6.7 is p = 0.85 for a group."),
    ] = 1 / 0.15,
    draw: Annotated[
        str | None,
        OnlyFor((DRAW,)),
        Option(help="A cyclic group of your own: the probability of each turn, joined by commas."),
    ] = None,
    observed: Annotated[
        str | None, OnlyFor((DRAW,)), Option(help="Shares seen after --draw at --p: what they were before.")
    ] = None,
    size: Annotated[
        int,
        Limits(at_least=4, at_most=4096),
        OnlyFor((TABLE,)),
        Option(help="Side of the images in pixels, for the exact table."),
    ] = 64,
    samples: Annotated[
        int,
        Limits(at_least=1, at_most=1_000_000),
        OnlyFor((RUNS, FUNCTION, TRANSFORMS)),
        Option(help="Generated images, and real ones, to compare."),
    ] = 2000,
    device: Annotated[Device, OnlyFor((RUNS,))] = "auto",
    as_json: Annotated[bool, Option("--json", help="Print the findings as JSON.")] = False,
    plot: Annotated[Path | None, Destination(), Option(help="Draw them. Needs the extra frugan\\[plots].")] = None,
) -> None:
    """Say whether augmentations leak into what is generated: exactly for each transform, or measured on runs or images."""
    if plot:
        from frugan.leaks.plots import check_plot

        check_plot(plot)
        if not runs and (data or draw):
            raise FruganError(
                f"--plot {plot} draws runs, or the table of transforms; leave it out with --data and --draw"
            )
    if runs:
        asked = {"data": data, "function": function, "transforms": transforms, "samples": samples, "device": device}
        content, lines = _of_runs(runs, asked, plot)
    elif data:
        one, *others = _numbers("p", p or "1")
        if others:
            raise FruganError(f"--p {p}: with --data give one probability")
        content, lines = _of_images(data, function, transforms, one, samples)
    elif draw:
        content, lines = _group(_numbers("draw", draw), _numbers("p", p or _SEVERAL), condition, observed)
    else:
        content, lines = _table(_numbers("p", p or _SEVERAL), condition, size)
        if plot:
            from frugan.leaks.plots import plot_transforms

            plot_transforms(plot, side=size)
    if as_json:
        import json

        typer.echo(json.dumps(content, indent=1))
        return
    for line in lines:
        console.print(line, markup=False) if isinstance(line, str) else console.print(line)
    if plot:
        console.print(f"drawn in {plot}", markup=False)


def _of_runs(runs: Sequence[Path], asked: Mapping[str, Any], plot: Path | None) -> tuple[Any, list[Any]]:
    """The shares of each run's samples that an augmentation changed, as JSON holds them and in sentences; drawn in `plot`."""
    from frugan.run.leak_report import leaks_of_run

    with bar("generating") as progress:
        found = [leaks_of_run(run, **asked, progress=progress) for run in runs]
    if plot:
        from frugan.leaks.plots import plot_runs

        plot_runs(plot, found)
    content = [{"run": run.name, "p": run.p, "found": [x.to_dict() for x in run.leaks]} for run in found]
    return content, [f"{run.name}: {leak.sentence()}" for run in found for leak in run.leaks]


def _of_images(
    data: str, function: str | None, transforms: str | None, p: float, samples: int
) -> tuple[Any, list[Any]]:
    """How well an augmentation of these images is undone, as JSON holds it and in a sentence."""
    from dataclasses import asdict

    from frugan.run.leak_report import recovery_of_images

    undone = recovery_of_images(data, function=function, transforms=transforms, p=p, samples=samples)
    name = function or f"{transforms} at p = {p:g}"
    content = {"augmentation": name, **asdict(undone), "leaks": undone.leaks}
    return content, [f"{name}: {undone.sentence()}"]


def _numbers(name: str, text: str) -> list[float]:
    """Probabilities and shares, joined by commas."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise FruganError(f"--{name} {text!r}: give numbers joined by commas") from None
    for number in numbers:
        check_number(f"--{name}", number, at_least=0, at_most=1)
    return numbers


def _table(ps: list[float], condition: float, size: int) -> tuple[Any, list[Any]]:
    """A table of what each transform keeps of the finest difference, and of the p up to which that is enough."""
    from rich.table import Table

    from frugan.leaks import GROUPS, SPECTRA
    from frugan.leaks.plots import smallest

    table = Table(
        "transform", *(f"p = {p:g}" for p in ps), "safe up to p", box=None, pad_edge=False, header_style="dim"
    )
    content = []
    for name in (*GROUPS, *SPECTRA):
        kept = [smallest(name, p, size) for p in ps]
        grid = [i / 1000 for i in range(1001)]
        safe = max((q for q in grid if smallest(name, q, size) >= 1 / condition), default=0.0)
        table.add_row(name, *(f"{value:.3f}" for value in kept), f"{safe:.2f}")
        content.append({"transform": name, "kept": dict(zip(map(str, ps), kept)), "safe_p": safe})
    note = f"Smallest share that remains of a difference between distributions of {size}x{size} images; 0 leaks."
    return content, [note, table]


def _group(draw: list[float], ps: list[float], condition: float, observed: str | None) -> tuple[Any, list[Any]]:
    from frugan.leaks import cyclic

    group, lines, content = cyclic(draw), [], []
    for p in ps:
        values = group.eigenvalues(p)
        entry = {"p": p, "transition": group.transition(p).tolist(), "eigenvalues": [[v.real, v.imag] for v in values]}
        entry |= {"condition": group.condition(p)}
        shown = ", ".join(f"{v.real:.3g}" if abs(v.imag) < 1e-9 else f"{v:.3g}" for v in values)
        lines.append(f"p = {p:g}: eigenvalues {shown}; condition {group.condition(p):.3g}")
        if observed and p == ps[-1]:
            entry["clean"] = group.invert(_numbers("observed", observed), p).tolist()
            lines.append("clean shares: " + ", ".join(f"{share:.4g}" for share in entry["clean"]))
        content.append(entry)
    lines.append(f"safe up to p = {group.safe_p(condition):.3g} for a condition number of {condition:.3g}")
    return content, lines
