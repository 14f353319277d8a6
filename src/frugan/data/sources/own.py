"""Recognition of files that frugan wrote: sample grids, contact sheets, generated images, run directories.

Images say it in a PNG text chunk (`frugan.images.SOFTWARE_KEY`) or in a JPEG comment near their beginning, a run directory by its
config.yaml. What `frugan data prepare`, `corrupt` and `sample` write is data and carries no such mark; only a copy that was
prepared into a folder of its own source says so in its dataset.json, so that the source is not read twice.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

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
_MARKED = (".png", ".jpg", ".jpeg")
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
        """Which they are, the first few by name."""
        single = [*self.others, *self.generated]
        first = [f"{len(inside)} in {shown(folder)}" for folder, inside in self.folders.items()][:3]
        first += map(shown, single[: 4 - len(first)])
        return ", ".join(first) + (" …" if len(first) < len(self.folders) + len(single) else "")

    def sentence(self) -> str:
        """What is skipped; "" where there is nothing."""
        if not self.count:
            return ""
        files = "1 image that frugan wrote is" if self.count == 1 else f"{self.count} images that frugan wrote are"
        remedy = "; --use-generated trains on generated ones" if self.generated else ""
        return f"{files} skipped: {self.shown()}{remedy}"


def own_kind(head: bytes) -> Kind | None:
    """Whether the beginning of a PNG or JPEG file, `HEAD` bytes or fewer, says that frugan wrote it, and as what."""
    texts = _png_texts(head) if head.startswith(_PNG) else _jpeg_texts(head) if head.startswith(_JPEG) else {}
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
    """Those of the images `names` that frugan wrote; with `use_generated` without the ones that it generated one by one.

    Args:
        names: images, relative to the top of the data, "/"-separated.
        markers: the files there that are named config.yaml or dataset.json.
        read: `read(name, size)` gives the first bytes of a file, at most `size`; may raise anything.
    """

    def head(name: str, size: int) -> bytes:
        try:
            return read(name, size)
        except Exception:  # says nothing of itself; decoding will tell why
            return b""

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
        elif name.lower().endswith(_MARKED) and (kind := own_kind(head(name, HEAD))):
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
