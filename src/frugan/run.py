"""A run: a directory that holds a configuration, what training wrote so far, and all it takes to go on."""

from __future__ import annotations

import errno
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import filelock
import numpy as np
import torch
from torch import Tensor

from frugan import reading, tracking
from frugan.augment import Augmentation, AugmentConfig, AugmentPipeline, Chain, DiffAugment, Measurement
from frugan.checks import beside
from frugan.command_line import command
from frugan.config import Derived, Facts, Options, RunConfig, load_config, resolve, save_config
from frugan.data import DataConfig, Dataset, open_dataset
from frugan.errors import FruganError, explain, shown
from frugan.images import grid, save_image, to_uint8
from frugan.interop import Imported, download, read_network, read_notes
from frugan.interop.pretrained import FILES, HUB
from frugan.metrics import METRICS, Evaluator, ImageSet, load_features
from frugan.metrics.evaluate import FEWEST
from frugan.networks import Discriminator, Generator, checkpoint_activations, load_generator
from frugan.places import absolute, data_places, located, relative_paths
from frugan.processes import any_of, first_before_others, from_first, gather, rank, world_size
from frugan.tracking import health
from frugan.training import Phases, StartReport, TrainingConfig, TrainState, checkpoint, threads
from frugan.training import train as training_steps
from frugan.training.pacing import seconds_per_kimg
from frugan.training.transfer import freeze, take_over
from frugan.training.trial import compiling_pays, fitting_batch

Record = dict[str, Any]
Advance = Callable[[int, int], None]

MAX_ROLLBACKS = 3
EARLY_SECONDS = 30.0
"""After so much training a new run writes its first record and sample grid, however far its first tick is."""
SIGN_SECONDS = 60.0
DAY = 86_400.0
BUSY = 2.0
"""Times as slow as before, and as with fewer threads: then a busy machine is told of."""


def choose_device(name: str = "auto") -> torch.device:
    """ "auto": CUDA (or ROCm), then Apple's MPS, then the CPU. Raises `FruganError` if the device asked for is not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    kind = name.split(":")[0]
    if kind not in available:
        raise FruganError(f"device {name!r}: choose auto, {', '.join(available)}")
    if not available[kind]:
        raise FruganError(f"device {name!r} is not available to this PyTorch ({torch.__version__}); try --device auto")
    return torch.device(name)


def bf16_pays(device: torch.device) -> bool:
    """Whether bfloat16 is worth it there: native on a GPU; on a CPU measured, since only some have the instructions."""
    if device.type != "cpu":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)

    def seconds(dtype: torch.dtype) -> float:
        x = torch.zeros(16, 64, 16, 16, dtype=dtype).contiguous(memory_format=torch.channels_last)
        w = torch.zeros(64, 64, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
        times = []
        for _ in range(7):
            started = time.perf_counter()
            torch.nn.functional.conv2d(x, w, padding=1)
            times.append(time.perf_counter() - started)
        return min(times)

    return seconds(torch.float32) > 1.3 * seconds(torch.bfloat16)


class Plan(NamedTuple):
    """What a run would be: its configuration, why, on what images, and what it takes from other networks; `note`: what
    was decided that the user may want otherwise."""

    config: RunConfig
    derived: list[Derived]
    dataset: Dataset
    start: StartReport | None
    note: str | None = None


def plan(
    options: Options,
    data: DataConfig,
    *,
    device: torch.device,
    processes: int | None = None,
    progress: Advance | None = None,
) -> Plan:
    """Opens the data and resolves the configuration; writes nothing but the data's cache.

    Fine-tuning takes the images at the size and channels of the networks it starts from, where nothing else is asked
    for. `processes` is how many will train (default: those that are at it). Raises `FruganError` where those networks do
    not fit, unless `options.allow_partial`.
    """
    data, options = _anchored(data, options)
    source = None
    if options.init_from:
        source = read_source(options.init_from)
        G = source.generator
        kinds: dict[int, Any] = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
        channels = kinds.get(G.channels, "auto") if data.channels == "auto" else data.channels
        data = replace(data, resolution=data.resolution or G.resolution, channels=channels)
    dataset = open_dataset(data, progress=progress)
    data = dataset.config  # names the shards that could not be had, so that a resume goes on without them
    facts = Facts(
        resolution=dataset.resolution,
        channels=dataset.channels,
        label_size=dataset.label_size,
        measured=dataset.measured,
        images=len(dataset.train_indices),
        held_out=len(dataset.held_out_indices),
        device=device.type,
        bf16=bf16_pays(device),
        processes=processes or world_size(),
        generator=source and source.generator.config,
        discriminator=source.discriminator.config if source and source.discriminator else None,
    )
    fitted = options.batch_per_device == "auto"
    if fitted:
        whole, _ = resolve(replace(options, batch_per_device=None), data, facts)
        options = replace(options, batch_per_device=_fitting(whole, dataset, device, processes or world_size()))
    count, reason, note = None, "", None
    if device.type == "cpu":
        count, reason = _threads(resolve(options, data, facts)[0], options.threads, processes or world_size())
        if not options.preset and options.kimg is None:
            with threads.using(count):
                options, note = _ending_tonight(options, data, facts)
    config, derived = resolve(options, data, facts)
    config = replace(config, threads=count)
    if options.threads == "auto" and count:
        derived.append(Derived("threads", count, reason))
    if fitted:
        derived.append(Derived("batch_per_device", config.training.batch_per_device, "what fits into memory at once"))
    if options.compile == "auto":
        pays, reason = _compiling(config, device)
        config = replace(config, training=replace(config.training, compile=pays))
        derived.append(Derived("compile", pays, reason))
    start = None
    if source:
        G, D = Generator(config.generator), Discriminator(config.discriminator)
        freeze(G, D, config.transfer)
        start = StartReport(str(options.init_from))
        take_over((G, D), source, start)
        if not (start.complete or options.allow_partial):
            raise FruganError(
                f"{options.init_from} does not fit this run:\n" + "\n".join(start.lines()) + "\n"
                "ask for the same size, channels and labels, or add --allow-partial to go on like this"
            )
    _check_start(config, dataset, device)
    return Plan(config, derived, dataset, start, note)


def _ending_tonight(options: Options, data: DataConfig, facts: Facts) -> tuple[Options, str | None]:
    """Options that a CPU can finish: where preset auto would take more than a day, preset tiny (networks to start from are
    kept), and no more kimg than half a day allows. And a sentence that says so, if anything has changed."""
    config, _ = resolve(options, data, facts)
    seconds = pace(config) * config.kimg
    if seconds <= DAY:
        return options, None
    found = options
    if not options.init_from:
        with suppress(FruganError):  # what the user asked for besides may not go with it
            resolve(replace(options, preset="tiny"), data, facts)
            found = replace(options, preset="tiny")
    shorter, _ = resolve(found, data, facts)
    per_kimg = pace(shorter)
    if per_kimg * shorter.kimg > DAY / 2:
        found = replace(found, kimg=float(max(int(DAY / 2 / per_kimg), 1)))
    return found, (
        f"This machine has no GPU that PyTorch can use, and preset auto would take {tracking.duration(seconds)} for "
        f"{config.kimg:g} kimg. This run takes preset {found.preset or 'auto'}, {found.kimg or shorter.kimg:g} kimg."
    )


def pace(config: RunConfig) -> float:
    """Seconds per kimg on this CPU, with the run's number of threads, if it has one."""
    group = max(config.discriminator.mbstd_group or 1, 4)
    phases = _trial_phases(config, torch.device("cpu"))
    with threads.using(config.threads):
        return seconds_per_kimg(phases, min(config.training.batch_per_device, group))


