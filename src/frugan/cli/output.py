"""Generated images as files: one each, one .npz of all, or a sprite sheet with a JSON of its frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frugan.errors import FruganError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from frugan.channels import MaskChannel
    from frugan.image_files import Output
    from frugan.palette import Palette

MOST_SHEET_PIXELS = 400_000_000
PADDING = 2
"""Empty pixels around each frame of a sprite sheet, so that filtering does not mix neighbours."""


def write_each(
    batches: Iterator[Tensor],
    seeds: Sequence[int],
    out: Path,
    text: Mapping[str, str],
    factor: int,
    output: Output,
    palette: Palette | None = None,
    masks: Sequence[MaskChannel] = (),
) -> str:
    """A file for each seed, and with masks, channels behind those of `output`, one of the same name for each of them; says what was
    written."""
    from frugan.image_files import save
    from frugan.images import GENERATED_KEY, upscale

    texts = [{GENERATED_KEY: str(seed), **text} | ({"Scale": str(factor)} if factor > 1 else {}) for seed in seeds]
    folder = out / "images" if masks else out
    files = free([folder / f"seed{seed:04d}{output.suffix}" for seed in seeds], texts)
    if masks:
        batches = _write_masks(batches, files, texts, factor, output, masks)
    remaining = zip(files, texts)
    size = (0, 0)
    for values in painted((output.values(images) for images in batches), palette, output):
        for image in upscale(values, factor):
            file, about = next(remaining)
            size = image.shape[:2]
            if palette is not None and palette.fits(image):
                palette.save(image, file, about)
            else:
                save(image, file, alpha=output.pixels.alpha, names=output.names, text=about)
    which = files[0].name if len(files) == 1 else f"{files[0].name} to {files[-1].name}"
    colours = f", {len(palette.colours)} colours" if palette is not None and palette.chosen else ""
    kind = f"{size[0]}x{size[1]}, {output.channels} {_plural('channel', output.channels)}, {output.depth}{colours}"
    beside = f", their masks in {', '.join(_mask_folders(len(masks)))}" if masks else ""
    return f"{len(files):,} {_plural('image', len(files))} of {kind} in {folder}: {which}{beside}"


def _write_masks(
    batches: Iterator[Tensor],
    files: Sequence[Path],
    texts: Sequence[Mapping[str, str]],
    factor: int,
    output: Output,
    masks: Sequence[MaskChannel],
) -> Iterator[Tensor]:
    """The batches without their masks, which are written beside the images: as PNG where those are no arrays and no TIFF."""
    from frugan.image_files import save
    from frugan.images import mask_pixels, upscale
    from frugan.pixel_format import channel_names

    suffix = output.suffix if output.suffix in (".npy", ".tif") else ".png"
    done = 0
    for images in batches:
        for i, (folder, mask) in enumerate(zip(_mask_folders(len(masks)), masks)):
            planes = upscale(mask_pixels(images[:, output.channels + i], mask), factor)
            for plane, file, about in zip(planes, files[done:], texts[done:]):
                place = file.parent.parent / folder / file.with_suffix(suffix).name
                save(plane, place, alpha=False, names=channel_names(plane.shape[-1], alpha=False), text=about)
        done += len(images)
        yield images[:, : output.channels]


def _mask_folders(count: int) -> list[str]:
    """ "masks", and where there are more "masks-2", …"""
    return [f"masks-{i + 1}" if i else "masks" for i in range(count)]


def write_npz(
    batches: Iterator[Tensor],
    seeds: Sequence[int],
    out: Path,
    text: Mapping[str, str],
    output: Output,
    size: tuple[int, int],
) -> str:
    """Writes all images `[N, H, W, C]` as "images" of one .npz, with seeds, channel names and the text; returns a sentence."""
    import numpy as np

    from frugan.image_files import save_npz

    (file,) = free([out / f"images-{seed_ranges(seeds, 40)}.npz"], [text])
    arrays = {
        "seeds": np.array(seeds, np.uint32),
        "channel_names": np.array(output.names),
        "about": np.array([f"{key}: {value}" for key, value in text.items()]),
    }
    shape = (len(seeds), *size, output.channels)
    save_npz((output.values(images) for images in batches), shape, output.dtype, file, **arrays)
    kind = f"{size[0]}x{size[1]}, {output.channels} {_plural('channel', output.channels)}, {output.depth}"
    return f"{len(seeds):,} {_plural('image', len(seeds))} of {kind} in {file}"


def write_atlas(
    batches: Iterator[Tensor],
    seeds: Sequence[int],
    out: Path,
    text: Mapping[str, str],
    factor: int,
    output: Output,
    size: tuple[int, int],
    palette: Palette | None = None,
) -> str:
    """One sheet of all images, each `PADDING` pixels from the next, and a JSON of its frames as TexturePacker's hash has them;
    says what was written."""
    import numpy as np

    from frugan.files import write_json
    from frugan.image_files import save
    from frugan.images import software, upscale

    h, w = size[0] * factor, size[1] * factor
    columns = max(1, math.ceil(math.sqrt(len(seeds) * h / w)))
    rows = -(-len(seeds) // columns)
    height, width = (cells * (side + PADDING) + PADDING for cells, side in ((rows, h), (columns, w)))
    if height * width > MOST_SHEET_PIXELS:
        raise FruganError(
            f"a sheet of {len(seeds):,} images of {h}x{w} is beyond {MOST_SHEET_PIXELS:,} pixels: give fewer --seeds "
            "or a smaller --scale"
        )
    about = {"Seeds": seed_ranges(seeds), **text, "Scale": str(factor)}
    name = f"atlas-{seed_ranges(seeds, 40)}"
    sheet_file, frames_file = free([out / f"{name}{output.suffix}", out / f"{name}.json"], [about, about])
    sheet = np.zeros((height, width, output.channels), output.dtype)
    places = [
        (PADDING + i // columns * (h + PADDING), PADDING + i % columns * (w + PADDING)) for i in range(len(seeds))
    ]
    remaining = iter(places)
    for values in painted((output.values(images) for images in batches), palette, output):
        for image in upscale(values, factor):
            y, x = next(remaining)
            sheet[y : y + h, x : x + w] = image
    if palette is not None and palette.fits(sheet):
        palette.save(sheet, sheet_file, about)
    else:
        save(sheet, sheet_file, alpha=output.pixels.alpha, names=output.names, text=about)
    frames = {f"seed{seed:04d}": _frame(y, x, h, w) for seed, (y, x) in zip(seeds, places)}
    facts = {"app": "frugan", "version": software(), "image": sheet_file.name, "format": _FORMATS[output.channels]}
    facts |= {"size": {"w": width, "h": height}, "scale": "1", "about": about}
    write_json(frames_file, {"frames": frames, "meta": facts})
    which = f"{len(seeds):,} {_plural('frame', len(seeds))} of {h}x{w}, {output.depth}"
    return f"a sheet of {which}: {sheet_file}, frames in {frames_file.name}"


_FORMATS = {1: "L8", 2: "LA88", 3: "RGB888", 4: "RGBA8888"}


def _frame(y: int, x: int, h: int, w: int) -> dict[str, Any]:
    return {
        "frame": {"x": x, "y": y, "w": w, "h": h},
        "rotated": False,
        "trimmed": False,
        "spriteSourceSize": {"x": 0, "y": 0, "w": w, "h": h},
        "sourceSize": {"w": w, "h": h},
    }


def painted(batches: Iterator[np.ndarray], palette: Palette | None, output: Output) -> Iterator[np.ndarray]:
    """The values, in colours of the palette only; one that is still to be chosen is that of all images."""
    import numpy as np

    if palette is None:
        yield from batches
        return
    if not palette.chosen:
        every = list(batches)
        palette.choose(np.concatenate(every), alpha=output.pixels.alpha)
        batches = iter(every)
    for values in batches:
        yield palette.paint(values, alpha=output.pixels.alpha)


def free(files: Sequence[Path], texts: Sequence[Mapping[str, str]]) -> list[Path]:
    """The files, with a number where one of them exists and was made from anything else than its text says."""
    for number in count(1):
        tried = [file if number == 1 else file.with_stem(f"{file.stem}-{number}") for file in files]
        if all(not file.exists() or is_made_from(file, text) for file, text in zip(tried, texts)):
            return tried
    raise AssertionError


def is_made_from(file: Path, text: Mapping[str, str]) -> bool:
    """Whether a file was written by this version of frugan with just this text; of kinds that hold none, False."""
    read: dict[str, Callable[[Path], Mapping[str, Any]]] = {
        ".png": _png_text,
        ".tif": _tiff_text,
        ".npz": _npz_text,
        ".json": _json_text,
    }
    try:
        return file.suffix in read and {key: str(value) for key, value in read[file.suffix](file).items()} == dict(text)
    except Exception:  # a file of anything
        return False


def _own(text: Mapping[str, Any]) -> dict[str, Any]:
    """The text of a file that this version wrote, without the mark. Raises `ValueError`."""
    from frugan.images import SOFTWARE_KEY, software

    if text.get(SOFTWARE_KEY) != software():
        raise ValueError("not of this version")
    return {key: value for key, value in text.items() if key != SOFTWARE_KEY}


def _png_text(file: Path) -> Mapping[str, Any]:
    from PIL import Image

    with Image.open(file, formats=("PNG",)) as image:
        return _own(getattr(image, "text", {}))


def _tiff_text(file: Path) -> Mapping[str, Any]:
    import tifffile

    from frugan.images import SOFTWARE_KEY

    with tifffile.TiffFile(file) as opened:
        described = (opened.shaped_metadata or ({},))[0]
        own = _own({SOFTWARE_KEY: opened.pages.first.tags.valueof("Software"), **described})
    return {key: value for key, value in own.items() if key not in ("shape", "channel_names", "truncated")}


def _npz_text(file: Path) -> Mapping[str, Any]:
    import numpy as np

    with np.load(file, allow_pickle=False) as opened:
        return dict(line.split(": ", 1) for line in opened["about"].tolist())


def _json_text(file: Path) -> Mapping[str, Any]:
    from frugan.files import read_json
    from frugan.images import software

    meta = read_json(file)["meta"]
    return meta["about"] if meta["version"] == software() else {}


def seed_ranges(numbers: Sequence[int], longest: int = 1 << 30) -> str:
    """[0, 1, 2, 7] → "0-2,7", as --seeds takes it; cut to about the length."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    text = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
    return text if len(text) <= longest else text[:longest].rsplit(",", 1)[0] + ",etc"


def _plural(word: str, number: int) -> str:
    return word if number == 1 else f"{word}s"
