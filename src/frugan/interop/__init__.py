"""Other people's files, read safely; and ours, written for other people's programs."""

from pathlib import Path

from frugan.checks import beside
from frugan.errors import FruganError
from frugan.interop.community import community_state, read_community, write_community
from frugan.interop.export import ExportConfig, Exported, export_onnx, export_program
from frugan.interop.hub import download, from_pretrained, save_pretrained
from frugan.interop.native import read_directory, read_notes, write_directory
from frugan.interop.nvidia import Imported, read_release
from frugan.interop.pickles import read_pickle

__all__ = [
    "ExportConfig",
    "Exported",
    "Imported",
    "community_state",
    "download",
    "export_onnx",
    "export_program",
    "from_pretrained",
    "read_community",
    "read_directory",
    "read_network",
    "read_notes",
    "read_pickle",
    "read_release",
    "save_pretrained",
    "write_community",
    "write_directory",
]

READERS = {".pkl": read_release, ".pickle": read_release, ".pt": read_community, ".pth": read_community}
"""By the file's extension."""


def read_network(path: str | Path) -> Imported:
    """The networks in a foreign file, by its extension, or in a directory of ours. Nothing is executed. Raises `FruganError`."""
    path = Path(path)
    if path.is_dir():
        return read_directory(path)
    if not path.is_file():
        raise FruganError(f"{path} is no regular file" if path.exists() else f"there is no file {path}{beside(path)}")
    if path.suffix.lower() not in READERS:
        raise FruganError(f"{path}: files that can be imported end in {', '.join(READERS)}")
    return READERS[path.suffix.lower()](path)
