"""A run: a directory that holds a configuration, what training wrote so far, and all it takes to go on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import filelock
import numpy as np
import torch
from torch import Tensor

from frugan import tracking
from frugan.augment import Augmentation, AugmentConfig, AugmentPipeline, Chain, DiffAugment, Measurement
from frugan.config import Derived, Facts, Options, RunConfig, load_config, resolve, save_config
from frugan.data import DataConfig, Dataset, open_dataset
from frugan.errors import FruganError
from frugan.interop import Imported, download, from_pretrained, read_network
from frugan.interop.pretrained import HUB
from frugan.metrics import METRICS, Evaluator, Pictures
from frugan.networks import Discriminator, Generator, load_generator
from frugan.pictures import grid, save_picture, to_uint8
from frugan.processes import any_of, first_before_others, from_first, gather, rank, world_size
from frugan.training import Phases, StartReport, TrainingConfig, TrainState, checkpoint
from frugan.training import train as training_steps
from frugan.training.transfer import freeze, take_over
from frugan.training.trial import fitting_batch

Record = dict[str, Any]
Advance = Callable[[int, int], None]

MAX_ROLLBACKS = 3
CAP_WARNING_KIMG = 20


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
    """What a run would be: its configuration, why, on what pictures, and what it takes from other networks."""

    config: RunConfig
    derived: list[Derived]
    dataset: Dataset
    start: StartReport | None


def plan(
    options: Options,
    data: DataConfig,
    *,
    device: torch.device,
    processes: int | None = None,
    progress: Advance | None = None,
) -> Plan:
    """Opens the data and resolves the configuration; writes nothing but the data's cache.

    Fine-tuning takes the pictures at the size and channels of the networks it starts from, where nothing else is asked
    for. `processes` is how many will train (default: those that are at it). Raises `FruganError` where those networks do
    not fit, unless `options.allow_partial`.
    """
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
        options = replace(options, batch_per_device=_fitting(whole, dataset, device))
    config, derived = resolve(options, data, facts)
    if fitted:
        derived.append(Derived("batch_per_device", config.training.batch_per_device, "what fits into memory at once"))
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
    return Plan(config, derived, dataset, start)


def _fitting(config: RunConfig, dataset: Dataset, device: torch.device) -> int:
    """How many of a batch fit into memory at once, tried with networks of the run's own kind."""
    phases = make_phases(config, Generator(config.generator).to(device), Discriminator(config.discriminator).to(device))
    batch = config.training.batch
    group = min(config.discriminator.mbstd_group or batch, batch)
    return fitting_batch(phases, batch, group, reserve=dataset.resident_bytes(device))


def read_source(path: str | Path) -> Imported:
    """The networks of a run (its best by its metric, else the newest), a checkpoint, or a foreign file, to train on."""
    return read_network(path if Path(path).is_file() else generator_folder(path))


class Run:
    """A run directory. `Run.create` begins one, `Run(path)` opens one; `train` starts or continues it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / "config.yaml").is_file():
            raise FruganError(f"{self.path} is not a run: it has no config.yaml")
        self.config = load_config(self.path / "config.yaml")

    @classmethod
    def create(cls, path: str | Path, config: RunConfig) -> Run:
        path = Path(path)
        if (path / "config.yaml").exists():
            raise FruganError(
                f"{path} holds a run already; continue it with `frugan resume {path}`, or choose another --out"
            )
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise FruganError(f"{path} exists and is not an empty directory; choose another --out")
        path.mkdir(parents=True, exist_ok=True)
        save_config(config, path / "config.yaml")
        return cls(path)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def latest(self) -> checkpoint.Checkpoint | None:
        """The newest checkpoint that verifies."""
        return checkpoint.latest(self.checkpoints)

    def best(self) -> checkpoint.Checkpoint | None:
        """The checkpoint with the best metric so far, if any was measured."""
        facts = self.read("best.json")
        found = checkpoint.Checkpoint(self.checkpoints / facts["checkpoint"]) if facts else None
        return found if found and found.path.is_dir() else None

    def train(
        self,
        *,
        kimg: float | None = None,
        device: str | torch.device = "auto",
        dataset: Dataset | None = None,
        stop: Callable[[], bool] = lambda: False,
        evaluating: Advance | None = None,
    ) -> Iterator[Record]:
        """Trains on from the latest checkpoint, yielding a record each tick (docs/run-directory.md lists its fields).

        `kimg` is the new total. When `stop()` becomes true, or the iterator is closed, a checkpoint is written and
        training ends after the step at hand. The directory is locked meanwhile. Where `torch.distributed` is set up, all
        processes call this, and get the same records; the first alone writes. `evaluating(done, total)` hears how far
        an evaluation is, in images.
        """
        device = choose_device(device) if isinstance(device, str) else device
        with ExitStack() as stack:
            if rank() == 0:
                self._lock(stack)
            total = kimg or self.config.kimg
            opened = first_before_others(lambda: dataset or open_dataset(self.config.data))
            session = _Session(self, device, opened, total)
            session.evaluating = evaluating
            stack.enter_context(closing(session))
            yield from session.records(stop)

    def _lock(self, stack: ExitStack) -> None:
        lock = filelock.FileLock(self.path / ".lock", timeout=0)
        try:
            stack.enter_context(lock)
        except filelock.Timeout:
            raise FruganError(
                f"{self.path} is being trained by another process; wait for it, or stop it first"
            ) from None

    def read(self, name: str) -> Record | None:
        """A JSON file of the run directory, or None where there is none yet."""
        file = self.path / name
        return json.loads(file.read_text("utf-8")) if file.is_file() else None

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes a JSON file of the run directory, whole or not at all."""
        tracking.write_json(self.path / name, value)