def _threads(config: RunConfig, asked: int | Literal["auto"] | None, processes: int) -> tuple[int, str]:
    """How many threads each process computes with on a CPU, and why."""
    if asked != "auto":
        return asked or torch.get_num_threads(), "as asked for"
    most = max(min(torch.get_num_threads(), threads.usable_cores() // processes), 1)
    if most == 1:
        return 1, "one core for each process"
    count, taken = threads.choose_threads(threads.work_of(_trial_phases(config, torch.device("cpu"))), most)
    tried = ", ".join(f"{n}: {seconds * 1000:.3g} ms" for n, seconds in taken.items())
    return count, f"fastest of those tried ({tried})"


def _anchored(data: DataConfig, options: Options) -> tuple[DataConfig, Options]:
    """Both with absolute paths: a run is to find its files from any working directory."""
    labels = absolute("data.labels", data.labels) or data.labels
    data = replace(data, path=absolute("data.path", data.path) or data.path, labels=labels)
    fields = ("evaluate.features", "evaluate.weights", "transfer.init_from")
    names = {name.partition(".")[2]: name for name in fields}
    return data, replace(options, **{name: absolute(field, getattr(options, name)) for name, field in names.items()})


def _fitting(config: RunConfig, dataset: Dataset, device: torch.device, processes: int) -> int:
    """How many of a process's share of the batch fit into memory at once, tried with networks of the run's own kind."""
    share = config.training.batch // processes
    group = min(config.discriminator.mbstd_group or share, share)
    sharing = processes if device.type == "cpu" else 1
    reserve = dataset.resident_bytes(device)
    return fitting_batch(_trial_phases(config, device), share, group, reserve=reserve, sharing=sharing)


def _compiling(config: RunConfig, device: torch.device) -> tuple[bool, str]:
    if config.training.activation_checkpointing:
        return False, "does not go with activation checkpointing"
    if device.type not in ("cpu", "cuda"):
        return False, f"not tried on {device.type}"
    if device.type == "cpu":
        return False, "minutes of compiling on a CPU; ask for it in runs of hours, which gain up to a sixth"
    make = lambda compiled: _trial_phases(config, device, compiled=compiled)  # noqa: E731
    n = config.training.batch_per_device
    return compiling_pays(make, n, min(config.discriminator.mbstd_group or n, n), config.kimg)


def _trial_phases(config: RunConfig, device: torch.device, *, compiled: bool = False) -> Phases:
    G, D = Generator(config.generator).to(device), Discriminator(config.discriminator).to(device)
    freeze(G, D, config.transfer)
    return make_phases(config, G, D, compiled=compiled)


def read_source(path: str | Path) -> Imported:
    """The networks of a run (its best by its metric, else the newest), a checkpoint, or a foreign file, to train on."""
    return read_network(path if Path(path).is_file() else generator_folder(path))


class Status(NamedTuple):
    """What is known of a run: "running", "finished", "interrupted", "failed", "not begun", or "killed", where it says that
    it is running and no process has its directory locked; `silent`: seconds since its last sign of life."""

    name: str
    kimg: float
    total_kimg: float | None
    silent: float | None

    @property
    def sentence(self) -> str:
        """In words, for instance "killed: no sign of life for 2 hours 5 minutes"."""
        if self.silent is None or self.name not in ("running", "killed"):
            return self.name
        last = tracking.duration(self.silent)
        return (
            f"running; last sign of life {last} ago"
            if self.name == "running"
            else f"killed: no sign of life for {last}"
        )


class Run:
    """A run directory. `Run.create` begins one, `Run(path)` opens one; `train` starts or continues it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / "config.yaml").is_file():
            raise FruganError(
                f"{self.path} is not a run: it has no config.yaml{'' if self.path.exists() else beside(self.path)}"
            )
        self._locked: ExitStack | None = None
        self._load()

    def _load(self) -> None:
        self._saved = load_config(self.path / "config.yaml")
        self.config = located(self._saved, self.path)

    @classmethod
    def create(cls, path: str | Path, config: RunConfig) -> Run:
        """Begins a run in a directory that is free (see `check_free`), and keeps it locked until training has ended."""
        path = Path(path)
        check_free(path)
        path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            _lock(path, stack)  # of two processes that begin here at once, one does
            with ExitStack() as launcher:
                _lock(path, launcher, LAUNCHER_LOCK)
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
            _lock(self.path, stack, LAUNCHER_LOCK)
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
                dataset = open_dataset(place, progress=progress)
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
                _lock(self.path, stack)
                _save(replace(self._saved, threads=count), self.path)
            self._load()

    def status(self) -> Status:
        """How far the run is, and whether it still shows signs of life."""
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
            _lock(self.path, stack)
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

    def train(
        self,
        *,
        kimg: float | None = None,
        device: str | torch.device = "auto",
        dataset: Dataset | None = None,
        stop: Callable[[], bool] = lambda: False,
        evaluating: Advance | None = None,
        stepping: Callable[[float], None] = lambda kimg: None,
    ) -> Iterator[Record]:
        """Trains on from the latest checkpoint, yielding a record each tick (docs/run-directory.md lists its fields).

        `kimg` is the new total. When `stop()` becomes true, or the iterator is closed, a checkpoint is written and
        training ends after the step at hand. The directory is locked meanwhile. Where `torch.distributed` is set up, all
        processes call this, and get the same records; the first alone writes. `evaluating(done, total)` hears how far
        an evaluation is, in images; `stepping(kimg)` hears of each step. On a CPU it computes with the run's own number
        of threads, as far as there are cores.
        """
        device = choose_device(device) if isinstance(device, str) else device
        with ExitStack() as stack:
            if rank() == 0:
                if self._locked:
                    stack.push(self._locked)
                    self._locked = None
                else:
                    _lock(self.path, stack)
            total = kimg or self.config.kimg
            opened = first_before_others(lambda: dataset or self.open_data())
            if device.type == "cpu" and self.config.threads:
                stack.enter_context(threads.using(min(self.config.threads, max(threads.usable_cores(), 1))))
            session = _Session(self, device, opened, total)
            session.evaluating, session.stepping = evaluating, stepping
            stack.enter_context(closing(session))
            session.begin()
            yield from session.records(stop)

    def read(self, name: str) -> Record | None:
        """A JSON file of the run directory, or None where there is none yet."""
        return read_json(self.path / name)

    def report(self, name: str) -> Record:
        """Likewise a file that nothing depends on: a damaged one is skipped, so that it does not stop the run."""
        try:
            return self.read(name) or {}
        except FruganError:
            return {}

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes a JSON file of the run directory, whole or not at all."""
        tracking.write_json(self.path / name, value)


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
        value = reading.read_json(file) if file.is_file() else None
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
    ),
    *("reals.png", "samples", "evaluations", "tensorboard", "checkpoints", ".*.tmp", ".lock*"),
)
"""Patterns of all that a run writes into its directory, but for exports that a user may put there."""


