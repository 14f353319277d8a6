"""`frugan generate`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Option

from frugan.checks import Limits, Truncation
from frugan.cli.common import bar, open_network, parse_seeds, say
from frugan.cli.output import seed_ranges
from frugan.cli.signature import Device
from frugan.errors import FruganError

if TYPE_CHECKING:
    from torch import Tensor

    from frugan.image_files import Output
    from frugan.networks import Generator

MOST_GRID_PIXELS = 400_000_000
LEGIBLE = 128
"""Pixels a side below which `--scale auto` enlarges the images of a grid."""


def generate(
    source: Annotated[
        Path,
        typer.Argument(
            help="A run, one of its checkpoints, a foreign .pkl or .pt, hf:user/name, or sample: the one that comes with frugan."
        ),
    ],
    out: Annotated[
        Path | None, Option("--out", "-o", help="Folder for the images. \\[default: generated in the run]")
    ] = None,
    seeds: Annotated[str, Option(help="Numbers and ranges: a seed always makes the same image.")] = "0-15",
    truncation: Annotated[Truncation, Option(help="ψ: below 1 more typical, less varied.")] = 1.0,
    truncation_cutoff: Annotated[
        int | None, Limits(at_least=0, at_most=64), Option(help="Truncate only this many of the first layers.")
    ] = None,
    noise: Annotated[Literal["const", "random", "none"], Option(help="The fine grain.")] = "const",
    label: Annotated[
        str | None,
        Option(
            "--class",
            "--label",
            help="Class name or number; a measured label in its own unit, or a sweep FIRST:LAST:COUNT of it; several joined by "
            "commas; ? tells what there is.",
        ),
    ] = None,
    code: Annotated[
        list[str] | None, Option(help="A code that frugan project wrote, in place of seeds; may be repeated.")
    ] = None,
    pairs: Annotated[
        bool, Option(help="By a generator trained with masks: images/ and masks/, files of equal names.")
    ] = False,
    grid: Annotated[bool, Option(help="All images in one file, captioned, instead of one file each.")] = False,
    scale: Annotated[
        str, Option(help="Enlarge by a whole factor; auto: the images of a grid, where they are small.")
    ] = "auto",
    repeat: Annotated[
        str, Option(help="ROWSxCOLUMNS copies side by side of each image, by a generator trained with --tile.")
    ] = "1x1",
    format: Annotated[
        Literal["auto", "png", "tiff", "npy", "npz", "webp", "jpg"],
        Option(
            help="Kind of file; auto: PNG where that holds the data's channels and numbers, else TIFF. npz: all in one."
        ),
    ] = "auto",
    bits: Annotated[
        Literal["auto", "8", "16", "32f"],
        Option(help="Per channel; 32f: floating-point numbers in the data's units; auto: those of the data."),
    ] = "auto",
    palette: Annotated[
        str | None,
        Option(
            help="At most this many colours, chosen for all images together, or those of a file (.gpl, .pal, .hex, an image)."
        ),
    ] = None,
    atlas: Annotated[
        bool,
        Option(help="All images on one sprite sheet, with a JSON of its frames (TexturePacker's hash)."),
    ] = False,
    batch: Annotated[int, Limits(at_least=1, at_most=65536), Option(help="Images made at once.")] = 16,
    device: Device = "auto",
) -> None:
    """Make images with a trained generator: seed0000.png, seed0001.png, …, or one grid of them.

    What they were made from stands in the files. Nothing is overwritten but by the same image again: other images of the
    same name get a number.
    """
    asked = dict(locals())
    from frugan.cli.output import write_atlas, write_each, write_npz
    from frugan.device import choose_device
    from frugan.image_files import choose_output
    from frugan.latent import label_lines, outside, parse_label, sweep_labels
    from frugan.networks.serialization import weights_digest
    from frugan.palette import read_palette
    from frugan.run.load import load_with_notes, read_class_names

    if code:
        given = {
            "--seeds": seeds != "0-15",
            "--truncation": truncation != 1,
            "--truncation-cutoff": truncation_cutoff is not None,
            "--class": label is not None,
            "--pairs": pairs,
            "--grid": grid,
            "--scale": scale != "auto",
            "--repeat": repeat != "1x1",
            "--palette": palette is not None,
            "--atlas": atlas,
        }
        if unused := [name for name, is_given in given.items() if is_given]:
            raise FruganError(f"--code: an image is made as its code says; leave out {', '.join(unused)}")
        _write_codes(str(source), code, out, noise, device, format, bits)
        return
    numbers = parse_seeds(seeds)
    factor = _parse_scale(scale)
    _check_layout(format, bits, grid=grid, atlas=atlas, factor=factor, palette=palette)
    colours = read_palette(palette) if palette is not None else None
    G, notes = load_with_notes(source)
    masks = G.config.masks if pairs else ()
    if pairs and not masks:
        raise FruganError(
            "--pairs: this generator makes no masks; train one with --masks or --channels RGB=image,3=mask"
        )
    if not pairs and G.config.masks:
        notes = [*notes, "masks are left out; --pairs writes them beside the images"]
        G = G.without_masks()
    names = read_class_names(source)
    measured = G.config.measured
    if label == "?":
        say("\n".join(label_lines(G.label_size, names, measured)))
        return
    sweep = sweep_labels(label or "", G.label_size, names, measured)
    if len(sweep) > 1:
        _generate_sweep(sweep, asked, G, names)
        return
    c = parse_label(label, G.label_size, names, measured)
    notes = [*notes, *([] if c is None else outside(c, measured))]
    kind = "png" if (atlas or colours) and format == "auto" else format
    if masks and (atlas or kind == "npz"):
        raise FruganError("--pairs writes a file for each image and each mask; leave out --atlas and --format npz")
    output = choose_output(G.pixels, G.channels - len(masks), kind, "8" if colours else bits)
    settings: dict[str, Any] = {"truncation": truncation, "truncation_cutoff": truncation_cutoff, "noise": noise}
    rows, columns = _parse_repeat(repeat, G)
    made = G.to(choose_device(device)).sample_batches(numbers, c=c, batch=batch, **settings)
    made = (images.repeat(1, 1, rows, columns) for images in made)
    size = G.resolution[0] * rows, G.resolution[1] * columns
    text = {"Network": weights_digest(G), "Truncation": f"{truncation:g}", "Noise": noise}
    if truncation_cutoff is not None:
        text["Truncation cutoff"] = str(truncation_cutoff)
    if c is not None:
        text["Class"] = _class_name(str(label), c, None if measured else names)
    if rows * columns > 1:
        text["Repeat"] = f"{rows}x{columns}"
    if bits != "auto":
        text["Bits"] = bits
    if palette is not None:
        text["Palette"] = palette
    out, batches = out or default_out(source), _shown(made, len(numbers))
    if grid:
        factor = factor or _legible(*size)
        written = _write_grid(batches, numbers, out, text, factor, size, masks=len(masks))
        notes += sheet_notes(output)
    elif atlas:
        written = write_atlas(batches, numbers, out, text, factor or 1, output, size, colours)
    elif output.kind == "npz":
        written = write_npz(batches, numbers, out, text, output, size)
    else:
        written = write_each(batches, numbers, out, text, factor or 1, output, colours, masks)
    for line in [written, *notes, *([] if grid else output.notes())]:
        say(line)


def _generate_sweep(sweep: Sequence[str], asked: Mapping[str, Any], G: Generator, names: Sequence[str] | None) -> None:
    """`frugan generate --label 0:1:5`: a folder for each label, or a grid with a row for each seed and a column for each label."""
    import torch

    from frugan.device import choose_device
    from frugan.image_files import choose_output
    from frugan.latent import outside, parse_label
    from frugan.networks.serialization import weights_digest

    out = asked["out"] or default_out(asked["source"])
    labels = [c for text in sweep if (c := parse_label(text, G.label_size, names, G.config.measured)) is not None]
    if not asked["grid"]:
        for text in sweep:
            generate(**{**asked, "label": text, "out": out / _file_part(text)})
        return
    seeds, factor = parse_seeds(asked["seeds"]), _parse_scale(asked["scale"])
    rows, columns = _parse_repeat(asked["repeat"], G)
    settings = {name: asked[name] for name in ("truncation", "truncation_cutoff", "noise", "batch")}
    made = G.to(choose_device(asked["device"])).sample_batches(
        [seed for seed in seeds for _ in labels], c=torch.stack(labels).repeat(len(seeds), 1), **settings
    )
    size = G.resolution[0] * rows, G.resolution[1] * columns
    text = {"Network": weights_digest(G), "Truncation": f"{asked['truncation']:g}", "Noise": asked["noise"]}
    if asked["truncation_cutoff"] is not None:
        text["Truncation cutoff"] = str(asked["truncation_cutoff"])
    text["Class"] = str(asked["label"])
    shown = _shown((images.repeat(1, 1, rows, columns) for images in made), len(seeds) * len(labels))
    masks = len(G.config.masks)
    say(_write_grid(shown, seeds, out, text, factor or _legible(*size), size, sweep, masks))
    told = dict.fromkeys(line for c in labels for line in outside(c, G.config.measured))
    for line in [*told, *sheet_notes(choose_output(G.pixels, G.channels - masks, "auto", "auto"))]:
        say(line)


def _file_part(text: str) -> str:
    """A label as part of a file's name."""
    return re.sub(r"[^\w.,=-]+", "_", text)[:40]