class _Session:
    """One stretch of training in a run directory: what is open while it lasts."""

    def __init__(self, run: Run, device: torch.device, dataset: Dataset, total_kimg: float) -> None:
        self.run, self.dataset = run, dataset
        self.total_images = round(total_kimg * 1000)
        self.writes = rank() == 0
        self.warnings: list[str] = (run.read("run.json") or {}).get("warnings", [])
        self.config = config = replace(run.config, training=self._shared_out(run.config))
        self._check_data()
        self.state = TrainState.create(
            config.generator,
            config.discriminator,
            config=config.training,
            objective=config.objective,
            controller=config.controller,
            sampler=dataset.sampler(config.training.seed),
            device=device,
        )
        freeze(self.state.G, self.state.D, config.transfer)
        self.phases = make_phases(config, self.state.G, self.state.D, compiled=config.training.compile)
        self.labels = dataset.label_pool.to(device)
        self.steps = training_steps(self.state, self.phases, dataset, self.labels, config.training)
        self.evaluator = self._evaluator(device) if config.report.evaluate_kimg else None
        self.seconds_before = 0.0
        self.at_cap_since: float | None = None
        self.last_metrics: Record = {}
        self.evaluating: Advance | None = None

        found = from_first(run.latest)
        if found:
            found.restore(self.state)
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
            self.seconds_before = past[-1].get("seconds_total") or 0.0
        self.started = time.perf_counter()
        dataset.resident(device)
        if not found and self.writes:
            self._introduce()

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
                    self._warn(
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
                "or its PyTorch computes otherwise. No checkpoint was written; frugan resume goes on from the last"
            )

    def records(self, stop: Callable[[], bool]) -> Iterator[Record]:
        """Trains until the total, a stop, or an error; the last good checkpoint stands whatever happens."""
        state, report = self.state, self.config.report
        self._status("running" if state.images < self.total_images else "finished")
        try:
            while state.images < self.total_images:
                since = state.images
                record, stopping = self._tick(stop)
                self._check_agreement()
                if record["bad_streak"] >= self.config.training.max_bad_steps:
                    self._roll_back(record)
                    continue
                finished = state.images >= self.total_images
                save = finished or stopping or _passed(report.checkpoint_kimg, since, state.images)
                if self.evaluator and (finished or _passed(report.evaluate_kimg, since, state.images)):
                    save |= self._evaluate(record)
                if finished or _passed(report.samples_kimg, since, state.images):
                    self._samples(f"samples-{round(state.kimg):06d}")
                if save:
                    self.save()
                self.trackers.log(record)
                self._status("finished" if finished else "interrupted" if stopping else "running")
                yield record
                if stopping:
                    return
        except GeneratorExit:
            self.save()
            self._status("interrupted")
            raise
        except BaseException:
            self._status("failed")
            raise

    def _tick(self, stop: Callable[[], bool]) -> tuple[Record, bool]:
        """Steps until a record is due; the record, and whether to stop after it."""
        started, since = time.perf_counter(), self.state.images
        for step in self.steps:
            stopping = any_of(stop())
            before = step.images - self.config.training.batch
            if (
                stopping
                or step.images >= self.total_images
                or _passed(self.config.report.tick_kimg, before, step.images)
            ):
                measured = step.stats.collect()
                return self._record(measured, time.perf_counter() - started, step.images - since), stopping
        raise AssertionError("the training loop has no end of its own")

    def save(self) -> None:
        """A checkpoint, unless the weights have gone bad; older ones beyond those kept go."""
        if not self.writes:
            return
        if not checkpoint.is_finite(self.state):
            self._warn("weights are not finite: no checkpoint was written")
            return
        checkpoint.save(self.run.checkpoints, self.state, self.last_metrics)
        best = self.run.best()
        keep = {best.path} if best else set()
        checkpoint.prune(self.run.checkpoints, keep_last=self.config.report.keep_last, keep=keep)

    def _record(self, measured: Record, seconds: float, images: int) -> Record:
        state = self.state
        r_t, r_v, p, at_cap = (
            float(v) for v in torch.stack([*map(torch.as_tensor, self._heuristics())]).float().tolist()
        )
        record: Record = {
            "kimg": state.kimg,
            "images": state.images,
            "step": state.step,
            "seconds": seconds,
            "seconds_total": self.seconds_before + time.perf_counter() - self.started,
            "seconds_per_kimg": seconds / images * 1000 if images else None,
            "p": p,
            "r_t": r_t,
            "r_v": r_v,
            **measured,
            **tracking.memory(state.device),
        }
        if measured.get("non_finite"):
            self._warn(f"{measured['non_finite']:.0f} steps with non-finite gradients before {state.kimg:.0f} kimg")
        if at_cap and self.config.controller.p_max:
            self.at_cap_since = state.kimg if self.at_cap_since is None else self.at_cap_since
            if state.kimg - self.at_cap_since >= CAP_WARNING_KIMG:
                self._warn(
                    f"p has rested at its cap of {self.config.controller.p_max:g} since {self.at_cap_since:.0f} kimg: "
                    "the set is very small for this network; augmentation alone no longer holds overfitting back"
                )
        else:
            self.at_cap_since = None
        return record

    def _heuristics(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        controller = self.state.controller
        return controller.r_t, controller.r_v, controller.p, controller.at_cap

    def _roll_back(self, record: Record) -> None:
        found = from_first(self.run.latest)
        rollbacks = self.state.rollbacks + 1
        if found is None or rollbacks > MAX_ROLLBACKS:
            raise FruganError(
                f"training diverged at {self.state.kimg:.0f} kimg, {rollbacks} times: {record['bad_streak']:.0f} steps in a row "
                "had non-finite gradients; lower --lr, raise --gamma, or try --precision fp32"
            )
        diverged = self.state.kimg
        found.restore(self.state)
        self.state.rollbacks = rollbacks
        self.state.reseed(rollbacks)
        if self.writes:
            self.stats_log.truncate(after_kimg=self.state.kimg)
        self._warn(f"diverged at {diverged:.0f} kimg: went back to {self.state.kimg:.0f} kimg with new random numbers")

    def _evaluate(self, record: Record) -> bool:
        """Adds metrics to the record; whether this is the best generator so far."""
        assert self.evaluator is not None
        card = self.evaluator(self.state.ema, self.evaluating)
        card.subject["kimg"] = self.state.kimg
        self.last_metrics = values = card.values
        record |= {f"metric/{k}": v for k, v in values.items()}
        if not self.writes:
            return False
        card.save(self.run.path / "evaluations" / f"training-{round(self.state.kimg):06d}.json")
        name = self.config.evaluate.metrics[0]
        best = self.run.read("best.json")
        sign = -1 if METRICS[name].higher_is_better else 1
        if best and best["metric"] == name and sign * best["value"] <= sign * values[name]:
            return False
        kept = checkpoint.save(self.run.checkpoints, self.state, values)
        self.run.write(
            "best.json", {"metric": name, "value": values[name], "kimg": self.state.kimg, "checkpoint": kept.path.name}
        )
        return True

    def _evaluator(self, device: torch.device) -> Evaluator:
        dataset = self.dataset
        held_out = len(dataset.held_out_indices)
        return Evaluator(
            pictures_of(dataset, "held-out" if held_out else "train"),
            self.config.evaluate,
            train=pictures_of(dataset, "stream") if held_out else None,
            labels=dataset.label_pool.numpy(),
            device=device,
            cache=dataset.cache_folder / "features",
        )

    def _introduce(self) -> None:
        """What a run directory holds before the first step."""
        run, dataset = self.run, self.dataset
        run.write("environment.json", tracking.environment())
        run.write("data.json", dataset.describe())
        columns, rows = grid_shape(dataset.resolution)
        reals, _ = dataset.images(dataset.preview(columns * rows))
        save_picture(grid(to_uint8(reals), columns=columns), run.path / "reals.png")
        self._samples("samples-init")
        self.save()

    def _check_data(self) -> None:
        """A run goes on only with the data it began with."""
        data = self.run.read("data.json")
        if data and data["fingerprint"] != self.dataset.fingerprint:
            raise FruganError(
                f"the pictures at {self.config.data.path} have changed since this run began; restore them, or begin a new run"
            )

    def _samples(self, name: str) -> None:
        if not self.writes:
            return
        columns, rows = grid_shape(self.dataset.resolution)
        seeds = list(range(columns * rows))
        c = grid_labels(self.labels.cpu(), columns, rows)
        images = self.state.ema.sample(seeds, c=c)
        save_picture(grid(to_uint8(images), columns=columns), self.run.path / "samples" / f"{name}.png")

    def _warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)

    def _status(self, status: str) -> None:
        if not self.writes:
            return
        self.run.write(
            "run.json",
            {
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
                "warnings": self.warnings,
            },
        )
        self.page.write()


