"""DICOM: pydicom reads the elements that pixels need, and no others; names of patients and institutions are never looked at.

Stored values become the modality's own (rescale slope and intercept, for instance Hounsfield units; the scaling of a dose grid),
whole numbers as int32 and others as float32; unsigned ones without a rescale are a sample's declared range, as in other formats, or
of more than 16 bits numbers as they are. The window of a file is not applied, since files differ in it: --value-range does that for
a whole set. Compressed frames are decoded by imagecodecs, RLE by pydicom.
"""

from __future__ import annotations

import io
import logging
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import imagecodecs
import numpy as np

from frugan.data.decode.header import Space, Stored, check_frames, check_size
from frugan.data.decode.samples import full_range, mapped
from frugan.data.decode.segments import check_jpeg_2000
from frugan.pixel_format import NumberType

if TYPE_CHECKING:
    from pydicom import Dataset

SIGNATURE = b"DICM"
"""Behind a preamble of 128 bytes."""

_ELEMENTS = [
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *(
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "RescaleSlope",
        "RescaleIntercept",
        "DoseGridScaling",
        "ModalityLUTSequence",
    ),
    *(
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
        "ExtendedOffsetTable",
        "ExtendedOffsetTableLengths",
    ),
    "PixelData",
]
_META = slice(132, 132 + (1 << 16))
_LONG = (b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN")  # of explicit elements, whose length has four bytes
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_RLE = "1.2.840.10008.1.2.5"
_JPEG = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70))
_JPEG_LS = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (80, 81))
_JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91))
_SPACES: dict[str, Space] = {"MONOCHROME1": "L", "MONOCHROME2": "L"}
_SPACES |= dict.fromkeys(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"), "RGB")
_FRAME_MARKERS = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7)
_EXACT = 1 << 24  # whole numbers below it are the same in float32, which other files of the set may need
_ONE_AT_A_TIME = threading.Lock()  # warnings are caught for the whole process


@dataclass(frozen=True)
class _Facts:
    """A file's description of its pixels, without any of the person shown."""

    syntax: str
    photometric: str
    height: int
    width: int
    samples: int
    allocated: int
    bits: int
    signed: bool
    frames: int


class Dicom:
    """The frames of a DICOM file."""

    lost = ""

    def __init__(self, file: BinaryIO) -> None:
        """Raises `ValueError` with the reason for a kind that is not read. No reason quotes what the file holds as text."""
        content = mapped(file)
        syntax = _transfer_syntax(bytes(content[_META]))
        with _pydicom() as pydicom:
            self._dataset = pydicom.dcmread(
                io.BytesIO(content) if isinstance(content, bytes) else content, specific_tags=_ELEMENTS
            )
            self._dataset.file_meta.TransferSyntaxUID = syntax
            self._facts = _facts(self._dataset, syntax)
            _check(self._facts, self._dataset)
            self._encoded: list[bytes] = _encoded(pydicom, self._dataset, self._facts)
        self.count = self._facts.frames

    def stored(self, number: int) -> Stored:
        facts = self._facts
        with _pydicom():
            slope, intercept = _rescale(self._dataset, number)
        return Stored(
            facts.height,
            facts.width,
            _SPACES[facts.photometric],
            facts.bits,
            "DICOM",
            facts.photometric,
            partial(self._read, number, slope, intercept),
            number_type=_number_type(facts, slope, intercept),
        )

    def _read(self, number: int, slope: float, intercept: float) -> np.ndarray:
        facts = self._facts
        samples = _in_range(self._samples(number), facts)
        if facts.photometric == "MONOCHROME1":  # whose lowest value is white
            top = (1 << facts.bits) - 1
            samples = (-1 if facts.signed else top) - samples if facts.signed else (top - samples).astype(samples.dtype)
        if not (kind := _number_type(facts, slope, intercept)):
            return full_range(samples, facts.bits)
        return (samples.astype(np.float64) * slope + intercept).astype(kind)

    def _samples(self, number: int) -> np.ndarray:
        """`[H, W, C]` as stored."""
        facts = self._facts
        shape = (facts.height, facts.width, facts.samples)
        if self._encoded:
            found = _decoded(self._encoded[number], facts)
        else:
            with _pydicom() as pydicom:
                found = pydicom.pixels.get_decoder(facts.syntax).as_array(self._dataset, index=number, raw=True)[0]
                if facts.photometric.startswith("YBR"):
                    found = pydicom.pixels.convert_color_space(found, "YBR_FULL", "RGB")
        if found.size != facts.height * facts.width * facts.samples:
            raise ValueError(f"a frame of shape {found.shape} where the header says {shape}")
        return found.reshape(shape).astype(found.dtype.newbyteorder("="), copy=False)


