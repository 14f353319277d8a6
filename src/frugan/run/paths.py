"""Paths in a run's configuration: kept absolute and relative to the run directory, found again from anywhere.

A run works from any working directory, and after it was moved together with what it names. What is no path of this
machine (a URL, a name on a hub, a table beside the images) stays as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from frugan.config.schema import RunConfig
from frugan.data import DataConfig
from frugan.shipped import resolve_shipped

FIELDS = (
    "data.path",
    "data.masks",
    "data.labels",
    "data.group",
    "evaluate.features",
    "evaluate.weights",
    "transfer.init_from",
)
"""Fields of `RunConfig` that may hold a path."""

_TABLE = re.compile(r"(?P<path>.*\.(?:csv|tsv|jsonl?))(?P<columns>:[^/\\]+)?", re.IGNORECASE)
_SPECIAL = re.compile(r"[{*?\[]")  # of a pattern of shards


def absolute(field: str, text: str | None) -> str | None:
    """A path of this machine as an absolute one; anything else, and a path where nothing lies, as it is."""
    if text is None or (parts := _parts(field, text)) is None or not os.path.exists(parts[0]):
        return text
    return _tidy(parts[0]) + parts[1]


def relative_paths(config: RunConfig, run_dir: Path) -> dict[str, str]:
    """The way from the run directory to each existing path of a configuration, by field; the directory has to exist."""
    found = {field: _relative(field, str(value), run_dir) for field in FIELDS if (value := _get(config, field))}
    return {field: path for field, path in found.items() if path}


def located(config: RunConfig, run_dir: Path) -> RunConfig:
    """The configuration with every path where its file or folder lies now; one that is nowhere stays as it is."""
    for field in FIELDS:
        if places := list(_places(config, field, run_dir)):
            config = _with(config, field, places[0])
    return config


def data_places(config: RunConfig, run_dir: Path, moved_to: str | None = None) -> Iterator[DataConfig]:
    """Places where a run's data may be now, the most likely first: those that exist, or only `moved_to`.

    Args:
        config: of the run.
        run_dir: its directory.
        moved_to: the place that the user gave, or None.
    """
    data = config.data
    masks = next(_places(config, "data.masks", run_dir), data.masks)
    paths = [moved_to] if moved_to else list(_places(config, "data.path", run_dir)) or [data.path]
    for path in paths:
        without = tuple(_rebased(url, data.path, path) for url in data.without)
        group = next(_tables(config, "data.group", run_dir, path)) if data.group else None
        for place in _tables(config, "data.labels", run_dir, path):
            yield replace(data, path=path, labels=place, group=group, masks=masks, without=without)


def _tables(config: RunConfig, field: str, run_dir: Path, path: str) -> Iterator[str]:
    """Places of a table of labels or groups, given that the images are at `path`, the likeliest first."""
    text = _get(config, field)
    places = [*_places(config, field, run_dir), *_moved_along(text, config.data.path, path, field), text]
    yield from dict.fromkeys(places if os.path.isabs(text) else [text, *places])


def _parts(field: str, text: str) -> tuple[str, str] | None:
    """(file or folder, the rest): columns of a table, or what follows the last plain folder of a pattern of shards."""
    if "://" in text or text.startswith("hf:") or (field == "evaluate.features" and not Path(text).suffix):
        return None
    if field == "transfer.init_from" and resolve_shipped(text) != Path(text):
        return None
    rest = ""
    if field in ("data.labels", "data.group"):
        if text.startswith("regex:") or not (match := _TABLE.fullmatch(text)):
            return None
        text, rest = match["path"], match["columns"] or ""
    elif field == "data.path" and text.lower().endswith((".tar", ".txt")) and (special := _SPECIAL.search(text)):
        head, slash, _ = text[: special.start()].rpartition("/")
        text, rest = head or slash or ".", text[len(head) :] if slash else f"/{text}"
    return os.path.expanduser(text), rest


def _tidy(path: str) -> str:
    """Absolute, without "..", unless a symbolic link makes that another place."""
    plain = os.path.abspath(path)
    return plain if os.path.exists(plain) and os.path.samefile(plain, path) else str(Path(path).absolute())


def _relative(field: str, text: str, run_dir: Path) -> str | None:
    """The way from the run directory, which outlives a move of both; None where there is no such way or file."""
    if (parts := _parts(field, text)) is None or not os.path.exists(parts[0]):
        return None
    for form in (os.path.abspath, os.path.realpath):  # with symbolic links as the user has them, if that leads there
        try:
            way = os.path.relpath(form(parts[0]), form(run_dir))
            if os.path.samefile(run_dir / way, parts[0]):
                return Path(way).as_posix() + parts[1]
        except (OSError, ValueError):  # nothing there; on Windows another drive
            continue
    return None


def _places(config: RunConfig, field: str, run_dir: Path) -> Iterator[str]:
    """Existing places of a path: as it stands, from the run directory; of an old relative one, from the folders above."""
    value = _get(config, field)
    if not value or (parts := _parts(field, value)) is None:
        return
    tried = [parts]
    if (way := config.relative_paths.get(field)) and (kept := _parts(field, way)):
        tried.append((os.path.join(run_dir, kept[0]), kept[1]))
    if not os.path.isabs(parts[0]):
        tried += [
            (os.path.join(folder, parts[0]), parts[1]) for folder in (run_dir.absolute(), *run_dir.absolute().parents)
        ]
    yield from dict.fromkeys(_tidy(path) + rest for path, rest in tried if os.path.exists(path))


def _moved_along(text: str, old: str, new: str, field: str) -> Iterator[str]:
    """A table that lay among the images of the folder `old`, in their new place."""
    inside = _rebased(text, old, new)
    if inside != text and (parts := _parts(field, inside)) and os.path.exists(parts[0]):
        yield inside


def _rebased(text: str, old: str, new: str) -> str:
    """`text` with the folder `old` at its beginning, or after "file://", replaced by `new`."""
    old, new = ((_parts("data.path", path) or (path, ""))[0].rstrip("/") for path in (old, new))
    scheme = "file://" if text.startswith("file://") else ""
    rest = text.removeprefix(scheme).removeprefix(f"{old}/")
    return text if rest == text.removeprefix(scheme) else f"{scheme}{new}/{rest}"


def _get(config: RunConfig, field: str) -> Any:
    section, name = field.split(".")
    return getattr(getattr(config, section), name)


def _with(config: RunConfig, field: str, value: str) -> RunConfig:
    section, name = field.split(".")
    changed: dict[str, Any] = {section: replace(getattr(config, section), **{name: value})}
    return replace(config, **changed)
