"""Training session: one stretch of training in a run directory, from a checkpoint to a total, a stop or an error."""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import NamedTuple

import torch

from frugan.command_line import command
from frugan.config.schema import RunConfig
from frugan.data import Dataset
from frugan.distributed import any_of, from_first, gather, rank, world_size
from frugan.errors import FruganError
from frugan.files import UNFINISHED
from frugan.losses import ObjectiveConfig
from frugan.run.build import build, refusing
from frugan.run.directory import Advance, Record, RunDirectory, changed_data
from frugan.run.load import read_source
from frugan.run.periodic_evaluation import PeriodicEvaluation
from frugan.run.reporting import Reporter, samples_name
from frugan.run.rollback import Rollback
from frugan.training import StartReport, TrainingConfig, checkpoint
from frugan.training import train as training_steps
from frugan.training.transfer import transfer
from frugan.training.vicinity import Vicinity

EARLY_SECONDS = 30.0
"""After so much training a new run writes its first record and sample grid, however far its first tick is."""

_FIX = "fix it, or restore it from a copy"


class Tick(NamedTuple):
    """A record that is due, the images of training before it, and why it is due: `stopping`: a stop was asked for;
    `early`: the user is to see something soon."""

    record: Record
    since: int
    stopping: bool
    early: bool


class TrainingSession:
    """A training session of a run, with everything that is open meanwhile; `Run.session` makes one.

    Args:
        run: its directory, which is locked meanwhile.
        device: to train on.
        dataset: its images.
        total_kimg: at the end of training.
        evaluating: called with (done, total) images of an evaluation.
        stepping: called with kimg after each step.

    Attributes:
        state, phases: the training state and the losses (`frugan.training`).
        reporter: writes what people see.
        evaluation: measures the EMA generator at intervals.
        rollback: undoes divergence.
    """

    def __init__(
        self,
        run: RunDirectory,
        device: torch.device,
        dataset: Dataset,
        total_kimg: float,
        *,
        evaluating: Advance | None = None,
        stepping: Callable[[float], None] = lambda kimg: None,
    ) -> None:
        self.run, self.dataset, self.stepping, self.evaluating = run, dataset, stepping, evaluating
        self.total_images = round(total_kimg * 1000)
        training, shared = _shared_out(run.config)
        self.config = config = replace(run.config, training=training)
        _check_data(run, dataset)
        _check_networks(run, config, dataset)
        with refusing(f"{run.path / 'config.yaml'} describes", _FIX):
            self.state, self.phases = build(config, dataset, device)
        labels = dataset.label_pool.to(device)
        near = _vicinity(config.objective, dataset)
        self.steps = training_steps(self.state, self.phases, dataset, labels, training, near)
        self.reporter = Reporter(run, config, dataset, self.state, self.total_images)
        self.evaluation = PeriodicEvaluation(run, config, dataset, self.state, progress=self._evaluation_goes_on)
        self.rollback = Rollback(run, config, self.state, self.reporter)
        if shared:
            self.reporter.event(shared)
        self._take_up()

    def _take_up(self) -> None:
        """Takes the state up from the last checkpoint that is whole, or from other networks; the reports go on."""
        if rank() == 0:
            for unfinished in self.run.path.glob(UNFINISHED):
                unfinished.unlink()
        found, problems = from_first(lambda: checkpoint.recover(self.run.checkpoints))
        self.new = found is None
        if found:
            self.rollback.restore(found)
            self.evaluation.values = found.facts["metrics"]
            for problem in problems:
                self.reporter.event(f"went on from {self.state.kimg:g} kimg: {problem}")
        elif self.config.transfer.init_from:
            self._transfer(self.config.transfer.init_from)
        self._check_agreement()
        self.reporter.open(resumed=found is not None)
        self.early = math.inf if self.reporter.has_samples else EARLY_SECONDS

    def _transfer(self, path: str) -> None:
        """Starts from other networks. From the first checkpoint on, they are not needed any more."""
        report = StartReport(path)
        self.state.ema.load_state_dict(transfer((self.state.G, self.state.D), read_source(path), report).state_dict())
        if rank() == 0:
            self.run.write("start.json", asdict(report))

    def begin(self) -> None:
        """Comes before the first step: a new run's directory gets what it holds from the start."""
        self.reporter.begin()
        self.dataset.resident(self.state.device)
        if self.new:
            self.reporter.introduce()
            self.save()
        self.first_step = time.perf_counter()

    def close(self) -> None:
        self.reporter.close()

    def records(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Record]:
        """Trains until the total, a stop, or an error; the last good checkpoint stands whatever happens."""
        self.reporter.status("running" if self.state.images < self.total_images else "finished")
        try:
            while self.state.images < self.total_images:
                tick = self._tick(stop)
                self._check_place()
                self._check_agreement()
                if reason := from_first(partial(self.rollback.reason, tick.record)):
                    self.rollback.go_back(reason)
                    continue
                stopping = self._report(tick, stop)
                yield tick.record
                if stopping:
                    return
        except GeneratorExit:
            self.save()
            self.reporter.status("interrupted")
            raise
        except BaseException:
            with suppress(OSError):  # a full disk is not to hide behind another of its errors
                self.reporter.status("failed")
            raise

    def _tick(self, stop: Callable[[], bool]) -> Tick:
        """Steps until a record is due."""
        started, since = time.perf_counter(), self.state.images
        for step in self.steps:
            self.stepping(step.kimg)
            self.reporter.live()
            stopping = any_of(stop())
            before = step.images - self.config.training.batch
            if (
                stopping
                or step.images >= self.total_images
                or _passed(self.config.report.tick_kimg, before, step.images)
                or self._is_early()
            ):
                early = not stopping and math.isfinite(self.early)
                if early:
                    self.early = math.inf
                measured = step.stats.collect()
                seconds = time.perf_counter() - started
                record = self.reporter.record(measured, seconds, step.images - since)
                return Tick(record, since, stopping, early)
        raise AssertionError("the training loop has no end of its own")

    def _is_early(self) -> bool:
        """Whether a first record is due although the first tick is far: all processes agree. Nothing of training changes."""
        return math.isfinite(self.early) and any_of(time.perf_counter() - self.first_step >= self.early)

    def _report(self, tick: Tick, stop: Callable[[], bool]) -> bool:
        """Measures, samples, logs and saves, each where it is due; whether to stop."""
        record, stopping, report = tick.record, tick.stopping, self.config.report
        finished = self.state.images >= self.total_images

        def due(every_kimg: float) -> bool:
            return finished or _passed(every_kimg, tick.since, self.state.images)

        save = stopping or due(report.checkpoint_kimg)
        if report.evaluate_kimg and due(report.evaluate_kimg):
            card = self.evaluation.measure(stop)
            if card is None:
                save = stopping = True
            else:
                record |= {f"metric/{name}": value for name, value in card.values.items()}
                save |= self.evaluation.is_best(card)
        if tick.early or due(report.samples_kimg):
            record["diversity"] = self.reporter.samples(samples_name(self.state.images))
        self.reporter.log(record)  # before the checkpoint: what is logged too early is dropped on a resume
        if save:
            self.save()
        self.reporter.status("finished" if finished else "interrupted" if stopping else "running")
        return stopping

    def save(self) -> None:
        """Writes a checkpoint, unless the weights have gone bad; older ones beyond those kept go."""
        if rank() != 0:
            return
        if not checkpoint.is_finite(self.state):
            self.reporter.event("weights are not finite: no checkpoint was written")
            return
        checkpoint.save(self.run.checkpoints, self.state, self.evaluation.values)
        best = self.run.best()
        keep = {best.path} if best else set()
        checkpoint.prune(self.run.checkpoints, keep_last=self.config.report.keep_last, keep=keep)

    def _evaluation_goes_on(self, done: int, total: int) -> None:
        self.reporter.live()
        if self.evaluating:
            self.evaluating(done, total)

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

    def _check_place(self) -> None:
        """Raises where the run's directory was moved or removed, so that nothing is written there any more."""
        if rank() == 0 and not self.run.path.is_dir():
            raise FileNotFoundError(errno.ENOENT, "the run is no longer there", str(self.run.path))