def _number_type(facts: _Facts, slope: float, intercept: float) -> NumberType | Literal[""]:
    """The type of rescaled numbers: int32 for whole ones, so that files of a set agree whatever their bits and intercepts are.
    Empty for unsigned samples of up to 16 bits without a rescale."""
    large = facts.bits > 16
    if (slope, intercept) == (1, 0) and (large or not facts.signed):
        return ("int32" if facts.signed else "uint32") if large else ""
    whole = slope.is_integer() and intercept.is_integer() and (abs(slope) * 65536 + abs(intercept)) < _EXACT
    return "int32" if whole and not large else "float32"


def open_dicom(file: BinaryIO) -> Stored:
    """The facts of the first frame."""
    frames = Dicom(file)
    return replace(frames.stored(0), frames=frames.count)


@contextmanager
def _pydicom() -> Iterator[Any]:
    """pydicom, silent: its warnings and errors quote values, some of which are names."""
    try:
        import pydicom
        import pydicom.pixels
    except ImportError:
        raise ValueError("DICOM needs a reader: pip install 'frugan[dicom]'") from None
    logging.getLogger("pydicom").propagate = False
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield pydicom
        except _Refused as error:
            raise ValueError(str(error)) from None
        except Exception as error:
            raise ValueError("a DICOM file that is damaged or cut short") from error


class _Refused(Exception):
    """A reason in words of our own."""


def _transfer_syntax(meta: bytes) -> str:
    """The encoding of the data set; it is read first, since pydicom would unpack a deflated one to any size."""
    at = 0
    while meta[at : at + 2] == b"\2\0":
        element, kind = meta[at + 2 : at + 4], meta[at + 4 : at + 6]
        head, form = (12, "<L") if kind in _LONG else (8, "<H")
        (length,) = struct.unpack_from(form, meta.ljust(at + 12, b"\0"), at + head - struct.calcsize(form))
        if element == b"\x10\0":
            syntax = meta[at + head : at + head + length].decode("latin-1").strip("\0 ")
            break
        at += head + length
    else:
        syntax = ""
    if syntax not in (*_NATIVE, _RLE, *_JPEG, *_JPEG_LS, *_JPEG_2000):
        known = syntax if syntax.replace(".", "").isdecimal() and len(syntax) < 65 else "that is not named"
        raise ValueError(
            f"a DICOM file of the transfer syntax {known}; convert it to Explicit VR Little Endian, for instance with dcmconv"
        )
    return syntax