def check_free(path: Path) -> None:
    """Raises `FruganError` unless a run can begin there: nothing yet, an empty directory, or a start that failed.

    A start has failed where a run has no checkpoint: there is nothing to go on from.
    """
    if path.exists():
        if path.is_dir() and (path / "config.yaml").is_file() and _has_checkpoint(path):
            raise FruganError(
                f"{path} holds a run already; continue it with `{command('resume', path)}`, or choose another --out"
            )
        begun = path.is_dir() and (path / "config.yaml").is_file()
        own = _OWN_FILES if begun else (".*.tmp", ".lock*")
        if not path.is_dir() or any(not any(entry.match(name) for name in own) for entry in path.iterdir()):
            raise FruganError(f"{path} exists and is not an empty directory; choose another --out")
    place = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise FruganError(
            f"{path} cannot be written: {place} is no directory that you may write to; name another place with --out"
        )


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


def _lock(path: Path, stack: ExitStack, name: str = ".lock") -> None:
    try:
        # Who only looks whether there is a run already has it for a moment; who trains keeps it.
        stack.enter_context(filelock.FileLock(path / name, timeout=1, thread_local=False))
    except filelock.Timeout:
        raise FruganError(f"{path} is being trained by another process; wait for it, or stop it first") from None


class _StopAsked(Exception):
    pass


