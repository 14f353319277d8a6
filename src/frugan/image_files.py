"""Image files of any depth and channel count: which container holds generated images, in which numbers, and the bytes of it.

A container either holds values as the data has them, or a share s of the range as round(s · top); whatever it cannot hold of the
data is told by `Output.notes`.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, Literal, NamedTuple

import imagecodecs
import numpy as np
import tifffile
import torch
from PIL import Image
from torch import Tensor

from frugan.errors import FruganError
from frugan.files import replacing
from frugan.images import pil_image, png_chunks, software, to_pixels
from frugan.pixel_format import NumberType, PixelFormat, is_colour, is_plain, restored

Kind = Literal["png", "tiff", "npy", "npz", "webp", "jpg"]
Bits = Literal["auto", "8", "16", "32f"]

SUFFIXES: dict[str, Kind] = {".png": "png", ".tif": "tiff", ".tiff": "tiff", ".npy": "npy", ".npz": "npz"}
SUFFIXES |= {".webp": "webp", ".jpg": "jpg", ".jpeg": "jpg"}

_GDAL_METADATA = 42112
_ASSOCIATED_SOFTWARE = 0x0131  # EXIF's number for the program that wrote a file
_JPEG_QUALITY = 95


class _Container(NamedTuple):
    """The types of numbers and channels that a kind of file holds."""

    types: tuple[str, ...]
    """Of numbers; empty: all."""
    colour_only: bool
    """Grey and RGB, and no other channels than opacity besides."""
    alpha: bool = True
    lossless: bool = True


CONTAINERS: dict[Kind, _Container] = {
    "png": _Container(("uint8", "uint16"), colour_only=True),
    "tiff": _Container((), colour_only=False),
    "npy": _Container((), colour_only=False),
    "npz": _Container((), colour_only=False),
    "webp": _Container(("uint8",), colour_only=True),
    "jpg": _Container(("uint8",), colour_only=True, alpha=False, lossless=False),
}


@dataclass(frozen=True)
class Output:
    """How generated images of `channels` channels are written: `kind` of file, `dtype` of its numbers, and whether these are in
    the units of the data (`stored`) or shares of its range."""

    pixels: PixelFormat
    channels: int
    kind: Kind
    dtype: NumberType
    stored: bool

    @property
    def suffix(self) -> str:
        return {"tiff": ".tif"}.get(self.kind, f".{self.kind}")

    @property
    def names(self) -> tuple[str, ...]:
        return self.pixels.channel_names(self.channels)

    @property
    def depth(self) -> str:
        """ "16 bits per channel", or the type where it is neither uint8 nor uint16."""
        return (
            f"{8 * np.dtype(self.dtype).itemsize} bits per channel" if is_plain(self.dtype) else f"{self.dtype} numbers"
        )

    def values(self, images: Tensor) -> np.ndarray:
        """float `[N, C, H, W]`, nominally in [-1, 1] → `[N, H, W, C]` of `dtype`. What was read from the data comes back exactly
        where its numbers are whole and its range spans no more than some million of them."""
        pixels, dtype = self.pixels, np.dtype(self.dtype)
        if dtype.kind == "f" or (self.stored and pixels.depth == 32):
            shares = images.detach().to("cpu").double().add(1).div(2).clamp(0, 1).permute(0, 2, 3, 1).numpy()
        else:
            bits = pixels.depth if self.stored else min(8 * dtype.itemsize, 16)
            levels = to_pixels(images, bits)
            if is_plain(dtype) and (not self.stored or pixels.value_range is None):
                return _crisp(levels) if pixels.crisp else levels
            shares = levels / np.float64(np.iinfo(levels.dtype).max)
        if pixels.crisp:
            shares[..., -1] = np.rint(shares[..., -1])
        if not self.stored:
            return restored(shares, None, dtype, alpha=False)
        top = float(np.iinfo(pixels.dtype).max) if is_plain(pixels.dtype) else None
        return restored(shares, pixels.value_range, dtype, alpha=pixels.alpha, top=top)

    def save(
        self, images: Tensor, stems: Sequence[Path], texts: Sequence[Mapping[str, str]] | None = None
    ) -> list[Path]:
        """Writes images, a file each.

        Args:
            images: float `[N, C, H, W]` in [-1, 1].
            stems: the N paths without their ending.
            texts: the N dictionaries of texts that the files keep; None: none.

        Returns:
            The paths written.
        """
        files = [stem.with_name(stem.name + self.suffix) for stem in stems]
        for i, (values, file) in enumerate(zip(self.values(images), files)):
            save(values, file, alpha=self.pixels.alpha, names=self.names, text=texts[i] if texts else None)
        return files

    def notes(self) -> list[str]:
        """Notes on what the files do not hold of the data."""
        found, data = [], self.pixels
        if not CONTAINERS[self.kind].lossless:
            found.append(f"{self.kind.upper()} files are compressed with losses; png keeps every value")
        if not self.stored and 8 * np.dtype(self.dtype).itemsize < (data.bits if is_plain(data.dtype) else 16):
            found.append(
                f"{self.depth} instead of {_described(data)}: values are rounded (--format tiff writes them as they are)"
            )
        elif not self.stored and not is_plain(data.dtype):
            found.append(
                f"{self.depth} instead of {_described(data)}: values are scaled (--format tiff writes them as they are)"
            )
        if not self.stored and data.value_range is not None:
            top = np.iinfo(self.dtype).max
            spans = {f"{lo:.7g} to {hi:.7g}" for lo, hi in data.value_range}
            which = (
                f"the stored values {spans.pop()}" if len(spans) == 1 else "each channel's own range of stored values"
            )
            found.append(f"0 to {top} stand for {which}")
        return found


def choose_output(
    pixels: PixelFormat, channels: int, kind: Kind | Literal["auto"] = "auto", bits: Bits = "auto"
) -> Output:
    """The kind of file and type of numbers to write images in: by default the data's own type, in PNG where that holds
    it, else in TIFF.

    Args:
        pixels: how the data's files hold images.
        channels: of the images.
        kind: of file; "auto": by type and channels.
        bits: of a number; "auto": those of the data.

    Raises `FruganError` where the kind of file cannot hold so many channels or bits.
    """
    pixels.check_channels(channels)
    colour = is_colour(channels, alpha=pixels.alpha)
    if kind == "auto":
        wide = bits == "32f" or (bits == "auto" and not is_plain(pixels.dtype))
        kind = "png" if colour and not wide else "tiff"
    container = CONTAINERS[kind]
    if container.colour_only and not colour:
        names = ", ".join(pixels.channel_names(channels)[:6]) + (", …" if channels > 6 else "")
        raise FruganError(
            f"--format {kind}: it holds grey or RGB, with or without opacity, and these images have {channels} channels ({names}); "
            "use --format tiff, npy or npz"
        )
    if pixels.alpha and not container.alpha:
        raise FruganError(f"--format {kind}: JPEG files hold no transparency; use --format png or webp")
    dtype = _number_type(pixels, container, bits)
    if container.types and dtype not in container.types:
        held = " or ".join(f"{8 * np.dtype(t).itemsize}" for t in container.types)
        raise FruganError(
            f"--format {kind} --bits {bits}: it holds {held} bits per channel; use --format tiff, npy or npz"
        )
    return Output(pixels, channels, kind, dtype, dtype == pixels.dtype or np.dtype(dtype).kind == "f")


@dataclass(frozen=True)
class Sheet:
    """How many images of `channels` channels are shown in one file: `output` writes it, with fewer channels where it must."""

    output: Output
    channels: int

    def values(self, images: Tensor) -> np.ndarray:
        """float `[N, C, H, W]`, nominally in [-1, 1] → `[N, H, W, C']` as the file holds them."""
        return self.output.values(images[:, : self.output.channels])

    @property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Black and white, opaque, `[C']` each as the file holds them."""
        ends = torch.ones(2, self.output.channels, 1, 1)
        ends[0, : self.output.channels - self.output.pixels.alpha] = -1
        black, white = self.output.values(ends)[:, 0, 0]
        return black, white

    @property
    def reduction(self) -> str | None:
        """A sentence where channels are left out."""
        if self.output.channels == self.channels:
            return None
        shown = ", ".join(name.removeprefix("channel ") for name in self.output.names)
        plural = "s" if self.output.channels > 1 else ""
        return f"sheets to look at show channel{plural} {shown} of {self.channels} (TIFF files hold all)"

    def notes(self) -> list[str]:
        """Notes on what the file does not hold of the data."""
        return [*([self.reduction] if self.reduction else []), *self.output.notes()]