def _check_layout(format: str, bits: str, *, grid: bool, atlas: bool, factor: int | None, palette: str | None) -> None:
    """Raises `FruganError` for options that do not go together."""
    if format in ("npy", "npz") and (grid or atlas or factor not in (None, 1)):
        raise FruganError(
            f"--format {format} writes arrays as the network makes them: leave out --grid, --atlas and --scale"
        )
    if grid and (format not in ("auto", "png") or bits not in ("auto", "8")):
        raise FruganError("--grid is a PNG of 8 bits to look at: leave out --format and --bits, or --grid")
    if grid and (atlas or palette is not None):
        raise FruganError("--grid is a captioned sheet to look at: leave out --atlas and --palette, or --grid")
    if palette is not None and (format not in ("auto", "png") or bits not in ("auto", "8")):
        raise FruganError("--palette makes PNG files of 8 bits: leave out --format and --bits")
    if atlas and format in ("jpg", "tiff"):
        raise FruganError(f"--atlas --format {format}: a sprite sheet is a PNG or a WebP")


def sheet_notes(output: Output) -> list[str]:
    """What a sheet of 8 bits to look at does not show of what the network makes."""
    found, data = [], output.pixels
    if output.channels > 4:
        found.append(f"it shows the first 3 of {output.channels} channels")
    if data.dtype != "uint8":
        found.append("it has 8 bits per channel; without --grid, images are written as the data is")
    return found


