"""Archives of images, zip and tar, read in place."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from frugan.data.sources.base import Files, alike, as_text, stamp_of
from frugan.errors import FruganError, shown
from frugan.files import parse_json

_LARGEST_MEMBER = 1 << 30  # bytes that one zip member may unpack to
_LARGEST_LABEL = 1 << 20  # bytes of the label of one image
_MOST_RATIO, _RATIO_FROM = 200, 1 << 26  # of a zip member unpacked and packed, from so many bytes on


class Zip(Files):
    """A zip of images, stored or deflated, read in place: nothing is ever unpacked to disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "zip")
        try:
            handle = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise FruganError(f"{path} cannot be read as a zip ({error}); make it anew or unpack it by hand") from error
        self._members = {_zip_name(m).replace("\\", "/"): m for m in handle.infolist() if m.filename and not m.is_dir()}
        self._idle = [handle]
        self._list(list(self._members))
        self._size = path.stat().st_size
        reasons = {name: self._unfit(name) for name in self.names}
        self.unreadable = [(name, reason) for name, reason in reasons.items() if reason]
        self.names = [name for name, reason in reasons.items() if not reason]

    def _unfit(self, name: str) -> str:
        member = self._members[name]
        if member.file_size > _LARGEST_MEMBER:
            return f"unpacks to {member.file_size:,} bytes; the limit is {_LARGEST_MEMBER:,}"
        return unfit_in_zip(member, self._size)

    def open(self, name: str) -> BinaryIO:
        content = io.BytesIO()  # grows in place: joined blocks would be there twice
        with self.open_head(name) as file:
            content.writelines(_blocks(file, self.size(name)))
        content.seek(0)
        return content

    @contextmanager
    def open_head(self, name: str) -> Iterator[BinaryIO]:
        """By a handle that nobody else uses meanwhile: members of one handle that are read and sought in by several threads
        lose their places (Python 3.12)."""
        if reason := self._unfit(name):
            raise zipfile.BadZipFile(reason)
        try:
            handle = self._idle.pop()
        except IndexError:
            handle = zipfile.ZipFile(self.path)
        try:
            with handle.open(self._members[name]) as file:
                yield cast(BinaryIO, file)
        finally:
            self._idle.append(handle)

    def has(self, name: str) -> bool:
        return name in self._members

    def size(self, name: str) -> int:
        return self._members[name].file_size

    def stamp(self) -> str:
        return stamp_of(self.path, key=self._taken.key())

    def file_digest(self, file: str) -> bytes:
        with self.open_head(file) as content:
            return _digest(content, self.size(file))