def choose_sheet(
    pixels: PixelFormat, channels: int, kind: Kind | Literal["auto"] = "auto", bits: Bits = "auto"
) -> Sheet:
    """The way to show many images in one file: PNG where the channels are colours, else TIFF with all of them.

    PNG and WebP are to be looked at: they hold shares of the range of values, and of more channels than colours the
    first three (or one). TIFF holds the data's own numbers.

    Args:
        pixels: how the data's files hold images.
        channels: of the images.
        kind: of file; "auto": by the channels.
        bits: of a number; "auto": those of the kind of file.

    Raises `FruganError` where the kind of file cannot hold so many bits.
    """
    colour = is_colour(channels, alpha=pixels.alpha)
    if kind == "auto":
        kind = "png" if colour else "tiff"
    if not CONTAINERS[kind].colour_only:
        return Sheet(choose_output(pixels, channels, kind, bits), channels)
    if not colour:
        shown = 3 if channels - pixels.alpha >= 3 else 1
        ranges = pixels.value_range if pixels.value_range is None else pixels.value_range[:shown]
        names = pixels.channel_names(channels)[:shown]
        found = choose_output(PixelFormat(pixels.dtype, ranges, names=names), shown, kind, bits)
    else:
        found = choose_output(pixels, channels, kind, bits)
    return Sheet(replace(found, stored=found.stored and pixels.value_range is None), channels)