def _passed(every_kimg: float, before: int, after: int) -> bool:
    """Whether a multiple of the interval lies in (before, after], both counted in images."""
    every = every_kimg * 1000
    return bool(every) and after // every > before // every


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
    return Phases(G, D, augment, objective, measure=measure, again=again, precision=precision, compiled=compiled)


def grid_shape(resolution: tuple[int, int]) -> tuple[int, int]:
    """(columns, rows) of a sample sheet: about 1000 pixels wide, 12 × 8 at most."""
    h, w = resolution
    return min(max(1024 // w, 4), 12), min(max(768 // h, 3), 8)


def grid_labels(labels: Tensor, columns: int, rows: int) -> Tensor | None:
    """Labels `[columns·rows, K]` for a sheet with one class a column, from training labels `[N, K]`; None without labels."""
    if not labels.shape[1]:
        return None
    kinds = labels.unique(dim=0).flip(0)  # one-hot rows: the first class first
    if len(kinds) > columns:
        kinds = kinds[torch.linspace(0, len(kinds) - 1, columns).long()]
    return kinds[torch.arange(columns) % len(kinds)].repeat(rows, 1)


def pictures_of(dataset: Dataset, which: Literal["train", "held-out", "all", "stream"]) -> Pictures:
    """Part of a data set as metrics take it; "stream" is what training sees, x-flipped copies included."""
    rows = {
        "train": dataset.train_indices,
        "held-out": dataset.held_out_indices,
        "all": np.arange(len(dataset)),
        "stream": dataset.stream_indices,
    }[which]
    return Pictures(dataset.pixels, rows, dataset.labels, dataset.names, dataset.class_names)


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
            raise FruganError(f"{path} has no checkpoint yet")
        return found.path
    if not path.is_dir():
        raise FruganError(f"{path} is neither a run nor a checkpoint: no such directory")
    return path


def load(path: str | Path) -> Generator:
    """The generator of a run (the best by its metric, else the newest), of a checkpoint directory, of a foreign file
    (see `frugan.interop`), or of "hf:user/name" on the Hugging Face hub, on the CPU."""
    if Path(path).is_file():
        return read_network(path).generator
    if Path(path).as_posix().startswith(HUB):
        return from_pretrained(Path(path).as_posix())
    return load_generator(generator_folder(path))


def train(
    data: str | Path | DataConfig,
    out: str | Path,
    *,
    device: str = "auto",
    stop: Callable[[], bool] = lambda: False,
    **options: Any,
) -> Iterator[Record]:
    """Trains a GAN on pictures, yielding a record each tick: `for record in frugan.train("photos", "runs/photos"): …`

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
    if rank() == 0:
        Run.create(out, planned.config)
    gather(None)
    return Run(out).train(device=chosen, dataset=planned.dataset, stop=stop)


def read_class_names(path: str | Path) -> list[str] | None:
    """The class names of the run at `path`, of the run that the checkpoint at `path` belongs to, or of exported networks."""
    path = Path(path)
    if path.as_posix().startswith(HUB):
        path = download(path.as_posix(), files=["config.json"])
    for file in (path / "data.json", path.resolve().parent.parent / "data.json", path / "config.json"):
        if file.is_file() and (names := json.loads(file.read_text("utf-8")).get("class_names")):
            return names
    return None