class _Session:
    """One stretch of training in a run directory: what is open while it lasts."""

    def __init__(self, run: Run, device: torch.device, dataset: Dataset, total_kimg: float) -> None:
        self.run, self.dataset = run, dataset
        self.total_images = round(total_kimg * 1000)
        self.writes = rank() == 0
        facts = run.report("run.json")
        events = facts.get("events", facts.get("warnings"))  # the first runs had no events
        self.events = [str(event) for event in events] if isinstance(events, list) else []
        self.news: list[str] = []
        self.config = config = replace(run.config, training=self._shared_out(run.config))
        self._check_data()
        self._check_networks()
        try:
            self.state, self.phases = build(config, dataset, device)
        except Exception as error:  # a configuration edited by hand can be wrong in any way
            if isinstance(error, FruganError) or explain(error):
                raise
            raise FruganError(
                f"{run.path / 'config.yaml'} describes what cannot be built ({error}); mend it, or restore it from a copy"
            ) from error
        self.labels = dataset.label_pool.to(device)
        self.steps = training_steps(self.state, self.phases, dataset, self.labels, config.training)
        self.evaluator = make_evaluator(config, dataset, device) if config.report.evaluate_kimg else None
        self.seconds_before = 0.0
        self.last_metrics: Record = {}
        self.evaluating: Advance | None = None
        self.stepping: Callable[[float], None] = lambda kimg: None
        self.paces: list[float] = []
        self.told_busy = False
        self.reals, _ = dataset.images(dataset.preview(math.prod(grid_shape(dataset.resolution))))

        if self.writes:
            for unfinished in run.path.glob(".*.tmp"):
                unfinished.unlink()
        found, problems = from_first(lambda: checkpoint.recover(run.checkpoints))
        if found:
            self._restore(found)
            self.last_metrics = found.facts["metrics"]
            for problem in problems:
                self._event(f"went on from {self.state.kimg:g} kimg: {problem}")
        elif config.transfer.init_from:
            self._take_over(config.transfer.init_from)
        self._check_agreement()
        stats_file = run.path / "stats.jsonl"
        self.stats_log = tracking.JsonLines(stats_file)
        self.trackers = tracking.Trackers()
        self.page = tracking.Page(run.path)
        if self.writes:
            self.stats_log.truncate(after_kimg=self.state.kimg)
            tensorboard = tracking.TensorBoard(
                run.path / "tensorboard", purge_after=self.state.images if found else None
            )
            self.trackers = tracking.Trackers(self.stats_log, tensorboard)
        if past := tracking.read_stats(stats_file):
            self.seconds_before = tracking.finite(past[-1].get("seconds_total")) or 0.0
        self._remember(past)
        self.early = math.inf if any(r.get("diversity") for r in past) else EARLY_SECONDS
        self.paces = [pace for r in past if (pace := tracking.finite(r.get("seconds_per_kimg")))]
        self.new = found is None

    def _check_networks(self) -> None:
        """Refuses a config.yaml, edited by hand, whose networks fit neither images nor checkpoints, before they are built."""
        config, images = self.config, (*self.dataset.resolution, self.dataset.channels)
        file = self.run.path / "config.yaml"
        for name, part in (("generator", config.generator), ("discriminator", config.discriminator)):
            if (*part.resolution, part.channels) != images:
                raise FruganError(
                    f"{file} describes a {name} of {part.resolution} and {part.channels} channels; the images have "
                    f"{images[:2]} and {images[2]}; mend it, or restore it from a copy"
                )
        try:
            for newest in checkpoint.all_checkpoints(self.run.checkpoints)[-1:]:
                newest.check_shapes(config.generator, config.discriminator)
        except FruganError as error:
            raise FruganError(
                f"{file} describes other networks than its checkpoints hold: {error}; mend it, or restore it from a copy"
            ) from error

    def begin(self) -> None:
        """What comes before the first step; a new run's directory gets what it holds from the start."""
        self.started = self.heard = time.perf_counter()
        self.dataset.resident(self.state.device)
        if self.new and self.writes:
            self._introduce()
        self.first_step = time.perf_counter()

    def close(self) -> None:
        self.trackers.close()

    def _take_over(self, path: str) -> None:
        """Starts from other networks. From the first checkpoint on, they are not needed any more."""
        report = StartReport(path)
        self.state.ema.load_state_dict(take_over((self.state.G, self.state.D), read_source(path), report).state_dict())
        if self.writes:
            self.run.write("start.json", asdict(report))

    def _shared_out(self, config: RunConfig) -> TrainingConfig:
        """The parts of a minibatch, halved and halved again where the processes could not share them evenly otherwise.

        Minibatch-std groups stay whole.
        """
        training, group = config.training, config.discriminator.mbstd_group
        for n in range(training.batch_per_device, 0, -1):
            whole = n == training.batch_per_device or (group and n % group == 0)
            if whole and training.batch_per_device % n == 0 and training.batch // n % world_size() == 0:
                if n != training.batch_per_device:
                    self._event(
                        f"{world_size()} processes work through the batch of {training.batch} in parts of {n}, "
                        f"not {training.batch_per_device}: the random numbers are others than they would have been"
                    )
                return replace(training, batch_per_device=n)
        raise FruganError(
            f"{world_size()} processes cannot share a batch of {training.batch} evenly in whole minibatch-std groups of "
            f"{group or training.batch_per_device}; use fewer processes"
        )

    def _check_agreement(self) -> None:
        """Training together stands on all processes holding the same weights; whatever makes them differ ends it here."""
        if world_size() == 1:
            return
        sums = [float(p.detach().double().sum()) for net in self.state.networks().values() for p in net.parameters()]
        found = gather((sums, float(self.state.controller.p)))
        odd = [i for i, one in enumerate(found) if repr(one) != repr(found[0])]  # as text: NaN agrees with NaN
        if odd:
            names = ", ".join(map(str, odd))
            raise FruganError(
                f"at {self.state.kimg:g} kimg the weights of process {names} of {world_size()} are not the first one's: its device "
                "or its PyTorch computes otherwise. No checkpoint was written; continue from the last with: "
                f"{command('resume', self.run.path)}"
            )

    def records(self, stop: Callable[[], bool]) -> Iterator[Record]:
        """Trains until the total, a stop, or an error; the last good checkpoint stands whatever happens."""
        state, report = self.state, self.config.report
        self._status("running" if state.images < self.total_images else "finished")
        try:
            while state.images < self.total_images:
                since, early = state.images, self.early
                record, stopping = self._tick(stop)
                self._check_place()
                early = self.early != early  # ended before its time, for the user to see something soon
                self._check_agreement()
                if reason := from_first(partial(self._diverged, record)):
                    self._roll_back(reason)
                    continue
                finished = state.images >= self.total_images
                save = finished or stopping or _passed(report.checkpoint_kimg, since, state.images)
                if self.evaluator and (finished or _passed(report.evaluate_kimg, since, state.images)):
                    try:
                        save |= self._evaluate(record, stop)
                    except _StopAsked:
                        save = stopping = True
                if finished or early or _passed(report.samples_kimg, since, state.images):
                    record["diversity"] = self._samples(f"samples-{checkpoint.kimg_name(state.images)}")
                self._watch_threads(record)
                self._judge(record)
                self.trackers.log(record)  # before the checkpoint: what is logged too early is dropped on a resume
                if save:
                    self.save()
                self._status("finished" if finished else "interrupted" if stopping else "running")
                yield record
                if stopping:
                    return
        except GeneratorExit:
            self.save()
            self._status("interrupted")
            raise
        except BaseException:
            with suppress(OSError):  # a full disk is not to hide behind another of its errors
                self._status("failed")
            raise

    def _check_place(self) -> None:
        """Nothing is written any more where the run was, once it was moved away or removed."""
        if self.writes and not self.run.path.is_dir():
            raise FileNotFoundError(errno.ENOENT, "the run is no longer there", str(self.run.path))

    def _tick(self, stop: Callable[[], bool]) -> tuple[Record, bool]:
        """Steps until a record is due; the record, and whether to stop after it."""
        started, since = time.perf_counter(), self.state.images
        for step in self.steps:
            self.stepping(step.kimg)
            self._live()
            stopping = any_of(stop())
            before = step.images - self.config.training.batch
            if (
                stopping
                or step.images >= self.total_images
                or _passed(self.config.report.tick_kimg, before, step.images)
                or self._is_early()
            ):
                if not stopping:
                    self.early = math.inf
                measured = step.stats.collect()
                return self._record(measured, time.perf_counter() - started, step.images - since), stopping
        raise AssertionError("the training loop has no end of its own")

    def _is_early(self) -> bool:
        """Whether a first record is due although the first tick is far: all processes agree. Nothing of training changes."""
        return math.isfinite(self.early) and any_of(time.perf_counter() - self.first_step >= self.early)

    def _live(self) -> None:
        """A sign of life in run.json and on the page, at most once a minute."""
        if self.writes and time.perf_counter() - self.heard >= SIGN_SECONDS:
            self._status("running")

    def _watch_threads(self, record: Record) -> None:
        """Tells, once, where other programs have made this one so slow that fewer threads would be faster."""
        pace, count = record["seconds_per_kimg"], torch.get_num_threads()
        if self.state.device.type != "cpu" or count == 1 or not pace or not self.writes:
            return
        slow = bool(self.paces) and pace > BUSY * min(self.paces)
        self.paces.append(pace)
        if not slow or self.told_busy:
            return
        best, taken = threads.choose_threads(threads.convolutions, count)
        if best < count and taken[count] > BUSY * taken[best]:
            self.told_busy = True
            others = threads.load_of_others(count)
            remedy = command("resume", self.run.path, "--threads", best)
            self.news.append(
                f"other programs keep this machine busy{f' ({others:.0f} more threads at work)' if others else ''}: {pace:.3g} "
                f"s/kimg, after {min(self.paces):.3g} at best. Now {best} of {count} threads would be about "
                f"{taken[count] / taken[best]:.1f} times as fast: stop, then `{remedy}`"
            )

    def save(self) -> None:
        """A checkpoint, unless the weights have gone bad; older ones beyond those kept go."""
        if not self.writes:
            return
        if not checkpoint.is_finite(self.state):
            self._event("weights are not finite: no checkpoint was written")
            return
        checkpoint.save(self.run.checkpoints, self.state, self.last_metrics)
        best = self.run.best()
        keep = {best.path} if best else set()
        checkpoint.prune(self.run.checkpoints, keep_last=self.config.report.keep_last, keep=keep)

    def _record(self, measured: Record, seconds: float, images: int) -> Record:
        state = self.state
        r_t, r_v, p = torch.stack([state.controller.r_t, state.controller.r_v, state.controller.p]).tolist()
        return {
            "kimg": state.kimg,
            "images": state.images,
            "step": state.step,
            "seconds": seconds,
            "seconds_total": self.seconds_before + time.perf_counter() - self.started,
            "seconds_per_kimg": seconds / images * 1000 if images else None,
            "p": p,
            "r_t": r_t,  # of the last window, unless any ended since the last record
            "r_v": r_v,
            **measured,
            "rollbacks": state.rollbacks,
            **tracking.memory(state.device),
        }

    def _remember(self, records: list[Record]) -> None:
        """Makes these the past that the monitors know."""
        self.past = [health.digest(record) for record in records]
        self.findings = health.check(self.past, self.setting)

    def _judge(self, record: Record) -> None:
        """Adds to the record what there is to warn of that the one before did not."""
        self.past.append(health.digest(record))
        before, self.findings = self.findings, health.check(self.past, self.setting)
        if new := self.news + [finding for name, finding in self.findings.items() if name not in before]:
            record["warnings"] = new
        self.news = []

    @cached_property
    def setting(self) -> health.Setting:
        controller, metric = self.config.controller, self.config.evaluate.metrics[0]
        p_max = controller.p_max if controller.kind in ("rt", "rv") else 0.0
        return health.Setting(p_max, metric, METRICS[metric].higher_is_better)

    def _diverged(self, record: Record) -> str | None:
        """Why training has to go back, or None."""
        config = self.config.training
        if record["bad_streak"] >= config.max_bad_steps:
            return f"{record['bad_streak']:.0f} updates in a row had gradients that are not finite"
        if not checkpoint.is_finite(self.state):
            return "weights, or the optimisers' running means, are not finite"
        if config.rollback_lr < 1:
            found = health.check([*self.past, health.digest(record)], self.setting)
            return next((found[name] for name in found if health.MONITORS[name].divergence), None)
        return None

    def _roll_back(self, reason: str) -> None:
        diverged, rollbacks = self.state.kimg, self.state.rollbacks + 1
        found, _ = from_first(lambda: checkpoint.recover(self.run.checkpoints))
        if found is None or rollbacks > MAX_ROLLBACKS:
            raise FruganError(
                f"training diverged at {diverged:.0f} kimg, {rollbacks} times: {reason}; lower --lr, raise --gamma, or try "
                "--precision fp32 (of this run: training and objective in its config.yaml)"
            )
        self._restore(found, rollbacks)
        self.state.reseed(rollbacks)
        if self.writes:
            self.stats_log.truncate(after_kimg=self.state.kimg)
        self._remember(tracking.read_stats(self.stats_log.path))
        slower = self.config.training.rollback_lr**rollbacks
        self._event(
            f"diverged at {diverged:.0f} kimg ({reason}): went back to {self.state.kimg:.0f} kimg with new random numbers"
            + (f" and learning rates × {slower:g}" if slower < 1 else "")
        )

    def _restore(self, found: checkpoint.Checkpoint, rollbacks: int | None = None) -> None:
        found.restore(self.state)
        self.state.rollbacks = self.state.rollbacks if rollbacks is None else rollbacks
        self.state.scale_rates(self.config.training.rollback_lr**self.state.rollbacks)

    def _evaluate(self, record: Record, stop: Callable[[], bool]) -> bool:
        """Adds metrics to the record; whether this is the best generator so far, whose checkpoint is to be written.

        Raises `_StopAsked` where a stop is asked for meanwhile: who asks may not have time to wait for a measurement.
        (Several processes finish it: they could not agree in the midst of it.)
        """
        assert self.evaluator is not None

        def advance(done: int, total: int) -> None:
            if world_size() == 1 and stop():
                raise _StopAsked
            self._live()
            if self.evaluating:
                self.evaluating(done, total)

        card = self.evaluator(self.state.ema, advance)
        card.subject["kimg"] = self.state.kimg
        self.last_metrics = values = card.values
        record |= {f"metric/{k}": v for k, v in values.items()}
        if not self.writes:
            return False
        card.save(self.run.path / "evaluations" / f"training-{checkpoint.kimg_name(self.state.images)}.json")
        name = self.config.evaluate.metrics[0]
        best = self.run.report("best.json")
        sign = -1 if METRICS[name].higher_is_better else 1
        here = checkpoint.name_of(self.state)
        known = (
            tracking.finite(best.get("value"))
            if best.get("metric") == name and best.get("checkpoint") != here
            else None
        )
        if not math.isfinite(values[name]) or (known is not None and sign * known <= sign * values[name]):
            return False
        facts = {"metric": name, "value": values[name], "kimg": self.state.kimg, "checkpoint": here}
        self.run.write("best.json", facts)  # before the checkpoint: after a kill between them, this tick comes again
        return True

    def _introduce(self) -> None:
        """What a run directory holds before the first step."""
        run, dataset = self.run, self.dataset
        run.write("environment.json", tracking.environment())
        run.write("data.json", dataset.describe())
        columns, _ = grid_shape(dataset.resolution)
        save_image(grid(to_uint8(self.reals), columns=columns), run.path / "reals.png")
        self._samples("samples-init")
        self.save()

    def _check_data(self) -> None:
        """A run goes on only with the data it began with."""
        data = self.run.read("data.json")
        if data and data.get("fingerprint") != self.dataset.fingerprint:
            raise changed_data(self.dataset.config.path)

    def _samples(self, name: str) -> float:
        """Writes a sample sheet; its diversity, as a share of that of training images."""
        columns, rows = grid_shape(self.dataset.resolution)
        seeds = list(range(columns * rows))
        c = grid_labels(self.labels.cpu(), columns, rows)
        images = self.state.ema.sample(seeds, c=c)
        if self.writes:
            save_image(grid(to_uint8(images), columns=columns), self.run.path / "samples" / f"{name}.png")
        return diversity(images.cpu()) / max(diversity(self.reals), 1e-8)

    def _event(self, message: str) -> None:
        self.events.append(message)
        self.news.append(message)

    def _status(self, status: str) -> None:
        if not self.writes:
            return
        self.heard = time.perf_counter()
        self.run.write(
            "run.json",
            {
                "sign_of_life": tracking.now(),
                "name": self.run.path.resolve().name,
                "status": status,
                "kimg": self.state.kimg,
                "total_kimg": self.total_images / 1000,
                "images_in_set": len(self.dataset.train_indices),
                "held_out": len(self.dataset.held_out_indices),
                "resolution": list(self.dataset.resolution),
                "channels": self.dataset.channels,
                "device": str(self.state.device),
                "processes": world_size(),
                "target": self.config.controller.target,
                "controller": self.config.controller.kind,
                "skipped_files": [list(s) for s in self.dataset.skipped],
                "warnings": self.events + list(self.findings.values()),
                "events": self.events,
            },
        )
        self.page.write()


