"""Networks of a run, a checkpoint, a foreign file or the hub, loaded to use them or to train on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from frugan.channels import has_alpha
from frugan.checks import beside
from frugan.command_line import command
from frugan.errors import FruganError
from frugan.interop import Imported, download, read_network, read_notes
from frugan.interop.hub import FILES, HUB
from frugan.networks import Generator, load_generator
from frugan.pixel_format import PixelFormat
from frugan.run.directory import RunDirectory, read_json
from frugan.shipped import resolve_shipped
from frugan.training import checkpoint


def generator_folder(path: str | Path) -> Path:
    """The directory that holds the generator: of a run, its best checkpoint by its metric, else the newest; of
    "hf:user/name", its copy in the hub's cache; of "sample", the one that comes with frugan; or `path`."""
    path = resolve_shipped(path)
    if path.as_posix().startswith(HUB):
        return download(path.as_posix())
    if (path / "config.yaml").is_file():
        run = RunDirectory(path)
        found = run.best() or run.latest()
        if found is None:
            raise FruganError(f"{path} has no whole checkpoint; train it with: {command('resume', path)}")
        path = found.path
    if (path / checkpoint.MANIFEST).is_file():
        checkpoint.Checkpoint(path).verify()
    if not path.is_dir():
        raise FruganError(f"{path} is neither a run nor a checkpoint: no such directory{beside(path)}")
    return path


def load(path: str | Path) -> Generator:
    """The generator of a run (the best by its metric, else the newest), of a checkpoint directory, of a foreign file
    (see `frugan.interop`), of "hf:user/name" on the Hugging Face hub, or the "sample" that comes with frugan; on the CPU."""
    return load_with_notes(path)[0]


def load_with_notes(path: str | Path) -> tuple[Generator, list[str]]:
    """The generator as from `load`, and notes on what its import left out or estimated."""
    if Path(path).is_file():
        found = read_network(path)
        return found.generator, found.notes
    on_hub = Path(path).as_posix().startswith(HUB)
    folder = download(Path(path).as_posix(), files=FILES[:2]) if on_hub else generator_folder(path)
    return _with_pixels(load_generator(folder), path), read_notes(folder)


def read_source(path: str | Path) -> Imported:
    """The networks of a run (its best by its metric, else the newest), a checkpoint, or a foreign file, to train on."""
    if Path(path).is_file():
        return read_network(path)
    found = read_network(generator_folder(path))
    _with_pixels(found.generator, path)
    return found


def _with_pixels(G: Generator, path: str | Path) -> Generator:
    """The generator, its pixel format taken from the data.json of an older run where its configuration tells none."""
    path = resolve_shipped(path)
    for folder in (path, path.resolve().parent.parent) if G.config.pixels is None else ():
        facts = read_json(folder / "data.json") or {}
        depth, ends = facts.get("depth", facts.get("bits")), facts.get("value_range")
        with suppress(TypeError, ValueError, KeyError, IndexError):  # a file of anything
            if depth in (8, 16):
                pair = ((float(ends[0]), float(ends[1])),) if ends else None
                pixels = PixelFormat("uint8" if depth == 8 else "uint16", pair, has_alpha(G.channels))
                G.config = replace(G.config, pixels=pixels)
    return G


def read_class_names(path: str | Path) -> list[str] | None:
    """The class names of the run at `path`, of the run that the checkpoint at `path` belongs to, or of exported networks."""
    path = resolve_shipped(path)
    if path.as_posix().startswith(HUB):
        path = download(path.as_posix(), files=["config.json"])
    for file in (path / "data.json", path.resolve().parent.parent / "data.json", path / "config.json"):
        names = (read_json(file) or {}).get("class_names")
        if names and isinstance(names, list):
            return [str(name) for name in names]
    return None
