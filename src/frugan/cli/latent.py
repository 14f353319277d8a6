"""`frugan directions`, `edit`, `mix`, `sweep` and `blend`: the latent space of a trained generator."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Option

from frugan.checks import Limits, Only
from frugan.cli.common import (
    all_codes,
    bar,
    check_image,
    check_out,
    class_option,
    counted,
    open_network,
    parse_points,
    parse_seeds,
    print_command,
    read_label,
    say,
    tell_of_sheet,
)
from frugan.cli.signature import Class, Destination, Device, Network, Out, Psi
from frugan.errors import FruganError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor

    from frugan.latent.code import Point
    from frugan.networks import Generator

Levels = Annotated[str | None, Option(help="Levels by their size, for instance 8-32 or 64. \\[default: all]")]


def directions(
    network: Network,
    out: Out = Path("directions"),
    method: Annotated[
        Literal["ganspace", "sefa", "boundary", "stylespace", "difference", "import"],
        Option(help="ganspace: what varies most; sefa: what changes styles most; boundary: between low and high scores; stylespace: single channels; difference: between two images, sets or classes; import: a published one."),
    ] = "ganspace",
    count: Annotated[int, Limits(at_least=1, at_most=10_000), Only("method", ("ganspace", "sefa", "stylespace")), Option(help="How many directions (boundary, difference and import give one).")] = 10,
    levels: Levels = None,
    samples: Annotated[int, Limits(at_least=2, at_most=100_000_000), Option(help="Latents that the statistics are taken from.")] = 100_000,
    normalize: Annotated[bool, Only("method", ("sefa",)), Option(help="sefa: all style channels count alike; without, by their gain.")] = True,
    scores: Annotated[str | None, Only("method", ("boundary",)), Option(help="boundary: a CSV of seed and score; class:NAME, against all others; package.module:function of images; or brightness, contrast, saturation, hue, left-right, up-down or size.")] = None,
    space: Annotated[Literal["w", "z"], Option(help="boundary: where its plane lies.")] = "w",
    seeds: Annotated[str | None, Only("method", ("stylespace", "difference")), Option(help="Seeds, and codes of images. stylespace: examples; difference: where it starts.")] = None,
    to_seeds: Annotated[str | None, Only("method", ("difference",)), Option(help="difference: where it ends, likewise.")] = None,
    label: Class = None,
    to_label: Annotated[str | None, Only("method", ("difference",), "--to-class"), Option("--to-class", help="difference: the class where it ends; --class is where it starts.")] = None,
    mask: Annotated[Path | None, Only("method", ("stylespace",)), Option(help="stylespace: an image of the generator's size, white in the region that is to change.")] = None,
    without: Annotated[list[str] | None, Option(help="FOLDER:NUMBER of a direction that is not to change too; may be repeated.")] = None,
    file: Annotated[Path | None, Only("method", ("import",)), Option(help="import: components of GANSpace (.npz), or a boundary of InterFaceGAN (.npy).")] = None,
    component: Annotated[int | None, Limits(at_least=0, at_most=100_000), Only("method", ("import",)), Option(help="import: which of GANSpace's components.")] = None,
    ws: Annotated[str | None, Only("method", ("import",)), Option("--ws", help="import: FIRST:END of the ws that it acts on, the end exclusive, for instance 6:8. \\[default: all]")] = None,
    name: Annotated[str | None, Only("method", ("boundary", "import")), Option(help="boundary and import: what to call it.")] = None,
    truncation: Psi = 0.7,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Find directions in the latent space, and write a sheet that shows what each of them does."""
    from frugan.latent.direction import find_direction
    from frugan.latent.edit import Truncation
    from frugan.latent.explore import Request, check, explore

    G, c = open_network(network, label, device, optional=True)
    request = Request(
        method=method,
        count=count,
        levels=_levels(levels, G),
        samples=samples,
        normalize=normalize,
        c=c,
        scores=_scores(network, scores, G),
        space=space,
        name=name or _score_name(scores),
        file=file,
        component=component,
        ws=_ws_range(ws),
        seeds=tuple(parse_points(seeds)) if seeds else (),
        to_seeds=tuple(parse_points(to_seeds, "--to-seeds")) if to_seeds else (),
        to_c=read_label(network, to_label, G) if to_label else None,
        mask=_mask(mask) if mask else None,
        without=tuple(find_direction(text) for text in without or ()),
    )
    check(G, request)
    check_out(out)
    with bar(f"looking for directions ({method})") as progress:
        found = explore(G, request, out, truncation=Truncation(truncation), progress=progress)
    _show(found)
    say(f"{counted(len(found), 'direction')} in {out}; look at {out / 'all.png'}")
    tell_of_sheet(G)
    for _, effect in found[:1]:
        low, high = effect.slider
        to_edit = ("edit", network, "--direction", f"{out}:0", "--strengths", f"{low:g}:{high:g}:7")
        print_command("Edit with", *to_edit, *class_option(G, label))


