"""Roll-back: a run that has diverged goes back to its last checkpoint, with other random numbers and lower learning rates."""

from __future__ import annotations

from frugan.config.schema import RunConfig
from frugan.distributed import from_first
from frugan.errors import FruganError
from frugan.run.directory import Record, RunDirectory
from frugan.run.reporting import Reporter
from frugan.training import TrainState, checkpoint

MAX_ROLLBACKS = 3


class Rollback:
    """Detects divergence in a tick's record, and undoes it at most `MAX_ROLLBACKS` times.

    Args:
        run: its directory.
        config: of the run.
        state: of training.
        reporter: which tells of it.
    """

    def __init__(self, run: RunDirectory, config: RunConfig, state: TrainState, reporter: Reporter) -> None:
        self.run, self.training, self.state, self.reporter = run, config.training, state, reporter

    def reason(self, record: Record) -> str | None:
        """The reason why training has to go back to its last checkpoint, or None."""
        if record["bad_streak"] >= self.training.max_bad_steps:
            return f"{record['bad_streak']:.0f} updates in a row had gradients that are not finite"
        if not checkpoint.is_finite(self.state):
            return "weights, or the optimisers' running means, are not finite"
        return self.reporter.divergence(record) if self.training.rollback_lr < 1 else None

    def go_back(self, reason: str) -> None:
        """Restores the last checkpoint, and drops later records. Raises `FruganError` where that has not helped."""
        diverged, rollbacks = self.state.kimg, self.state.rollbacks + 1
        found, _ = from_first(lambda: checkpoint.recover(self.run.checkpoints))
        if found is None or rollbacks > MAX_ROLLBACKS:
            raise FruganError(
                f"training diverged at {diverged:.0f} kimg, {rollbacks} times: {reason}; lower --lr, raise --r1-gamma, or try "
                "--precision fp32 (of this run: training and objective in its config.yaml)"
            )
        self.restore(found, rollbacks)
        self.state.reseed(rollbacks)
        self.reporter.rewind()
        slower = self.training.rollback_lr**rollbacks
        self.reporter.event(
            f"diverged at {diverged:.0f} kimg ({reason}): went back to {self.state.kimg:.0f} kimg with new random numbers"
            + (f" and learning rates × {slower:g}" if slower < 1 else "")
        )

    def restore(self, found: checkpoint.Checkpoint, rollbacks: int | None = None) -> None:
        """Loads a checkpoint; learning rates follow the number of roll-backs (by default the checkpoint's own)."""
        found.restore(self.state)
        self.state.rollbacks = self.state.rollbacks if rollbacks is None else rollbacks
        self.state.scale_rates(self.training.rollback_lr**self.state.rollbacks)
