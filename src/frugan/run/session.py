"""One stretch of training in a run directory."""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cached_property, partial

import torch

from frugan import tracking
from frugan.command_line import command
from frugan.config.schema import RunConfig
from frugan.data import Dataset
from frugan.distributed import any_of, from_first, gather, rank, world_size
from frugan.errors import FruganError, explain
from frugan.files import UNFINISHED
from frugan.images import grid, save_image, to_uint8
from frugan.metrics import METRICS
from frugan.run.build import build
from frugan.run.directory import Advance, Record, RunDirectory, changed_data
from frugan.run.load import read_source
from frugan.run.periodic_evaluation import make_evaluator
from frugan.run.reporting import diversity, grid_labels, grid_shape
from frugan.tracking import monitors as health
from frugan.training import StartReport, TrainingConfig, checkpoint, threads
from frugan.training import train as training_steps
from frugan.training.transfer import take_over

MAX_ROLLBACKS = 3

EARLY_SECONDS = 30.0
"""After so much training a new run writes its first record and sample grid, however far its first tick is."""

SIGN_SECONDS = 60.0

BUSY = 2.0
"""Times as slow as before, and as with fewer threads: then a busy machine is told of."""


class _StopAsked(Exception):
    pass


class TrainingSession:
    """One stretch of training in a run directory: what is open while it lasts."""

    def __init__(self, run: RunDirectory, device: torch.device, dataset: Dataset, total_kimg: float) -> None:
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
            for unfinished in run.path.glob(UNFINISHED):
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
