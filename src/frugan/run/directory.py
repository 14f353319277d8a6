"""A run directory: configuration, checkpoints and reports, who may write there, and where its images lie."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import filelock

from frugan import files, tracking
from frugan.checks import beside
from frugan.command_line import command
from frugan.config.schema import RunConfig, load_config, save_config
from frugan.data import Dataset, open_dataset
from frugan.errors import FruganError, shown
from frugan.files import UNFINISHED
from frugan.run.paths import absolute, data_places, located, relative_paths
from frugan.training import checkpoint

Record = dict[str, Any]

Advance = Callable[[int, int], None]


class Status(NamedTuple):
    """The status of a run: "running", "finished", "interrupted", "failed", "not begun" or "killed".

    It is "killed" where it says that it is running and no process has its directory locked. `silent`: seconds since its
    last sign of life.
    """

    name: str
    kimg: float
    total_kimg: float | None
    silent: float | None

    @property
    def sentence(self) -> str:
        """The status in words, for instance "killed: no sign of life for 2 hours 5 minutes"."""
        if self.silent is None or self.name not in ("running", "killed"):
            return self.name
        last = tracking.duration(self.silent)
        return (
            f"running; last sign of life {last} ago"
            if self.name == "running"
            else f"killed: no sign of life for {last}"
        )


def runs_of(path: Path) -> list[Path]:
    """The path itself if it is a run directory, else those directly within it, in order of their names."""
    return [path] if (path / "config.yaml").is_file() else sorted(file.parent for file in path.glob("*/config.yaml"))


class RunDirectory:
    """A run directory. `RunDirectory.create` begins one, `RunDirectory(path)` opens one."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / "config.yaml").is_file():
            like = "" if self.path.exists() else beside(self.path)
            begun = "" if like else "; one that was stopped before its first step has none, too: begin it again"
            raise FruganError(f"{self.path} is not a run: it has no config.yaml{like}{begun}")
        self._locked: ExitStack | None = None
        self._load()

    def _load(self) -> None:
        self._saved = load_config(self.path / "config.yaml")
        self.config = located(self._saved, self.path)

    @classmethod
    def create(cls, path: str | Path, config: RunConfig) -> Self:
        """Begins a run in a directory that is free (see `check_free`), and keeps it locked until training has ended."""
        path = Path(path)
        check_free(path)
        path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            lock(path, stack)  # of two processes that begin here at once, one does
            with ExitStack() as launcher:
                lock(path, launcher, LAUNCHER_LOCK)
            check_free(path)
            _clear_failed_start(path)
            _save(config, path)
            run = cls(path)
            run._locked = stack.pop_all()
        return run

    @contextmanager
    def launching(self) -> Iterator[None]:
        """Leaves the directory to processes of its own, for others locked all the same."""
        with ExitStack() as stack:
            lock(self.path, stack, LAUNCHER_LOCK)
            if self._locked:
                self._locked.close()
                self._locked = None
            yield

    def open_data(self, path: str | None = None, *, progress: Advance | None = None) -> Dataset:
        """The run's images, from `path`, or from wherever they lie now, seen from the root or from the run.

        Raises `FruganError` where none of these places holds the images that the run began with.
        """
        began_with = (self.read("data.json") or {}).get("fingerprint")
        places = list(data_places(self._saved, self.path, path and absolute("data.path", path)))
        errors = []
        for place in places:
            try:
                dataset = open_dataset(place, progress=progress).as_begun_with(began_with)
            except FruganError as error:
                errors.append(error)
                continue
            if began_with in (None, dataset.fingerprint):
                return dataset
            errors.append(changed_data(place.path))
        if path or any("://" in place.path or os.path.exists(place.path) for place in places):
            raise errors[0]
        raise FruganError(f"{errors[0]}; if the images of {self.path} have moved, name their place with --data")

    def set_threads(self, count: int) -> None:
        """Keeps the number of CPU threads that the run computes with from now on."""
        if count != self._saved.threads:
            with ExitStack() as stack:
                lock(self.path, stack)
                _save(replace(self._saved, threads=count), self.path)
            self._load()

    def status(self) -> Status:
        """The progress of the run, and whether it is still alive."""
        facts = self.read("run.json") or {}
        said = str(facts.get("status", "not begun"))
        seen = tracking.parse_time(facts.get("sign_of_life"))
        silent = max(time.time() - seen, 0.0) if seen else None
        killed = said == "running" and not _is_locked(self.path)
        return Status(
            "killed" if killed else said,
            tracking.finite(facts.get("kimg")) or 0.0,
            tracking.finite(facts.get("total_kimg")),
            silent,
        )

    def move_data(self, path: str) -> None:
        """Keeps `path` as the place of the run's images, once they have been found to be those it began with."""
        with ExitStack() as stack:
            lock(self.path, stack)
            place = self.open_data(path).config
            _save(replace(self._saved, data=place), self.path)
        self._load()

    @property
    def page(self) -> Path:
        """The absolute path of the page to look at."""
        return self.path.resolve() / "index.html"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def latest(self) -> checkpoint.Checkpoint | None:
        """The newest checkpoint that verifies."""
        return checkpoint.latest(self.checkpoints)

    def best(self) -> checkpoint.Checkpoint | None:
        """The checkpoint with the best metric so far, if any was measured."""
        name = str(self.report("best.json").get("checkpoint"))
        return next((c for c in checkpoint.all_checkpoints(self.checkpoints) if c.path.name == name), None)

    def read(self, name: str) -> Record | None:
        """A JSON file of the run directory, or None where there is none yet."""
        return read_json(self.path / name)

    def report(self, name: str) -> Record:
        """Reads a file that nothing depends on: a damaged one is skipped, so that it does not stop the run."""
        try:
            return self.read(name) or {}
        except FruganError:
            return {}

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes a JSON file of the run directory, whole or not at all."""
        files.write_json(self.path / name, value)


def changed_data(path: str) -> FruganError:
    return FruganError(
        f"the images at {path} have changed since this run began, or are others; restore them, name their place with "
        "--data, or begin a new run"
    )


def _save(config: RunConfig, path: Path) -> None:
    save_config(replace(config, relative_paths=relative_paths(config, path)), path / "config.yaml")


def read_json(file: Path) -> Record | None:
    """The object in a JSON file, or None where there is no file. Raises `FruganError` where it holds something else."""
    try:
        value = files.read_json(file) if file.is_file() else None
        if value is None or isinstance(value, dict):
            return value
        reason = "no JSON object"
    except ValueError as error:
        reason = shown(error)
    raise FruganError(f"{file} is damaged ({reason}); restore it from a copy, or remove it")


LAUNCHER_LOCK = ".lock-launcher"

_OWN_FILES = (
    *(
        "config.yaml",
        "run.json",
        "data.json",
        "environment.json",
        "start.json",
        "best.json",
        "stats.jsonl",
        "index.html",
        "trackers.json",
    ),
    *("reals.png", "samples", "evaluations", "tensorboard", "wandb", "checkpoints", UNFINISHED, ".lock*"),
)
"""Patterns of all that a run writes into its directory, but for exports that a user may put there."""


def check_free(path: Path) -> None:
    """Raises `FruganError` unless a run can begin there: nothing yet, an empty directory, or a start that failed.

    A start has failed where a run has no checkpoint: there is nothing to go on from.
    """
    files.check_writable(path, "folder")
    if path.exists():
        if path.is_dir() and (path / "config.yaml").is_file() and _has_checkpoint(path):
            raise FruganError(
                f"{path} holds a run already; continue it with `{command('resume', path)}`, or choose another --out"
            )
        begun = path.is_dir() and (path / "config.yaml").is_file()
        own = _OWN_FILES if begun else (".*.tmp", ".lock*")
        if not path.is_dir() or any(not any(entry.match(name) for name in own) for entry in path.iterdir()):
            raise FruganError(f"{path} exists and is not an empty directory; choose another --out")


def _has_checkpoint(path: Path) -> bool:
    folder = path / "checkpoints"
    return folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir())


def _clear_failed_start(path: Path) -> None:
    """Removes what a run without a checkpoint has left, so that nothing of it passes for the next one's."""
    for entry in path.iterdir():
        if entry.name.startswith(".lock"):
            continue
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _is_locked(path: Path) -> bool:
    """Whether a process trains there, or has started others that do."""
    for lock in (path / ".lock", path / LAUNCHER_LOCK):
        try:
            if lock.is_file():
                filelock.FileLock(lock, timeout=0, thread_local=False).acquire().lock.release()
        except filelock.Timeout:
            return True
        except OSError:  # of another user, say
            continue
    return False


def lock(path: Path, stack: ExitStack, name: str = ".lock") -> None:
    """Locks a run's directory until a stack of contexts ends. Raises `FruganError` where another process holds the lock.

    Args:
        path: the directory.
        stack: which releases the lock.
        name: of the lock's file.
    """
    try:
        # Who only looks whether there is a run already has it for a moment; who trains keeps it.
        stack.enter_context(filelock.FileLock(path / name, timeout=1, thread_local=False))
    except filelock.Timeout:
        raise FruganError(f"{path} is being trained by another process; wait for it, or stop it first") from None
