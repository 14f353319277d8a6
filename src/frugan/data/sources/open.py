"""From a path to a `Source`, by what lies there."""

from __future__ import annotations

from pathlib import Path

from frugan.checks import beside
from frugan.data.sources.archives import Tar, Zip
from frugan.data.sources.arrays import Arrays
from frugan.data.sources.base import SUFFIXES, Files, Source
from frugan.data.sources.folder import Folder
from frugan.errors import FruganError

CONTAINERS = (".zip", ".tar", ".npy", ".npz")


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