class _Within(io.BufferedReader):
    """A file of which no more is read than there is: memory is set aside for whatever size a header says."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self._size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


class Tar(Files):
    """An uncompressed tar in the WebDataset layout: `key.png` (or .jpg, .webp …), with the label in `key.cls` or `key.json`.

    `key` is everything before the first dot of the file's name, its folders included. A tar that was cut short or whose
    headers are damaged is refused: how many images it held can no longer be known.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "tar")
        try:
            with _Within(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
                found = archive.getmembers()
                end = archive.offset
            with open(path, "rb") as file:
                file.seek(end)
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes damage for the end
                    raise tarfile.ReadError(f"no end mark at byte {end}: cut short or damaged")
        except (tarfile.TarError, OSError, ValueError, EOFError, RecursionError) as error:
            raise FruganError(f"{path} cannot be read as a tar ({shown(error)}); make it anew, uncompressed") from error
        self._members = {m.name.removeprefix("./"): m for m in found if not m.isdir()}
        self._list(list(self._members))
        reasons = {name: _unfit_in_tar(self._members[name]) for name in self.names}
        self.unreadable = [(name, reason) for name, reason in reasons.items() if reason]
        self.names = [name for name, reason in reasons.items() if not reason]
        for suffix in (".cls", ".json"):
            self.ignored.pop(suffix, None)

    def open(self, name: str) -> BinaryIO:
        member = self._members[name]
        with open(self.path, "rb") as file:  # a handle of its own: threads read at once
            file.seek(member.offset_data)
            return io.BytesIO(file.read(member.size))

    def head(self, name: str, size: int) -> bytes:
        member = self._members[name]
        with open(self.path, "rb") as file:
            file.seek(member.offset_data)
            return file.read(min(size, member.size))

    def has(self, name: str) -> bool:
        return name in self._members

    def size(self, name: str) -> int:
        return self._members[name].size

    def stamp(self) -> str:
        return stamp_of(self.path, key=self._taken.key())

    def file_digest(self, file: str) -> bytes:
        member = self._members[file]
        with open(self.path, "rb") as content:
            content.seek(member.offset_data)
            return _digest(content, member.size)

    def labels(self) -> list[Any]:
        """Each image's label as it was written: a whole number, a word, a list of numbers, or None where there is none."""
        return [self._label(name) for name in self.names]

    def stored_labels(self) -> np.ndarray | None:
        return alike(self.labels()) if not self._several else super().stored_labels()

    def _label(self, name: str) -> Any:
        folder, _, file = name.rpartition("/")
        key = f"{folder}/{file.split('.')[0]}".removeprefix("/")
        if self.has(f"{key}.cls"):
            text = self._read_text(f"{key}.cls").strip()
            return int(text) if text.isdecimal() else text
        if self.has(f"{key}.json"):
            try:
                facts = parse_json(self._read_text(f"{key}.json"))
            except FruganError:
                raise
            except ValueError as error:
                raise FruganError(
                    f"{self.path}/{shown(key)}.json cannot be read as JSON ({shown(error)}); fix it"
                ) from error
            return facts.get("label") if isinstance(facts, dict) else facts
        return None

    def _read_text(self, name: str) -> str:
        if self.size(name) > _LARGEST_LABEL:
            raise FruganError(f"{self.path}/{shown(name)} holds more than {_LARGEST_LABEL:,} bytes: that is no label")
        return as_text(self.open(name).read(), f"{self.path}/{shown(name)}")


def _zip_name(member: zipfile.ZipInfo) -> str:
    """A member's name in Unicode: as its flag or its extra field 0x7075 has it, else bytes in UTF-8, else in code page 437.

    zipfile knows the flag only, which many programs do not set.
    """
    if member.flag_bits & 0x800:
        return member.filename
    try:
        raw, extra = member.filename.encode("cp437"), member.extra
        while len(extra) >= 4:
            kind, size = struct.unpack_from("<HH", extra)
            if kind == 0x7075 and size > 5 and extra[5:9] == struct.pack("<L", zlib.crc32(raw)):
                return extra[9 : 4 + size].decode("utf-8")
            extra = extra[4 + size :]
        return raw.decode("utf-8")
    except UnicodeError:
        return member.filename


def unfit_in_zip(member: zipfile.ZipInfo, size: int) -> str:
    """The reason why a member of a zip of `size` bytes is not read (too large when unpacked, or encrypted), or ""."""
    if member.flag_bits & 1:
        return "encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # whose blocks unpack without a bound
        return f"packed by method {member.compress_type}, neither stored nor deflated"
    if member.header_offset + member.compress_size > size:
        return f"said to take {member.compress_size:,} bytes of a zip of {size:,}"
    if member.file_size > max(_RATIO_FROM, _MOST_RATIO * member.compress_size):
        return f"unpacks to {member.file_size:,} bytes, more than {_MOST_RATIO} times what it takes"
    return ""


def _blocks(file: Any, size: int) -> Iterator[bytes]:
    """The next `size` bytes, a MiB at a time: read at once, a zip's member takes whatever memory it is said to take."""
    while size > 0 and (block := file.read(min(size, 1 << 20))):
        yield block
        size -= len(block)


def _digest(file: Any, size: int) -> bytes:
    """SHA-256 of the next `size` bytes."""
    found = hashlib.sha256()
    for block in _blocks(file, size):
        found.update(block)
    return found.digest()


def _unfit_in_tar(member: tarfile.TarInfo) -> str:
    if not member.isreg() or member.issparse():
        return "no regular file"
    return f"takes {member.size:,} bytes; the limit is {_LARGEST_MEMBER:,}" if member.size > _LARGEST_MEMBER else ""
