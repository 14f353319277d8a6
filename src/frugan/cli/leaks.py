"""`frugan leaks`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from frugan.checks import Limits, check_number
from frugan.cli.common import bar, console
from frugan.errors import FruganError


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
        Option(help="A Python function of images [N, C, H, W] in [-1, 1], as module:name, for runs or --data."),
    ] = None,
    transforms: Annotated[
        str | None,
        Option(
            help="Transforms as frugan train takes them: applied to --data with probability --p, or looked for in runs, too."
        ),
    ] = None,
    p: Annotated[str, Option(help="Probability; without runs or data, several joined by commas.")] = "0.5,0.8,0.9,1",
    condition: Annotated[
        float,
        Limits(at_least=1, at_most=1e12),
        Option(help="Worst conditioning that counts as safe: 6.7 is p = 0.85 for a group."),
    ] = 1 / 0.15,
    draw: Annotated[
        str | None, Option(help="A cyclic group of your own: the probability of each turn, joined by commas.")
    ] = None,
    observed: Annotated[str | None, Option(help="Shares seen after --draw at --p: what they were before.")] = None,
    size: Annotated[
        int, Limits(at_least=4, at_most=4096), Option(help="Side of the images in pixels, for the exact table.")
    ] = 64,
    samples: Annotated[
        int, Limits(at_least=1, at_most=1_000_000), Option(help="Generated images, and real ones, to compare.")
    ] = 2000,
    device: Annotated[str, Option(help="auto, cpu, cuda, mps.")] = "auto",
    as_json: Annotated[bool, Option("--json", help="Print the findings as JSON.")] = False,
    plot: Annotated[Path | None, Option(help="Draw them. Needs the extra frugan\\[plots].")] = None,
) -> None:
    """Say whether augmentations leak into what is generated: exactly for each transform, or measured on runs or images."""
    if runs:
        found = [_run(run, data, function, transforms, samples, device) for run in runs]
        lines = [f"{run.name}: {leak.sentence()}" for run in found for leak in run.leaks]
        content: Any = [{"run": run.name, "p": run.p, "found": [x.to_dict() for x in run.leaks]} for run in found]
        if plot:
            from frugan.leaks.plots import plot_runs

            plot_runs(plot, found)
    elif data:
        content, lines = _augmentation(data, function, transforms, _numbers("p", p)[-1], samples)
    elif draw:
        content, lines = _group(_numbers("draw", draw), _numbers("p", p), condition, observed)
    else:
        if function or transforms or observed:
            raise FruganError("--function and --transforms need runs or --data, and --observed needs --draw")
        content, lines = _table(_numbers("p", p), condition, size)
        if plot:
            from frugan.leaks.plots import plot_transforms

            plot_transforms(plot, side=size)
    if as_json:
        import json

        typer.echo(json.dumps(content, indent=1))
    else:
        for line in lines:
            console.print(line, markup=False) if isinstance(line, str) else console.print(line)
        if plot:
            console.print(f"drawn in {plot}", markup=False)


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
    """What each transform keeps of the finest difference, and up to which p that is enough."""
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


def _augmentation(
    data: str, function: str | None, transforms: str | None, p: float, samples: int
) -> tuple[Any, list[Any]]:
    """What can be undone of an augmentation, on real images."""
    from dataclasses import asdict

    import numpy as np
    import torch

    from frugan.augment import AugmentConfig, AugmentPipeline, parse_transforms
    from frugan.data import DataConfig, open_dataset
    from frugan.leaks import recovery

    if (function is None) == (transforms is None):
        raise FruganError("--data needs either --function module:name or --transforms")
    dataset = open_dataset(DataConfig(path=data))
    picks = np.sort(np.random.default_rng(0).permutation(len(dataset))[:samples])
    images, _ = dataset.images(picks)
    if transforms is not None:
        config = AugmentConfig(parse_transforms(transforms))
        pipeline = AugmentPipeline(config, channels=dataset.channels, resolution=dataset.resolution)
        rng = torch.Generator().manual_seed(0)
        found = recovery(images, lambda x: pipeline(x, p, generator=rng))
        name = f"{transforms} at p = {p:g}"
    else:
        found = recovery(images, _function(str(function)))
        name = str(function)
    return {"augmentation": name, **asdict(found), "leaks": found.leaks}, [f"{name}: {found.sentence()}"]


def _function(text: str) -> Any:
    import importlib
    import sys

    module, _, name = text.partition(":")
    sys.path.insert(0, ".")  # a file of the user's own, in the working directory
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise FruganError(f"--function {text}: {error}; give module:name of a function") from error


def _questions(function: str | None, transforms: str | None, channels: int, resolution: tuple[int, int]) -> Any:
    """Those that fit the images, and whether they went through more transforms or a function."""
    import torch

    from frugan.augment import AugmentConfig, AugmentPipeline, parse_transforms
    from frugan.leaks import fitting, question_about

    def fired(name: str) -> Any:
        pipeline = AugmentPipeline(AugmentConfig((name,)), channels=channels, resolution=resolution)
        return lambda x: pipeline(x, 1.0, generator=torch.Generator().manual_seed(0))

    questions = fitting(channels, resolution)
    for name in parse_transforms(transforms or "none"):
        questions.setdefault(name, question_about(name, fired(name)))
    return questions | ({function: question_about(function, _function(function))} if function else {})


def _run(path: Path, data: str | None, function: str | None, transforms: str | None, samples: int, device: str) -> Any:
    """All questions that fit a run's images, asked of its generator at once."""
    import numpy as np
    import torch

    from frugan.device import choose_device
    from frugan.images import grid, to_uint8
    from frugan.leaks import measure_leaks
    from frugan.leaks.plots import RunLeaks
    from frugan.run.load import load
    from frugan.run.train import Run
    from frugan.tracking import read_stats

    run = Run(path)
    dataset = run.open_data(data)
    picks = np.sort(np.random.default_rng(0).permutation(dataset.train_indices)[:samples])
    real, _ = dataset.images(picks)
    G = load(path).to(choose_device(device))
    labels = dataset.label_pool[np.random.default_rng(0).integers(len(dataset.label_pool), size=samples)]
    c = labels if G.label_size else None
    made = []
    with bar("generating") as progress:
        for images in G.sample_batches(range(samples), c=c, batch=32, noise="random"):
            made.append(images.cpu())
            progress(len(made) * 32, samples)
    images = torch.cat(made)
    questions = _questions(function, transforms, dataset.channels, dataset.resolution)
    records = read_stats(path / "stats.jsonl")
    measured = [v for r in records for k, v in r.items() if k.startswith("metric/") and v is not None]
    return RunLeaks(
        path.name,
        records[-1]["p"] if records else run.config.controller.p_init,
        measure_leaks(images, real, questions),
        grid(to_uint8(images[:16]), columns=16),
        measured[-1] if measured else None,
    )