def _write_codes(
    network: str, codes: Sequence[str], out: Path | None, noise: str, device: str, format: Any, bits: Any
) -> None:
    """`frugan generate --code`: the images of code files."""
    from frugan.image_files import choose_output
    from frugan.latent.code import load_code, render_points
    from frugan.networks.serialization import weights_digest

    found = [load_code(file) for file in codes]
    if noise == "random":
        raise FruganError("--noise random: a code has noise of its own, or the network's; leave --noise out")
    if format == "npz":
        raise FruganError("--code writes a file for each code: leave out --format npz")
    G, _ = open_network(network, None, device, optional=True)
    output = choose_output(G.pixels, G.channels, format, bits)
    folder, digest = out or default_out(Path(network)), weights_digest(G)
    texts = [{"Code": code.name, "Network": digest} for code in found]
    output.save(render_points(G, found), [folder / code.name for code in found], texts)
    for line in [f"{len(found)} {'image' if len(found) == 1 else 'images'} in {folder}", *output.notes()]:
        say(line)


def default_out(source: Path) -> Path:
    """`generated` in the run (also of a checkpoint) or directory of networks; for a file, here."""
    home = source.resolve().parent.parent
    if not (source / "config.yaml").is_file() and (home / "config.yaml").is_file():
        return home / "generated"
    return source / "generated" if source.is_dir() else Path("generated")


def _shown(batches: Iterator[Tensor], total: int) -> Iterator[Tensor]:
    """The batches, with a progress bar."""
    done = 0
    with bar("generating") as progress:
        for images in batches:
            yield images
            done += len(images)
            progress(done, total)


