"""Opening of sources: a path → a `Source`, by what is there."""

from __future__ import annotations

from pathlib import Path

from frugan.checks import beside
from frugan.command_line import command
from frugan.data.sources.archives import Tar, Zip
from frugan.data.sources.arrays import Arrays
from frugan.data.sources.base import SUFFIXES, Files, Source
from frugan.data.sources.folder import Folder, SingleFile
from frugan.data.sources.parts import FIRST, MAY_HAVE_FRAMES, SET_SUFFIXES, ZARR, Taken, suffix_of
from frugan.errors import FruganError

CONTAINERS = (".zip", ".tar", ".npy", ".npz", *SET_SUFFIXES)


def open_source(path: str | Path, *, use_generated: bool = False, taken: Taken = FIRST) -> Source:
    """The images at a path, without those that frugan wrote; `use_generated` keeps the ones that it generated one by one.

    `taken`: which images of files that hold several. Raises `FruganError` where there is nothing, or nothing that holds images.
    """
    path = Path(path).expanduser()
    several = (*SET_SUFFIXES, *(MAY_HAVE_FRAMES if taken.frames == "all" else ()))
    if path.exists() and suffix_of(path.name) in several and (path.is_file() or suffix_of(path.name) in ZARR):
        source: Source = SingleFile(path)
    elif path.is_dir():
        source = Folder(path)
    elif not path.exists():
        raise FruganError(f"there is no file or folder {path}{beside(path)}; check the path")
    elif path.suffix.lower() == ".zip":
        source = Zip(path)
    elif path.suffix.lower() == ".tar":
        source = Tar(path)
    elif path.suffix.lower() in (".npy", ".npz"):
        source = Arrays(path)
    else:
        frames = ""
        if suffix_of(path.name) in MAY_HAVE_FRAMES:
            unpack = command("data", "prepare", str(path), "images.zip", "--frames", "all")
            frames = f"; or take all its frames or pages: with --frames all in train and data, elsewhere from {unpack}"
        raise FruganError(f"{path} is a single file; give a folder of images or a {', '.join(CONTAINERS)} file{frames}")
    if isinstance(source, Files):
        source.leave_out_own(use_generated)
        source.take(taken)
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
    if isinstance(source, SingleFile):
        return FruganError(f"{source.path} holds no images: {source.no_images}")
    found = ", ".join(f"{count} × {suffix or 'no suffix'}" for suffix, count in source.ignored.most_common(5))
    return FruganError(
        f"{source.path} holds no images (files ending in {', '.join(SUFFIXES)}); found: {found or 'nothing'}; "
        "convert them or give another path"
    )