def edit(
    network: Network,
    direction: Annotated[list[str], Option(help="FOLDER:NUMBER or FOLDER:NAME, as frugan directions wrote them; may be repeated: all at once.")],
    out: Out = Path("edited"),
    seeds: Annotated[str, Option(help="Numbers and ranges.")] = "0-7",
    strengths: Annotated[str, Option(help="FIRST:LAST:COUNT, or numbers joined by commas, in σ.")] = "-3:3:7",
    levels: Levels = None,
    mode: Annotated[Literal["relative", "centred", "absolute"], Option(help="From where each image is; from the mean along the direction; from coordinate 0.")] = "relative",
    label: Class = None,
    truncation: Psi = 0.7,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Move images along directions: strips, and each image on its own."""
    from frugan.latent.code import render_points
    from frugan.latent.direction import find_direction
    from frugan.latent.edit import Edit, Truncation, check_edit, check_without_z

    points, amounts = parse_points(seeds), parse_range("strengths", strengths)
    G, c = open_network(network, label, device, optional=all_codes(points))
    chosen = [find_direction(text) for text in direction]
    if levels:
        chosen = [d.restricted(_levels(levels, G) or ()) for d in chosen]
    for d in chosen:
        for amount in amounts:
            check_edit(Edit(d, amount, mode), G)
    if not all(isinstance(point, int) for point in points):
        check_without_z([Edit(d, 0.0) for d in chosen])
    check_out(out)
    columns = []
    with bar("editing") as progress:
        for i, amount in enumerate(amounts):
            edits = [Edit(d, amount, mode) for d in chosen]
            columns.append(render_points(G, points, c, edits, Truncation(truncation)).cpu())
            progress(i + 1, len(amounts))
    _save_edited(G, points, amounts, columns, "+".join(d.name for d in chosen), out)


def _save_edited(
    G: Generator, points: Sequence[Point], strengths: Sequence[float], columns: Sequence[Tensor], name: str, out: Path
) -> None:
    """Writes the points' images at each strength, each on its own and all of them on a sheet."""
    import torch

    from frugan.image_files import choose_output
    from frugan.images import save_image
    from frugan.latent.code import file_stems, point_names
    from frugan.latent.sheets import table

    output = choose_output(G.pixels, G.channels)
    for strength, images in zip(strengths, columns):
        output.save(images, [out / f"{stem}-{name}{strength:+g}" for stem in file_stems(points)])
    sheet = table(
        torch.stack([*columns], 1).flatten(0, 1),
        len(strengths),
        column_names=[f"{strength:+g}" for strength in strengths],
        row_names=point_names(points),
        title=f"{name}, strength in standard deviations",
    )
    save_image(sheet, out / f"{name}.png")
    tell_of_sheet(G)
    say(f"{counted(len(points) * len(strengths), 'image')} in {out}, all of them on {out / f'{name}.png'}")
    for note in output.notes():
        say(note)


def mix(
    network: Network,
    out: Annotated[Path, Destination(), Option("--out", "-o", help="The image to write.")] = Path("mixed.png"),
    rows: Annotated[str, Option(help="Seeds of the rows: they give all levels but those of the columns.")] = "0-5",
    columns: Annotated[str, Option(help="Seeds of the columns.")] = "10-17",
    levels: Annotated[str | None, Option(help="Levels that the columns give, for instance 4-8: coarse ones give pose and shape, fine ones colour. \\[default: the coarser half]")] = None,
    label: Class = None,
    truncation: Psi = 0.7,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Mix images by levels: a table of all rows with all columns, the sources on its edges."""
    import torch

    from frugan.images import save_image
    from frugan.latent.code import point_names, point_noise, point_ws
    from frugan.latent.edit import Truncation
    from frugan.latent.mixing import mixing_grid
    from frugan.latent.sheets import blank, table

    row_points, column_points = parse_points(rows, "--rows"), parse_points(columns, "--columns")
    G, c = open_network(network, label, device, optional=all_codes([*row_points, *column_points]))
    chosen = _levels(levels, G) or tuple(range(-(-len(G.synthesis.sizes) // 2)))
    check_image(out)
    own, others = (point_ws(G, points, c, Truncation(truncation)) for points in (row_points, column_points))
    noise = point_noise(G, [*row_points, *column_points])
    first, top, mixtures = mixing_grid(G, own, others, chosen, noise=noise)
    n = len(column_points)
    lines = [torch.cat([first[i : i + 1], mixtures[i * n : (i + 1) * n]]) for i in range(len(row_points))]
    sheet = table(
        torch.cat([blank(top), top, *lines]).cpu(),
        n + 1,
        column_names=["", *point_names(column_points)],
        row_names=["", *point_names(row_points)],
        title=f"levels {levels or 'of the coarser half'} from the columns",
    )
    save_image(sheet, out)
    tell_of_sheet(G)
    say(f"{len(row_points)} × {n} mixtures in {out}")


def sweep(
    network: Network,
    out: Annotated[Path, Destination(), Option("--out", "-o", help="The image to write.")] = Path("sweep.png"),
    seeds: Annotated[str, Option(help="Numbers and ranges.")] = "0-7",
    truncation: Annotated[str, Option(help="ψ: FIRST:LAST:COUNT, or numbers joined by commas.")] = "0:1:6",
    levels: Levels = None,
    towards: Annotated[
        str | None,
        Option(
            help="Where ψ = 0 leads instead of the average of all images: a seed or code; class:NAME, the mean of a class; "
            "centre:NUMBER, one of 64 k-means centres, the most frequent first."
        ),
    ] = None,
    label: Class = None,
    device: Device = "auto",
) -> None:
    """Show what truncation does: seeds × ψ, also on some levels only, or towards another image, a class's mean, or a k-means centre."""
    import torch

    from frugan.images import save_image
    from frugan.latent.code import point_names, point_noise, point_ws
    from frugan.latent.edit import Truncation
    from frugan.latent.sheets import table

    points, psis = parse_points(seeds), parse_range("truncation", truncation)
    G, c = open_network(network, label, device, optional=all_codes(points))
    chosen = _levels(levels, G)
    centre = None if towards is None else _centre(network, towards, c, G)
    truncations = [Truncation(psi, chosen, centre) for psi in psis]
    check_image(out)
    whole, noise = point_ws(G, points, c), point_noise(G, points)
    with torch.no_grad():
        columns = [G.synthesis(each(G, whole), noise=noise).clamp_(-1, 1) for each in truncations]
    sheet = table(
        torch.stack(columns, 1).flatten(0, 1).cpu(),
        len(psis),
        column_names=[f"psi {psi:g}" for psi in psis],
        row_names=point_names(points),
    )
    save_image(sheet, out)
    tell_of_sheet(G)
    say(f"{counted(len(points), 'seed')} × {counted(len(psis), 'truncation')} in {out}")


def blend(
    first: Annotated[str, typer.Argument(help="The network that gives the mapping and the coarse levels.")],
    second: Annotated[str, typer.Argument(help="The one that gives the fine levels: fine-tuned from the first, or its parent or sibling.")],
    out: Out = Path("blended"),
    at: Annotated[str | None, Option(help="The first level of the second network, by its size, for instance 32.")] = None,
    width: Annotated[float, Limits(at_least=0, at_most=64), Only("at"), Option(help="How many levels the change takes; 0: a hard switch.")] = 0.0,
    interpolate: Annotated[str | None, Option(help="Instead of levels: all weights at FIRST:LAST:COUNT between both, a sheet of each.")] = None,
    seeds: Annotated[str, Option(help="Seeds of the sheet.")] = "0-7",
    truncation: Psi = 0.7,
    label: Class = None,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Blend two related generators: coarse levels of one with fine levels of the other, or all weights in between."""
    from frugan.images import save_image
    from frugan.interop import save_pretrained
    from frugan.latent import blending
    from frugan.latent.levels import level_names, parse_levels
    from frugan.run.load import read_class_names

    if (at is None) == (interpolate is None):
        raise FruganError("give --at LEVEL (a swap of levels) or --interpolate 0:1:5 (all weights), one of them")
    shares = parse_range("interpolate", interpolate) if interpolate else []
    numbers = parse_seeds(seeds)
    A, c = open_network(first, label, device)
    B, _ = open_network(second, None, device, optional=True)
    found = blending.check_aligned(A, B)
    say(f"alignment: w {found.w:.2f}, images {found.images:.2f} (1: the same network, 0: unrelated ones)")
    big = A if len(A.synthesis.sizes) >= len(B.synthesis.sizes) else B
    if at is not None:
        names = [f"{at}"]
        made = [blending.blend(A, B, blending.Swap(parse_levels(at, big)[0], width))]
    else:
        names = [f"{share:g}" for share in shares]
        made = [blending.interpolate(A, B, share) for share in shares]
    check_out(out)
    for name, G in zip(names, made):
        save_pretrained(G.cpu(), out if at is not None else out / name, class_names=read_class_names(first))
    shown = [A.cpu(), *made, B.cpu()] if at is not None else made
    titles = ["first", f"second from {at}", "second"] if at is not None else names
    save_image(_side_by_side(shown, titles, numbers, truncation, c), out / "blend.png")
    tell_of_sheet(big)
    say(f"levels {', '.join(level_names(big))}; look at {out / 'blend.png'}")
    if at is not None:
        print_command("Use it with", "generate", out, "--seeds", "0-15", "--grid", *class_option(big, label))


def _side_by_side(
    networks: Sequence[Generator], titles: Sequence[str], seeds: Sequence[int], truncation: float, c: Tensor | None
) -> np.ndarray:
    """A sheet with a column for each network, a row for each seed; smaller images are enlarged to the size of the largest."""
    import torch

    from frugan.latent.edit import Truncation, render_edited
    from frugan.latent.sheets import table

    labels = None if c is None else c.expand(len(seeds), -1)
    columns = [render_edited(G, G.latents(seeds), labels, (), Truncation(truncation)) for G in networks]
    if len({images.shape[2:] for images in columns}) > 1:
        largest = max((G.resolution for G in networks), key=math.prod)
        columns = [torch.nn.functional.interpolate(images, largest) for images in columns]
    images = torch.stack(columns, 1).flatten(0, 1)
    return table(images, len(columns), column_names=titles, row_names=[str(seed) for seed in seeds])


def parse_range(name: str, text: str) -> list[float]:
    """ "-3:3:7" → seven numbers from -3 to 3; "0,0.5,1" → those. Raises `FruganError`."""
    from frugan.checks import check_number

    parts = text.split(":")
    try:
        if len(parts) == 3:
            numbers, count = [float(part) for part in parts[:2]], int(parts[2])
        else:
            numbers, count = [float(part) for part in text.split(",")], 1
    except ValueError:
        raise FruganError(
            f"--{name} {text!r}: give FIRST:LAST:COUNT, for instance -3:3:7, or numbers joined by commas"
        ) from None
    for number in numbers:
        check_number(f"--{name}", number, at_least=-1000, at_most=1000)
    if len(parts) != 3:
        return numbers
    check_number(f"--{name}: the count", count, at_least=2, at_most=1000, whole=True)
    first, last = numbers
    return [first + (last - first) * i / (count - 1) for i in range(count)]


def _levels(text: str | None, G: Generator) -> tuple[int, ...] | None:
    from frugan.latent.levels import parse_levels

    return None if text is None else parse_levels(text, G)


def _centre(network: str, text: str, c: Tensor | None, G: Generator) -> Tensor:
    """The w `[w_dim]` or ws `[num_ws, w_dim]` that a text such as "5", "class:cat" or "centre:3" stands for."""
    from frugan.latent.code import SUFFIX, point_ws
    from frugan.latent.statistics import CENTRES, cluster_centres, statistics_of

    kind, colon, which = text.partition(":")
    if kind == "class" and colon and (label := read_label(network, which, G)) is not None:
        return statistics_of(G, labels=label[None]).mean.float()
    if kind == "centre" and which.isdecimal() and int(which) < CENTRES:
        return cluster_centres(G, labels=None if c is None else c[None])[int(which)]
    if not text.endswith(SUFFIX) and (colon or not text.isdecimal()):
        raise FruganError(
            f"--towards {text!r}: give a seed, a code's file, class:NAME, or centre:0 to centre:{CENTRES - 1}"
        )
    return point_ws(G, parse_points(text, "--towards"), c)[0]


def _scores(network: str, text: str | None, G: Generator) -> str | Tensor | None:
    """The label of "class:NAME"; any other text as it is."""
    return read_label(network, text[6:], G) if text and text.startswith("class:") else text


def _score_name(text: str | None) -> str:
    """The score's name, or that of its file or class."""
    return Path(text.rpartition(":")[2]).stem if text else ""


def _ws_range(text: str | None) -> tuple[int, int] | None:
    """ "6:8" → (6, 8)."""
    if text is None:
        return None
    first, colon, end = text.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal() and len(text) < 12):
        raise FruganError(f"--ws {text[:40]!r}: give FIRST:END, the end exclusive, for instance 6:8")
    return int(first), int(end)


def _mask(file: Path) -> Tensor:
    import numpy as np
    import torch
    from PIL import Image

    try:
        with Image.open(file) as image:
            return torch.from_numpy(np.asarray(image.convert("L")) > 127)
    except OSError as error:
        raise FruganError(f"--mask {file} cannot be read as an image: {error}") from None


def _show(found: list) -> None:
    from rich.table import Table

    from frugan.cli.common import console

    sheet = Table(
        "", "direction", "slider", "distance", "pixels", "alike", "changes most", box=None, header_style="dim"
    )
    for i, (direction, effect) in enumerate(found):
        top = sorted(effect.scores.items(), key=lambda item: -abs(item[1]))[:3]
        low, high = effect.slider
        sheet.add_row(
            str(i),
            direction.name,
            f"{low:g} to {high:g}",
            f"{effect.distance:.2f}",
            f"{effect.pixels:.0%}",
            f"{effect.consistency:.2f}",
            ", ".join(f"{name} {value:+.1f}" for name, value in top),
        )
    console.print(sheet)
    for direction, _ in found:
        if (accuracy := direction.source.get("accuracy")) is not None:
            say(f"{direction.name}: the boundary is right for {accuracy:.0%} of the examples held out; 50% is chance")
