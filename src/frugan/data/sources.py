"""Sources of images: a folder, a zip, a tar, an array file. Everything else sees a `Source`.

Hidden files and those that operating systems leave behind are no images; images that frugan itself wrote are skipped and named.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import struct
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np

from frugan.checks import beside
from frugan.data.decode import FORMATS, Header, read_header, read_pixels
from frugan.data.own import INDEX, RUN_CONFIG, OwnFiles, own_files
from frugan.errors import FruganError, shown
from frugan.files import parse_json, read_bytes

SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
CONTAINERS = (".zip", ".tar", ".npy", ".npz")

_LARGEST_MEMBER = 1 << 30  # bytes that one zip member may unpack to
LARGEST_TEXT = 1 << 26  # bytes of a table of labels: some two million rows
_LARGEST_LABEL = 1 << 20  # bytes of the label of one image
_MOST_RATIO, _RATIO_FROM = 200, 1 << 26  # of a zip member unpacked and packed, from so many bytes on
_IMAGE_KEYS = ("images", "x", "X", "data", "pixels", "arr_0")
_LABEL_KEYS = ("labels", "label", "y", "Y", "targets")
_LITTER = ("__macosx", "thumbs.db", "desktop.ini")


class Source(Protocol):
    """Images by name. `names` are sorted, relative and "/"-separated; an image is asked for by its place there."""

    path: Path
    kind: str
    names: list[str]
    unreadable: list[tuple[str, str]]  # (name, reason): known to be lost before any decoding
    ignored: Counter[str]  # suffixes of files that are no images
    own: OwnFiles  # images that frugan itself wrote, which are not in `names`
    alpha: bool  # whether a second or fourth channel is opacity

    def stamp(self) -> str:
        """Changes when anything may have changed; costs no reading."""
        ...

    def digest(self, index: int) -> bytes:
        """A hash of the stored content."""
        ...

    def header(self, index: int) -> Header: ...
    def pixels(self, index: int) -> np.ndarray:
        """uint8 or uint16 `[H, W, C]`. Raises anything at all where the image is broken."""
        ...

    def text(self, name: str) -> str | None:
        """A text file at the top (or at the top of the only folder), such as dataset.json or labels.csv; else None."""
        ...

    def places(self, name: str) -> list[str]:
        """All files of that name (in any case) for `text`, the uppermost first: one at the top stands for all."""
        ...

    def stored_labels(self) -> np.ndarray | None:
        """Labels kept in the array file or tar itself: `[N]` (numbers or words) or `[N, K]`."""
        ...


def open_source(path: str | Path, *, use_generated: bool = False) -> Source:
    """The images at a path, without those that frugan wrote; `use_generated` keeps the ones that it generated one by one.

    Raises `FruganError` where there is nothing, or nothing that holds images.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        source: Source = Folder(path)
    elif not path.exists():
        raise FruganError(f"there is no file or folder {path}{beside(path)}; check the path")
    elif path.suffix.lower() == ".zip":
        source = Zip(path)
    elif path.suffix.lower() == ".tar":
        source = Tar(path)
    elif path.suffix.lower() in (".npy", ".npz"):
        source = Arrays(path)
    else:
        raise FruganError(f"{path} is a single file; give a folder of images or a {', '.join(CONTAINERS)} file")
    if isinstance(source, Files):
        source.leave_out_own(use_generated)
    if not source.names and not source.unreadable:
        raise _no_images(source)
    return source


def _no_images(source: Source) -> FruganError:
    if source.own.count:
        generated = "to use generated images as data on purpose, add --use-generated"
        remedy = generated if source.own.generated else "name the folder of your own images"
        return FruganError(
            f"{source.path} holds no images but {source.own.count} that frugan wrote ({source.own.shown()}); {remedy}"
        )
    found = ", ".join(f"{count} × {suffix or 'no suffix'}" for suffix, count in source.ignored.most_common(5))
    return FruganError(
        f"{source.path} holds no images (files ending in {', '.join(SUFFIXES)}); found: {found or 'nothing'}; "
        "convert them or give another path"
    )


