"""Reports of a run while it trains: records, warnings, sample grids, status and page."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch

from frugan import tracking
from frugan.command_line import command
from frugan.config.schema import RunConfig
from frugan.data import Dataset
from frugan.distributed import rank, world_size
from frugan.metrics import METRICS
from frugan.run.directory import Record, RunDirectory
from frugan.run.sample_grid import SampleGrid
from frugan.tracking import monitors
from frugan.training import TrainState, checkpoint, threads

SIGN_SECONDS = 60.0
BUSY = 2.0
"""Times as slow as before, and as with fewer threads: then a busy machine is told of."""


class Reporter:
    """Writes what people see of a run; of several processes the first alone (`writes`), while the others keep the same account.

    Args:
        run: its directory.
        config: of the run.
        dataset: its images.
        state: of training.
        total_images: at the end of training.

    Attributes:
        events: what has happened to the run since it began (roll-backs, damaged checkpoints), oldest first.
        findings: the monitors' present messages, by their names.
    """

    def __init__(
        self, run: RunDirectory, config: RunConfig, dataset: Dataset, state: TrainState, total_images: int
    ) -> None:
        self.run, self.config, self.dataset, self.state = run, config, dataset, state
        self.total_images = total_images
        self.writes = rank() == 0
        tracking.check_trackers(config.report.trackers)
        self.grid = SampleGrid(dataset)
        self.energy = tracking.EnergyMeter()
        self.page = tracking.Page(run.path)
        self.trackers = tracking.Trackers()
        facts = run.report("run.json")
        events = facts.get("events", facts.get("warnings"))  # the first runs had no events
        self.events = [str(event) for event in events] if isinstance(events, list) else []
        self.findings: dict[str, str] = {}
        self.started = self.heard = time.perf_counter()
        self._news: list[str] = []
        self._past: list[Mapping[str, Any]] = []

    def open(self, *, resumed: bool) -> None:
        """Goes on with the reports that are there, from the state's kimg."""
        self.stats = tracking.JsonLines(self.run.path / "stats.jsonl")
        past = self.rewind()
        if self.writes:
            purge_after = self.state.images if resumed else None
            opened = (
                tracking.open_tracker(name, self.run.path, self.event, purge_after=purge_after)
                for name in self.config.report.trackers
            )
            self.trackers = tracking.Trackers(self.stats, *opened)
        self.seconds_before = (tracking.finite(past[-1].get("seconds_total")) if past else None) or 0.0
        self.has_samples = any(r.get("diversity") for r in past)
        self.pace = _Pace([pace for r in past if (pace := tracking.finite(r.get("seconds_per_kimg")))])

    def rewind(self) -> list[Record]:
        """Drops records later than the state's kimg, and what was found in them; those that are left."""
        if self.writes:
            self.stats.truncate(after_kimg=self.state.kimg)
        past = tracking.read_stats(self.stats.path)
        self._past = [monitors.digest(record) for record in past]
        self.findings = monitors.check(self._past, self.setting)
        return past

    def begin(self) -> None:
        self.started = self.heard = time.perf_counter()
        self.energy.read()

    def introduce(self) -> None:
        """Writes what a run directory holds before the first step."""
        if self.writes:
            self.run.write("environment.json", tracking.environment())
            self.run.write("data.json", self.dataset.describe())
            self.grid.save_reals(self.run.path / "reals.png")
            self.samples("samples-init")

    def event(self, message: str) -> None:
        """Keeps it for good, and warns of it."""
        self.events.append(message)
        self._news.append(message)

    def record(self, measured: Record, seconds: float, images: int) -> Record:
        """The record of a tick (docs/reference/run-directory.md lists its fields).

        Args:
            measured: statistics of the tick.
            seconds: that it took.
            images: that it trained on.
        """
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
            **self.energy.read(),
        }

    def samples(self, name: str) -> float:
        """Writes a sample grid; its diversity, as a share of that of training images."""
        images = self.grid.sample(self.state.ema)
        if self.writes:
            self.grid.save(images, self.run.path / "samples" / f"{name}.png")
        return self.grid.relative_diversity(images)

    def log(self, record: Record) -> None:
        """Adds to a tick's record what there is to warn of that the one before did not, and writes it."""
        if self.writes and self.state.device.type == "cpu" and (busy := self.pace.busy(record, self.run)):
            self._news.append(busy)
        self._past.append(monitors.digest(record))
        before, self.findings = self.findings, monitors.check(self._past, self.setting)
        if new := self._news + [finding for name, finding in self.findings.items() if name not in before]:
            record["warnings"] = new
        self._news = []
        self.trackers.log(record)

    def divergence(self, record: Record) -> str | None:
        """The monitors' message of divergence if this record came next, or None."""
        found = monitors.check([*self._past, monitors.digest(record)], self.setting)
        return next((found[name] for name in found if monitors.MONITORS[name].divergence), None)

    @cached_property
    def setting(self) -> monitors.Setting:
        """The facts on the run for the monitors."""
        controller, metric = self.config.controller, self.config.evaluate.metrics[0]
        p_max = controller.p_max if controller.kind in ("rt", "rv") else 0.0
        return monitors.Setting(p_max, metric, METRICS[metric].higher_is_better)

    def live(self) -> None:
        """A sign of life in run.json and on the page, at most once a minute."""
        if self.writes and time.perf_counter() - self.heard >= SIGN_SECONDS:
            self.status("running")

    def status(self, status: str) -> None:
        """Writes run.json and the page: "running", "interrupted", "finished" or "failed"."""
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

    def close(self) -> None:
        self.trackers.close()


class _Pace:
    """Whether other programs have made this machine so slow that fewer threads would be faster; said once."""

    def __init__(self, paces: list[float]) -> None:
        self.paces = paces
        self.told = False

    def busy(self, record: Record, run: RunDirectory) -> str | None:
        pace, count = record["seconds_per_kimg"], torch.get_num_threads()
        if count == 1 or not pace:
            return None
        slow = bool(self.paces) and pace > BUSY * min(self.paces)
        self.paces.append(pace)
        if not slow or self.told:
            return None
        best, taken = threads.choose_threads(threads.convolutions, count)
        if best == count or taken[count] <= BUSY * taken[best]:
            return None
        self.told = True
        others = threads.load_of_others(count)
        return (
            f"other programs keep this machine busy{f' ({others:.0f} more threads at work)' if others else ''}: {pace:.3g} "
            f"s/kimg, after {min(self.paces):.3g} at best. Now {best} of {count} threads would be about "
            f"{taken[count] / taken[best]:.1f} times as fast: stop, then `{command('resume', run.path, '--threads', best)}`"
        )


def samples_name(images: int) -> str:
    """The name of a sample grid, without its ending, after so many images of training."""
    return f"samples-{checkpoint.kimg_name(images)}"
