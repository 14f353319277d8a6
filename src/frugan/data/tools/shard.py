"""Writes any set as shards: tars in the WebDataset layout, with an index that spares readers the first pass."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import tifffile

from frugan.channels import AS_FILES, CHANNEL_NAMES, CHANNELS
from frugan.checks import Limits, Seed, checked
from frugan.command_line import command
from frugan.data.cache import headers
from frugan.data.config import DataConfig
from frugan.data.decode import Header, read_header, read_pixels
from frugan.data.labels.encode import Labels, one_hot
from frugan.data.labels.read import find_labels, read_labels
from frugan.data.shards.index import INDEX, INDEX_FORMAT, ShardFacts, check_plain, index_row, kinds_of
from frugan.data.sources.arrays import Arrays
from frugan.data.sources.base import Derived, Files, Source
from frugan.data.sources.declared import DATA_FILE, Declaration, find_channels
from frugan.data.sources.masks import Masked, MaskValues
from frugan.data.sources.open import open_source
from frugan.data.sources.own import OwnFiles
from frugan.data.stats import Histograms, highest
from frugan.data.tools.prepare import encode_png
from frugan.data.workers import Progress, in_threads
from frugan.errors import FruganError, fault, shown
from frugan.files import building
from frugan.pixel_format import is_plain

_LONGEST_NAME = 60  # characters of an image's own name that its key keeps


@dataclass(frozen=True)
class Sharded:
    """Shards written to `<path>/<name>-000000.tar` … and index.json.

    `skipped`: (name, reason) of every image left out; `own`: those left out because frugan wrote them.
    """

    path: Path
    count: int
    shards: int
    skipped: list[tuple[str, str]]
    own: OwnFiles


@dataclass(frozen=True)
class _Sample:
    name: str  # in the tar
    content: bytes
    header: Header
    label: Any  # a whole number, a word, a list of numbers, or None
    highest: int  # colour value, as 16 bits hold it
    masks: MaskValues | None
    opaque: bool  # whether it has opacity, which is full everywhere


@checked
def shard(
    path: str | Path,
    out: str | Path,
    *,
    per_shard: Annotated[int, Limits(at_least=1, hint="some hundred to some thousand are usual")] = 1000,
    labels: str = "auto",
    channels: str = "auto",
    masks: str | Path | None = None,
    seed: Seed = 0,
    progress: Progress = None,
) -> Sharded:
    """Writes a folder, zip, tar or array file as shards into a new folder, whole or not at all.

    Images are shuffled, so that every shard resembles the set; files are copied byte for byte, arrays become PNG, of more than
    four channels TIFF, and so do images with `masks`, their last channel. What cannot be decoded is left out and named. Memory
    stays bounded. What channels are, as is asked for or a data.json beside the images declares, is declared beside the shards.

    Args:
        path: of the images.
        out: the folder.
        per_shard: images in a shard, at most.
        labels: as in `DataConfig`.
        channels: "auto", "files", or what each channel is, as in `DataConfig`.
        masks: a folder, zip or array file of masks with the images' names, as in `DataConfig`; None: of none.
        seed: of the order.
        progress: called with (done, total) images.

    Raises `FruganError` where `out` is taken, labels make no sense, or nothing can be read.
    """
    out = Path(out).expanduser()
    source = open_source(path)
    _check_copied_whole(source, path)
    if channels in CHANNELS:
        raise FruganError(f"--channels {channels}: files are copied as they are; convert them when they are trained on")
    declared = Declaration.of(channels, None if channels == AS_FILES else find_channels(source))
    if masks is not None:
        DataConfig(str(path), channels=declared.channels, masks=str(masks))  # or a sentence: these go together
        source = _Paired(Masked(declared.named(source), open_source(masks), images=None, count=1))
        declared = replace(declared, channels=source.roles)
    images = declared.of_files(source)
    specification = find_labels(source, source.names) if labels == "auto" else labels
    written = _written(read_labels(source, specification, source.names))
    order = np.random.default_rng(seed).permutation(len(source.names)).tolist()
    skipped: list[tuple[str, str]] = list(source.unreadable)

    def samples() -> Iterator[_Sample]:
        for done, found in enumerate(
            in_threads(lambda numbered: _read(source, images, written, *numbered), enumerate(order)), 1
        ):
            if progress:
                progress(done, len(order))
            if isinstance(found, _Sample):
                yield found
            else:
                skipped.append(found)

    with building(out) as folder:
        folder.mkdir()
        rows, remaining, values = [], samples(), []
        while shard := _write(folder / f"{out.name}-{len(rows):06d}.tar", islice(remaining, per_shard), path):
            rows.append(shard[0])
            values += [shard[1]] if shard[1] else []
        if not rows:
            first = ": ".join(map(shown, skipped[0]))
            raise FruganError(
                f"none of the {len(order)} images in {path} can be read ({first}); check that they open elsewhere"
            )
        if values:
            MaskValues.joined(values, path).channels(path)  # or a sentence
        _write_facts(folder, declared, rows)
    return Sharded(out, sum(len(row["names"]) for row in rows), len(rows), skipped, source.own)


class _Paired(Derived):
    """Images with the stored values of their masks as a last channel, see `frugan.data.sources.base.Source`."""

    alpha = False

    def __init__(self, pairs: Masked) -> None:
        """Raises `FruganError` where no image can be read, or the first one is of other numbers than shards hold."""
        super().__init__(pairs)
        self._pairs, self.kind, self.names, self.unreadable = pairs, pairs.kind, pairs.names, pairs.unreadable
        found = headers(pairs)
        known = [head for head in found if isinstance(head, Header)]
        if not known:
            raise FruganError(
                f"none of the images in {self.path} can be read, the first is {self.names[0]} ({found[0]})"
            )
        check_plain(self.names[found.index(known[0])], known[0])
        self._images = max(head.channels for head in known)

    @property
    def roles(self) -> str:
        """As `--channels` takes them; grey images count as RGB where others are."""
        last = self._images - 1
        return f"{CHANNEL_NAMES[self._images] if last in (0, 2) else f'0-{last}'}=image,{last + 1}=mask"

    def stamp(self) -> str:
        return self._pairs.stamp()

    def digest(self, index: int) -> bytes:
        return self._pairs.digest(index)

    def header(self, index: int) -> Header:
        head = self._pairs.header(index)
        return replace(head, channels=1 + (3 if self._is_grey(head.channels) else head.channels))

    def pixels(self, index: int) -> np.ndarray:
        pixels = self._pairs.stacked(index)
        return pixels[..., [0, 0, 0, 1]] if self._is_grey(pixels.shape[-1] - 1) else pixels

    def _is_grey(self, channels: int) -> bool:
        return (channels, self._images) == (1, 3)


def _write_facts(folder: Path, declared: Declaration, rows: list[dict[str, Any]]) -> None:
    """Writes what channels are, where anything is declared, and the index of shards."""
    if told := declared.to_dict():
        (folder / DATA_FILE).write_text(json.dumps(told), encoding="utf-8")
    index = {"frugan_shards": INDEX_FORMAT, "shards": rows}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def _check_copied_whole(source: Source, path: str | Path) -> None:
    """Raises `FruganError` where images are no files of their own, or arrays of values that PNG and TIFF do not hold."""
    if isinstance(source, Files) and (several := source.several()):
        raise FruganError(
            f"{shown(several[0])} holds several images, which lie too deep in it to be shuffled; write them one by one with "
            f"{command('data', 'prepare', str(path), 'images.zip')}, then shard that"
        )
    if isinstance(source, Arrays):
        check_plain(str(path), source.header(0))


def _read(
    source: Source, images: Source, labels: Sequence[Any] | None, number: int, i: int
) -> _Sample | tuple[str, str]:
    """Image i of a source as the sample of that number, or its name and why it cannot be decoded. `images`: the source with its
    channels as declared."""
    stem, suffix = os.path.splitext(source.names[i])
    suffix = "" if isinstance(source, _Paired) else suffix
    key = f"{number:08d}-{re.sub(r'[^A-Za-z0-9]+', '-', stem)[-_LONGEST_NAME:].strip('-')}"
    try:
        content = _content(source, i)
        declared = images.header(i)
        header = read_header(io.BytesIO(content))
        header = replace(header, channels=declared.channels, channel_names=declared.channel_names)
        alpha = images.alpha and header.alpha != "none"
        counts, opaque = Histograms(alpha=alpha), False
        if is_plain(header.dtype):
            pixels = read_pixels(io.BytesIO(content))[..., : header.channels]
            counts.add(pixels)
            opaque = alpha and bool((pixels[..., -1] == np.iinfo(pixels.dtype).max).all())
        masks = images.values(i) if isinstance(images, Masked) else None
    except Exception as error:  # a decoder given a broken file raises anything at all
        return source.names[i], str(error) if isinstance(error, FruganError) else fault(error)
    check_plain(source.names[i], header)
    suffix = suffix.lower() or {"TIFF": ".tif"}.get(header.format, ".png")
    name, label = f"{key}{suffix}", labels[i] if labels else None
    return _Sample(name, content, header, label, highest(counts.values(), 16), masks, opaque)


def _write(file: Path, samples: Iterable[_Sample], where: object) -> tuple[dict[str, Any], MaskValues | None] | None:
    """One shard: its line of the index and the values of its masks. None, and no file, where there are no more samples.

    Raises `FruganError` where the masks, which are those of `where`, have too many values.
    """
    written: list[_Sample] = []
    with tarfile.open(file, "w") as archive:
        for sample in samples:
            _add(archive, sample.name, sample.content)
            key = sample.name.rpartition(".")[0]
            if isinstance(sample.label, list):
                _add(archive, f"{key}.json", json.dumps({"label": sample.label}).encode())
            elif sample.label is not None:
                _add(archive, f"{key}.cls", str(sample.label).encode())
            written.append(replace(sample, content=b""))
    if not written:
        file.unlink()
        return None
    with open(file, "rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    written.sort(key=lambda sample: sample.name)  # as `Tar` reads them
    kinds = kinds_of((f"{file.stem}/{sample.name}", sample.header, sample.opaque) for sample in written)
    names, labels, values = zip(*((sample.name, sample.label, sample.highest) for sample in written))
    seen = [sample.masks for sample in written if sample.masks]
    masks = MaskValues.joined(seen, where) if seen else None
    return index_row(file, ShardFacts(list(names), list(labels), kinds, sha256, [], max(values), masks)), masks


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _content(source: Source, i: int) -> bytes:
    if isinstance(source, Arrays | _Paired):
        pixels = source.pixels(i)
        in_png = is_plain(pixels.dtype) and pixels.shape[-1] in CHANNEL_NAMES
        return encode_png(pixels) if in_png else _tiff(pixels)
    with cast(Files, source).open(source.names[i]) as file:
        return file.read()


def _tiff(pixels: np.ndarray) -> bytes:
    """An image of any number of channels as a TIFF file of bands, which does not say that frugan made it."""
    file = io.BytesIO()
    options: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig", "compression": "zlib"}
    tifffile.imwrite(file, pixels, metadata=None, software=False, **options)
    return file.getvalue()


def _written(labels: Labels) -> list[Any] | None:
    """Each image's label as it is written: its class by name, or by number where classes have none; else a list of numbers."""
    if not labels.values.shape[1]:
        return None
    codes = labels.values.argmax(1)
    if not np.array_equal(one_hot(codes, labels.values.shape[1]), labels.values):
        return labels.values.tolist()
    names = labels.class_names
    if names and len({name.isdecimal() for name in names}) == 1:
        return [names[code] for code in codes]
    return codes.tolist()