class Files(ABC):
    """What folder and zip share: encoded images behind names."""

    alpha = True

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind
        self.names: list[str] = []
        self.unreadable: list[tuple[str, str]] = []
        self.ignored: Counter[str] = Counter()
        self.own = OwnFiles()
        self._markers: list[str] = []  # files that may tell what a folder is
        self._others: list[str] = []

    def _list(self, files: list[str]) -> None:
        """Sorts files into images and others; hidden files and what operating systems leave count as neither."""
        for file in files:
            parts = file.split("/")
            if any(part.startswith(".") or part.lower() in _LITTER for part in parts):
                continue
            if file.lower().endswith(SUFFIXES):
                self.names.append(file)
            else:
                self.ignored[os.path.splitext(file)[1].lower()] += 1
                self._others.append(file)
                if parts[-1] in (RUN_CONFIG, INDEX):
                    self._markers.append(file)
        self.names.sort()

    def leave_out_own(self, use_generated: bool) -> None:
        """Moves images that frugan wrote from `names` to `own`."""
        self.own = own_files(self.names, self._markers, self.head, use_generated=use_generated)
        skipped = set(self.own.names)
        self.names = [name for name in self.names if name not in skipped]

    @abstractmethod
    def open(self, name: str) -> BinaryIO: ...

    def open_head(self, name: str) -> BinaryIO:
        """As `open`, where only the beginning is to be read."""
        return self.open(name)

    def head(self, name: str, size: int) -> bytes:
        """The first bytes of a file, at most `size`."""
        with self.open_head(name) as file:
            return file.read(size)

    @abstractmethod
    def has(self, name: str) -> bool: ...

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes of a file, unpacked."""

    def header(self, index: int) -> Header:
        name = self.names[index]
        if self.size(name) == 0:
            raise FruganError("an empty file")
        with self.open_head(name) as file:
            return read_header(file)

    def pixels(self, index: int) -> np.ndarray:
        with self.open(self.names[index]) as file:
            return read_pixels(file)

    def text(self, name: str) -> str | None:
        tops = {image.split("/")[0] for image in self.names}
        places = [name, f"{next(iter(tops))}/{name}"] if len(tops) == 1 else [name]
        for place in filter(self.has, places):
            where, size = f"{self.path}/{place}", self.size(place)
            if size > LARGEST_TEXT:
                raise FruganError(
                    f"{where} holds {size:,} bytes, the limit is {LARGEST_TEXT:,}; is it a table of labels?"
                )
            try:
                with self.open(place) as file:
                    content = file.read()
            except (OSError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise FruganError(f"{where} cannot be read ({error}); mend it or remove it") from error
            return _as_text(content, where)
        return None

    def places(self, name: str) -> list[str]:
        found = sorted(file for file in self._others if file.rpartition("/")[2].lower() == name.lower())
        return [file for file in found if "/" not in file] or found

    def stored_labels(self) -> np.ndarray | None:
        return None


class Folder(Files):
    """A folder, flat or nested. Links are followed, each real folder once."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "folder")
        files, seen = [], {path.resolve()}
        closed: list[OSError] = []
        for folder, subfolders, here in os.walk(path, onerror=closed.append, followlinks=True):
            at = Path(folder)
            fresh = {name: real for name in subfolders if (real := (at / name).resolve()) not in seen}
            seen |= set(fresh.values())
            subfolders[:] = sorted(fresh)
            files += [(at / name).relative_to(path).as_posix() for name in here]
        self._list(files)
        lost = {name for name in self.names if not (path / name).is_file()}
        self.unreadable = [(name, "a link to nothing, or no regular file") for name in sorted(lost)]
        self.unreadable += [
            (os.path.relpath(e.filename, path), f"a folder that cannot be read: {e.strerror}") for e in closed
        ]
        self.names = [name for name in self.names if name not in lost]

    def open(self, name: str) -> BinaryIO:
        return open(self.path / name, "rb")

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def size(self, name: str) -> int:
        return (self.path / name).stat().st_size

    def stamp(self) -> str:
        return _stamp(self.path, *(self.path / name for name in self.names))

    def digest(self, index: int) -> bytes:
        with open(self.path / self.names[index], "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()


class Zip(Files):
    """A zip of images, stored or deflated, read in place: nothing is ever unpacked to disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "zip")
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise FruganError(f"{path} cannot be read as a zip ({error}); make it anew or unpack it by hand") from error
        self._members = {
            _zip_name(m).replace("\\", "/"): m for m in self._zip.infolist() if m.filename and not m.is_dir()
        }
        self._list(list(self._members))
        self._size = path.stat().st_size
        reasons = {name: self._unfit(name) for name in self.names}
        self.unreadable = [(name, reason) for name, reason in reasons.items() if reason]
        self.names = [name for name, reason in reasons.items() if not reason]

    def _unfit(self, name: str) -> str:
        member = self._members[name]
        if member.file_size > _LARGEST_MEMBER:
            return f"unpacks to {member.file_size:,} bytes; the limit is {_LARGEST_MEMBER:,}"
        return _unfit(member, self._size)

    def open(self, name: str) -> BinaryIO:
        with self.open_head(name) as file:
            return io.BytesIO(b"".join(_blocks(file, self.size(name))))

    def open_head(self, name: str) -> BinaryIO:
        if reason := self._unfit(name):
            raise zipfile.BadZipFile(reason)
        return cast(BinaryIO, self._zip.open(self._members[name]))

    def has(self, name: str) -> bool:
        return name in self._members

    def size(self, name: str) -> int:
        return self._members[name].file_size

    def stamp(self) -> str:
        return _stamp(self.path)

    def digest(self, index: int) -> bytes:
        with self.open_head(self.names[index]) as file:
            return _digest(file, self.size(self.names[index]))


class Tar(Files):
    """An uncompressed tar in the WebDataset layout: `key.png` (or .jpg, .webp …), with the label in `key.cls` or `key.json`.

    `key` is everything before the first dot of the file's name, its folders included. A tar that was cut short or whose
    headers are damaged is refused: how many images it held can no longer be known.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "tar")
        try:
            with tarfile.open(path, "r:") as archive:
                found = archive.getmembers()
                end = archive.offset
            with open(path, "rb") as file:
                file.seek(end)
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes damage for the end
                    raise tarfile.ReadError(f"no end mark at byte {end}: cut short or damaged")
        except (tarfile.TarError, OSError, ValueError, EOFError) as error:
            raise FruganError(f"{path} cannot be read as a tar ({error}); make it anew, uncompressed") from error
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
        return _stamp(self.path)

    def digest(self, index: int) -> bytes:
        member = self._members[self.names[index]]
        with open(self.path, "rb") as file:
            file.seek(member.offset_data)
            return _digest(file, member.size)

    def labels(self) -> list[Any]:
        """Each image's label as it was written: a whole number, a word, a list of numbers, or None where there is none."""
        return [self._label(name) for name in self.names]

    def stored_labels(self) -> np.ndarray | None:
        labels = self.labels()
        alike = len({(type(label), len(label) if isinstance(label, list) else 0) for label in labels}) == 1
        return np.array(labels) if alike and labels[0] is not None else None

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
                    f"{self.path}/{shown(key)}.json cannot be read as JSON ({shown(error)}); mend it"
                ) from error
            return facts.get("label") if isinstance(facts, dict) else facts
        return None

    def _read_text(self, name: str) -> str:
        if self.size(name) > _LARGEST_LABEL:
            raise FruganError(f"{self.path}/{shown(name)} holds more than {_LARGEST_LABEL:,} bytes: that is no label")
        return _as_text(self.open(name).read(), f"{self.path}/{shown(name)}")


