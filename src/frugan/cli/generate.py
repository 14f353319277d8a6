"""`frugan generate`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Option

from frugan.checks import Limits, Truncation
from frugan.cli.common import bar, open_network, parse_seeds, say
from frugan.cli.signature import Device
from frugan.errors import FruganError
from frugan.shipped import resolve_shipped

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

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
        Option("--class", help="Class name or number; a measured label in its own unit; several joined by commas."),
    ] = None,
    code: Annotated[
        list[str] | None, Option(help="A code that frugan project wrote, in place of seeds; may be repeated.")
    ] = None,
    grid: Annotated[bool, Option(help="All images in one file, captioned, instead of one file each.")] = False,
    scale: Annotated[
        str, Option(help="Enlarge by a whole factor; auto: the images of a grid, where they are small.")
    ] = "auto",
    repeat: Annotated[
        str, Option(help="ROWSxCOLUMNS copies side by side of each image, by a generator trained with --tile.")
    ] = "1x1",
    format: Annotated[
        Literal["png", "npy"], Option(help="npy: arrays [H, W, C] of all channels in the depth of the data.")
    ] = "png",
    batch: Annotated[int, Limits(at_least=1, at_most=65536), Option(help="Images made at once.")] = 16,
    device: Device = "auto",
) -> None:
    """Make images with a trained generator: seed0000.png, seed0001.png, …, or one grid of them.

    What they were made from stands in the files. Nothing is overwritten but by the same image again: other images of the
    same name get a number.
    """
    from frugan.device import choose_device
    from frugan.latent import outside, parse_label
    from frugan.networks.serialization import weights_digest
    from frugan.run.load import load_with_notes, read_class_names

    if code:
        given = {
            "--seeds": seeds != "0-15",
            "--truncation": truncation != 1,
            "--truncation-cutoff": truncation_cutoff is not None,
            "--class": label is not None,
            "--grid": grid,
            "--scale": scale != "auto",
            "--repeat": repeat != "1x1",
            "--format": format != "png",
        }
        if unused := [name for name, is_given in given.items() if is_given]:
            raise FruganError(
                f"--code: an image is made as its code says, in its data's depth; leave out {', '.join(unused)}"
            )
        _write_codes(str(source), code, out, noise, device)
        return
    numbers = parse_seeds(seeds)
    factor = _parse_scale(scale)
    if format == "npy" and (grid or factor not in (None, 1)):
        raise FruganError("--format npy writes arrays as the network makes them: leave out --grid and --scale")
    G, notes = load_with_notes(source)
    names = read_class_names(source)
    measured = G.config.measured
    c = parse_label(label, G.label_size, names, measured)
    notes = [*notes, *([] if c is None else outside(c, measured))]
    pixels = read_pixel_format(source, G.channels)
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
    out = out or default_out(source)
    if grid:
        factor = factor or _legible(*size)
        written = _write_grid(_shown(made, len(numbers)), numbers, out, text, factor, size)
    else:
        written = _write_each(_shown(made, len(numbers)), numbers, out, text, factor or 1, format, pixels)
    for line in [written, *notes, *pixels.notes(format, grid)]:
        say(line)


def _write_codes(network: str, codes: Sequence[str], out: Path | None, noise: str, device: str) -> None:
    """`frugan generate --code`: the images of code files."""
    from frugan.images import save_image
    from frugan.latent.code import load_code, render_points
    from frugan.networks.serialization import weights_digest

    found = [load_code(file) for file in codes]
    if noise == "random":
        raise FruganError("--noise random: a code has noise of its own, or the network's; leave --noise out")
    G, _ = open_network(network, None, device, optional=True)
    images = render_points(G, found)
    pixels = read_pixel_format(Path(network), G.channels)
    folder = out or default_out(Path(network))
    digest = weights_digest(G)
    for code, stored in zip(found, pixels.stored(images, pixels.file_depth)):
        save_image(stored, folder / f"{code.name}.png", text={"Code": code.name, "Network": digest})
    say(f"{len(found)} {'image' if len(found) == 1 else 'images'} in {folder}")


@dataclass(frozen=True)
class PixelFormat:
    """In what files hold images of this network: bits per channel of its data, and which stored values are black and white."""

    channels: int
    depth: int = 8
    value_range: tuple[int, int] | None = None

    @property
    def file_depth(self) -> int:
        """Bits per channel of a PNG: 16 for one channel only."""
        return 16 if self.depth == 16 and self.channels == 1 else 8

    def stored(self, images: Tensor, depth: int) -> np.ndarray:
        """float `[N, C, H, W]` in [-1, 1] → uint8 or uint16 `[N, H, W, C]` in the units of the data where `depth` is its own."""
        from frugan.data.values import restore
        from frugan.images import to_pixels

        found = to_pixels(images, depth)
        if self.value_range is None or depth != self.depth:
            return found
        return restore(found, self.value_range, alpha=self.channels in (2, 4))

    def notes(self, format: str, grid: bool) -> list[str]:
        """What the files do not hold of what the network makes."""
        if format == "npy":
            return []
        found = []
        if self.channels > 4:
            found.append(f"only the first 3 of {self.channels} channels; --format npy writes all of them")
        if self.depth == 16 and (grid or self.file_depth == 8):
            found.append("8 bits per channel, although the data has 16; --format npy writes 16")
        if self.value_range and (grid or self.file_depth != self.depth):
            found.append(f"black and white are the stored values {self.value_range[0]} and {self.value_range[1]}")
        return [f"these files hold {line}" if i == 0 else line for i, line in enumerate(found)]


def read_pixel_format(source: Path, channels: int) -> PixelFormat:
    """That of the data of a run, or of the run that a checkpoint belongs to; elsewhere 8 bits."""
    from frugan.run.directory import read_json

    source = resolve_shipped(source)
    for folder in (source, source.resolve().parent.parent):
        if facts := read_json(folder / "data.json"):
            found = facts.get("value_range")
            return PixelFormat(channels, facts.get("depth", facts.get("bits", 8)), found and (found[0], found[1]))
    return PixelFormat(channels)


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


def _write_each(
    batches: Iterator[Tensor],
    seeds: Sequence[int],
    out: Path,
    text: Mapping[str, str],
    factor: int,
    format: str,
    pixels: PixelFormat,
) -> str:
    """A file for each seed; says what was written."""
    import numpy as np

    from frugan.files import replacing
    from frugan.images import GENERATED_KEY, save_image, upscale

    texts = [{GENERATED_KEY: str(seed), **text} | ({"Scale": str(factor)} if factor > 1 else {}) for seed in seeds]
    files = _free([out / f"seed{seed:04d}.{format}" for seed in seeds], texts)
    depth = pixels.depth if format == "npy" else pixels.file_depth
    remaining = zip(files, texts)
    size = (0, 0)
    for images in batches:
        for image in upscale(pixels.stored(images, depth), factor):
            file, about = next(remaining)
            size = image.shape[:2]
            if format == "npy":
                file.parent.mkdir(parents=True, exist_ok=True)
                with replacing(file) as unfinished:
                    np.save(unfinished, image)
            else:
                save_image(image, file, text=about)
    which = files[0].name if len(files) == 1 else f"{files[0].name} to {files[-1].name}"
    kind = f"{size[0]}x{size[1]}, {pixels.channels} channels, {depth} bits per channel"
    return f"{len(files):,} {'image' if len(files) == 1 else 'images'} of {kind} in {out}: {which}"


def _write_grid(
    batches: Iterator[Tensor],
    seeds: Sequence[int],
    out: Path,
    text: Mapping[str, str],
    factor: int,
    resolution: tuple[int, int],
) -> str:
    """One file of all images with their seeds and class as captions; says what was written."""
    import numpy as np

    from frugan.images import can_write, captioned_grid, save_image, to_uint8, upscale

    h, w = resolution
    if len(seeds) * h * w * factor**2 > MOST_GRID_PIXELS:
        raise FruganError(
            f"a grid of {len(seeds):,} images of {h}x{w} at scale {factor} is beyond {MOST_GRID_PIXELS:,} pixels: give fewer "
            "--seeds, a smaller --scale, or leave out --grid"
        )
    name = text.get("Class", "")
    about = {"Seeds": _ranges(seeds), **text, "Scale": str(factor)}
    (file,) = _free([out / f"{_grid_name(about)}.png"], [about])
    sheet = np.concatenate([to_uint8(images) for images in batches])
    captions = [f"{seed} {name if can_write(name) else ''}".strip() for seed in seeds]
    save_image(captioned_grid(upscale(sheet, factor), captions=captions), file, text=about)
    enlarged = f", each enlarged {factor} times" if factor > 1 else ""
    return f"a grid of {len(seeds):,} images of {h}x{w}{enlarged}, 8 bits per channel: {file}"


def _grid_name(about: Mapping[str, str]) -> str:
    """For instance "grid-0-15-cat-psi0.7": the seeds, and what is not at its default."""
    seeds = about["Seeds"] if len(about["Seeds"]) <= 40 else about["Seeds"][:40].rsplit(",", 1)[0] + ",etc"
    parts = ["grid", seeds]
    if "Class" in about:
        parts.append(re.sub(r"[^\w.,=-]+", "_", about["Class"])[:40])
    if about["Truncation"] != "1":
        parts.append(f"psi{about['Truncation']}")
    if "Truncation cutoff" in about:
        parts.append(f"cutoff{about['Truncation cutoff']}")
    if about["Noise"] != "const":
        parts.append(f"noise-{about['Noise']}")
    if "Repeat" in about:
        parts.append(f"repeat{about['Repeat']}")
    return "-".join(parts)


def _free(files: Sequence[Path], texts: Sequence[Mapping[str, str]]) -> list[Path]:
    """The files, with a number where one of them exists and was made from anything else than its text says."""
    for number in count(1):
        tried = [file if number == 1 else file.with_stem(f"{file.stem}-{number}") for file in files]
        if all(not file.exists() or _is_made_from(file, text) for file, text in zip(tried, texts)):
            return tried
    raise AssertionError


def _is_made_from(file: Path, text: Mapping[str, str]) -> bool:
    """Whether a PNG was written by this version of frugan with just these text chunks."""
    from PIL import Image

    from frugan.images import SOFTWARE_KEY, software

    try:
        with Image.open(file, formats=("PNG",)) as image:
            return getattr(image, "text", None) == {SOFTWARE_KEY: software(), **text}
    except (OSError, ValueError, SyntaxError):
        return False


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


def _ranges(numbers: Sequence[int]) -> str:
    """[0, 1, 2, 7] → "0-2,7", as --seeds takes it."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