def _passed(every_kimg: float, before: int, after: int) -> bool:
    """Whether a multiple of the interval lies in (before, after], both counted in images."""
    every = every_kimg * 1000
    return bool(every) and after // every > before // every


def build(config: RunConfig, dataset: Dataset, device: torch.device) -> tuple[TrainState, Phases]:
    """A fresh training state and its phases, on the device. Raises anything at all where the configuration makes no sense."""
    state = TrainState.create(
        config.generator,
        config.discriminator,
        config=config.training,
        objective=config.objective,
        controller=config.controller,
        sampler=dataset.sampler(config.training.seed),
        device=device,
    )
    freeze(state.G, state.D, config.transfer)
    return state, make_phases(config, state.G, state.D, compiled=config.training.compile)


def make_evaluator(config: RunConfig, dataset: Dataset, device: torch.device, *, most: int | None = None) -> Evaluator:
    """What measures a run while it trains, against the held-out images if there are any; `most`: of the images, to try it."""
    held_out = len(dataset.held_out_indices)

    def some(which: Literal["train", "held-out", "stream"]) -> ImageSet:
        image_set = image_set_of(dataset, which)
        return replace(image_set, rows=image_set.chosen[:most])

    return Evaluator(
        some("held-out" if held_out else "train"),
        config.evaluate,
        train=some("stream") if held_out else None,
        labels=dataset.label_pool.numpy(),
        device=device,
        cache=None if most else dataset.cache_folder / "features",
    )