class Arrays:
    """A .npy or .npz array: uint8 or uint16 `[N, H, W]`, `[N, H, W, C]` or, where that is plain, `[N, C, H, W]`."""

    alpha = False

    def __init__(self, path: Path) -> None:
        self.path, self.kind = path, path.suffix.lower()[1:]
        self.unreadable: list[tuple[str, str]] = []
        self.ignored: Counter[str] = Counter()
        self.own = OwnFiles()
        found, self._labels = _load_arrays(path)
        self._pixels = _as_nhwc(found, path)
        digits = max(6, len(str(len(self._pixels))))
        self.names = [f"{i:0{digits}d}" for i in range(len(self._pixels))]

    def stamp(self) -> str:
        return _stamp(self.path)

    def digest(self, index: int) -> bytes:
        return hashlib.sha256(self.pixels(index).tobytes()).digest()

    def header(self, index: int) -> Header:
        h, w, c = self._pixels.shape[1:]
        depth = 8 if self._pixels.dtype == np.uint8 else 16
        return Header(h, w, c, depth, self.kind, f"uint{depth} × {c}")

    def pixels(self, index: int) -> np.ndarray:
        return np.ascontiguousarray(self._pixels[index], self._pixels.dtype.newbyteorder("="))

    def text(self, name: str) -> None:
        return None

    def places(self, name: str) -> list[str]:
        return []

    def stored_labels(self) -> np.ndarray | None:
        return self._labels