def _number_type(pixels: PixelFormat, container: _Container, bits: Bits) -> NumberType:
    if bits == "8":
        return "uint8"
    if bits == "32f":
        return "float32"
    if bits == "16":
        fits = not pixels.is_float and pixels.bits == 16 and (not container.types or pixels.dtype in container.types)
        return pixels.dtype if fits else "uint16"
    if not container.types or pixels.dtype in container.types:
        return "float32" if pixels.is_float else pixels.dtype
    return "uint16" if "uint16" in container.types else "uint8"


def _described(pixels: PixelFormat) -> str:
    return f"the data's {pixels.bits}" if is_plain(pixels.dtype) else f"the data's {pixels.dtype} numbers"


def _crisp(levels: np.ndarray) -> np.ndarray:
    """The pixels with opacity that is 0 or full."""
    top = np.iinfo(levels.dtype).max
    levels[..., -1] = np.where(levels[..., -1] > top // 2, top, 0)
    return levels


def encode(
    values: np.ndarray, kind: Kind, *, alpha: bool, names: Sequence[str] = (), text: Mapping[str, str] | None = None
) -> bytes:
    """One image as the bytes of a file.

    Args:
        values: `[H, W, C]`, of a type that this kind of file holds.
        kind: of file.
        alpha: whether the last channel is opacity.
        names: of the channels, kept in TIFF.
        text: kept in PNG, TIFF and WebP, by key.
    """
    text = text or {}
    if kind == "png":
        return png16(values, text) if values.dtype == np.uint16 else _pillow(values, "PNG", pnginfo=png_chunks(text))
    if kind == "tiff":
        return _tiff(values, alpha, names, text)
    if kind == "npy":
        file = io.BytesIO()
        np.save(file, values)
        return file.getvalue()
    if kind == "webp":
        exif = Image.Exif()
        exif[_ASSOCIATED_SOFTWARE] = software()
        return _pillow(values, "WEBP", lossless=True, exact=True, exif=exif)
    return _pillow(values, "JPEG", quality=_JPEG_QUALITY, subsampling=0, comment=software())


def _pillow(values: np.ndarray, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    pil_image(values).save(file, format, **options)
    return file.getvalue()


def png16(pixels: np.ndarray, text: Mapping[str, str] | None = None) -> bytes:
    """uint16 `[H, W, C]` of 1 to 4 channels (grey, grey + alpha, RGB, RGBA) as a PNG file, with text chunks, if any."""
    content = imagecodecs.png_encode(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))
    if text is None:
        return bytes(content)
    chunks = b"".join(_chunk(kind, data) for kind, data, *_ in png_chunks(text).chunks)
    end = 8 + 25  # the signature, and the header with its length, name and checksum
    return bytes(content[:end] + chunks + content[end:])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _tiff(values: np.ndarray, alpha: bool, names: Sequence[str], text: Mapping[str, str]) -> bytes:
    """Deflate; channels interleaved. Names stand in GDAL's metadata, as programs for maps read them, and with the text as JSON in
    the description, as tifffile reads it."""
    channels = values.shape[-1]
    colours = channels - alpha
    rgb = colours == 3 and is_plain(values.dtype)
    extra = ["unspecified"] * (colours - (3 if rgb else 1)) + (["unassalpha"] if alpha else [])
    items = "".join(
        f'<Item name="DESCRIPTION" sample="{i}" role="description">{escape(name, quote=False)}</Item>'
        for i, name in enumerate(names)
    )
    gdal = f"<GDALMetadata>{items}</GDALMetadata>".encode("ascii", "xmlcharrefreplace").decode("ascii")
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        values if channels > 1 else values[..., 0],
        photometric="rgb" if rgb else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=extra or None,
        compression="zlib",
        software=software(),
        metadata={"channel_names": list(names), **text},
        extratags=[(_GDAL_METADATA, 2, 0, gdal, True)] if names else [],
    )
    return file.getvalue()


def save(
    values: np.ndarray,
    path: Path,
    *,
    alpha: bool,
    names: Sequence[str] = (),
    text: Mapping[str, str] | None = None,
) -> Path:
    """Writes one image, whole or not at all; parent folders are made.

    Args:
        values: `[H, W, C]`.
        path: whose ending decides on the kind of file.
        alpha, names, text: as in `encode`.
    """
    content = encode(values, SUFFIXES[path.suffix.lower()], alpha=alpha, names=names, text=text)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)
    return path


def save_npz(
    batches: Iterable[np.ndarray], shape: tuple[int, ...], dtype: str, path: Path, **arrays: np.ndarray
) -> Path:
    """Writes images, batch by batch, as the array "images" of a .npz.

    Args:
        batches: `[n, H, W, C]` each.
        shape: (N, H, W, C) of all.
        dtype: of all.
        path: of the file.
        arrays: further arrays of the file, by name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as file:
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)  # pyright: ignore[reportArgumentType]
            for batch in batches:
                file.write(np.ascontiguousarray(batch).tobytes())
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)  # pyright: ignore[reportArgumentType]
    return path
