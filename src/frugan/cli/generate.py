"""`frugan generate`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Option

from frugan.checks import Limits, Only
from frugan.cli.common import bar, open_network, parse_seeds, say
from frugan.cli.output import seed_ranges
from frugan.cli.signature import Device, Psi
from frugan.errors import FruganError

if TYPE_CHECKING:
    from torch import Tensor

    from frugan.image_files import Sheet
    from frugan.networks import Generator

MOST_GRID_PIXELS = 400_000_000
_OTHER_NAMES: dict[str, Any] = {"tif": "tiff", "jpeg": "jpg"}
_OF_CODES = ("source", "out", "noise", "code", "format", "bits", "device")
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
    truncation: Psi = 1.0,
    truncation_cutoff: Annotated[
        int | None,
        Limits(at_least=0, at_most=64),
        Only("truncation"),
        Option(help="Truncate only this many of the first layers."),
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
        Literal["auto", "png", "tiff", "tif", "npy", "npz", "webp", "jpg", "jpeg"],
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
    format = _OTHER_NAMES.get(format, format)
    asked = dict(locals())
    from frugan.files import check_writable
    from frugan.latent import label_lines, outside, parse_label, sweep_labels
    from frugan.run.load import load_with_notes, read_class_names

    folder = out or default_out(source)
    if label != "?":
        check_writable(folder, "folder")
    if code:
        _refuse_beside_codes(asked)
        _write_codes(str(source), code, folder, noise, device, format, bits)
        return
    seen, factor = parse_seeds(seeds), _parse_scale(scale)
    _check_layout(format, bits, grid=grid, atlas=atlas, factor=factor, palette=palette)
    G, notes = load_with_notes(source)
    if pairs and not G.config.masks:
        raise FruganError(
            "--pairs: this generator makes no masks; train one with --masks or --channels RGB=image,3=mask"
        )
    if not pairs and G.config.masks:
        notes = [*notes, "masks are left out; --pairs writes them beside the images"]
        G = G.without_masks()
    names, measured = read_class_names(source), G.config.measured
    if label == "?":
        say("\n".join(label_lines(G.label_size, names, measured)))
        return
    sweep = sweep_labels(label or "", G.label_size, names, measured)
    texts = sweep if len(sweep) > 1 else [label]
    labels = [parse_label(text, G.label_size, names, measured) for text in texts]
    order = _Order(G, seen, asked, factor, _parse_repeat(repeat, G), names)
    if len(sweep) > 1 and not grid:
        told = [_make(order, [text], [c], folder / _file_part(text)) for text, c in zip(sweep, labels)]
    else:
        told = [_make(order, [str(text) for text in texts], labels, folder)]
    notes += [line for c in labels if c is not None for line in outside(c, measured)]
    for line in dict.fromkeys(
        [*(written for written, _ in told), *notes, *(line for _, lost in told for line in lost)]
    ):
        say(line)


@dataclass(frozen=True)
class _Order:
    """An order for images: a generator, seeds, the options as given, a scale or None, copies down and across, class names."""

    G: Generator
    seeds: Sequence[int]
    asked: Mapping[str, Any]
    factor: int | None
    repeat: tuple[int, int]
    names: Sequence[str] | None

    def batches(self, labels: Sequence[Tensor | None]) -> Iterator[Tensor]:
        """Images float `[n, C, H, W]`: of each seed all labels, masks behind the image."""
        import torch

        from frugan.device import choose_device

        asked = self.asked
        settings = {name: asked[name] for name in ("truncation", "truncation_cutoff", "noise", "batch")}
        rows = [c for c in labels if c is not None]
        c = torch.stack(rows).repeat(len(self.seeds), 1) if len(rows) > 1 else rows[0] if rows else None
        seeds = [seed for seed in self.seeds for _ in labels]
        made = self.G.to(choose_device(asked["device"])).sample_batches(seeds, c=c, **settings)
        return _shown((images.repeat(1, 1, *self.repeat) for images in made), len(seeds))

    def text(self, labels: Sequence[str], c: Tensor | None) -> dict[str, str]:
        """The settings that files keep of their images; `labels` are those of a sweep, or the one that was given."""
        from frugan.networks.serialization import weights_digest

        asked, rows, columns = self.asked, *self.repeat
        found = {
            "Network": weights_digest(self.G),
            "Truncation": f"{asked['truncation']:g}",
            "Truncation cutoff": asked["truncation_cutoff"],
            "Noise": asked["noise"],
        }
        if c is not None:
            given = labels[0] if len(labels) == 1 else str(asked["label"])
            one = len(labels) == 1 and not self.G.config.measured
            found["Class"] = _class_name(given, c, self.names if one else None)
        if rows * columns > 1:
            found["Repeat"] = f"{rows}x{columns}"
        if asked["bits"] != "auto":
            found["Bits"] = asked["bits"]
        found["Palette"] = asked["palette"]
        return {name: str(value) for name, value in found.items() if value is not None}


def _make(order: _Order, sweep: Sequence[str], labels: Sequence[Tensor | None], out: Path) -> tuple[str, list[str]]:
    """Writes the images of one label, or a grid of those of several; says what was written, and what files do not hold."""
    from frugan.cli.output import write_atlas, write_each, write_npz
    from frugan.image_files import choose_output, choose_sheet
    from frugan.palette import read_palette

    G, asked, seeds = order.G, order.asked, order.seeds
    masks = G.config.masks if asked["pairs"] else ()
    format, bits, atlas = asked["format"], asked["bits"], asked["atlas"]
    size = G.resolution[0] * order.repeat[0], G.resolution[1] * order.repeat[1]
    text = order.text(sweep, labels[0])
    if asked["grid"]:
        sheet = choose_sheet(G.pixels, G.channels - len(masks), format, bits)
        factor = order.factor or _legible(*size)
        columns = sweep if len(labels) > 1 else ()
        return _write_grid(
            order.batches(labels), seeds, out, text, factor, size, sheet, columns, len(masks)
        ), sheet.notes()
    colours = read_palette(asked["palette"]) if asked["palette"] is not None else None
    kind = "png" if (atlas or colours) and format == "auto" else format
    if masks and (atlas or kind == "npz"):
        raise FruganError("--pairs writes a file for each image and each mask; leave out --atlas and --format npz")
    output = choose_output(G.pixels, G.channels - len(masks), kind, "8" if colours else bits)
    batches, factor = order.batches(labels), order.factor or 1
    if atlas:
        written = write_atlas(batches, seeds, out, text, factor, output, size, colours)
    elif output.kind == "npz":
        written = write_npz(batches, seeds, out, text, output, size)
    else:
        written = write_each(batches, seeds, out, text, factor, output, colours, masks)
    return written, output.notes()


def _refuse_beside_codes(asked: Mapping[str, Any]) -> None:
    """Raises `FruganError` for options that --code has no use for."""
    defaults = {
        name: one.default for name, one in inspect.signature(generate).parameters.items() if name not in _OF_CODES
    }
    if unused := [name for name, default in defaults.items() if asked[name] != default]:
        options = ["--class" if name == "label" else f"--{name.replace('_', '-')}" for name in unused]
        raise FruganError(f"--code: an image is made as its code says; leave out {', '.join(options)}")


def _file_part(text: str) -> str:
    """A label as part of a file's name."""
    return re.sub(r"[^\w.,=-]+", "_", text)[:40]


