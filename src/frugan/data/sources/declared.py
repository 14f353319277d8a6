"""Channel roles and names declared in a data.json beside the images, or in the dataset.json of their labels.

`channels` is what `--channels` takes, or the count of channels; `channel_names` lists their names, "mask" for those that are masks,
as the data.json of a run does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from frugan.channels import AS_FILES, CHANNELS, has_alpha, parse_channels
from frugan.checks import meant
from frugan.data.decode import Header
from frugan.data.decode.channel_names import LONGEST
from frugan.data.sources.arrays import Arrays
from frugan.data.sources.base import LARGEST_TEXT, Derived, Source, read_text
from frugan.data.sources.folder import SingleFile
from frugan.data.sources.masks import Masked
from frugan.data.sources.own import INDEX, RUN_CONFIG
from frugan.errors import FruganError, shown
from frugan.files import parse_json

DATA_FILE = "data.json"
_KEYS = ("channels", "channel_names")
_OF_A_RUN = "fingerprint"
_MENTIONED = re.compile(r'"chan\w*"\s*:', re.IGNORECASE)
MOST_CHANNELS = 4096


@dataclass(frozen=True)
class ChannelFile:
    """`channels` as `--channels` takes them; `names` of the image channels, empty where none are told; `count` of all channels
    of a file, None where the images are converted or nothing says so."""

    where: str
    channels: str = "auto"
    names: tuple[str, ...] = ()
    count: int | None = None

    def names_of(self, channels: str) -> tuple[str, ...]:
        """The names where the image channels of another declaration are as many; else none."""
        declared = parse_channels(channels)
        count = declared.images or CHANNELS.get(declared.choice, len(self.names))
        return self.names if len(self.names) == count else ()

    @property
    def alpha(self) -> bool:
        """Whether the last of two or four channels may be opacity: where it has a name, "alpha"."""
        return not has_alpha(len(self.names)) or self.names[-1].lower() == "alpha"


def find_channels(source: Source) -> ChannelFile | None:
    """The declaration of channels in a data.json, or else a dataset.json, beside the images; None where neither has one.

    Raises `FruganError` for what cannot be meant.
    """
    for file in (DATA_FILE, INDEX):
        text = _text(source, file)
        if text is not None and _MENTIONED.search(text):
            where = f"the {file} of {source.path}"
            try:
                content = parse_json(text)
            except ValueError as error:
                raise FruganError(f"{where} is no JSON ({shown(error)}); fix it or remove it") from error
            if isinstance(content, dict) and (found := _parse(content, where, labels=file == INDEX)):
                return found
    return None


def _text(source: Source, file: str) -> str | None:
    """A text file at the top of a folder or archive, or beside an array file or another that holds several images."""
    if not isinstance(source, Arrays | SingleFile):
        return source.text(file)
    places = [source.path / file, source.path.parent / file]
    found = next((place for place in places if place.is_file()), None)
    if found is None or (found.parent / RUN_CONFIG).exists() or found.stat().st_size > LARGEST_TEXT:
        return None
    return read_text(found)


def _parse(content: dict[str, Any], where: str, *, labels: bool) -> ChannelFile | None:
    """`labels`: other keys are of labels, and image names where there is no key "labels"."""
    if (labels and "labels" not in content) or not any(str(key).lower().startswith("chan") for key in content):
        return None
    if _OF_A_RUN not in content:
        odd = next(
            (key for key in content if key not in _KEYS and (not labels or key.lower().startswith("chan"))), None
        )
        if odd is not None:
            raise FruganError(
                f"{where}: unknown key {shown(repr(odd))}; {meant(odd, _KEYS)}its keys are {', '.join(_KEYS)}"
            )
    names, said = _names(content, where), content.get("channels", "auto")
    whole = isinstance(said, int) and not isinstance(said, bool)
    if not isinstance(said, str) and not (whole and 1 <= said <= MOST_CHANNELS):
        raise FruganError(
            f"{where}: channels {shown(repr(said)[:60])}; give a text such as RGB=image,3=mask, or their count from 1 to "
            f"{MOST_CHANNELS}"
        )
    return _agreed(said, names, where)


def are_names(names: Sequence[Any]) -> bool:
    """Whether `channel_names` may hold these."""
    return len(names) <= MOST_CHANNELS and all(
        isinstance(name, str) and name.isprintable() and 0 < len(name) <= LONGEST for name in names
    )


def _names(content: dict[str, Any], where: str) -> tuple[str, ...]:
    names = content.get("channel_names", [])
    if not (isinstance(names, list) and are_names(names)):
        raise FruganError(
            f"{where}: channel_names are a list of up to {MOST_CHANNELS} texts, each of 1 to {LONGEST} printable characters"
        )
    return tuple(names)


def _agreed(said: str | int, names: tuple[str, ...], where: str) -> ChannelFile:
    """Roles and names, where they are of as many channels. Raises `FruganError` where they are not."""
    count = said if isinstance(said, int) else None
    channels = said if isinstance(said, str) else "auto"
    declared = parse_channels(channels, f"{where}: channels")
    masks = names.count("mask")
    if count not in (None, len(names)) and names:
        raise FruganError(f"{where}: {count} channels, and {len(names)} channel_names; name each channel once")
    if masks and channels == "auto":
        images = len(names) - masks
        if not images or "mask" in names[:images]:
            raise FruganError(f"{where}: channel_names have one image channel or more, then the masks")
        channels = f"0-{images - 1}=image,{images}-{len(names) - 1}=mask"
        return ChannelFile(where, channels, names[:images])
    if declared.images:
        if len(names) == declared.images + declared.masks and set(names[declared.images :]) == {"mask"}:
            names = names[: declared.images]
        count = declared.images
    elif declared.choice in CHANNELS:
        count = CHANNELS[declared.choice]
    if names and count is not None and (len(names) != count or "mask" in names):
        raise FruganError(
            f"{where}: channels {channels} are {count} of images, and channel_names are {', '.join(names[:6])}; "
            f'name these {count}, and "mask" for each mask'
        )
    return ChannelFile(where, channels, names, (count or len(names) or None) if channels == "auto" else None)


@dataclass(frozen=True)
class Declaration:
    """A choice of channels, and a declaration `found` beside the images: with both, sources are read as images and masks.

    `channels`: the choice, "auto" settled. `names` of the image channels; `count` of channels that each file must have; `left_out`:
    so many masks that were declared, and are not asked for.
    """

    channels: str = "auto"
    found: ChannelFile | None = None
    names: tuple[str, ...] = ()
    count: int | None = None
    left_out: int = 0

    @classmethod
    def of(cls, channels: str, found: ChannelFile | None) -> Declaration:
        """Channels that are asked for stay, and have names only where as many are told. Masks that are told of are left out then,
        unless the channels that are asked for have some."""
        if found is None or channels == AS_FILES:
            return cls(channels)
        if channels == "auto":
            return cls(found.channels, found, found.names, found.count)
        told, asked = parse_channels(found.channels), parse_channels(channels)
        masks = 0 if asked.masks else told.masks
        count = (told.images or 0) + masks if masks else None
        return cls(channels, found, found.names_of(channels), count, masks)

    @property
    def masks(self) -> int:
        return parse_channels(self.channels).masks

    @property
    def alpha(self) -> bool:
        return not (self.masks or self.left_out) and (self.found is None or self.found.alpha)

    @property
    def key(self) -> str:
        """Tells declarations apart; "" where nothing is declared."""
        asked = parse_channels(self.channels)
        settings = (self.names, self.count, self.left_out, asked.images, asked.masks)
        return repr((*settings, self.found.names if self.found else ())) if self.found or asked.masks else ""

    def named(self, source: Source) -> Source:
        """The source with what is declared beside it, masks aside."""
        return Named(source, self.found, self.names, self.count, self.left_out) if self.found else source

    def of_files(self, source: Source) -> Source:
        """The source with what is declared, masks in its own files among it."""
        asked = parse_channels(self.channels)
        source = self.named(source)
        return Masked(source, None, images=asked.images, count=asked.masks) if asked.masks else source

    def to_dict(self) -> dict[str, Any]:
        """The content of a data.json that declares the same; nothing where there is nothing to declare."""
        channels: str | int | None = self.channels if self.channels not in ("auto", AS_FILES) else self.count
        return ({"channels": channels} if channels else {}) | ({"channel_names": [*self.names]} if self.names else {})


class Named(Derived):
    """A source whose channels have names, see `frugan.data.sources.base.Source`. Where the last of two or four channels has
    another name than "alpha", it is no opacity."""

    def __init__(
        self, source: Source, found: ChannelFile, names: tuple[str, ...], count: int | None, masks: int = 0
    ) -> None:
        """
        Args:
            source: the images.
            found: the declaration that was read beside them.
            names: of the image channels.
            count: channels that each file must have; None where they are converted, or checked elsewhere.
            masks: so many of them, the last ones, are left out.
        """
        super().__init__(source)
        self.found, self.channel_names, self.count, self.masks = found, names, count, masks
        self.kind, self.names, self.unreadable = source.kind, source.names, source.unreadable
        self.alpha = source.alpha and not masks and found.alpha

    def stamp(self) -> str:
        return hashlib.sha256(self.source.stamp().encode() + self._key()).hexdigest()

    def digest(self, index: int) -> bytes:
        return hashlib.sha256(self.source.digest(index) + self._key()).digest()

    def _key(self) -> bytes:
        return repr((self.channel_names, self.count, self.alpha, *([self.masks] if self.masks else []))).encode()

    def header(self, index: int) -> Header:
        header = self.source.header(index)
        if self.count not in (None, header.channels):
            raise FruganError(
                f"has {header.channels} channels, and {self.found.where} tells of {self.count}; correct it, or pass it over with "
                "--channels files"
            )
        channels = header.channels - self.masks
        return replace(header, channels=channels, channel_names=self.channel_names or header.channel_names[:channels])

    def pixels(self, index: int) -> np.ndarray:
        pixels = self.source.pixels(index)
        return pixels[..., : pixels.shape[-1] - self.masks]
