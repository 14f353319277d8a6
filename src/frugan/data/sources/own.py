"""Recognition of files that frugan wrote: sample grids, contact sheets, generated images, run directories.

Images say it in a PNG text chunk (`frugan.images.SOFTWARE_KEY`), in a JPEG comment or in TIFF's tags near their beginning, WebP
files in their EXIF data at the end, a run directory by its config.yaml. The output of `frugan data prepare`, `corrupt` and
`sample` is data and carries no such mark; only a copy that was prepared into a folder of its own source says so in its
dataset.json, so that the source is not read twice.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import tifffile

from frugan.errors import shown
from frugan.images import GENERATED_KEY, SOFTWARE_KEY, is_own_output

HEAD = 4096
"""Bytes from the beginning of a file that `own_kind` looks at; the mark is written right behind the header."""

RUN_CONFIG = "config.yaml"
INDEX = "dataset.json"
PREPARED_FROM = "prepared_from"
"""First key of the dataset.json of a copy that lies within its source: the way there, such as "../.."."""

_MARKER_BYTES = 1 << 16

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_RIFF = b"RIFF"
_TIFF = (b"II*\0", b"II+\0")
_WEBP = ".webp"
_MARKED = (".png", ".jpg", ".jpeg", ".tif", ".tiff", _WEBP)
_WEBP_BYTES = 64 << 20
_TEXT_CHUNKS = (b"tEXt", b"iTXt")
_COMMENT = 0xFE
_START_OF_SCAN = 0xDA
_KEYS_OF_A_RUN = (b"kimg", b"data", b"generator", b"discriminator", b"training")

Kind = Literal["generated", "other"]


@dataclass(frozen=True)
class OwnFiles:
    """Images among the data that frugan itself wrote.

    `generated`: those made one by one from a seed. `others`: sample grids, contact sheets, plots. `folders`: run directories and
    prepared copies, with the images in each of them.
    """

    generated: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    folders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """All of them."""
        return [*self.generated, *self.others, *(name for inside in self.folders.values() for name in inside)]

    @property
    def count(self) -> int:
        return len(self.names)

    def shown(self) -> str:
        """The files by name, the first few of them."""
        single = [*self.others, *self.generated]
        first = [f"{len(inside)} in {shown(folder)}" for folder, inside in self.folders.items()][:3]
        first += map(shown, single[: 4 - len(first)])
        return ", ".join(first) + (" …" if len(first) < len(self.folders) + len(single) else "")

    def sentence(self) -> str:
        """A sentence on what is skipped; "" where nothing is."""
        if not self.count:
            return ""
        files = "1 image that frugan wrote is" if self.count == 1 else f"{self.count} images that frugan wrote are"
        remedy = "; --use-generated trains on generated ones" if self.generated else ""
        return f"{files} skipped: {self.shown()}{remedy}"


def own_kind(head: bytes) -> Kind | None:
    """Whether the beginning of a PNG, JPEG or TIFF file, `HEAD` bytes or fewer, or a whole WebP file says that frugan wrote it,
    and as what."""
    readers = {_PNG: _png_texts, _JPEG: _jpeg_texts, **dict.fromkeys(_TIFF, _tiff_texts), _RIFF: _webp_texts}
    texts = next((read(head) for start, read in readers.items() if head.startswith(start)), {})
    if not is_own_output(texts):
        return None
    return "generated" if GENERATED_KEY in texts else "other"


def is_run_config(content: bytes) -> bool:
    """Whether the text of a config.yaml is a run's."""
    return all(re.search(rb"^%b:" % key, content, re.MULTILINE) for key in _KEYS_OF_A_RUN)


def is_copy_within(index: bytes, folder: str) -> bool:
    """Whether a dataset.json, by its beginning, says that its `folder` was prepared from one that `folder` lies in."""
    found = re.match(rb'\{"%b": "((?:\.\./?)+)"' % PREPARED_FROM.encode(), index)
    return bool(found and folder and found[1].count(b"..") <= folder.strip("/").count("/") + 1)