def _check_layout(format: str, bits: str, *, grid: bool, atlas: bool, factor: int | None, palette: str | None) -> None:
    """Raises `FruganError` for options that do not go together."""
    if format in ("npy", "npz") and (grid or atlas or factor not in (None, 1)):
        raise FruganError(
            f"--format {format} writes arrays as the network makes them: leave out --grid, --atlas and --scale"
        )
    if grid and format in ("webp", "jpg"):
        raise FruganError(
            f"--grid --format {format}: a sheet is a PNG, or a TIFF with all channels and the data's numbers"
        )
    if grid and (atlas or palette is not None):
        raise FruganError("--grid is a captioned sheet to look at: leave out --atlas and --palette, or --grid")
    if palette is not None and (format not in ("auto", "png") or bits not in ("auto", "8")):
        raise FruganError("--palette makes PNG files of 8 bits: leave out --format and --bits")
    if atlas and format in ("jpg", "tiff"):
        raise FruganError(f"--atlas --format {format}: a sprite sheet is a PNG or a WebP")


def _write_codes(
    network: str, codes: Sequence[str], folder: Path, noise: str, device: str, format: Any, bits: Any
) -> None:
    """`frugan generate --code`: the images of code files."""
    from frugan.image_files import choose_output
    from frugan.latent.code import file_stems, load_code, render_points
    from frugan.networks.serialization import weights_digest

    found = [load_code(file) for file in codes]
    if noise == "random":
        raise FruganError("--noise random: a code has noise of its own, or the network's; leave --noise out")
    if format == "npz":
        raise FruganError("--code writes a file for each code: leave out --format npz")
    G, _ = open_network(network, None, device, optional=True)
    output = choose_output(G.pixels, G.channels, format, bits)
    digest = weights_digest(G)
    texts = [{"Code": code.name, "Network": digest} for code in found]
    output.save(render_points(G, found), [folder / stem for stem in file_stems(found)], texts)
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
    sheet: Sheet,
    sweep: Sequence[str] = (),
    masks: int = 0,
) -> str:
    """One file of all images with their seeds and class as captions; says what was written. `sweep`: the labels of each row."""
    import numpy as np

    from frugan.cli.output import free
    from frugan.image_files import save
    from frugan.images import beside_masks, captioned_grid, upscale

    (h, w), output = resolution, sheet.output
    total = len(seeds) * max(len(sweep), 1)
    most = 4 * MOST_GRID_PIXELS // max(4, output.channels * np.dtype(output.dtype).itemsize)
    if total * h * w * (1 + masks) * factor**2 > most:
        raise FruganError(
            f"a grid of {total:,} images of {h}x{w} at scale {factor} is beyond {most:,} pixels: give fewer "
            "--seeds, a smaller --scale, or leave out --grid"
        )
    labels = sweep or [text.get("Class", "")]
    about = {"Seeds": seed_ranges(seeds), **text, "Scale": str(factor)}
    (file,) = free([out / f"{_grid_name(about)}{output.suffix}"], [about])
    alpha = output.pixels.alpha
    shown = np.concatenate([sheet.values(beside_masks(images, masks, alpha=alpha)) for images in batches])
    captions = [f"{seed} {label}".strip() for seed in seeds for label in labels]
    columns = len(sweep) or None
    whole = captioned_grid(upscale(shown, factor), columns=columns, captions=captions, ends=sheet.ends)
    save(whole, file, alpha=alpha, names=output.names, text=about)
    enlarged = f", each enlarged {factor} times" if factor > 1 else ""
    return f"a grid of {total:,} images of {h}x{w}{enlarged}, {output.depth}: {file}"


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