def _vicinity(objective: ObjectiveConfig, dataset: Dataset) -> Vicinity | None:
    """The sampler of images near a label, where the run asks for one."""
    if objective.vicinity == "none":
        return None
    sigma, kappa = objective.vicinity_sigma, objective.vicinity_kappa
    return Vicinity(dataset.labels, dataset.train_indices, objective.vicinity, sigma=sigma, kappa=kappa)


def _shared_out(config: RunConfig) -> tuple[TrainingConfig, str | None]:
    """The parts of a minibatch, halved and halved again where the processes could not share them evenly otherwise; and a
    sentence that says so.

    Minibatch-std groups stay whole.
    """
    training, group = config.training, config.discriminator.mbstd_group
    for n in range(training.batch_per_device, 0, -1):
        whole = n == training.batch_per_device or (group and n % group == 0)
        if whole and training.batch_per_device % n == 0 and training.batch // n % world_size() == 0:
            told = None
            if n != training.batch_per_device:
                told = (
                    f"{world_size()} processes work through the batch of {training.batch} in parts of {n}, "
                    f"not {training.batch_per_device}: the random numbers are others than they would have been"
                )
            return replace(training, batch_per_device=n), told
    raise FruganError(
        f"{world_size()} processes cannot share a batch of {training.batch} evenly in whole minibatch-std groups of "
        f"{group or training.batch_per_device}; use fewer processes"
    )


def _check_data(run: RunDirectory, dataset: Dataset) -> None:
    """A run goes on only with the data it began with."""
    data = run.read("data.json")
    if data and data.get("fingerprint") != dataset.fingerprint:
        raise changed_data(dataset.config.path)


def _check_networks(run: RunDirectory, config: RunConfig, dataset: Dataset) -> None:
    """Refuses a config.yaml, edited by hand, whose networks fit neither images nor checkpoints, before they are built."""
    images, file = (*dataset.resolution, dataset.channels), run.path / "config.yaml"
    for name, part in (("generator", config.generator), ("discriminator", config.discriminator)):
        if (*part.resolution, part.channels) != images:
            raise FruganError(
                f"{file} describes a {name} of {part.resolution} and {part.channels} channels; the images have "
                f"{images[:2]} and {images[2]}; {_FIX}"
            )
    try:
        for newest in checkpoint.all_checkpoints(run.checkpoints)[-1:]:
            newest.check_shapes(config.generator, config.discriminator)
    except FruganError as error:
        raise FruganError(f"{file} describes other networks than its checkpoints hold: {error}; {_FIX}") from error


def _passed(every_kimg: float, before: int, after: int) -> bool:
    """Whether a multiple of the interval lies in (before, after], both counted in images."""
    every = every_kimg * 1000
    return bool(every) and after // every > before // every