def _load_arrays(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Images and, from a .npz, labels where there are some."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, None
        with loaded:
            keys = [next((key for key in wanted if key in loaded), None) for wanted in (_IMAGE_KEYS, _LABEL_KEYS)]
            for key in filter(None, keys):
                _check_array(loaded.zip, key, path.stat().st_size)
            images, labels = (loaded[key] if key else None for key in keys)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FruganError(
            f"{path} cannot be read as a NumPy file ({shown(error)}); save it anew with numpy.save"
        ) from error
    if images is None:
        raise FruganError(
            f"{path} has no array named {' or '.join(_IMAGE_KEYS)}, only {', '.join(loaded.files)}; rename it"
        )
    return images, labels


def _check_array(archive: zipfile.ZipFile, key: str, size: int) -> None:
    """Raises `ValueError` where an array of a .npz of `size` bytes would take more memory than its member brings."""
    member = archive.getinfo(key if key in archive.namelist() else f"{key}.npy")
    if reason := _unfit(member, size):
        raise ValueError(f"{shown(key)} {reason}")
    with archive.open(member) as file:  # the header first: NumPy sets memory aside for whatever it says
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    if math.prod(shape) * dtype.itemsize > member.file_size:
        raise ValueError(f"{shown(key)} of shape {shown(shape)} in {member.file_size:,} bytes")


def _as_nhwc(array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise FruganError(
            f"{path} holds {array.dtype} numbers, but images must be uint8 (0 to 255) or uint16 (0 to 65535); "
            "scale, round and convert them first"
        )
    if array.ndim == 3:
        return array[..., None]
    if array.ndim == 4:
        if array.shape[3] < min(array.shape[1:3]):
            return array
        if array.shape[1] < min(array.shape[2:]):
            return array.transpose(0, 2, 3, 1)
    raise FruganError(
        f"{path} has shape {array.shape}, which is not plainly (N, H, W), (N, H, W, C) or (N, C, H, W) with fewer "
        "channels than rows and columns; transpose it to (N, H, W, C)"
    )


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


def _unfit(member: zipfile.ZipInfo, size: int) -> str:
    """Why a member of a zip of `size` bytes is not read, or "": it would take more memory than it brings, or is locked."""
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


def _as_text(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FruganError(f"{where} is not UTF-8 text ({error}); save it as UTF-8") from error


def _stamp(top: Path, *rest: Path) -> str:
    digest = hashlib.sha256(os.fsencode(top.resolve()))
    for path in rest or (top,):
        stat = path.stat()
        digest.update(
            os.fsencode(path) + f"\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}\0{stat.st_ino}\n".encode()
        )
    return digest.hexdigest()


def read_text(path: Path) -> str:
    """A UTF-8 text file given by the user. Raises `FruganError` where there is none."""
    if not path.is_file():
        raise FruganError(f"there is no file {path}{beside(path)}; check the path")
    try:
        return _as_text(read_bytes(path, LARGEST_TEXT), str(path))
    except FruganError:
        raise
    except ValueError as error:
        raise FruganError(f"{path} cannot be read: {error}; is it a table of labels?") from error