def _facts(dataset: Dataset, syntax: str) -> _Facts:
    if "PixelData" not in dataset:
        raise _Refused("a DICOM file without pixels (a report, a plan, or values in floating point)")
    photometric = str(dataset.PhotometricInterpretation)
    if photometric not in _SPACES:
        named = "palette" if photometric == "PALETTE COLOR" else "such"
        raise _Refused(f"a DICOM file of {named} colours; convert it to MONOCHROME2 or RGB")
    if "ModalityLUTSequence" in dataset:
        raise _Refused(
            "a DICOM file whose values are looked up in a table (Modality LUT); convert it to a slope and intercept"
        )
    return _Facts(
        syntax,
        photometric,
        *(int(dataset[name].value) for name in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored")),
        signed=int(dataset.PixelRepresentation) == 1,
        frames=int(dataset.get("NumberOfFrames") or 1),
    )


def _check(facts: _Facts, dataset: Dataset) -> None:
    try:
        check_frames(facts.frames, facts.width, facts.height)
        check_size(facts.width, facts.height, facts.samples * -(-facts.allocated // 8))
    except Exception as error:
        raise _Refused(str(error)) from None
    if facts.samples != (1 if _SPACES[facts.photometric] == "L" else 3):
        raise _Refused(f"a DICOM file of {facts.samples} samples and {facts.photometric} colours")
    if facts.allocated not in (1, 8, 16, 32) or not 1 <= facts.bits <= facts.allocated:
        raise _Refused(f"a DICOM file of {facts.bits} bits in {facts.allocated}; convert it to 8, 16 or 32")
    if facts.allocated == 32 and (facts.samples > 1 or facts.syntax not in (*_NATIVE, _RLE)):
        raise _Refused(
            "a DICOM file of 32 bits that is compressed or of colours; convert it to Explicit VR Little Endian, grey"
        )
    if int(dataset.get("HighBit", facts.bits - 1)) != facts.bits - 1 or (facts.samples == 3 and facts.signed):
        raise _Refused(f"a DICOM file of {facts.bits} bits that do not lie where they usually do; convert it")
    if facts.syntax in _NATIVE:
        pixels = 2 if facts.photometric == "YBR_FULL_422" else facts.samples
        wanted = -(-facts.frames * facts.height * facts.width * pixels * facts.allocated // 8)
        if len(dataset.PixelData) < wanted:
            raise _Refused(f"a DICOM file cut short: {len(dataset.PixelData):,} of {wanted:,} bytes of pixels")


def _encoded(pydicom: Any, dataset: Dataset, facts: _Facts) -> list[bytes]:
    """The compressed frames that are decoded here; none where pydicom does."""
    from pydicom.encaps import generate_frames

    if facts.syntax in (*_NATIVE, _RLE):
        return []
    table = None
    if "ExtendedOffsetTable" in dataset:
        table = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    found = list(generate_frames(dataset.PixelData, number_of_frames=facts.frames, extended_offsets=table))
    if len(found) < facts.frames:
        raise _Refused(f"a DICOM file cut short: {len(found):,} of {facts.frames:,} frames")
    return found


def _decoded(frame: bytes, facts: _Facts) -> np.ndarray:
    _check_codestream(frame, facts)
    if facts.syntax in _JPEG:
        if facts.samples == 1:
            return imagecodecs.jpeg_decode(frame)
        return imagecodecs.jpeg_decode(
            frame, colorspace="RGB" if facts.photometric == "RGB" else "YCBCR", outcolorspace="RGB"
        )
    return (imagecodecs.jpegls_decode if facts.syntax in _JPEG_LS else imagecodecs.jpeg2k_decode)(frame)


def _check_codestream(frame: bytes, facts: _Facts) -> None:
    """Raises where a frame says another size than the file: its decoder would take memory for that."""
    if facts.syntax in _JPEG_2000:
        check_jpeg_2000(frame, facts.height, facts.width)
        return
    size = next(iter(_jpeg_sizes(frame)), (0, 0))
    if size != (facts.height, facts.width):
        raise ValueError(f"a frame of {size[0]}x{size[1]} pixels where the header says {facts.height}x{facts.width}")


def _jpeg_sizes(frame: bytes) -> Iterator[tuple[int, int]]:
    """(height, width) of each frame header of a JPEG or JPEG-LS stream."""
    at = 2
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4], "big")
        if marker in _FRAME_MARKERS:
            yield int.from_bytes(frame[at + 5 : at + 7], "big"), int.from_bytes(frame[at + 7 : at + 9], "big")
        at += 2 + length


def _in_range(samples: np.ndarray, facts: _Facts) -> np.ndarray:
    """Samples without the contents of unused bits, such as overlays; negative numbers as such."""
    bits = 8 * samples.dtype.itemsize
    if not facts.signed:
        return samples.view(f"u{bits // 8}") & ((1 << facts.bits) - 1)
    unused = bits - facts.bits
    return (samples.view(f"i{bits // 8}") << unused) >> unused


def _rescale(dataset: Dataset, number: int) -> tuple[float, float]:
    """Slope and intercept of a frame, from the file or the groups that enhanced files keep them in."""
    frames, shared = (dataset.get(f"{name}FunctionalGroupsSequence") or [] for name in ("PerFrame", "Shared"))
    places = [*frames[number : number + 1], *shared[:1]]
    found = [
        group.PixelValueTransformationSequence[0] for group in places if "PixelValueTransformationSequence" in group
    ]
    place = (found or [dataset])[0]
    scaling = dataset.get("DoseGridScaling", 1)  # of a radiotherapy dose, in place of a slope
    slope, intercept = float(place.get("RescaleSlope", scaling)), float(place.get("RescaleIntercept", 0))
    if not (np.isfinite(slope) and np.isfinite(intercept) and slope):
        raise _Refused("a DICOM file whose rescale slope or intercept is no number, or 0")
    return slope, intercept