def _check_start(config: RunConfig, dataset: Dataset, device: torch.device) -> None:
    """Builds all that a run needs once, for what is missing or wrong to show before anything is written.

    Raises `FruganError`.
    """
    try:
        state, _ = build(config, dataset, device)
        state.random(0, 0)
        if config.report.evaluate_kimg and world_size() > 1:  # an evaluator takes all processes
            e = config.evaluate
            load_features(
                e.features, device, weights=e.weights, resize=e.resize, input_size=e.input_size, mean=e.mean, std=e.std
            )
        elif config.report.evaluate_kimg:
            make_evaluator(config, dataset, device, most=FEWEST)
    except Exception as error:  # options from Python can be wrong in any way
        if isinstance(error, FruganError) or explain(error):
            raise
        raise FruganError(f"these options describe what cannot be built ({error}); change them") from error


def make_phases(config: RunConfig, G: Generator, D: Discriminator, *, compiled: bool = False) -> Phases:
    """The training phases that a run's configuration asks for, on the networks' device."""
    device = G.mapping.w_avg.device
    where: dict[str, Any] = {"channels": G.channels, "resolution": G.resolution, "device": device}
    objective = config.objective
    augment: Augmentation = AugmentPipeline(config.augment, **where)
    if config.diffaugment:
        augment = Chain(augment, DiffAugment(config.diffaugment, **where))
    again = None
    if objective.consistent:
        again = AugmentPipeline(
            AugmentConfig(objective.consistency_transforms, reach=objective.consistency_reach), **where
        )
    measure = Measurement(config.measurement, G.resolution) if config.measurement else None
    precision = config.training.precision
    for network in (G, D):
        checkpoint_activations(network, config.training.activation_checkpointing)
    return Phases(G, D, augment, objective, measure=measure, again=again, precision=precision, compiled=compiled)


