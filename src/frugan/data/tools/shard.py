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

from frugan.checks import Limits, Seed, checked
from frugan.command_line import command
from frugan.data.decode import Header, read_header, read_pixels
from frugan.data.labels.encode import Labels, one_hot
from frugan.data.labels.read import find_labels, read_labels
from frugan.data.shards.index import INDEX, INDEX_FORMAT, ShardFacts, index_row, kinds_of
from frugan.data.sources.arrays import Arrays
from frugan.data.sources.base import Files, Source
from frugan.data.sources.declared import find_channels
from frugan.data.sources.open import open_source
from frugan.data.sources.own import OwnFiles
from frugan.data.stats import Histograms, highest
from frugan.data.tools.prepare import encode_png, refuse_what_png_cannot_hold
from frugan.data.workers import Progress, in_threads
from frugan.errors import FruganError, fault, shown
from frugan.files import building

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


@checked
def shard(
    path: str | Path,
    out: str | Path,
    *,
    per_shard: Annotated[int, Limits(at_least=1, hint="some hundred to some thousand are usual")] = 1000,
    labels: str = "auto",
    seed: Seed = 0,
    progress: Progress = None,
) -> Sharded:
    """Writes a folder, zip, tar or array file as shards into a new folder, whole or not at all.

    Images are shuffled, so that every shard resembles the set; files are copied byte for byte, arrays become PNG. What cannot
    be decoded is left out and named. Memory stays bounded.

    Args:
        path: of the images.
        out: the folder.
        per_shard: images in a shard, at most.
        labels: as in `DataConfig`.
        seed: of the order.
        progress: called with (done, total) images.

    Raises `FruganError` where `out` is taken, labels make no sense, or nothing can be read.
    """
    out = Path(out).expanduser()
    source = open_source(path)
    if isinstance(source, Files) and (several := source.several()):
        raise FruganError(
            f"{shown(several[0])} holds several images, which lie too deep in it to be shuffled; write them one by one with "
            f"{command('data', 'prepare', str(path), 'images.zip')}, then shard that"
        )
    if found := find_channels(source):
        raise FruganError(
            f"{found.where} tells what channels are, which shards do not keep: train on {path} itself, or remove that file"
        )
    specification = find_labels(source, source.names) if labels == "auto" else labels
    written = _written(read_labels(source, specification, source.names))
    order = np.random.default_rng(seed).permutation(len(source.names)).tolist()
    skipped: list[tuple[str, str]] = list(source.unreadable)

    def samples() -> Iterator[_Sample]:
        for done, found in enumerate(
            in_threads(lambda numbered: _read(source, written, *numbered), enumerate(order)), 1
        ):
            if progress:
                progress(done, len(order))
            if isinstance(found, _Sample):
                yield found
            else:
                skipped.append(found)

    with building(out) as folder:
        folder.mkdir()
        rows, remaining = [], samples()
        while (row := _write(folder / f"{out.name}-{len(rows):06d}.tar", islice(remaining, per_shard))) is not None:
            rows.append(row)
        if not rows:
            raise FruganError(f"none of the {len(order)} images in {path} can be read; check that they open elsewhere")
        index = {"frugan_shards": INDEX_FORMAT, "shards": rows}
        (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    return Sharded(out, sum(len(row["names"]) for row in rows), len(rows), skipped, source.own)


def _read(source: Source, labels: Sequence[Any] | None, number: int, i: int) -> _Sample | tuple[str, str]:
    """Image i of a source as the sample of that number, or its name and why it cannot be decoded."""
    stem, suffix = os.path.splitext(source.names[i])
    key = f"{number:08d}-{re.sub(r'[^A-Za-z0-9]+', '-', stem)[-_LONGEST_NAME:].strip('-')}"
    try:
        content = _content(source, i)
        counts = Histograms(alpha=True)
        counts.add(read_pixels(io.BytesIO(content)))
        header = read_header(io.BytesIO(content))
    except FruganError:
        raise
    except Exception as error:  # a decoder given a broken file raises anything at all
        return source.names[i], fault(error)
    name, label = f"{key}{suffix.lower() or '.png'}", labels[i] if labels else None
    return _Sample(name, content, header, label, highest(counts.values(), 16))


def _write(file: Path, samples: Iterable[_Sample]) -> dict[str, Any] | None:
    """One shard and its line of the index; None, and no file, where there are no more samples."""
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
    kinds = kinds_of((f"{file.stem}/{sample.name}", sample.header) for sample in written)
    names, labels, values = zip(*((sample.name, sample.label, sample.highest) for sample in written))
    facts = ShardFacts(list(names), list(labels), kinds, sha256, [], max(values))
    return index_row(file, facts)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _content(source: Source, i: int) -> bytes:
    if isinstance(source, Arrays):
        pixels = source.pixels(i)
        refuse_what_png_cannot_hold(pixels.dtype, pixels.shape[-1], str(source.path))
        return encode_png(pixels)
    with cast(Files, source).open(source.names[i]) as file:
        return file.read()


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