def _write_grid(
    batches: Iterator[Tensor],
    seeds: Sequence[int],
    out: Path,
    text: Mapping[str, str],
    factor: int,
    resolution: tuple[int, int],
    sweep: Sequence[str] = (),
    masks: int = 0,
) -> str:
    """One file of all images with their seeds and class as captions; says what was written. `sweep`: the labels of each row."""
    import numpy as np

    from frugan.cli.output import free
    from frugan.images import beside_masks, can_write, captioned_grid, save_image, to_uint8, upscale

    h, w = resolution
    total = len(seeds) * max(len(sweep), 1)
    if total * h * w * (1 + masks) * factor**2 > MOST_GRID_PIXELS:
        raise FruganError(
            f"a grid of {total:,} images of {h}x{w} at scale {factor} is beyond {MOST_GRID_PIXELS:,} pixels: give fewer "
            "--seeds, a smaller --scale, or leave out --grid"
        )
    labels = [label if can_write(label) else "" for label in sweep or [text.get("Class", "")]]
    about = {"Seeds": seed_ranges(seeds), **text, "Scale": str(factor)}
    (file,) = free([out / f"{_grid_name(about)}.png"], [about])
    sheet = np.concatenate([beside_masks(to_uint8(images), masks) for images in batches])
    captions = [f"{seed} {label}".strip() for seed in seeds for label in labels]
    columns = len(sweep) or None
    save_image(captioned_grid(upscale(sheet, factor), columns=columns, captions=captions), file, text=about)
    enlarged = f", each enlarged {factor} times" if factor > 1 else ""
    return f"a grid of {total:,} images of {h}x{w}{enlarged}, 8 bits per channel: {file}"


def _grid_name(about: Mapping[str, str]) -> str:
    """For instance "grid-0-15-cat-psi0.7": the seeds, and what is not at its default."""
    seeds = about["Seeds"] if len(about["Seeds"]) <= 40 else about["Seeds"][:40].rsplit(",", 1)[0] + ",etc"
    parts = ["grid", seeds]
    if "Class" in about:
        parts.append(_file_part(about["Class"]))
    if about["Truncation"] != "1":
        parts.append(f"psi{about['Truncation']}")
    if "Truncation cutoff" in about:
        parts.append(f"cutoff{about['Truncation cutoff']}")
    if about["Noise"] != "const":
        parts.append(f"noise-{about['Noise']}")
    if "Repeat" in about:
        parts.append(f"repeat{about['Repeat']}")
    return "-".join(parts)


def _class_name(label: str, c: Tensor, names: Sequence[str] | None) -> str:
    """The class's name, where the label is a class that has one; else the label as it was given."""
    column = int(c.argmax())
    is_class = int((c != 0).sum()) == 1 and float(c[column]) == 1
    return names[column] if is_class and names and len(names) == len(c) else label


def _parse_scale(text: str) -> int | None:
    """ "4" → 4; "auto" → None."""
    if text == "auto":
        return None
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= 256:
        raise FruganError(f"--scale {text[:40]}: give a whole number from 1 to 256, or auto")
    return int(text)


def _parse_repeat(text: str, G: Generator) -> tuple[int, int]:
    """ "2x3" → (2, 3): copies down and across. Raises `FruganError` where the generator's images do not repeat so."""
    match = re.fullmatch(r"([0-9]{1,3})x([0-9]{1,3})", text)
    if match is None or not (rows := int(match[1])) or not (columns := int(match[2])):
        raise FruganError(f"--repeat {text[:40]}: give ROWSxCOLUMNS, each from 1 to 999, for instance 2x2")
    tile = G.config.synthesis.tile
    if missing := [axis for axis, count in (("y", rows), ("x", columns)) if count > 1 and axis not in tile]:
        kind = f"with --tile {tile}" if tile != "none" else "without --tile"
        raise FruganError(
            f"--repeat {text}: this generator was trained {kind}, so that its images do not repeat along "
            f"{' and '.join(missing)}; train one with --tile xy, if need be with --init-from this one"
        )
    h, w = G.resolution
    if h * rows * w * columns > MOST_GRID_PIXELS:
        raise FruganError(f"--repeat {text} of {h}x{w} is beyond {MOST_GRID_PIXELS:,} pixels; give fewer copies")
    return rows, columns


def _legible(height: int, width: int) -> int:
    return max(1, LEGIBLE // max(height, width))
