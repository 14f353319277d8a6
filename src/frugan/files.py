"""Files: JSON and YAML read within limits; files and folders of any kind written whole or not at all.

A file that is read may have been damaged, edited by hand, or made to harm. Whatever is in it, reading takes memory in proportion
to its size and ends with a value, an `OSError` or a `ValueError`, of which the caller makes a sentence.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import stat
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import yaml

from frugan.errors import FruganError, fault, shown
from frugan.signals import unbroken

MAX_DEPTH = 64
"""Levels of nesting. What frugan writes has fewer than ten."""

MAX_JSON = 32 << 20
"""Bytes. Values take up to some 25 times the memory of their text."""

MAX_YAML = 256 << 10


def parse_json(text: str | bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value that a JSON text stands for. Raises `ValueError` where it is no JSON, or nested deeper than `MAX_DEPTH`.

    `pairs` makes the objects, of their keys and values; by default the last of equal keys counts.
    """
    try:
        value = json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError(_too_deep()) from None
    brackets = ("[", "{") if isinstance(text, str) else (b"[", b"{")
    if sum(text.count(bracket) for bracket in brackets) > MAX_DEPTH:  # pyright: ignore[reportArgumentType]
        _check_depth(value)
    return value


def read_json(file: Path, most: int = MAX_JSON) -> Any:
    """The value in a JSON file of at most `most` bytes. Raises `OSError` or `ValueError`."""
    return parse_json(read_bytes(file, most))


def read_yaml(file: Path, most: int = MAX_YAML) -> Any:
    """The value in a YAML file without aliases and merges, which frugan never writes. Raises `OSError` or `ValueError`."""
    text = read_bytes(file, most).decode("utf-8")
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, OverflowError, RecursionError) as error:
        raise ValueError(shown(" ".join(str(error).split()))) from error


def read_bytes(file: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes; a larger one is not read. Raises `OSError` or `ValueError`."""
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for, a device has no end
        raise ValueError("it is no regular file")
    if found.st_size > most:
        raise ValueError(f"it has more than {most:,} bytes, which is the limit")
    with file.open("rb") as stream:
        return stream.read(found.st_size + 1)  # sets aside what it is told to read


def _check_depth(value: Any) -> None:
    """Level by level, without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise ValueError(_too_deep())


def _too_deep() -> str:
    return f"it is nested deeper than {MAX_DEPTH} levels"


class _Loader(yaml.SafeLoader):
    """Plain values only. An alias stands for as much as its writer likes: 25 of them for 2^25 values, or for no end."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases (*name), which no file of frugan has")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.YAMLError(_too_deep())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [key for key, count in keys.items() if count > 1]:  # of which YAML would take the last
            raise yaml.YAMLError(f"it has {twice[0]!r} twice in the mapping from line {node.start_mark.line + 1}")
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.YAMLError("it merges mappings (<<), which no file of frugan does")


def plain(value: Any, *, finite: bool = True) -> Any:
    """Numbers, tensors, arrays and containers as strict JSON values: nan and ±inf become None, unless `finite` is false."""
    if isinstance(value, Mapping):
        return {str(k): plain(v, finite=finite) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v, finite=finite) for v in value]
    if isinstance(value, float):  # also numpy.float64
        return float(value) if math.isfinite(value) or not finite else None
    if hasattr(value, "tolist"):  # NumPy's and PyTorch's arrays and scalars
        return plain(value.tolist(), finite=finite)
    return str(value) if isinstance(value, os.PathLike) else value


@contextmanager
def replacing(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """A path beside `path`, of the same suffix, for the block to write; it replaces `path` in one step when the block ends well.

    A reader, or a crash, sees the old file or the new one, whole. The folder is not made: one that was moved away meanwhile
    is to leave nothing where it was. `durable` waits until the disk has the file, so that a power failure cannot lose it.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.stem[:_KEPT]}.{uuid.uuid4().hex[:12]}.tmp{path.suffix}")
    with _tidied(unfinished, path):
        yield unfinished
        if durable:
            sync(unfinished)
        os.replace(unfinished, path)


def located(error: OSError, path: Path, scratch: Path | None = None) -> None:
    """Gives an error a name, where the system tells none, as of a write that failed on a full disk.

    Args:
        error: of the system.
        path: the name.
        scratch: a file or folder that stands for `path`, whose name is replaced.
    """
    known = error.filename is not None and not (scratch and str(error.filename).startswith(str(scratch)))
    if not known and error.errno is not None:
        error.filename = str(path)


