"""Names of channels in TIFF files: GDAL's metadata, OME-XML, ImageJ's labels.

Texts of files are not trusted: names are short and printable, or none are read at all.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

import tifffile

from frugan.pixel_format import channel_names

GDAL_METADATA = 42112
LONGEST = 100
"""Characters of a name."""

_MOST_TEXT = 1 << 20
_ITEM = re.compile(r"<Item\b([^<>]*)>([^<]*)</Item>")
_ATTRIBUTE = re.compile(r"(\w+)\s*=\s*[\"']([^\"'<>]*)[\"']")
_CHANNEL = re.compile(r"<(?:\w+:)?Channel\b([^<>]*)>")
_PIXELS_END = re.compile(r"</(?:\w+:)?Pixels>")


def names_of_samples(page: tifffile.TiffPage, channels: int, *, alpha: bool) -> tuple[str, ...]:
    """The names that GDAL gives to the samples of a page; empty where one has none, or all have those that every image has.

    Args:
        page: of a TIFF file.
        channels: of the page, all told.
        alpha: whether the last of them is opacity.
    """
    found = _of_gdal(page.tags.valueof(GDAL_METADATA), channels)
    return () if found == channel_names(channels, alpha=alpha) else found


def names_of_pages(tiff: tifffile.TiffFile, channels: int) -> tuple[str, ...]:
    """The names that OME or ImageJ gives to the channels of an image; empty where they are of another number."""
    if tiff.is_ome:
        return _of_ome(tiff.ome_metadata or "", channels)
    if tiff.is_imagej:
        labels = (tiff.imagej_metadata or {}).get("Labels")
        labels = [labels] if isinstance(labels, str) else labels
        return _checked(labels[:channels], channels) if isinstance(labels, list) else ()
    return ()


def _of_gdal(text: object, channels: int) -> tuple[str, ...]:
    """From `<Item name="DESCRIPTION" sample="0" role="description">name</Item>`."""
    if not isinstance(text, str) or len(text) > _MOST_TEXT:
        return ()
    found: dict[str, str] = {}
    for attributes, name in _ITEM.findall(text):
        told = dict(_ATTRIBUTE.findall(attributes))
        if told.get("role") == "description" and "sample" in told:
            found.setdefault(told["sample"], html.unescape(name))
    return _checked([found.get(str(i), "") for i in range(channels)], channels)


def _of_ome(text: str, channels: int) -> tuple[str, ...]:
    """From the channels of the first image in OME-XML."""
    text = _PIXELS_END.split(text[:_MOST_TEXT], maxsplit=1)[0]
    told = [dict(_ATTRIBUTE.findall(attributes)) for attributes in _CHANNEL.findall(text)]
    return _checked([html.unescape(channel.get("Name", "")) for channel in told], channels)


def _checked(names: Sequence[object], channels: int) -> tuple[str, ...]:
    """The names, where there is one for each channel."""
    found = [name.strip() if isinstance(name, str) else "" for name in names]
    sound = len(found) == channels and all(name.isprintable() and 0 < len(name) <= LONGEST for name in found)
    return tuple(found) if sound else ()