def grid_shape(resolution: tuple[int, int]) -> tuple[int, int]:
    """(columns, rows) of a sample sheet: about 1000 pixels wide, 12 × 8 at most."""
    h, w = resolution
    return min(max(1024 // w, 4), 12), min(max(768 // h, 3), 8)


def diversity(images: Tensor) -> float:
    """Mean distance of two images of `[N, C, H, W]`, in [-1, 1], at 32×32: root mean square over channels and pixels."""
    flat = torch.nn.functional.adaptive_avg_pool2d(images.float(), (32, 32)).flatten(1)
    return float(torch.pdist(flat).mean() / math.sqrt(flat.shape[1])) if len(flat) > 1 else 0.0


def grid_labels(labels: Tensor, columns: int, rows: int) -> Tensor | None:
    """Labels `[columns·rows, K]` for a sheet with one class a column, or numbers from left to right, from training labels
    `[N, K]`; None without labels."""
    if not labels.shape[1]:
        return None
    kinds = labels.unique(dim=0)
    if ((labels == 0) | (labels == 1)).all():
        kinds = kinds.flip(0)  # one-hot rows: the first class first
    if len(kinds) > columns:
        kinds = kinds[torch.linspace(0, len(kinds) - 1, columns).long()]
    return kinds[torch.arange(columns) % len(kinds)].repeat(rows, 1)


def image_set_of(dataset: Dataset, which: Literal["train", "held-out", "all", "stream"]) -> ImageSet:
    """Part of a data set as metrics take it; "stream" is what training sees, x-flipped copies included."""
    rows = {
        "train": dataset.train_indices,
        "held-out": dataset.held_out_indices,
        "all": np.arange(len(dataset)),
        "stream": dataset.stream_indices,
    }[which]
    return ImageSet(dataset.pixels, rows, dataset.labels, dataset.names, dataset.class_names)


def generator_folder(path: str | Path) -> Path:
    """The directory that holds the generator: of a run, its best checkpoint by its metric, else the newest; of
    "hf:user/name", its copy in the hub's cache; or `path`."""
    path = Path(path)
    if path.as_posix().startswith(HUB):
        return download(path.as_posix())
    if (path / "config.yaml").is_file():
        run = Run(path)
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
    (see `frugan.interop`), or of "hf:user/name" on the Hugging Face hub, on the CPU."""
    return load_with_notes(path)[0]


def load_with_notes(path: str | Path) -> tuple[Generator, list[str]]:
    """As `load`; and what the import of these networks has left out or estimated."""
    if Path(path).is_file():
        found = read_network(path)
        return found.generator, found.notes
    on_hub = Path(path).as_posix().startswith(HUB)
    folder = download(Path(path).as_posix(), files=FILES[:2]) if on_hub else generator_folder(path)
    return load_generator(folder), read_notes(folder)


def train(
    data: str | Path | DataConfig,
    out: str | Path,
    *,
    device: str = "auto",
    stop: Callable[[], bool] = lambda: False,
    **options: Any,
) -> Iterator[Record]:
    """Trains a GAN on images, yielding a record each tick: `for record in frugan.train("photos", "runs/photos"): …`

    `options` are the fields of `frugan.config.Options`, and of `frugan.data.DataConfig` besides its path. Several processes
    train together where each calls this within `frugan.processes.joined`.
    """
    data_fields = DataConfig.__dataclass_fields__.keys() - {"path"}
    for_data = {k: options.pop(k) for k in list(options) if k in data_fields}
    unknown = options.keys() - Options.__dataclass_fields__.keys()
    if unknown:
        raise FruganError(
            f"unknown option {sorted(unknown)[0]!r}; see frugan.config.Options and frugan.data.DataConfig"
        )
    if not isinstance(data, DataConfig):
        data = DataConfig(path=str(data), **for_data)
    chosen = choose_device(device)
    planned = first_before_others(lambda: plan(Options(**options), data, device=chosen))
    run = Run.create(out, planned.config) if rank() == 0 else None
    gather(None)
    return (run or Run(out)).train(device=chosen, dataset=planned.dataset, stop=stop)


def read_class_names(path: str | Path) -> list[str] | None:
    """The class names of the run at `path`, of the run that the checkpoint at `path` belongs to, or of exported networks."""
    path = Path(path)
    if path.as_posix().startswith(HUB):
        path = download(path.as_posix(), files=["config.json"])
    for file in (path / "data.json", path.resolve().parent.parent / "data.json", path / "config.json"):
        names = (read_json(file) or {}).get("class_names")
        if names and isinstance(names, list):
            return [str(name) for name in names]
    return None