@unbroken
def discard(path: Path) -> None:
    """Removes a file, or a folder with all that is in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):  # a read-only disk refuses to remove what is not there, too
        path.unlink(missing_ok=True)


@contextmanager
def _tidied(scratch: Path, path: Path) -> Iterator[None]:
    """Removes in the end what the block has made at `scratch`. Errors name `path`, for which that stands."""
    try:
        yield
    except OSError as error:
        located(error, path, scratch)
        raise
    finally:
        discard(scratch)


def _hidden(folder: Path, name: str) -> Path:
    """A new name in the folder, for what is removed in the end."""
    return folder / f".{name[:_KEPT]}.{uuid.uuid4().hex[:12]}.tmp"


UNFINISHED = ".*.tmp*"
"""The pattern of what a killed `replacing` leaves behind."""

_KEPT = 40
"""Characters of a name that its unfinished file keeps: a name may have 255 bytes, in up to four for a character."""


def sync(path: Path) -> None:
    """Asks the disk to keep a file, or what was renamed within a folder."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str, *, durable: bool = True) -> None:
    """Replaces a text file in one step (see `replacing`), as UTF-8.

    Args:
        path: of the file.
        text: its new content.
        durable: whether to wait until the disk has it.
    """
    # file names need not be text: what UTF-8 cannot say becomes an escape, which JSON reads back
    with replacing(path, durable=durable) as unfinished:
        unfinished.write_text(text, "utf-8", "backslashreplace", newline="")


def write_json(path: str | Path, value: Any) -> None:
    """Writes a JSON file, whole or not at all; nan and ±inf become null."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def check_writable(path: str | Path, kind: Literal["file", "folder", "either"] = "file") -> None:
    """Raises `FruganError` unless a file, or a folder of files, can be made at `path`, or is there to be filled or replaced.

    It is tried, in a scratch folder that is removed again: permissions tell neither of a full disk nor of one that is read-only.

    Args:
        path: of what will be written.
        kind: of it; "either": a new file or folder.
    """
    path = Path(path).absolute()
    if kind == "file" and os.path.isdir(path):
        raise FruganError(f"{path} is a folder; name a file in it")
    if kind == "folder" and os.path.lexists(path) and not os.path.isdir(path):
        raise FruganError(f"{path} exists and is not a folder; name another place")
    above = (path, *path.parents) if kind == "folder" else path.parents
    place = next(folder for folder in above if os.path.lexists(folder))
    if not os.path.isdir(place):
        raise FruganError(f"{path} cannot be written: {place} is not a folder; name another place")
    inner = [part for part in path.relative_to(place).parts if part != ".."]
    scratch = _hidden(place, "frugan")
    try:
        file = scratch.joinpath(*inner, *(["file"] if kind == "folder" else []))
        os.makedirs(file.parent)
        file.write_bytes(b"0")
    except (OSError, ValueError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise FruganError(
            f"{shown(path)} cannot be written: {shown(place)} takes no such file ({fault(error)}); "
            f"{'make room there, or ' if full else ''}name another place"
        ) from None
    finally:
        discard(scratch)


@contextmanager
def building(out: Path) -> Iterator[Path]:
    """A place beside `out` where the block puts a file or folder; renamed to `out` when the block ends well.

    Raises `FruganError` where `out` exists already (an empty folder may).
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise FruganError(f"{out} exists already; name another place or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = _hidden(out.parent, out.name)
    with _tidied(scratch, out):
        scratch.mkdir()
        yield scratch / out.name
        if out.exists():
            out.rmdir()
        os.rename(scratch / out.name, out)


@contextmanager
def refilling(folder: Path, key: str, owned: Sequence[str] = ()) -> Iterator[Path]:
    """A scratch folder for the block to fill; its files become those of `folder` when the block ends well.

    A new folder appears whole or not at all. In one that exists they replace files of their names, those of `owned` that the
    block does not write are removed, others stay. `key` is the file without which the folder means nothing: it goes first
    and comes last, so that a crash between two renames leaves a folder that is refused instead of one that mixes old and new.
    """
    (folder if folder.exists() else folder.parent).mkdir(parents=True, exist_ok=True)  # raises where it is a file
    home = folder if folder.exists() else folder.parent
    scratch = _hidden(home, folder.name)
    inner = scratch / folder.name
    with _tidied(scratch, folder):
        inner.mkdir(parents=True)
        yield inner
        names = sorted((file.name for file in inner.iterdir()), key=lambda name: name == key)
        for name in names:
            sync(inner / name)
        _move(names, inner, folder, without=(key, *owned))


@unbroken
def _move(names: Sequence[str], source: Path, folder: Path, *, without: Sequence[str]) -> None:
    """Moves all that is in `source`, of these names, to `folder`, from which other names are removed first."""
    if not folder.exists():
        os.rename(source, folder)
        return
    for name in without:
        (folder / name).unlink(missing_ok=True)
    for name in names:
        os.replace(source / name, folder / name)
