"""Periodic evaluation: metrics measured while a run trains, and which checkpoint is best by them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch

from frugan import tracking
from frugan.config.schema import RunConfig
from frugan.data import Dataset
from frugan.distributed import rank, world_size
from frugan.metrics import METRICS, EvaluationCard, Evaluator, ImageSet
from frugan.run.directory import Advance, RunDirectory
from frugan.run.evaluate import image_set_of
from frugan.training import TrainState, checkpoint


class PeriodicEvaluation:
    """Measures the EMA generator of a run at intervals, and remembers which checkpoint is the best.

    Args:
        run: its directory.
        config: of the run.
        dataset: its images.
        state: of training.
        progress: called with (done, total) images of an evaluation.

    Attributes:
        values: the metrics measured last, by name.
    """

    def __init__(
        self, run: RunDirectory, config: RunConfig, dataset: Dataset, state: TrainState, *, progress: Advance
    ) -> None:
        self.run, self.state, self.progress = run, state, progress
        self.metric = config.evaluate.metrics[0]
        self.values: dict[str, float] = {}
        self._evaluator = make_evaluator(config, dataset, state.device) if config.report.evaluate_kimg else None

    def measure(self, stop: Callable[[], bool]) -> EvaluationCard | None:
        """The card, written, too; None where a stop is asked for meanwhile: who asks may not have time to wait.

        Several processes finish it: they could not agree in the midst of it.
        """
        assert self._evaluator is not None
        may_stop = stop if world_size() == 1 else lambda: False
        card = self._evaluator.unless_stopped(self.state.ema.without_masks(), may_stop, self.progress)
        if card is None:
            return None
        card.subject["kimg"] = self.state.kimg
        self.values = card.values
        if rank() == 0:
            card.save(self.run.path / "evaluations" / f"training-{checkpoint.kimg_name(self.state.images)}.json")
        return card

    def is_best(self, card: EvaluationCard) -> bool:
        """Whether this is the best generator so far, whose checkpoint is to be written; best.json then says so."""
        if rank() != 0:
            return False
        value, here, best = card.values[self.metric], checkpoint.name_of(self.state), self.run.report("best.json")
        known = None
        if best.get("metric") == self.metric and best.get("checkpoint") != here:
            known = tracking.finite(best.get("value"))
        sign = -1 if METRICS[self.metric].higher_is_better else 1
        if not math.isfinite(value) or (known is not None and sign * known <= sign * value):
            return False
        facts = {"metric": self.metric, "value": value, "kimg": self.state.kimg, "checkpoint": here}
        self.run.write("best.json", facts)  # before the checkpoint: after a kill between them, this tick comes again
        return True


def make_evaluator(config: RunConfig, dataset: Dataset, device: torch.device, *, most: int | None = None) -> Evaluator:
    """The evaluator of a run in training: against the held-out images or, where there are none, those trained on.

    Args:
        config: of the run.
        dataset: its images.
        device: of the generator.
        most: of the images, for a trial; None: all.
    """
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