def own_files(
    names: Iterable[str], markers: Iterable[str], read: Callable[[str, int], bytes], *, use_generated: bool = False
) -> OwnFiles:
    """The images among `names` that frugan wrote; with `use_generated` without those that it generated one by one.

    Args:
        names: images, relative to the top of the data, "/"-separated.
        markers: the files there that are named config.yaml or dataset.json.
        read: `read(name, size)` gives the first bytes of a file, at most `size`; may raise anything.
        use_generated: whether generated images may be trained on.
    """

    def head(name: str, size: int) -> bytes:
        try:
            return read(name, size)
        except Exception:  # says nothing of itself; decoding will tell why
            return b""

    def start(name: str) -> bytes:
        found = head(name, HEAD)
        return head(name, _WEBP_BYTES) if found.startswith(_RIFF) and _has_exif(found) else found

    homes: dict[str, str] = {}  # "folder/" or "" for the top → what it is
    for marker in sorted(markers):
        folder, content = marker[: marker.rfind("/") + 1], head(marker, _MARKER_BYTES)
        if marker.endswith(RUN_CONFIG) and is_run_config(content):
            homes[folder] = f"the run directory {folder or '.'}"
        elif marker.endswith(INDEX) and is_copy_within(content, folder):
            homes[folder] = f"the prepared copy {folder}"
    inside: dict[str, list[str]] = {}
    kinds: dict[Kind, list[str]] = {"generated": [], "other": []}
    for name in names:
        home = next((folder for folder in homes if name.startswith(folder)), None)
        if home is not None:
            inside.setdefault(homes[home], []).append(name)
        elif name.lower().endswith(_MARKED) and (kind := own_kind(start(name))):
            kinds[kind].append(name)
    generated = () if use_generated else tuple(kinds["generated"])
    return OwnFiles(generated, tuple(kinds["other"]), {home: tuple(images) for home, images in inside.items()})


def _png_texts(head: bytes) -> dict[str, str]:
    """Uncompressed text chunks that lie whole within the head, before the pixels."""
    texts, at = {}, len(_PNG)
    while at + 8 <= len(head):
        length, kind = struct.unpack_from(">I4s", head, at)
        content = head[at + 8 : at + 8 + length]
        if kind == b"IDAT" or len(content) < length:
            break
        if kind in _TEXT_CHUNKS:
            key, _, value = content.partition(b"\0")
            texts[key.decode("latin-1")] = value.lstrip(b"\0").decode("latin-1")
        at += 12 + length
    return texts


def _jpeg_texts(head: bytes) -> dict[str, str]:
    """The first comment before the pixels, under the key that PNGs have."""
    at = len(_JPEG)
    while at + 4 <= len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
        if marker == _START_OF_SCAN:
            break
        if marker == _COMMENT:
            return {SOFTWARE_KEY: head[at + 4 : at + 2 + length].decode("latin-1")}
        at += 2 + length
    return {}


def _tiff_texts(head: bytes) -> dict[str, str]:
    """The program that wrote a TIFF whose first directory lies within the head, and the keys of its description."""
    if b"frugan " not in head:
        return {}
    try:
        with tifffile.TiffFile(io.BytesIO(head)) as opened:
            tags = opened.pages.first.tags
            described = str(tags.valueof("ImageDescription"))
            own = {SOFTWARE_KEY: str(tags.valueof("Software"))}
    except Exception:  # a file of anything
        return {}
    return own | ({GENERATED_KEY: ""} if f'"{GENERATED_KEY}": ' in described else {})


def _has_exif(head: bytes) -> bool:
    """Whether a WebP file says that it holds EXIF data."""
    return head[8:16] == b"WEBPVP8X" and bool(head[20:21]) and bool(head[20] & 8)


def _webp_texts(content: bytes) -> dict[str, str]:
    """The program that wrote a WebP file, if frugan did; it writes one image a file."""
    found = re.search(rb"EXIF.{4}.{0,200}?(frugan [^\0]+)\0", content[-4096:], re.DOTALL)
    return {SOFTWARE_KEY: found[1].decode("latin-1"), GENERATED_KEY: ""} if found else {}
